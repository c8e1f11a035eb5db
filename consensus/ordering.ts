/**
 * The three phases of one view: proposal, Prepare, Commit, and the decision. Each rule looks at the state and does at
 * most one thing; `replica.ts` calls them until none has anything left to do, so that the order in which messages came
 * does not matter. Steps in brackets are those of docs/protocol.md.
 *
 * What must not go in here: leaving a view, or entering one (view-change.ts).
 */
import { bytesToHex, equalBytes } from '../common/bytes.ts';
import { assert, type Verdict } from '../common/errors.ts';
import type { Hash, Height, View } from '../common/protocol/primitives.ts';
import type { Commit, Prepare, PrePrepare, ProposedBlock, Signed, SignedMessage } from './messages.ts';
import { messageDigest } from './messages.ts';
import {
  castIn,
  emit,
  heldBlock,
  isLeader,
  leaderOfView,
  mayVote,
  persist,
  refuse,
  type ReplicaState,
  withVotes,
} from './state.ts';
import type { RefusalCode, Verified } from './types.ts';
import { VIEW_WINDOW } from './votes.ts';

/** Bodies given to the host's executor at a time, at some 4 MiB at most for each. */
const MAX_EXECUTING = 4;

/** [P1] Whether a block is the leader's to propose now; asks the host to build one, or proposes the mandated one. */
export function propose(state: ReplicaState): boolean {
  const height = state.current;
  const { current: view } = height;
  if (height.mode !== 'normal' || height.certified !== null || view.proposal !== null || !isLeader(state)) return false;
  if (view.mandate !== null) return proposeMandated(state, view.mandate.digest);
  if (!state.due || view.proposing) return false;
  view.proposing = true;
  emit(state, {
    kind: 'propose',
    height: height.height,
    view: height.view,
    parentHash: state.head.hash,
    minTimestampMs: state.head.timestampMs + 1,
  });
  return true;
}

/** [V5] The mandated block keeps its hash, header and body; only the view of the pre-prepare is new. */
function proposeMandated(state: ReplicaState, digest: Hash): boolean {
  const held = heldBlock(state.current, digest);
  // Without the body: `fetchMissing` asks for it.
  if (held === undefined) return false;
  if (!held.valid) return requestExecution(state, held.block, false);
  announce(state, held.block);
  return true;
}

/** Answer of the host to `propose`. */
export function onProposal(state: ReplicaState, at: Height, view: View, block: ProposedBlock | null): void {
  const height = state.current;
  if (at !== height.height || view !== height.view || !height.current.proposing) return;
  height.current.proposing = false;
  if (block === null) {
    state.due = false;
    return;
  }
  if (height.mode !== 'normal' || height.certified !== null || height.current.proposal !== null) return;
  const problem = headerProblem(state, block, true);
  assert(problem === null, `the host built a block that nobody would accept: ${problem}`);
  height.blocks.set(bytesToHex(block.hash), { block, valid: true });
  if (isLeader(state)) announce(state, block);
}

/** [P2] The leader's pre-prepare, and its own Prepare with it: one record, one sync. */
function announce(state: ReplicaState, block: ProposedBlock): void {
  const height = state.current;
  const { view } = height;
  const digest = block.hash;
  height.current.proposal = digest;
  const votes = withVotes(height.record.votes, [
    { vote: 'preprepare', view, digest },
    { vote: 'prepare', view, digest },
  ]);
  persist(state, { ...height.record, view, votes }, block);
  emit(state, { kind: 'broadcast', message: { kind: 'prePrepare', height: height.height, view, block } });
  emit(state, { kind: 'broadcast', message: { kind: 'prepare', height: height.height, view, digest } });
}

/** [P3] A backup accepts one proposal in each view, from its leader, and only the one that the new-view obliges it to. */
export function onPrePrepare(state: ReplicaState, message: Verified<Signed<PrePrepare>>): void {
  const height = state.current;
  const { view } = message.body;
  if (view < height.view) return;
  if (leaderOfView(height, view) !== message.validator) return refuse(state, message, 'NOT_THE_LEADER');
  if (view > height.view || height.mode === 'viewChange') {
    if (view <= height.view + VIEW_WINDOW) height.earlyPrePrepares.set(view, message);
    return;
  }
  const { current } = height;
  if (current.prePrepare !== null) return reportSecondProposal(state, current.prePrepare, message);
  if (current.proposal !== null) {
    // Restored, or our own fed back: the vote is cast already, and the signed message is what was missing.
    if (equalBytes(current.proposal, message.body.block.hash)) current.prePrepare = message;
    return;
  }
  const problem = proposalProblem(state, message.body.block);
  if (problem !== null) return refuse(state, message, problem);
  current.prePrepare = message;
  current.proposal = message.body.block.hash;
  hold(state, message.body.block);
}

/** Keeps a body, unless one with this hash was found valid already. */
export function hold(state: ReplicaState, block: ProposedBlock): void {
  const key = bytesToHex(block.hash);
  if (state.current.blocks.get(key)?.valid !== true) state.current.blocks.set(key, { block, valid: false });
}

function proposalProblem(state: ReplicaState, block: ProposedBlock): RefusalCode | null {
  const { mandate } = state.current.current;
  if (mandate !== null && !equalBytes(mandate.digest, block.hash)) return 'WRONG_PROPOSAL';
  return headerProblem(state, block, mandate === null);
}

/** [P3] What the head alone decides about a header. Height and chain were compared by verification.ts. */
export function headerProblem(state: ReplicaState, block: ProposedBlock, fresh: boolean): RefusalCode | null {
  const { header } = block;
  const { head, current: height } = state;
  if (header.height !== height.height || !equalBytes(header.parentHash, head.hash)) return 'WRONG_PARENT';
  if (!equalBytes(header.validatorsHash, head.validatorsHash)) return 'WRONG_VALIDATOR_SET';
  if (header.timestampMs <= head.timestampMs) return 'WRONG_TIME';
  if (fresh ? header.view !== height.view : header.view >= height.view) return 'WRONG_PROPOSAL';
  const proposer = head.validators[leaderOfView(height, header.view)];
  if (proposer === undefined || !equalBytes(proposer.address, header.proposer)) return 'WRONG_PROPOSER';
  return null;
}

/** [P3] Nothing is voted for before it was executed and found valid. */
export function executeProposal(state: ReplicaState): boolean {
  const height = state.current;
  if (height.mode !== 'normal' || height.current.proposal === null) return false;
  const held = heldBlock(height, height.current.proposal);
  if (held === undefined || held.valid) return false;
  // What is in the record was voted for before a restart: it was fresh then.
  const isVotedFor = castIn(height, 'prepare', height.view) !== undefined;
  return requestExecution(state, held.block, height.current.mandate === null && !isVotedFor);
}

/** One execution of a hash at a time, and few at once: a slow executor must not make bodies pile up. */
function requestExecution(state: ReplicaState, block: ProposedBlock, fresh: boolean): boolean {
  const { executing } = state.current;
  const key = bytesToHex(block.hash);
  if (executing.has(key) || executing.size >= MAX_EXECUTING) return false;
  executing.set(key, block);
  emit(state, { kind: 'execute', block, fresh });
  return true;
}

/**
 * Answer of the host to `execute`. A refusal is not remembered against the hash: the body may have been a false one
 * under a true header, or the clock may have been the reason.
 * @returns whether the proposal of this view was refused: its leader will not do better
 */
export function onExecuted(state: ReplicaState, at: Height, hash: Hash, verdict: Verdict): boolean {
  const height = state.current;
  const key = bytesToHex(hash);
  const executed = height.executing.get(key);
  if (at !== height.height || executed === undefined) return false;
  height.executing.delete(key);
  if (verdict.ok) {
    height.blocks.set(key, { block: executed, valid: true });
    return false;
  }
  // Another body under the same header came meanwhile: it gets its own execution.
  if (height.blocks.get(key)?.block !== executed) return false;
  height.blocks.delete(key);
  const { proposal, prePrepare } = height.current;
  if (height.mode !== 'normal' || proposal === null || !equalBytes(proposal, hash)) return false;
  if (prePrepare !== null) refuse(state, prePrepare, 'EXECUTION_FAILED');
  return true;
}

/** [P4] Prepare: the record, with the block's body beside it, is durable before the vote leaves. */
export function votePrepare(state: ReplicaState): boolean {
  const height = state.current;
  const digest = height.current.proposal;
  if (height.mode !== 'normal' || digest === null || !mayVote(state)) return false;
  if (castIn(height, 'prepare', height.view) !== undefined) return false;
  const held = heldBlock(height, digest);
  if (held === undefined || !held.valid) return false;
  const votes = withVotes(height.record.votes, [{ vote: 'prepare', view: height.view, digest }]);
  persist(state, { ...height.record, view: height.view, votes }, held.block);
  emit(state, { kind: 'broadcast', message: { kind: 'prepare', height: height.height, view: height.view, digest } });
  return true;
}

/** [P5] Prepared: a quorum of Prepares for what this replica prepared too. The certificate is durable before Commit. */
export function voteCommit(state: ReplicaState): boolean {
  const height = state.current;
  const { view } = height;
  const prepare = castIn(height, 'prepare', view);
  if (height.mode !== 'normal' || prepare === undefined || !mayVote(state)) return false;
  const { digest } = prepare;
  if (castIn(height, 'commit', view) !== undefined || heldBlock(height, digest)?.valid !== true) return false;
  const quorum = height.prepares.quorumFor(view, digest);
  if (quorum === null) return false;
  const votes = withVotes(height.record.votes, [{ vote: 'commit', view, digest }]);
  persist(state, { ...height.record, votes, prepared: quorum }, null);
  emit(state, { kind: 'broadcast', message: { kind: 'commit', height: height.height, view, digest } });
  return true;
}

export function onPrepare(state: ReplicaState, message: Verified<Signed<Prepare>>): void {
  const height = state.current;
  const { view, digest } = message.body;
  if (view < height.view || view > height.view + VIEW_WINDOW) return;
  const earlier = height.prepares.add(message.validator, view, digest, message.signature);
  if (earlier !== null) reportEquivocation(state, 'prepare', message, earlier);
}

/** [P7] Commits of any view count, however far from here: whatever this replica thinks of views, a quorum has decided. */
export function onCommit(state: ReplicaState, message: Verified<Signed<Commit>>): void {
  const height = state.current;
  const { view, digest } = message.body;
  const earlier = height.commits.add(message.validator, view, digest, message.signature);
  if (earlier !== null) return reportEquivocation(state, 'commit', message, earlier);
  height.certified ??= height.commits.quorumFor(view, digest);
}

/** [P6] A certified block is committed once it is here and executed, in whatever mode or view this replica is. */
export function decide(state: ReplicaState): boolean {
  const height = state.current;
  const { certified } = height;
  if (certified === null || height.mode === 'committing') return false;
  const held = heldBlock(height, certified.digest);
  // Without the body: `fetchMissing` asks for it.
  if (held === undefined) return false;
  // Nothing is decided that cannot be executed; a body that fails is dropped and asked for elsewhere.
  if (!held.valid) return requestExecution(state, held.block, false);
  height.mode = 'committing';
  const { view, digest, signatures } = certified;
  emit(state, {
    kind: 'commit',
    block: held.block,
    certificate: { height: height.height, view, blockHash: digest, signatures },
  });
  return true;
}

/** [P8] Asks for the body of a certified or mandated block that never came. Repeated at each tick. */
export function fetchMissing(state: ReplicaState): boolean {
  const height = state.current;
  const { mandate } = height.current;
  const wanted = height.certified ?? (height.mode === 'normal' && isLeader(state) ? mandate : null);
  if (wanted === null || height.mode === 'committing' || heldBlock(height, wanted.digest) !== undefined) return false;
  const key = `fetch/${bytesToHex(wanted.digest)}`;
  if (state.doneSinceTick.has(key)) return false;
  state.doneSinceTick.add(key);
  // Whoever voted for it has its body on disk.
  const from = wanted.signatures.map((s) => s.validator).filter((v) => v !== height.members.self);
  emit(state, { kind: 'fetch', height: height.height, blockHash: wanted.digest, from });
  return true;
}

/** Answer to `fetch`; anything that is not wanted any more is dropped. */
export function onFetched(state: ReplicaState, block: Verified<ProposedBlock>): void {
  const height = state.current;
  const wanted = [height.certified?.digest, height.current.mandate?.digest];
  if (wanted.some((digest) => digest !== undefined && equalBytes(digest, block.hash))) hold(state, block);
}

function reportSecondProposal(state: ReplicaState, first: Signed<PrePrepare>, second: Signed<PrePrepare>): void {
  if (equalBytes(first.body.block.hash, second.body.block.hash)) return;
  reportEquivocation(state, 'preprepare', second, { digest: first.body.block.hash, signature: first.signature });
}

/** [E1] Two signed votes that conflict. */
function reportEquivocation(
  state: ReplicaState,
  vote: 'preprepare' | 'prepare' | 'commit',
  second: SignedMessage & { readonly body: PrePrepare | Prepare | Commit },
  first: { readonly digest: Hash; readonly signature: Uint8Array },
): void {
  const key = `${second.validator}/${vote}`;
  if (state.current.reportedEquivocations.has(key)) return;
  state.current.reportedEquivocations.add(key);
  const { height, view } = second.body;
  const equivocation = {
    validator: second.validator,
    vote,
    height,
    view,
    first,
    second: { digest: messageDigest(second.body), signature: second.signature },
  };
  emit(state, { kind: 'report', report: { kind: 'evidence', equivocation } });
}

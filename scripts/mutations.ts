/* eslint-disable no-template-curly-in-string -- patches are source text */
/**
 * Protections of consensus, and how to take each away: what scripts/mutate.ts does, one at a time. Rows are those of
 * docs/consensus-checklist.md. A patch's text must stand in its file exactly once; one that does not is an error.
 */
import type { Patch } from './patching.ts';

export interface Mutation {
  /** Of the checklist. */
  readonly row: number;
  /** What is taken away. */
  readonly protection: string;
  readonly patches: readonly Patch[];
  /** Where it must be noticed. */
  readonly tests: readonly string[];
}

const MESSAGES = 'test/unit/consensus-messages.test.ts';
const ORDERING = 'test/unit/consensus-ordering.test.ts';
const VIEW_CHANGE = 'test/unit/consensus-view-change.test.ts';
const OWN_KEY = 'test/unit/consensus-own-key.test.ts';
const HOST = 'test/unit/node-host.test.ts';
const CRASH = 'test/crash/node-crash.test.ts';
const SYNC = 'test/integration/node-sync.test.ts';
const STATE_TREE = 'test/unit/state-tree.test.ts';
const CERTIFICATES = 'test/unit/custodian.test.ts';
const MEMBERSHIP = 'test/unit/vm-membership.test.ts';

const one = (
  row: number,
  protection: string,
  tests: readonly string[],
  file: string,
  find: string,
  replace: string,
): Mutation => ({ row, protection, tests, patches: [{ file, find, replace }] });

export const MUTATIONS: readonly Mutation[] = [
  one(
    1,
    'more than one validator must ask for a higher view before it is joined',
    [VIEW_CHANGE],
    'consensus/state.ts',
    'joinCount: Math.max(2, faultTolerance(count) + 1)',
    'joinCount: 1',
  ),
  one(
    1,
    'votes of one signer are bounded',
    [ORDERING],
    'consensus/votes.ts',
    'if (votes.size > MAX_VIEWS_PER_SIGNER) votes.delete(Math.min(...votes.keys()));',
    '',
  ),
  one(
    1,
    'a view is an integer of 53 bits, never negative or a fraction',
    [MESSAGES],
    'common/codec.ts',
    'return value <= max ? value : fail(expected);',
    'return value;',
  ),
  one(
    2,
    'the signature of a vote covers its view',
    [MESSAGES],
    'common/protocol/signing.ts',
    'H(`vote/${kind}`, chainId, u64be(height), u64be(view), digest)',
    'H(`vote/${kind}`, chainId, u64be(height), u64be(view - view), digest)',
  ),
  one(
    2,
    'the signature of a vote covers its kind',
    [MESSAGES],
    'common/protocol/signing.ts',
    'H(`vote/${kind}`, chainId,',
    'H(`vote/${kind.slice(0, 0)}`, chainId,',
  ),
  one(
    2,
    'the signature of a vote covers the chain',
    [MESSAGES],
    'common/protocol/signing.ts',
    'H(`vote/${kind}`, chainId,',
    'H(`vote/${kind}`, chainId.subarray(0, 0),',
  ),
  one(
    2,
    'one bad signature refuses the message',
    [MESSAGES],
    'consensus/verification.ts',
    "if (results.length === 0 || results.includes(false)) return reject('BAD_SIGNATURE', 'a signature does not verify');",
    "if (results.length === 0) return reject('BAD_SIGNATURE', 'a signature does not verify');",
  ),
  one(
    3,
    'nothing is voted for before it was executed',
    [ORDERING],
    'consensus/ordering.ts',
    "if (held === undefined || !held.valid) return false;\n  const votes = withVotes(height.record.votes, [{ vote: 'prepare'",
    "if (held === undefined) return false;\n  const votes = withVotes(height.record.votes, [{ vote: 'prepare'",
  ),
  one(
    3,
    'the header must name the head as its parent',
    [ORDERING],
    'consensus/ordering.ts',
    "if (header.height !== height.height || !equalBytes(header.parentHash, head.hash)) return 'WRONG_PARENT';",
    '',
  ),
  one(
    3,
    'a failed proposal makes the backup ask for the next leader',
    [ORDERING],
    'consensus/replica.ts',
    "startViewChange(state, state.current.view + 1, 'invalidProposal');",
    '',
  ),
  one(
    4,
    'votes and view changes are sent again',
    [VIEW_CHANGE],
    'consensus/catch-up.ts',
    '  if (mayVote(state)) resendOwn(state);\n  reportPhase',
    '  reportPhase',
  ),
  one(
    4,
    'who is in an earlier view is shown the new one',
    [VIEW_CHANGE],
    'consensus/catch-up.ts',
    'if (isBehind) bringToView(state, validator);',
    '',
  ),
  one(
    5,
    'a block that is proposed again is exempt from the clock',
    [VIEW_CHANGE],
    'consensus/ordering.ts',
    'return requestExecution(state, held.block, height.current.mandate === null && !isVotedFor);',
    'return requestExecution(state, held.block, true);',
  ),
  one(
    5,
    'a block that is proposed again keeps the view of its header',
    [VIEW_CHANGE],
    'consensus/ordering.ts',
    'if (fresh ? header.view !== height.view : header.view >= height.view)',
    'if (header.view !== height.view)',
  ),
  one(
    6,
    'timeouts are capped',
    [VIEW_CHANGE],
    'consensus/timers.ts',
    'Math.min(params.viewTimeoutCapMs, params.viewTimeoutMs * 2 ** doublings)',
    'params.viewTimeoutMs * 2 ** doublings',
  ),
  one(
    6,
    'nobody runs ahead of a quorum through the views',
    [VIEW_CHANGE],
    'consensus/timers.ts',
    'return viewsReached(state) >= height.members.quorum;',
    'return viewsReached(state) >= 0;',
  ),
  one(
    7,
    'the record is on disk before a vote leaves',
    [ORDERING],
    'consensus/ordering.ts',
    "  persist(state, { ...height.record, view: height.view, votes }, held.block);\n  emit(state, { kind: 'broadcast', message: { kind: 'prepare', height: height.height, view: height.view, digest } });",
    "  emit(state, { kind: 'broadcast', message: { kind: 'prepare', height: height.height, view: height.view, digest } });\n  persist(state, { ...height.record, view: height.view, votes }, held.block);",
  ),
  one(
    7,
    'the record is synced, not only written',
    [CRASH],
    'node/storage/safety-store.ts',
    'await this.#kv.write(writes, { sync: true });',
    'await this.#kv.write(writes, { sync: false });',
  ),
  one(
    7,
    'the host signs only what the durable record covers',
    [HOST, MESSAGES],
    'consensus/safety-record.ts',
    'if (record === null || record.height !== message.height || message.height <= record.abstainThrough) return false;',
    'if (record === null || record.height !== message.height || message.height <= record.abstainThrough) return true;',
  ),
  one(
    7,
    'a record never takes a promise back',
    [MESSAGES],
    'consensus/safety-record.ts',
    "if (next.view < previous.view) return reject('RECORD_VIEW', 'an earlier view');",
    '',
  ),
  one(
    8,
    'a head that is reported twice changes nothing',
    [ORDERING],
    'consensus/replica.ts',
    'if (input.head.height <= state.head.height) return;',
    'if (input.head.height < state.head.height) return;',
  ),
  one(
    8,
    'a block that is stored already is not stored again',
    [SYNC, HOST],
    'node/host/ledger.ts',
    '    if (header.height <= head.height) return accept(null);\n',
    '',
  ),
  one(
    9,
    'a view change carries the prepared certificate',
    [VIEW_CHANGE],
    'consensus/view-change.ts',
    "message: { kind: 'viewChange', height, view, prepared: record.prepared }",
    "message: { kind: 'viewChange', height, view, prepared: record.view < 0 ? record.prepared : null }",
  ),
  one(
    9,
    'a restart takes up what was promised',
    [VIEW_CHANGE],
    'consensus/replica.ts',
    '    restore(state, options);\n',
    '    if (options.record === undefined) restore(state, options);\n',
  ),
  one(
    9,
    'the prepared certificate is durable before Commit leaves',
    [ORDERING],
    'consensus/ordering.ts',
    'persist(state, { ...height.record, votes, prepared: quorum }, null);',
    'persist(state, { ...height.record, votes }, null);',
  ),
  one(
    10,
    'synced blocks must bring a certificate',
    [SYNC],
    'node/host/ledger.ts',
    '    if (!proven.ok) return proven;\n    const txs',
    '    const txs',
  ),
  one(
    10,
    'a claimed height may be lowered again',
    [VIEW_CHANGE],
    'consensus/catch-up.ts',
    'const claim = { ...known, height: head };',
    'const claim = { ...known, height: Math.max(known.height, head) };',
  ),
  one(
    10,
    'who stays behind is offered blocks',
    [VIEW_CHANGE],
    'consensus/catch-up.ts',
    "emit(state, { kind: 'serve', to, fromHeight });",
    '',
  ),
  one(
    11,
    'each backup works out itself what a new view must propose',
    [VIEW_CHANGE],
    'consensus/ordering.ts',
    "if (mandate !== null && !equalBytes(mandate.digest, block.hash)) return 'WRONG_PROPOSAL';",
    '',
  ),
  one(
    11,
    'the prepared block of the highest view counts',
    [VIEW_CHANGE],
    'consensus/view-change.ts',
    'prepared.view > highest.view)) highest',
    'prepared.view < highest.view)) highest',
  ),
  one(
    11,
    'signers are counted once',
    [MESSAGES],
    'consensus/verification.ts',
    'if (validator <= previous)',
    'if (validator < previous)',
  ),
  one(
    11,
    'a certificate counts each of its signers once',
    [CERTIFICATES],
    'common/protocol/block.ts',
    'if (validator <= previous || validator >= set.length) {',
    'if (validator < previous || validator >= set.length) {',
  ),
  one(
    11,
    'a nested certificate is verified, too',
    [MESSAGES],
    'consensus/verification.ts',
    'checks.push(viewChangeCheck(proof, body, context), ...nested.value);',
    'checks.push(viewChangeCheck(proof, body, context));',
  ),
  one(
    12,
    'unknown settings are refused, those of consensus among them',
    ['test/unit/config.test.ts'],
    'config/document.ts',
    "if (error.keyword === 'additionalProperties') {",
    "if (error.keyword === 'additionalProperties' && error.keyword.length === 0) {",
  ),
  one(
    13,
    'a process promises nothing before others have told it what its key has promised',
    [OWN_KEY],
    'consensus/own-key.ts',
    "if (key.use !== 'asking' || self === null || key.echoed.size < quorum - 1) return false;",
    "if (key.use !== 'asking' || self === null) return false;",
  ),
  one(
    13,
    'two votes that conflict are reported',
    [ORDERING],
    'consensus/ordering.ts',
    "emit(state, { kind: 'report', report: { kind: 'evidence', equivocation } });",
    'void equivocation;',
  ),
  one(
    14,
    'a candidate must show the state of a recent height',
    [MEMBERSHIP],
    'vm/candidacies.ts',
    "return equalBytes(root, stateRoot) ? OK : refuse('READY_WRONG_STATE', `${height}`);",
    "return root.length > 0 || equalBytes(root, stateRoot) ? OK : refuse('READY_WRONG_STATE', `${height}`);",
  ),
  one(
    14,
    'a vote alone makes nobody a validator: the candidate must say that it is ready',
    [MEMBERSHIP],
    'vm/candidacies.ts',
    "if (root === undefined) return refuse('READY_NOT_RECENT', `${height}`);",
    'if (root === undefined) return OK;',
  ),
  one(
    15,
    'an index is one of the set',
    [MESSAGES],
    'consensus/verification.ts',
    "if (signer === undefined) return reject('UNKNOWN_VALIDATOR', `no validator has the index ${message.validator}`);",
    '',
  ),
  one(
    15,
    'an index in a list is one of the set',
    [MESSAGES],
    'consensus/verification.ts',
    "if (validator >= validatorCount) return reject('UNKNOWN_VALIDATOR', `no validator has the index ${validator}`);",
    '',
  ),
  one(
    16,
    'pieces of a state are proven against the root in a certified header',
    [STATE_TREE],
    'common/protocol/state-proof.ts',
    "if (!equalBytes(root.hash, rootHash)) return mismatch('the proof leads to another root');",
    '',
  ),
];

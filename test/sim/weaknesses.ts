/**
 * Deliberate defects, as patches of the sources: what the simulator must catch, or it proves nothing. A patch replaces a
 * text that stands in its file exactly once, in memory only, before the file is loaded (seed-worker.ts).
 */
import type { Patch } from '../../scripts/patching.ts';

export interface Weakness {
  readonly name: string;
  readonly patches: readonly Patch[];
  /** The violation by which it is caught, and how many seeds the test gives for it: some times what it takes. */
  readonly catches: { readonly as: RegExp; readonly withinSeeds: number };
}

const patch = (file: string, find: string, replace: string): Patch => ({ file, find, replace });

/** The host's own guards know better than a defective core: where they would stop the node, they are taken away, too. */
const NO_GUARD = patch(
  'test/sim/node.ts',
  'if (this.behaviour === null && !permits(this.disk.record, effect.message)) {',
  'if (this.cluster === null && !permits(this.disk.record, effect.message)) {',
);
const NO_SUCCESSION = patch('test/sim/node.ts', 'if (!verdict.ok) throw new Error(verdict.code);', '');

const FORK = /disagreement|settled|two blocks prepared/;
const FORK_OR_STALL = /disagreement|settled|two blocks prepared|no progress/;

export const WEAKNESSES: readonly Weakness[] = [
  {
    name: 'quorum one less, everywhere',
    patches: [
      patch(
        'common/protocol/validator-set.ts',
        'Math.ceil((n + faultTolerance(n) + 1) / 2)',
        'Math.ceil((n + faultTolerance(n) + 1) / 2) - 1',
      ),
    ],
    catches: { as: FORK, withinSeeds: 400 },
  },
  {
    name: 'quorum one less, in the core alone',
    patches: [
      patch('consensus/votes.ts', 'signatures.length >= this.#quorum ?', 'signatures.length >= this.#quorum - 1 ?'),
    ],
    catches: { as: /CERTIFICATE_QUORUM/, withinSeeds: 10 },
  },
  {
    name: 'lock not honoured: a new view is free, whatever was prepared',
    patches: [
      patch(
        'consensus/view-change.ts',
        'if (prepared !== null && (highest === null || prepared.view > highest.view)) highest = prepared;',
        'if (prepared === undefined) highest = prepared;',
      ),
    ],
    catches: { as: FORK, withinSeeds: 400 },
  },
  {
    name: 'lock not sent: view changes without the prepared certificate',
    patches: [
      patch(
        'consensus/view-change.ts',
        "message: { kind: 'viewChange', height, view, prepared: record.prepared }",
        "message: { kind: 'viewChange', height, view, prepared: record.view < 0 ? record.prepared : null }",
      ),
      NO_GUARD,
    ],
    catches: { as: FORK, withinSeeds: 400 },
  },
  {
    name: 'the lowest lock counts in place of the highest',
    patches: [
      patch(
        'consensus/view-change.ts',
        'prepared.view > highest.view)) highest',
        'prepared.view < highest.view)) highest',
      ),
    ],
    catches: { as: FORK, withinSeeds: 1_000 },
  },
  {
    name: 'new-view not recomputed: backups take what its leader proposes',
    patches: [
      patch(
        'consensus/ordering.ts',
        "if (mandate !== null && !equalBytes(mandate.digest, block.hash)) return 'WRONG_PROPOSAL';",
        '',
      ),
      patch(
        'consensus/ordering.ts',
        'return headerProblem(state, block, mandate === null);',
        'return headerProblem(state, block, mandate === null || block.header.view === state.current.view);',
      ),
    ],
    catches: { as: FORK, withinSeeds: 1_000 },
  },
  {
    name: 'persist after send',
    patches: [
      patch(
        'test/sim/node.ts',
        "if (effect.kind === 'persist') return this.#persist(effect.record, effect.block, proceed);",
        `if (effect.kind === 'persist') {
          const later = effects.slice(at + 1).findIndex((e) => e.kind === 'persist' || e.kind === 'commit');
          const end = later === -1 ? effects.length : at + 1 + later;
          for (const e of effects.slice(at + 1, end)) if (e.kind === 'broadcast') this.#perform(e);
          const rest = effects.filter((e, i) => i <= at || i >= end || e.kind !== 'broadcast');
          return this.#persist(effect.record, effect.block, () => this.#carryOut(rest, at + 1));
        }`,
      ),
      NO_GUARD,
    ],
    catches: { as: /nothing durable|no durable/, withinSeeds: 10 },
  },
  {
    name: 'a sync that is none: the record is only in memory when power goes',
    patches: [
      patch(
        'test/sim/disk.ts',
        'this.#unsynced = batch;',
        "this.#unsynced = batch; if (batch.kind === 'record') return 0;",
      ),
      patch(
        'test/sim/disk.ts',
        'this.bodies.delete(hash);\n    this.record = record;\n',
        'this.bodies.delete(hash);\n    this.before = this.record;\n    this.record = record;\n',
      ),
      patch(
        'test/sim/disk.ts',
        '    if (this.#unsynced === null) return;\n    const fate',
        '    if (this.before !== undefined) this.record = this.before;\n    if (this.#unsynced === null) return;\n    const fate',
      ),
    ],
    catches: { as: /double vote|missing from the store/, withinSeeds: 100 },
  },
  {
    name: 'a restart forgets the record',
    patches: [
      patch(
        'test/sim/node.ts',
        '      record,\n      bodies:',
        '      record: record === null ? record : null,\n      bodies:',
      ),
      NO_SUCCESSION,
    ],
    catches: { as: /double vote/, withinSeeds: 100 },
  },
  {
    name: 'signers are counted as often as they sign',
    patches: [patch('consensus/verification.ts', 'if (validator <= previous)', 'if (validator < previous)')],
    catches: { as: FORK_OR_STALL, withinSeeds: 1_000 },
  },
  {
    name: 'too few signers are a quorum, in certificates of view changes',
    patches: [
      patch(
        'consensus/verification.ts',
        'return signers.length >= quorumSize(validatorCount)',
        'return signers.length >= 1 || quorumSize(validatorCount) === 0',
      ),
    ],
    catches: { as: FORK_OR_STALL, withinSeeds: 1_000 },
  },
  {
    name: 'blocks are voted for without executing them',
    patches: [
      patch(
        'test/sim/node.ts',
        'const verdict = executeBlock(this.cluster.consortium, this.head, effect.block, clockMs, this.disk.txs);',
        'const verdict = { ok: true as const, value: clockMs };',
      ),
    ],
    catches: { as: /cannot be executed|twice/, withinSeeds: 300 },
  },
  {
    name: 'the clock is not looked at',
    patches: [
      patch('test/sim/node.ts', 'const clockMs = effect.fresh ? this.clockMs : null;', 'const clockMs = null;'),
    ],
    catches: { as: /from the future/, withinSeeds: 500 },
  },
  {
    name: 'one validator is enough to be followed',
    patches: [patch('consensus/state.ts', 'joinCount: Math.max(2, faultTolerance(count) + 1)', 'joinCount: 1')],
    catches: { as: /followed somebody|views only grow/, withinSeeds: 300 },
  },
  {
    name: 'nobody is offered blocks, and nobody asks',
    patches: [
      patch(
        'consensus/catch-up.ts',
        'function askForBlocks(state: ReplicaState, from: number, height: Height): void {',
        'function askForBlocks(state: ReplicaState, from: number, height: Height): void {\n  if (height > 0) return;',
      ),
      patch(
        'consensus/catch-up.ts',
        'function offerBlocks(state: ReplicaState, to: number, fromHeight: Height): void {',
        'function offerBlocks(state: ReplicaState, to: number, fromHeight: Height): void {\n  if (fromHeight > 0) return;',
      ),
    ],
    catches: { as: /no progress/, withinSeeds: 1_000 },
  },
  {
    name: 'nothing is sent again',
    patches: [
      patch('consensus/catch-up.ts', '  if (mayVote(state)) resendOwn(state);\n  reportPhase', '  reportPhase'),
    ],
    catches: { as: /no progress/, withinSeeds: 300 },
  },
];

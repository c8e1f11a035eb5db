/**
 * Replays a trace of model/pbft.qnt on the real core, one replica for each honest validator: the same inputs in the same
 * order, and after each step what the model says must be what the core says: view, mode, safety record, decision, whether
 * the view timer runs, and every message that was signed. What the core does beyond the model (status, sending again,
 * reports) is not looked at.
 */
import { deepStrictEqual } from 'node:assert';
import { bytesToHex } from '../../common/bytes.ts';
import { quorumSize } from '../../common/protocol/validator-set.ts';
import type { PreparedCertificate, ProposedBlock, SignedMessage, ViewChangeProof } from '../../consensus/messages.ts';
import type { CastVote } from '../../consensus/safety-record.ts';
import type { Certificate } from '../../common/protocol/block.ts';
import { LoneReplica, signAs } from '../sim/lone-replica.ts';
import { buildBlock, sealBlock, toyGenesis } from '../sim/toy-chain.ts';
import { type ToyConsortium, toyConsortium } from '../sim/toy-crypto.ts';
import type { ModelAsked, ModelMessage, ModelReplica, ModelStep, ModelTrace, ModelVote } from './trace.ts';

const HEIGHT = 1;
const NONE: ModelVote = { view: -1, block: -1 };
/** Of the three blocks of a view the last does not execute. */
const TAGS = 3;

export class Divergence extends Error {
  override readonly name = 'Divergence';
}

/** @throws Divergence with the number of the step and both states where model and core part */
export function replay(trace: ModelTrace): void {
  const run = new Run(trace);
  trace.steps.forEach((step, index) => {
    try {
      run.take(step);
    } catch (error) {
      const { kind, at, message } = step;
      const what = JSON.stringify({ kind, at, message });
      throw new Divergence(`step ${index + 1}: ${what}\n${error instanceof Error ? error.message : String(error)}`);
    }
  });
}

class Run {
  readonly #trace: ModelTrace;
  readonly #consortium: ToyConsortium;
  readonly #replicas = new Map<number, LoneReplica>();
  readonly #decided = new Map<number, Certificate>();
  /** The view of the last block that each was asked to build. */
  readonly #asked = new Map<number, number>();
  /** Everything that was signed, by what the model calls it. */
  readonly #sent = new Map<string, SignedMessage>();
  readonly #blocks = new Map<number, ProposedBlock>();
  /** The model's names of blocks, by their hashes in hex. */
  readonly #names = new Map<string, number>();
  /** What the core signed in this step. */
  #signed = new Map<string, SignedMessage>();

  constructor(trace: ModelTrace) {
    this.#trace = trace;
    this.#consortium = toyConsortium(trace.count);
    for (let self = 0; self < trace.count; self += 1) {
      if (!trace.faulty.includes(self)) this.#start(self, new LoneReplica({ count: trace.count, self }));
    }
  }

  take(step: ModelStep): void {
    this.#signed = new Map();
    const message = step.message as ModelMessage;
    if (step.kind === 'sign') {
      this.#sent.set(key(message), this.#signedBy(message));
      return;
    }
    this.#give(step);
    const news = [...this.#signed].filter(([name]) => !this.#sent.has(name));
    for (const [name, signed] of news) this.#sent.set(name, signed);
    const core = { ...this.#observe(step.at), signed: news.map(([name]) => name).sort() };
    const model = { ...observed(step.after as ModelReplica, this.#trace.count), signed: step.signed.map(key).sort() };
    deepStrictEqual(core, model);
  }

  #give(step: ModelStep): void {
    const { at } = step;
    const replica = this.#replica(at);
    switch (step.kind) {
      case 'deliver':
        replica.hearSigned(this.#sent.get(key(step.message as ModelMessage)) as SignedMessage);
        break;
      case 'propose': {
        const view = this.#asked.get(at);
        if (view !== replica.replica.position.view)
          throw new Error(`no block was asked for in this view, but in ${view}`);
        replica.give({ kind: 'proposal', height: HEIGHT, view, block: this.#block(view * TAGS) });
        break;
      }
      case 'timeout':
        replica.fire('view');
        break;
      case 'restart':
        return this.#start(at, replica.restarted());
      case 'sign':
        return;
    }
    this.#host(at);
  }

  #start(at: number, replica: LoneReplica): void {
    this.#replicas.set(at, replica);
    this.#asked.delete(at);
    replica.give({ kind: 'due', due: true });
    this.#host(at);
  }

  /** What the host of a replica does beyond signing and executing: bodies are handed over at once [P8]. */
  #host(at: number): void {
    const replica = this.#replica(at);
    for (let effects = replica.take(); effects.length > 0; effects = replica.take()) {
      for (const effect of effects) {
        if (effect.kind === 'propose') this.#asked.set(at, effect.view);
        if (effect.kind === 'commit') this.#decided.set(at, effect.certificate);
        if (effect.kind === 'fetch') replica.fetched(this.#block(this.#nameOf(effect.blockHash)));
        if (effect.kind === 'broadcast') this.#note(signAs(this.#consortium, at, effect.message));
      }
    }
  }

  #replica(at: number): LoneReplica {
    return this.#replicas.get(at) as LoneReplica;
  }

  #observe(at: number): object {
    const replica = this.#replica(at);
    const { view, mode } = replica.replica.position;
    const { record } = replica;
    const cast = (vote: CastVote['vote']): ModelVote => this.#vote(record?.votes.find((v) => v.vote === vote));
    const decided = this.#decided.get(at);
    return {
      view,
      mode,
      record: {
        view: record?.view ?? 0,
        prePrepare: cast('preprepare'),
        prepare: cast('prepare'),
        commit: cast('commit'),
        prepared: this.#vote(record?.prepared),
      },
      decided: decided === undefined ? NONE : { view: decided.view, block: this.#nameOf(decided.blockHash) },
      timerRuns: replica.timer('view') !== undefined,
    };
  }

  #vote(vote: { readonly view: number; readonly digest: Uint8Array } | null | undefined): ModelVote {
    return vote === null || vote === undefined ? NONE : { view: vote.view, block: this.#nameOf(vote.digest) };
  }

  // ---- blocks and messages, in the words of the model and in those of the core

  #block(name: number): ProposedBlock {
    const known = this.#blocks.get(name);
    if (known !== undefined) return known;
    const view = Math.floor(name / TAGS);
    const genesis = toyGenesis(this.#consortium);
    const at = { view, proposer: (HEIGHT + view) % this.#trace.count, timestampMs: genesis.header.timestampMs + 1_000 };
    const good = buildBlock(this.#consortium, genesis, at, [Uint8Array.of(name)]);
    const executes = name % TAGS !== TAGS - 1;
    const block = executes ? good : sealBlock({ ...good.header, stateRoot: new Uint8Array(32) }, good.block.txs);
    this.#blocks.set(name, block);
    this.#names.set(bytesToHex(block.hash), name);
    return block;
  }

  #nameOf(hash: Uint8Array): number {
    const name = this.#names.get(bytesToHex(hash));
    if (name === undefined) throw new Error('the core speaks of a block that the model does not have');
    return name;
  }

  #note(message: SignedMessage): void {
    const { validator: from, body } = message;
    let said: ModelMessage;
    switch (body.kind) {
      case 'prePrepare':
        said = { tag: 'PrePrepare', value: { block: this.#nameOf(body.block.hash), from, view: body.view } };
        break;
      case 'prepare':
      case 'commit': {
        const tag = body.kind === 'prepare' ? 'Prepare' : 'Commit';
        said = { tag, value: { block: this.#nameOf(body.digest), from, view: body.view } };
        break;
      }
      case 'viewChange':
        said = { tag: 'ViewChange', value: { from, prepared: this.#vote(body.prepared), view: body.view } };
        break;
      case 'newView': {
        const viewChanges = body.viewChanges.map((proof) => ({
          from: proof.validator,
          prepared: this.#vote(proof.prepared),
          view: body.view,
        }));
        said = { tag: 'NewView', value: { from, view: body.view, viewChanges } };
        break;
      }
      default:
        return;
    }
    this.#signed.set(key(said), message);
  }

  /** What a faulty validator signs in the model, signed with its key. */
  #signedBy(message: ModelMessage): SignedMessage {
    const { from, view } = message.value;
    const by = (body: Parameters<typeof signAs>[2]): SignedMessage => signAs(this.#consortium, from, body);
    switch (message.tag) {
      case 'PrePrepare':
        return by({ kind: 'prePrepare', height: HEIGHT, view, block: this.#block(message.value.block) });
      case 'Prepare':
      case 'Commit': {
        const kind = message.tag === 'Prepare' ? 'prepare' : 'commit';
        return by({ kind, height: HEIGHT, view, digest: this.#block(message.value.block).hash });
      }
      case 'ViewChange':
        return by({ kind: 'viewChange', height: HEIGHT, view, prepared: this.#certificate(message.value.prepared) });
      case 'NewView': {
        const { viewChanges } = message.value;
        const proofs = [...viewChanges].sort((a, b) => a.from - b.from).map((asked) => this.#proof(asked));
        return by({ kind: 'newView', height: HEIGHT, view, viewChanges: proofs });
      }
    }
  }

  #proof(asked: ModelAsked): ViewChangeProof {
    const message: ModelMessage = { tag: 'ViewChange', value: asked };
    const { validator, signature, body } = this.#sent.get(key(message)) ?? this.#signedBy(message);
    if (body.kind !== 'viewChange') throw new Error('a view change was asked for');
    return { validator, prepared: body.prepared, signature };
  }

  /** Of the Prepares that were signed, and those that the faulty can add. */
  #certificate({ view, block }: ModelVote): PreparedCertificate | null {
    if (block === NONE.block) return null;
    const signatures = this.#consortium.validators.flatMap((_, from) => {
      const message: ModelMessage = { tag: 'Prepare', value: { block, from, view } };
      const known = this.#sent.get(key(message));
      if (known === undefined && !this.#trace.faulty.includes(from)) return [];
      return [{ validator: from, signature: (known ?? this.#signedBy(message)).signature }];
    });
    return { view, digest: this.#block(block).hash, signatures };
  }
}

/** One text for one message, whatever order its fields and sets are in. */
function key(message: ModelMessage): string {
  const vote = ({ view, block }: ModelVote): string => `${block}@${view}`;
  switch (message.tag) {
    case 'PrePrepare':
    case 'Prepare':
    case 'Commit':
      return `${message.tag} ${message.value.from} ${vote(message.value)}`;
    case 'ViewChange':
      return `${message.tag} ${message.value.from} ${message.value.view} ${vote(message.value.prepared)}`;
    case 'NewView': {
      const asked = message.value.viewChanges.map((a) => `${a.from}:${vote(a.prepared)}`).sort();
      return `${message.tag} ${message.value.from} ${message.value.view} ${asked.join(' ')}`;
    }
  }
}

/** What the model says that can be compared. */
function observed({ view, mode, record, decided, viewChanges }: ModelReplica, count: number): object {
  const asking = viewChanges.filter((asked) => asked.view >= view).length;
  // [T1, T3] A block is always due here.
  const timerRuns = mode === 'normal' || (mode === 'viewChange' && asking >= quorumSize(count));
  const { view: lowest, prePrepare, prepare, commit, prepared } = record;
  return { view, mode, record: { view: lowest, prePrepare, prepare, commit, prepared }, decided, timerRuns };
}

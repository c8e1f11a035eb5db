/**
 * One replica among scripted peers: the test says what the others sign, the harness plays the host of the one. Votes
 * that the replica broadcasts are signed and fed back, and blocks are executed at once unless the test holds that back.
 */
import { bytesToHex } from '../../common/bytes.ts';
import type {
  LeaderHistory,
  ChainHead,
  ConsensusParams,
  Effect,
  Input,
  Report,
  TimerName,
} from '../../consensus/types.ts';
import { NO_LEADER_HISTORY } from '../../consensus/leader-order.ts';
import {
  decodeMessage,
  encodeMessage,
  INCARNATION_BYTES,
  type ProposedBlock,
  type SignedMessage,
  signingHash,
  type UnsignedMessage,
  type ViewChangeProof,
} from '../../consensus/messages.ts';
import { Replica } from '../../consensus/replica.ts';
import { bodiesOf, checkSuccession, permits, type SafetyRecord } from '../../consensus/safety-record.ts';
import { ownMessage, verifyFetched, verifyMessage } from '../../consensus/verification.ts';
import { buildBlock, executeBlock, toyGenesis } from './toy-chain.ts';
import { type ToyConsortium, toyConsortium } from './toy-crypto.ts';

export const LONE_PARAMS: ConsensusParams = { viewTimeoutMs: 1_000, viewTimeoutCapMs: 16_000 };

type EffectOf<K extends Effect['kind']> = Extract<Effect, { readonly kind: K }>;
type BodyOf<K extends UnsignedMessage['kind']> = Extract<UnsignedMessage, { readonly kind: K }>;

export interface LoneOptions {
  readonly count?: number;
  readonly self?: number;
  readonly record?: SafetyRecord | null;
  readonly bodies?: readonly ProposedBlock[];
  readonly leaders?: LeaderHistory;
  readonly incarnation?: Uint8Array;
  /** The head; that of the genesis if there is none. */
  readonly parent?: ProposedBlock;
  /** Whether the test answers the replica's question for its own promises; else all others do, at once, with nothing. */
  readonly asks?: boolean;
}

const INCARNATION = new Uint8Array(INCARNATION_BYTES).fill(1);

export function signAs(consortium: ToyConsortium, validator: number, body: UnsignedMessage): SignedMessage {
  const signature = consortium.signers[validator]!.sign(signingHash(consortium.chainId, body));
  return { validator, signature, body };
}

export class LoneReplica {
  readonly consortium: ToyConsortium;
  readonly self: number;
  readonly incarnation: Uint8Array;
  readonly replica: Replica;
  /** All effects since the last `take`, in order. */
  #effects: Effect[] = [];
  executesAtOnce = true;
  feedsBack = true;
  parent: ProposedBlock;
  record: SafetyRecord | null;
  readonly bodies = new Map<string, ProposedBlock>();
  #timers = new Map<string, EffectOf<'setTimer'>>();

  constructor(options: LoneOptions = {}) {
    this.consortium = toyConsortium(options.count ?? 4);
    this.self = options.self ?? 0;
    this.incarnation = options.incarnation ?? INCARNATION;
    this.parent = options.parent ?? toyGenesis(this.consortium);
    this.record = options.record ?? null;
    for (const body of options.bodies ?? []) this.bodies.set(bytesToHex(body.hash), body);
    const { chainId, signers } = this.consortium;
    const opened = Replica.open({
      identity: { chainId, address: signers[this.self]!.address },
      incarnation: this.incarnation,
      head: this.head(),
      params: LONE_PARAMS,
      leaders: options.leaders ?? NO_LEADER_HISTORY,
      record: this.record,
      bodies: options.bodies ?? [],
    });
    this.replica = opened.replica;
    this.#carryOut(opened.effects);
    if (options.asks === true) return;
    signers.forEach((_, validator) => {
      if (validator !== this.self) this.hearEcho(validator);
    });
  }

  /** `validator` answers this process with what it heard under its key. */
  hearEcho(validator: number, heard: Partial<BodyOf<'echo'>> = {}): void {
    const { height } = this.parent.header;
    const { incarnation, self: to } = this;
    this.hear(validator, { kind: 'echo', height, view: 0, to, incarnation, promises: [], status: null, ...heard });
  }

  status(height: number, view = 0, incarnation = 9, asking = false): BodyOf<'status'> {
    const hash = new Uint8Array(32);
    return { kind: 'status', height, hash, view, incarnation: new Uint8Array(16).fill(incarnation), asking };
  }

  head(): ChainHead {
    const { hash, header } = this.parent;
    const { validators, validatorsHash } = this.consortium;
    return { height: header.height, hash, timestampMs: header.timestampMs, validators, validatorsHash };
  }

  /** A replica that starts from what this one has on disk. */
  restarted(): LoneReplica {
    const bodies = (this.record === null ? [] : bodiesOf(this.record)).map((h) => this.bodies.get(bytesToHex(h))!);
    return new LoneReplica({ count: this.consortium.validators.length, self: this.self, record: this.record, bodies });
  }

  leader(view: number, height = 1): number {
    return (height + view) % this.consortium.validators.length;
  }

  block(view = 0, txs: readonly Uint8Array[] = [Uint8Array.of(view)]): ProposedBlock {
    const at = {
      view,
      proposer: this.leader(view, this.parent.header.height + 1),
      timestampMs: this.parent.header.timestampMs + 1_000,
    };
    return buildBlock(this.consortium, this.parent, at, txs);
  }

  give(input: Input): void {
    this.#carryOut(this.replica.step(input));
  }

  /** Hears what `validator` signs, over the wire's bytes. */
  hear(validator: number, body: UnsignedMessage): SignedMessage {
    return this.hearSigned(signAs(this.consortium, validator, body));
  }

  hearSigned(message: SignedMessage): SignedMessage {
    const decoded = decodeMessage(encodeMessage(message));
    if (!decoded.ok) throw new Error(decoded.message);
    const verified = verifyMessage(decoded.value, this.consortium, this.consortium.engine);
    if (!verified.ok) throw new Error(`${verified.code}: ${verified.message}`);
    this.give({ kind: 'message', message: verified.value, validatorsHash: this.consortium.validatorsHash });
    return message;
  }

  hearVotes(kind: 'prepare' | 'commit', from: readonly number[], view: number, digest: Uint8Array): void {
    for (const validator of from) this.hear(validator, { kind, height: this.#height(), view, digest });
  }

  hearProposal(block: ProposedBlock, view = 0): void {
    this.hear(this.leader(view, this.#height()), { kind: 'prePrepare', height: this.#height(), view, block });
  }

  viewChangeOf(validator: number, view: number, prepared: ViewChangeProof['prepared'] = null): ViewChangeProof {
    const message = signAs(this.consortium, validator, { kind: 'viewChange', height: this.#height(), view, prepared });
    return { validator, prepared, signature: message.signature };
  }

  preparedBy(signers: readonly number[], view: number, digest: Uint8Array): NonNullable<ViewChangeProof['prepared']> {
    const body: UnsignedMessage = { kind: 'prepare', height: this.#height(), view, digest };
    const signatures = signers.map((validator) => ({
      validator,
      signature: signAs(this.consortium, validator, body).signature,
    }));
    return { view, digest, signatures };
  }

  fetched(block: ProposedBlock): void {
    const verdict = verifyFetched(block, block.hash, this.consortium.chainId);
    if (!verdict.ok) throw new Error(verdict.code);
    this.give({ kind: 'fetched', block: verdict.value });
  }

  commitTo(block: ProposedBlock): void {
    this.parent = block;
    this.give({ kind: 'committed', head: this.head(), params: LONE_PARAMS, leaders: NO_LEADER_HISTORY });
  }

  fire(timer: TimerName): void {
    const set = this.#timers.get(timer);
    if (set === undefined) throw new Error(`no ${timer} timer runs`);
    this.#timers.delete(timer);
    this.give({ kind: 'timer', timer, token: set.token });
  }

  timer(timer: TimerName): EffectOf<'setTimer'> | undefined {
    return this.#timers.get(timer);
  }

  /** The effects since the last call. */
  take(): readonly Effect[] {
    const taken = this.#effects;
    this.#effects = [];
    return taken;
  }

  of<K extends Effect['kind']>(kind: K): EffectOf<K>[] {
    return this.#effects.filter((e): e is EffectOf<K> => e.kind === kind);
  }

  /** What it broadcast of one kind since the last `take`. */
  said<K extends UnsignedMessage['kind']>(kind: K): BodyOf<K>[] {
    return this.of('broadcast')
      .map((e) => e.message)
      .filter((m): m is BodyOf<K> => m.kind === kind);
  }

  reports<K extends Report['kind']>(kind: K): Extract<Report, { readonly kind: K }>[] {
    return this.of('report')
      .map((e) => e.report)
      .filter((r): r is Extract<Report, { readonly kind: K }> => r.kind === kind);
  }

  #height(): number {
    return this.parent.header.height + 1;
  }

  #carryOut(effects: readonly Effect[]): void {
    const answers: Input[] = [];
    for (const effect of effects) {
      this.#effects.push(effect);
      if (effect.kind === 'persist') {
        const verdict = checkSuccession(this.record, effect.record);
        if (!verdict.ok) throw new Error(verdict.code);
        this.record = effect.record;
        if (effect.block !== null) this.bodies.set(bytesToHex(effect.block.hash), effect.block);
      }
      if (effect.kind === 'broadcast') {
        if (!permits(this.record, effect.message)) throw new Error(`the guard refuses ${effect.message.kind}`);
        const message = ownMessage(signAs(this.consortium, this.self, effect.message));
        if (this.feedsBack) answers.push({ kind: 'message', message, validatorsHash: this.consortium.validatorsHash });
      }
      if (effect.kind === 'execute' && this.executesAtOnce) {
        const verdict = executeBlock(this.consortium, this.parent, effect.block, null);
        answers.push({ kind: 'executed', height: effect.block.header.height, blockHash: effect.block.hash, verdict });
      }
      if (effect.kind === 'setTimer') this.#timers.set(effect.timer, effect);
      if (effect.kind === 'cancelTimer') this.#timers.delete(effect.timer);
    }
    for (const answer of answers) this.give(answer);
  }
}

/**
 * A node as the simulator has it: the real replica, driven as a host drives it, over a disk that forgets what was not
 * synced, and with a process that may end between any two effects.
 */
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { type Certificate, verifyCertificate } from '../../common/protocol/block.ts';
import { leaderSpanStart, NO_LEADER_HISTORY, nextLeaderHistory } from '../../consensus/leader-order.ts';
import {
  decodeMessage,
  encodeMessage,
  INCARNATION_BYTES,
  type ProposedBlock,
  type SignedMessage,
  signingHash,
  type UnsignedMessage,
} from '../../consensus/messages.ts';
import { Replica } from '../../consensus/replica.ts';
import { bodiesOf, checkSuccession, permits, type SafetyRecord } from '../../consensus/safety-record.ts';
import type { ChainHead, ConsensusParams, Effect, Input, LeaderHistory, Report } from '../../consensus/types.ts';
import { ownMessage, verifyFetched, verifyMessage } from '../../consensus/verification.ts';
import { type FairnessLimits, FairnessWatch, type Offer, type Waiting } from '../../node/host/fairness.ts';
import type { Checkers } from './checkers.ts';
import { buildBlock, executeBlock, type StoredBlock, toyGenesis, txKey } from './toy-chain.ts';
import type { ToyConsortium } from './toy-crypto.ts';
import type { Parcel, World } from './world.ts';

/** What the disk holds after a power cut. */
export interface Disk {
  readonly chain: StoredBlock[];
  record: SafetyRecord | null;
  bodies: Map<string, ProposedBlock>;
}

type Job =
  | { readonly kind: 'input'; readonly input: Input }
  | { readonly kind: 'blocks'; readonly blocks: readonly StoredBlock[] };

/** Deliberate defects, to show that the checkers notice. */
export type Weakness = 'forgetsRecord' | 'neverSyncs' | 'skipsExecution' | 'shortCertificate';

/** What a node sees of the simulation around it. */
export interface Surroundings {
  readonly world: World;
  readonly consortium: ToyConsortium;
  readonly checkers: Checkers;
  readonly nodes: readonly SimNode[];
  readonly params: ConsensusParams;
  readonly demotionBlocks: number;
  readonly weakness: Weakness | null;
  /** A second process with the key of one of the nodes: it hears and says what that node may hear and say. */
  readonly twin: SimNode | null;
  /** The process of this node ends here. */
  crashed(node: SimNode): void;
  certificateOf(certificate: Certificate): Certificate;
}

/** What a Byzantine node sends in place of an honest message. */
export interface Behaviour {
  readonly name: string;
  outgoing(node: SimNode, message: SignedMessage, to: number): readonly SignedMessage[];
  received(node: SimNode, message: SignedMessage): void;
}

const MAX_BLOCK_TXS = 8;
const MAX_SYNC_BLOCKS = 16;

export class SimNode {
  readonly index: number;
  readonly cluster: Surroundings;
  readonly disk: Disk = { chain: [], record: null, bodies: new Map() };
  behaviour: Behaviour | null = null;
  /** In 10,000 effects: how many end the process. */
  crashPerTenThousand = 0;
  clockSkewMs = 0;
  crashes = 0;
  readonly reports: Report[] = [];
  replica: Replica | null = null;
  #incarnation = 0;
  #jobs: Job[] = [];
  #isBusy = false;
  #isSyncing = false;
  #pendingWrite: (() => void) | null = null;
  #timers = new Map<string, number>();
  #pool = new Map<string, { readonly tx: Uint8Array; readonly receivedMs: number }>();
  #fairness: FairnessWatch;
  #leaders: LeaderHistory = NO_LEADER_HISTORY;

  constructor(cluster: Surroundings, index: number) {
    this.cluster = cluster;
    this.index = index;
    this.#fairness = this.#newFairness();
  }

  get isUp(): boolean {
    return this.replica !== null;
  }

  get head(): ProposedBlock {
    return this.disk.chain.at(-1)?.block ?? toyGenesis(this.cluster.consortium);
  }

  start(): void {
    const { consortium, params } = this.cluster;
    this.#leaders = this.#historyFromDisk();
    const { record, bodies } =
      this.cluster.weakness === 'forgetsRecord' ? { record: null, bodies: new Map() } : this.disk;
    const opened = Replica.open({
      identity: { chainId: consortium.chainId, address: consortium.signers[this.index]?.address ?? new Uint8Array(20) },
      incarnation: this.cluster.world.prng.bytes(INCARNATION_BYTES),
      head: this.#chainHead(),
      params,
      leaders: this.#leaders,
      record,
      bodies: [...bodies.values()],
    });
    this.replica = opened.replica;
    this.#isBusy = true;
    this.#carryOut(opened.effects, 0);
  }

  /** Power cut: a write that was not synced is there or not, whole; everything in memory is gone. */
  crash(): void {
    if (this.#pendingWrite !== null && this.cluster.world.prng.chance(500)) this.#pendingWrite();
    this.#incarnation += 1;
    this.crashes += 1;
    this.replica = null;
    this.#jobs = [];
    this.#isBusy = false;
    this.#isSyncing = false;
    this.#pendingWrite = null;
    this.#timers.clear();
    this.#pool.clear();
    this.#fairness = this.#newFairness();
    this.cluster.world.note(this.index + 1000);
  }

  submit(tx: Uint8Array): void {
    if (!this.isUp || this.disk.chain.some((b) => b.block.block.txs.some((t) => equalBytes(t, tx)))) return;
    const wasEmpty = this.#pool.size === 0;
    this.#pool.set(txKey(tx), { tx, receivedMs: this.cluster.world.nowMs });
    if (wasEmpty) this.give({ kind: 'due', due: true });
  }

  give(input: Input): void {
    this.#queue({ kind: 'input', input });
  }

  receive(parcel: Parcel): void {
    if (!this.isUp) return;
    const { consortium } = this.cluster;
    if (parcel.opened === undefined) {
      const decoded = decodeMessage(parcel.bytes);
      parcel.opened = decoded.ok ? verifyMessage(decoded.value, consortium, consortium.engine) : decoded;
    }
    const verdict = parcel.opened as ReturnType<typeof verifyMessage>;
    if (!verdict.ok) return;
    this.behaviour?.received(this, verdict.value);
    this.give({ kind: 'message', message: verdict.value, validatorsHash: consortium.validatorsHash });
  }

  sign(body: UnsignedMessage): SignedMessage {
    const { consortium } = this.cluster;
    const signer = consortium.signers[this.index];
    if (signer === undefined) throw new Error('no such validator');
    return { validator: this.index, signature: signer.sign(signingHash(consortium.chainId, body)), body };
  }

  /** Puts bytes on the wire to one node, past every rule. */
  transmit(message: SignedMessage, to: number): void {
    const { world, nodes } = this.cluster;
    if (world.filter !== null && !world.filter(this.index, to, message)) return;
    const parcel: Parcel = { bytes: encodeMessage(message) };
    world.carry(this.index, to, () => nodes[to]?.receive(parcel));
    const { twin } = this.cluster;
    if (twin?.index === to) world.carry(this.index, to, () => twin.receive(parcel));
  }

  #queue(job: Job): void {
    if (!this.isUp) return;
    this.#jobs.push(job);
    this.#pump();
  }

  #pump(): void {
    while (!this.#isBusy && this.replica !== null) {
      const job = this.#jobs.shift();
      if (job === undefined) return;
      this.#isBusy = true;
      if (job.kind === 'input') this.#carryOut(this.replica.step(job.input), 0);
      else this.#storeBlocks(job.blocks, 0);
    }
  }

  #carryOut(effects: readonly Effect[], from: number): void {
    for (let at = from; at < effects.length; at += 1) {
      const effect = effects[at] as Effect;
      if (this.crashPerTenThousand > 0 && this.cluster.world.prng.between(1, 10_000) <= this.crashPerTenThousand) {
        this.cluster.crashed(this);
        return;
      }
      const proceed = (): void => this.#carryOut(effects, at + 1);
      if (effect.kind === 'persist') return this.#persist(effect.record, effect.block, proceed);
      if (effect.kind === 'commit') {
        const certificate = this.cluster.certificateOf(effect.certificate);
        return this.#store({ block: effect.block, certificate }, proceed);
      }
      this.#perform(effect);
    }
    this.#isBusy = false;
    this.#pump();
  }

  #perform(effect: Exclude<Effect, { kind: 'persist' | 'commit' }>): void {
    const { world, nodes, checkers } = this.cluster;
    switch (effect.kind) {
      case 'broadcast': {
        if (!permits(this.disk.record, effect.message) && this.behaviour === null && this.cluster.weakness === null) {
          throw new Error(`the guard refuses ${effect.message.kind}`);
        }
        const message = this.sign(effect.message);
        if (this.behaviour === null) checkers.signed(this.index, message, this.disk);
        this.give({
          kind: 'message',
          message: ownMessage(message),
          validatorsHash: this.cluster.consortium.validatorsHash,
        });
        return this.#send(message, null);
      }
      case 'answer':
        return this.#send(this.sign(effect.message), effect.to);
      case 'send':
        return this.#send(effect.message, effect.to);
      case 'setTimer':
        this.#timers.set(effect.timer, effect.token);
        return this.#later(effect.afterMs, () => {
          // A firing may be queued when the timer is cancelled: the core must tell by the token.
          if (this.#timers.get(effect.timer) === effect.token || world.prng.chance(20)) {
            this.give({ kind: 'timer', timer: effect.timer, token: effect.token });
          }
        });
      case 'cancelTimer':
        this.#timers.delete(effect.timer);
        return;
      case 'propose':
        return this.#later(world.prng.between(0, 3), () => {
          const txs = [...this.#pool.values()].slice(0, MAX_BLOCK_TXS).map(({ tx }) => tx);
          const timestampMs = Math.max(effect.minTimestampMs, world.nowMs + this.clockSkewMs);
          const { height, view } = effect;
          if (this.head.header.height + 1 !== height) return;
          const at = { view, proposer: this.index, timestampMs };
          const block = txs.length === 0 ? null : buildBlock(this.cluster.consortium, this.head, at, txs);
          this.give({ kind: 'proposal', height, view, block });
        });
      case 'execute':
        return this.#later(world.prng.between(0, 3), () => {
          const clockMs = effect.fresh ? world.nowMs + this.clockSkewMs : null;
          const executed = executeBlock(this.cluster.consortium, this.head, effect.block, clockMs);
          if (effect.fresh && executed.ok && this.#leavesOut(effect.block)) {
            const { height, view } = effect.block.header;
            this.give({ kind: 'suspect', height, view });
          }
          const verdict =
            this.cluster.weakness === 'skipsExecution' ? { ok: true as const, value: undefined } : executed;
          this.give({ kind: 'executed', height: effect.block.header.height, blockHash: effect.block.hash, verdict });
        });
      case 'fetch':
        for (const from of effect.from) this.#ask(from, () => nodes[from]?.lend(this, effect.blockHash));
        return;
      case 'sync':
        if (this.#isSyncing) return;
        this.#isSyncing = true;
        this.#later(300, () => {
          this.#isSyncing = false;
        });
        return this.#ask(effect.from, () => nodes[effect.from]?.serve(this.index, this.head.header.height + 1));
      case 'serve':
        return this.serve(effect.to, effect.fromHeight);
      case 'report':
        if (effect.report.kind !== 'phase') this.reports.push(effect.report);
        if (effect.report.kind === 'evidence') checkers.evidence += 1;
        return;
    }
  }

  #ask(from: number, then: () => void): void {
    this.cluster.world.carry(this.index, from, then);
  }

  /** Answers a fetch with the body from disk. */
  lend(to: SimNode, hash: Uint8Array): void {
    const key = bytesToHex(hash);
    const body = this.disk.bodies.get(key) ?? this.disk.chain.find((b) => equalBytes(b.block.hash, hash))?.block;
    if (!this.isUp || body === undefined) return;
    this.cluster.world.carry(this.index, to.index, () => {
      const verdict = verifyFetched(body, hash, this.cluster.consortium.chainId);
      if (verdict.ok) to.give({ kind: 'fetched', block: verdict.value });
    });
  }

  /** Sends committed blocks. */
  serve(to: number, fromHeight: number): void {
    if (!this.isUp || this.behaviour !== null) return;
    const blocks = this.disk.chain.slice(fromHeight - 1, fromHeight - 1 + MAX_SYNC_BLOCKS);
    if (blocks.length === 0) return;
    this.cluster.world.carry(this.index, to, () => this.cluster.nodes[to]?.takeBlocks(blocks));
  }

  takeBlocks(blocks: readonly StoredBlock[]): void {
    this.#queue({ kind: 'blocks', blocks });
  }

  #send(message: SignedMessage, to: number | null): void {
    for (const node of this.cluster.nodes) {
      if (node.index === this.index || (to !== null && node.index !== to)) continue;
      const messages = this.behaviour === null ? [message] : this.behaviour.outgoing(this, message, node.index);
      for (const each of messages) this.transmit(each, node.index);
    }
  }

  #persist(record: SafetyRecord, block: ProposedBlock | null, proceed: () => void): void {
    if (this.behaviour === null && this.cluster.weakness === null) {
      const verdict = checkSuccession(this.disk.record, record);
      if (!verdict.ok) throw new Error(verdict.code);
    }
    if (this.cluster.weakness === 'neverSyncs') return proceed();
    this.#write(() => {
      if (block !== null) this.disk.bodies.set(bytesToHex(block.hash), block);
      const needed = new Set(bodiesOf(record).map(bytesToHex));
      this.disk.bodies = new Map([...this.disk.bodies].filter(([hash]) => needed.has(hash)));
      this.disk.record = record;
    }, proceed);
  }

  /** One synced write of the whole batch; the process goes on once it is durable. */
  #write(apply: () => void, proceed: () => void): void {
    this.#pendingWrite = apply;
    this.#later(this.cluster.world.prng.between(0, 2), () => {
      this.#pendingWrite = null;
      apply();
      proceed();
    });
  }

  #store(stored: StoredBlock, proceed: () => void): void {
    if (stored.block.header.height !== this.head.header.height + 1) return proceed();
    this.#write(
      () => {
        this.disk.chain.push(stored);
        if (this.behaviour === null) this.cluster.checkers.committed(this.index, stored);
      },
      () => {
        this.#reportCommitted(stored);
        proceed();
      },
    );
  }

  #reportCommitted({ block }: StoredBlock): void {
    const { consortium, params, demotionBlocks } = this.cluster;
    this.#leaders = nextLeaderHistory(this.#leaders, block.header, consortium.validators, demotionBlocks);
    for (const tx of block.block.txs) this.#pool.delete(txKey(tx));
    this.#fairness.committed(bytesToHex(block.hash), this.#fairnessLimits(), this.cluster.world.nowMs);
    if (this.#pool.size === 0) this.give({ kind: 'due', due: false });
    this.give({ kind: 'committed', head: this.#chainHead(), params, leaders: this.#leaders });
  }

  #newFairness(): FairnessWatch {
    const overdue = (beforeMs: number): readonly Waiting[] =>
      [...this.#pool]
        .filter(([, { receivedMs }]) => receivedMs < beforeMs)
        .map(([key]) => ({ key, account: key, priority: 'normal', sizeBytes: 0 }));
    return new FairnessWatch({ overdue, executes: () => true }, this.cluster.world.nowMs);
  }

  #fairnessLimits(): FairnessLimits {
    const maxWatched = Math.floor((this.cluster.nodes.length - 1) / 3);
    return { roomTxs: MAX_BLOCK_TXS, maxBlockBytes: 1, urgentPerBlock: 1, maxWatched };
  }

  #leavesOut({ hash, header, block }: ProposedBlock): boolean {
    const offer: Offer = {
      proposer: bytesToHex(header.proposer),
      keys: new Set(block.txs.map(txKey)),
      sizeBytes: 0,
      hasNormal: true,
      urgentOfAccount: new Map(),
    };
    return this.#fairness.proposed(bytesToHex(hash), offer, this.#fairnessLimits(), this.cluster.world.nowMs);
  }

  #storeBlocks(blocks: readonly StoredBlock[], from: number): void {
    const next = blocks.slice(from).find((b) => b.block.header.height === this.head.header.height + 1);
    const { validators, engine } = this.cluster.consortium;
    const isProven =
      next !== undefined &&
      verifyCertificate(next.block.header, next.block.hash, next.certificate, validators, engine).ok &&
      executeBlock(this.cluster.consortium, this.head, next.block, null).ok;
    if (!isProven) {
      this.#isBusy = false;
      return this.#pump();
    }
    this.#store(next, () => this.#storeBlocks(blocks, blocks.indexOf(next) + 1));
  }

  #chainHead(): ChainHead {
    const { hash, header } = this.head;
    const { validators, validatorsHash } = this.cluster.consortium;
    return { height: header.height, hash, timestampMs: header.timestampMs, validators, validatorsHash };
  }

  #historyFromDisk(): LeaderHistory {
    const { consortium, demotionBlocks } = this.cluster;
    const height = this.head.header.height + 1;
    const start = leaderSpanStart(height, demotionBlocks);
    return this.disk.chain
      .slice(start - 1)
      .reduce(
        (history, b) => nextLeaderHistory(history, b.block.header, consortium.validators, demotionBlocks),
        NO_LEADER_HISTORY,
      );
  }

  #later(delayMs: number, run: () => void): void {
    const incarnation = this.#incarnation;
    this.cluster.world.after(delayMs, () => {
      if (incarnation === this.#incarnation) run();
    });
  }
}

/**
 * A node as the simulator has it: the real replica, driven as a host drives it, over a disk that forgets what was not
 * synced, and with a process that may end between any two effects.
 */
import { equalBytes } from '../../common/bytes.ts';
import { type Certificate, verifyCertificate } from '../../common/protocol/block.ts';
import { faultTolerance } from '../../common/protocol/validator-set.ts';
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
import { checkSuccession, permits, type SafetyRecord } from '../../consensus/safety-record.ts';
import type { ChainHead, ConsensusParams, Effect, Input, LeaderHistory, Report } from '../../consensus/types.ts';
import { ownMessage, verifyFetched, verifyMessage } from '../../consensus/verification.ts';
import type { Checkers } from './checkers.ts';
import { type Batch, SimDisk } from './disk.ts';
import { buildBlock, executeBlock, setAfter, type StoredBlock, toyGenesis, txKey } from './toy-chain.ts';
import { MAX_BLOCK_TXS, ToyPool } from './toy-pool.ts';
import type { Seat, ToyConsortium, ToySet } from './toy-crypto.ts';
import type { Electorate } from './vote-checker.ts';
import type { Parcel, World } from './world.ts';

type Job =
  | { readonly kind: 'input'; readonly input: Input }
  | { readonly kind: 'blocks'; readonly blocks: readonly StoredBlock[]; readonly from: number };

/** What a node sees of the simulation around it. */
export interface Surroundings {
  readonly world: World;
  readonly consortium: ToyConsortium;
  readonly checkers: Checkers;
  /** By member number. */
  readonly nodes: readonly SimNode[];
  readonly params: ConsensusParams;
  readonly demotionBlocks: number;
  /** All processes that run with the key of this member: one, unless a scenario says otherwise. */
  processesOf(member: number): readonly SimNode[];
  /** The process of this node ends here. */
  crashed(node: SimNode): void;
}

/** What a Byzantine node does in place of what an honest one does. */
export interface Behaviour {
  readonly name: string;
  /** `to` is a member's number. */
  outgoing(node: SimNode, message: SignedMessage, to: number): readonly SignedMessage[];
  received(node: SimNode, message: SignedMessage): void;
  /** What it puts into its blocks, of what its pool holds or not; all of that when absent. */
  choose?(node: SimNode, txs: readonly Uint8Array[]): readonly Uint8Array[];
  /** A body beside those on its disk. */
  lend?(hash: Uint8Array): ProposedBlock | undefined;
  /** What it hands to one that is behind; nothing when absent. */
  serve?(blocks: readonly StoredBlock[]): readonly StoredBlock[];
}

const MAX_SYNC_BLOCKS = 16;
/** As the node's syncer: who takes no part in consensus looks for blocks, and so does who has seen none for a while. */
const POLL_MS = 500;
const POLL_VALIDATOR_MS = 5_000;
/** A process ends this much more often in the middle of a write than between two effects: there it matters. */
const CRASHES_IN_WRITES = 5;
/** A leader with nothing to offer is asked again after this, while something waits. */
const ASK_AGAIN_MS = 50;

export class SimNode {
  /** The member whose key it has. */
  readonly member: number;
  /** Where its process is in the network. */
  readonly place: number;
  readonly cluster: Surroundings;
  readonly disk: SimDisk;
  behaviour: Behaviour | null = null;
  /** In 10,000 effects: how many end the process. */
  crashPerTenThousand = 0;
  /** How fast its timers run: 1,000 is true time. */
  timerPerMille = 1_000;
  crashes = 0;
  readonly reports: Report[] = [];
  replica: Replica | null = null;
  #clockSkewMs = 0;
  #incarnation = 0;
  #key = 0;
  #jobs: Job[] = [];
  #isBusy = false;
  #isSyncing = false;
  #timers = new Map<string, number>();
  readonly #pool: ToyPool;
  #leaders: LeaderHistory = NO_LEADER_HISTORY;
  #lastBlockMs = 0;
  #set: { readonly head: ProposedBlock; readonly set: ToySet } | null = null;

  constructor(cluster: Surroundings, member: number, place = member) {
    this.cluster = cluster;
    this.member = member;
    this.place = place;
    this.disk = new SimDisk(cluster.world);
    this.#pool = new ToyPool(cluster.world, faultTolerance(cluster.consortium.founders.seats.length));
  }

  get isUp(): boolean {
    return this.replica !== null;
  }

  get head(): ProposedBlock {
    return this.disk.chain.at(-1)?.block ?? toyGenesis(this.cluster.consortium);
  }

  /** The set that decides the next height. */
  get set(): ToySet {
    const { head } = this;
    if (this.#set?.head !== head) this.#set = { head, set: setAfter(this.cluster.consortium, head) };
    return this.#set.set;
  }

  /** Its index in that set; null when it is not in it. */
  get index(): number | null {
    return this.set.indexOf(this.member);
  }

  get clockMs(): number {
    return this.cluster.world.nowMs + this.#clockSkewMs;
  }

  get clockSkewMs(): number {
    return this.#clockSkewMs;
  }

  set clockSkewMs(aheadMs: number) {
    this.#clockSkewMs = aheadMs;
    this.cluster.checkers.clockAt(aheadMs);
  }

  start(): void {
    // A store that does not check out is not opened: the node stays down until it is replaced.
    if (this.disk.isRotten) return;
    const { consortium, params, checkers } = this.cluster;
    if (this.behaviour === null) checkers.started(this.place, this.disk.chain.length);
    this.#leaders = this.#historyFromDisk();
    this.#key = this.#currentKey();
    const { record, bodies } = this.disk;
    const opened = Replica.open({
      identity: { chainId: consortium.chainId, address: consortium.key(this.member, this.#key).signer.address },
      incarnation: this.cluster.world.prng.bytes(INCARNATION_BYTES),
      head: this.#chainHead(),
      params,
      leaders: this.#leaders,
      record,
      bodies: [...bodies.values()],
    });
    this.replica = opened.replica;
    this.#isBusy = true;
    this.#lastBlockMs = this.cluster.world.nowMs;
    this.#poll();
    this.#carryOut(opened.effects, 0);
  }

  /** Power cut: everything in memory is gone. */
  crash(): void {
    this.disk.cut();
    this.crashes += 1;
    this.#stop();
    this.#pool.clear();
    this.cluster.world.note(this.place + 1000);
  }

  #stop(): void {
    this.#incarnation += 1;
    this.replica = null;
    this.#jobs = [];
    this.#isBusy = false;
    this.#isSyncing = false;
    this.#timers.clear();
  }

  submit(tx: Uint8Array): void {
    if (!this.isUp || this.disk.txs.has(txKey(tx)) || this.#pool.has(tx)) return;
    this.#pool.add(tx);
    if (this.#pool.size === 1) this.give({ kind: 'due', due: true });
  }

  give(input: Input): void {
    this.#queue({ kind: 'input', input });
  }

  receive(parcel: Parcel): void {
    if (!this.isUp) return;
    const { consortium } = this.cluster;
    const { hash, validators } = this.set;
    if (parcel.opened === undefined || !equalBytes(parcel.opened.against, hash)) {
      const decoded = decodeMessage(parcel.bytes);
      const context = { chainId: consortium.chainId, validators };
      parcel.opened = {
        against: hash,
        verdict: decoded.ok ? verifyMessage(decoded.value, context, consortium.engine) : decoded,
      };
    }
    const { verdict } = parcel.opened;
    if (!verdict.ok) return;
    this.behaviour?.received(this, verdict.value);
    this.give({ kind: 'message', message: verdict.value, validatorsHash: hash });
  }

  /** With its current key; who is not in the set signs as somebody else, and is not believed. */
  sign(body: UnsignedMessage): SignedMessage {
    const { chainId } = this.cluster.consortium;
    const { signer } = this.cluster.consortium.key(this.member, this.#key);
    return { validator: this.index ?? 0, signature: signer.sign(signingHash(chainId, body)), body };
  }

  /** Puts bytes on the wire to one member, past every rule. */
  transmit(message: SignedMessage, to: number): void {
    this.#carry({ bytes: encodeMessage(message) }, message, to);
  }

  /** Bytes in place of `message`, whatever they are. */
  transmitBytes(bytes: Uint8Array, message: SignedMessage, to: number): void {
    this.#carry({ bytes }, message, to);
  }

  #carry(parcel: Parcel, message: SignedMessage, to: number): void {
    const { world } = this.cluster;
    for (const process of this.cluster.processesOf(to)) {
      if (world.filter !== null && !world.filter(this.place, process.place, message)) continue;
      world.carry(this.place, process.place, () => process.receive(parcel));
    }
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
      else this.#storeBlocks(job.blocks, job.from, 0);
    }
  }

  #carryOut(effects: readonly Effect[], from: number): void {
    for (let at = from; at < effects.length; at += 1) {
      const effect = effects[at] as Effect;
      if (this.#endsNow(1)) return this.cluster.crashed(this);
      const proceed = (): void => this.#carryOut(effects, at + 1);
      if (effect.kind === 'persist') return this.#persist(effect.record, effect.block, proceed);
      if (effect.kind === 'commit') return this.#store(effect, proceed);
      this.#perform(effect);
    }
    this.#isBusy = false;
    this.#pump();
  }

  #endsNow(times: number): boolean {
    return (
      this.crashPerTenThousand > 0 && this.cluster.world.prng.between(1, 10_000) <= this.crashPerTenThousand * times
    );
  }

  #perform(effect: Exclude<Effect, { kind: 'persist' | 'commit' }>): void {
    const { world, checkers } = this.cluster;
    switch (effect.kind) {
      case 'broadcast': {
        if (this.behaviour === null && !permits(this.disk.record, effect.message)) {
          throw new Error(`the guard refuses ${effect.message.kind}`);
        }
        const message = this.sign(effect.message);
        if (this.behaviour === null) checkers.signed(this.member, message, this.disk, this.#electorate());
        this.give({ kind: 'message', message: ownMessage(message), validatorsHash: this.set.hash });
        return this.#send(message, null);
      }
      case 'answer':
        return this.#send(this.sign(effect.message), effect.to);
      case 'send':
        return this.#send(effect.message, effect.to);
      case 'setTimer':
        this.#timers.set(effect.timer, effect.token);
        return this.#later(Math.ceil((effect.afterMs * this.timerPerMille) / 1_000), () => {
          // A firing may be queued when the timer is cancelled: the core must tell by the token.
          if (this.#timers.get(effect.timer) === effect.token || world.prng.chance(20)) {
            this.give({ kind: 'timer', timer: effect.timer, token: effect.token });
          }
        });
      case 'cancelTimer':
        this.#timers.delete(effect.timer);
        return;
      case 'propose':
        return this.#later(world.prng.between(0, 3), () => this.#propose(effect));
      case 'execute':
        return this.#later(world.prng.between(0, 3), () => {
          const clockMs = effect.fresh ? this.clockMs : null;
          const verdict = executeBlock(this.cluster.consortium, this.head, effect.block, clockMs, this.disk.txs);
          const { height, view } = effect.block.header;
          if (effect.fresh && verdict.ok && this.#pool.isLeftOutBy(effect.block))
            this.give({ kind: 'suspect', height, view });
          this.give({ kind: 'executed', height, blockHash: effect.block.hash, verdict });
        });
      case 'fetch':
        for (const from of effect.from) this.#ask(from, (process) => process.lend(this, effect.blockHash));
        return;
      case 'sync':
        return this.#sync(effect.from);
      case 'serve': {
        const seat = this.set.seats[effect.to];
        if (seat === undefined) return;
        for (const process of this.cluster.processesOf(seat.member)) this.serve(process, effect.fromHeight);
        return;
      }
      case 'report':
        if (effect.report.kind !== 'phase') this.reports.push(effect.report);
        if (effect.report.kind === 'evidence') checkers.evidence += 1;
        return;
    }
  }

  #propose({ height, view, minTimestampMs }: Extract<Effect, { kind: 'propose' }>): void {
    const proposer = this.index;
    if (this.head.header.height + 1 !== height || proposer === null) return;
    const { txs: pooled } = this.#pool;
    const txs = (this.behaviour?.choose?.(this, pooled) ?? pooled).slice(0, MAX_BLOCK_TXS);
    const at = { view, proposer, timestampMs: Math.max(minTimestampMs, this.clockMs) };
    const block = txs.length === 0 ? null : buildBlock(this.cluster.consortium, this.head, at, txs);
    this.give({ kind: 'proposal', height, view, block });
    // The core takes null for "not due"; what is true it must hear anew.
    if (block !== null) return;
    this.#later(ASK_AGAIN_MS, () => {
      if (this.#pool.size > 0) this.give({ kind: 'due', due: true });
    });
  }

  #electorate(): Electorate {
    const { seats } = this.set;
    const isFaulty = ({ member }: Seat): boolean => this.cluster.nodes[member]?.behaviour !== null;
    return { count: seats.length, faulty: seats.filter(isFaulty).length };
  }

  /** Of a validator of the current set, by its index. */
  #ask(index: number, then: (process: SimNode) => void): void {
    const seat = this.set.seats[index];
    if (seat === undefined) return;
    for (const process of this.cluster.processesOf(seat.member)) {
      this.cluster.world.carry(this.place, process.place, () => then(process));
    }
  }

  #sync(from: number): void {
    if (this.#isSyncing) return;
    this.#isSyncing = true;
    this.#later(300, () => {
      this.#isSyncing = false;
    });
    this.#ask(from, (process) => process.serve(this, this.head.header.height + 1));
  }

  /** Who hears nothing of consensus, because it is not in the set or believes in one that is no more, asks around. */
  #poll(): void {
    this.#later(POLL_MS, () => {
      const { world, nodes } = this.cluster;
      if (this.index === null || world.nowMs - this.#lastBlockMs >= POLL_VALIDATOR_MS) {
        const peer = world.prng.pick(nodes);
        const height = this.head.header.height + 1;
        if (peer !== this) world.carry(this.place, peer.place, () => peer.serve(this, height));
      }
      this.#poll();
    });
  }

  /** Answers a fetch with the body from disk. */
  lend(to: SimNode, hash: Uint8Array): void {
    if (!this.isUp) return;
    const body =
      this.behaviour?.lend?.(hash) ??
      [...this.disk.bodies.values()].find((b) => equalBytes(b.hash, hash)) ??
      this.disk.chain.findLast((b) => equalBytes(b.block.hash, hash))?.block;
    if (body === undefined) return;
    this.cluster.world.carry(this.place, to.place, () => {
      const verdict = verifyFetched(body, hash, this.cluster.consortium.chainId);
      if (verdict.ok) to.give({ kind: 'fetched', block: verdict.value });
    });
  }

  /** Sends committed blocks. */
  serve(to: SimNode, fromHeight: number): void {
    if (!this.isUp) return;
    const stored = this.disk.chain.slice(fromHeight - 1, fromHeight - 1 + MAX_SYNC_BLOCKS);
    const blocks = this.behaviour === null ? stored : (this.behaviour.serve?.(stored) ?? []);
    if (blocks.length === 0) return;
    this.cluster.world.carry(this.place, to.place, () => to.takeBlocks(blocks, this.member));
  }

  takeBlocks(blocks: readonly StoredBlock[], from: number): void {
    this.#queue({ kind: 'blocks', blocks, from });
  }

  #send(message: SignedMessage, to: number | null): void {
    const parcel: Parcel = { bytes: encodeMessage(message) };
    this.set.seats.forEach(({ member }, index) => {
      if (member === this.member || (to !== null && index !== to)) return;
      if (this.behaviour === null) return this.#carry(parcel, message, member);
      for (const each of this.behaviour.outgoing(this, message, member)) this.transmit(each, member);
    });
  }

  #persist(record: SafetyRecord, block: ProposedBlock | null, proceed: () => void): void {
    if (this.behaviour === null) {
      const verdict = checkSuccession(this.disk.record, record);
      if (!verdict.ok) throw new Error(verdict.code);
    }
    this.#write({ kind: 'record', record, block }, proceed);
  }

  /** One synced write of the whole batch; the process goes on once it is durable, and ends if it cannot be. */
  #write(batch: Batch, proceed: () => void): void {
    const durableInMs = this.disk.begin(batch);
    if (durableInMs === null) return this.cluster.crashed(this);
    if (this.#endsNow(CRASHES_IN_WRITES)) {
      return this.#later(this.cluster.world.prng.between(0, durableInMs), () => this.cluster.crashed(this));
    }
    this.#later(durableInMs, () => {
      this.disk.synced();
      proceed();
    });
  }

  #store(stored: { readonly block: ProposedBlock; readonly certificate: Certificate }, proceed: () => void): void {
    const { block, certificate } = stored;
    if (block.header.height !== this.head.header.height + 1) return proceed();
    const keyBefore = this.#key;
    this.#write({ kind: 'block', stored: { block, certificate } }, () => {
      this.#lastBlockMs = this.cluster.world.nowMs;
      if (this.behaviour === null)
        this.cluster.checkers.committed(this.place, { block, certificate }, this.#lastBlockMs);
      if (this.#currentKey() !== keyBefore) return this.#changeKey();
      this.#reportCommitted({ block, certificate });
      proceed();
    });
  }

  /** Its next key counts from this height on: the node is started again with it. */
  #changeKey(): void {
    this.#pool.committed(this.head);
    this.#stop();
    this.start();
    if (this.#pool.size > 0) this.give({ kind: 'due', due: true });
  }

  #currentKey(): number {
    return this.set.seats.find((s) => s.member === this.member)?.key ?? this.#key;
  }

  #reportCommitted({ block }: StoredBlock): void {
    const { params } = this.cluster;
    this.#leaders = this.#leadersAfter(this.#leaders, block);
    this.#pool.committed(block);
    if (this.#pool.size === 0) this.give({ kind: 'due', due: false });
    this.give({ kind: 'committed', head: this.#chainHead(), params, leaders: this.#leaders });
  }

  #storeBlocks(blocks: readonly StoredBlock[], from: number, at: number): void {
    const next = blocks.slice(at).find((b) => b.block.header.height === this.head.header.height + 1);
    const { consortium } = this.cluster;
    const isProven =
      next !== undefined &&
      verifyCertificate(next.block.header, next.block.hash, next.certificate, this.set.validators, consortium.engine)
        .ok &&
      executeBlock(consortium, this.head, next.block, null, this.disk.txs).ok;
    if (!isProven) {
      this.#isBusy = false;
      // Where a full answer came from, there is more.
      if (next === undefined && blocks.length === MAX_SYNC_BLOCKS) this.#askForMore(from);
      return this.#pump();
    }
    this.#store(next, () => this.#storeBlocks(blocks, from, blocks.indexOf(next) + 1));
  }

  #askForMore(member: number): void {
    const height = this.head.header.height + 1;
    for (const process of this.cluster.processesOf(member)) {
      this.cluster.world.carry(this.place, process.place, () => process.serve(this, height));
    }
  }

  #chainHead(): ChainHead {
    const { hash, header } = this.head;
    const { validators, hash: validatorsHash } = this.set;
    return { height: header.height, hash, timestampMs: header.timestampMs, validators, validatorsHash };
  }

  #leadersAfter(before: LeaderHistory, { header }: ProposedBlock): LeaderHistory {
    const { consortium, demotionBlocks } = this.cluster;
    const set = consortium.namedSet(header.validatorsHash);
    if (set === undefined) throw new Error('a committed header names a set that was never made');
    return nextLeaderHistory(before, header, set.validators, demotionBlocks);
  }

  #historyFromDisk(): LeaderHistory {
    const start = leaderSpanStart(this.head.header.height + 1, this.cluster.demotionBlocks);
    return this.disk.chain
      .slice(start - 1)
      .reduce((history, b) => this.#leadersAfter(history, b.block), NO_LEADER_HISTORY);
  }

  #later(delayMs: number, run: () => void): void {
    const incarnation = this.#incarnation;
    this.cluster.world.after(delayMs, () => {
      if (incarnation === this.#incarnation) run();
    });
  }
}

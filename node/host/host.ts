/**
 * The serial loop around the consensus core: one input at a time, its effects carried out in their order, and `persist`
 * a barrier that nothing signed passes. The only place that signs, and the only caller of the ledger. Slow work
 * (verifying, executing, building, fetching) runs beside the loop and comes back as an input.
 */
import { randomBytes } from 'node:crypto';
import { bytesToHex } from '../../common/bytes.ts';
import { assert, EmrError, unreachable, type Verdict } from '../../common/errors.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import {
  encodeMessage,
  INCARNATION_BYTES,
  type SignedMessage,
  signingHash,
  type UnsignedMessage,
} from '../../consensus/messages.ts';
import { Replica } from '../../consensus/replica.ts';
import { permits } from '../../consensus/safety-record.ts';
import type { ChainHead, Effect, Input, Report, TimerName } from '../../consensus/types.ts';
import { ownMessage } from '../../consensus/verification.ts';
import type { Member } from '../network/types.ts';
import type { CommittedBlock, RestoredBlock } from '../storage/chain-store.ts';
import type { HostPorts } from './host-ports.ts';
import { Inbox } from './inbox.ts';
import { type Position, positionOf } from './position.ts';
import { logReport } from './reports.ts';
import { type CertifiedBlock, decodeCertifiedBlock, unwrapDirect, wrapDirect } from './wire.ts';

/** What waits for the loop. */
type Task =
  /** `done` tells the inbox that a message has left the queue, whose length it bounds. */
  | { readonly kind: 'input'; readonly input: Input; readonly done?: () => void }
  /** Tells the core whether a block is due at the moment when the loop gets here. */
  | { readonly kind: 'due' }
  | {
      readonly kind: 'certified';
      readonly blocks: readonly CertifiedBlock[];
      readonly answer: (verdict: Verdict) => void;
    }
  | { readonly kind: 'adopt'; readonly restored: RestoredBlock; readonly done: () => void }
  /** The ledger has a new head: everybody else follows, before anything else happens. */
  | { readonly kind: 'committed'; readonly blocks: readonly CommittedBlock[] };

/** Blocks that peers pushed and that wait for the loop; some 4 MiB each at worst. */
const MAX_PUSHED_WAITING = 8;
/** After nothing could be proposed although something waits, it is looked at again. */
const ASK_AGAIN_MS = 20;

export class Host {
  readonly #ports: HostPorts;
  readonly #inbox: Inbox;
  /** Bounded by its sources: the inbox, one answer for each question of the core, two timers, a few certified blocks. */
  readonly #queue: Task[] = [];
  readonly #timers = new Map<TimerName, () => void>();
  readonly #fetching = new Set<string>();
  #replica: Replica | null = null;
  #position: Position;
  #dueWaiting = false;
  #pushedWaiting = 0;
  #draining: Promise<void> | null = null;
  #stopped = false;

  constructor(ports: HostPorts) {
    this.#ports = ports;
    this.#position = positionOf(ports.executor.head, ports.signer.address);
    this.#inbox = new Inbox({
      chainId: ports.chainId,
      verifier: ports.verifier,
      current: () => {
        const { validators, validatorsHash, height } = this.#position.head;
        return { validators, validatorsHash, committed: height };
      },
      deliver: (message, validatorsHash, done) => {
        ports.observations.noteMessage(message, ports.clock.nowMs());
        this.#push({ kind: 'input', input: { kind: 'message', message, validatorsHash }, done });
      },
      refused: (from, code) => {
        ports.onRefused(code);
        ports.log.debug({ peerId: from.peerId, code }, 'refused a consensus message');
      },
      failed: (error) => this.#fail(error),
    });
  }

  get isValidator(): boolean {
    return this.#position.self !== null;
  }

  /** This node's index in the set; null when it is not in it. */
  get index(): number | null {
    return this.#position.self;
  }

  get head(): ChainHead {
    return this.#position.head;
  }

  /** Takes up what was promised before the last stop, and begins. */
  async start(): Promise<void> {
    const { executor, safety, observations, network, due, signer, chainId } = this.#ports;
    const { head } = executor;
    observations.setValidators(head.validators);
    const { replica, effects } = Replica.open({
      identity: { chainId, address: signer.address },
      incarnation: randomBytes(INCARNATION_BYTES),
      head: this.#position.head,
      params: head.params,
      leaders: head.leaders,
      record: safety.record,
      bodies: safety.bodies(),
    });
    this.#replica = replica;
    await this.#carryOutAll(effects);
    network.onDirect((from, payload) => {
      const direct = this.#stopped ? null : unwrapDirect(payload);
      if (direct === null || !direct.ok) return;
      if (direct.value.kind === 'message') this.#inbox.receive(from, direct.value.bytes);
      else this.#onPushed(from, direct.value.bytes);
    });
    due.update();
    this.#pushDue();
  }

  /** Ends after the step that runs. Nothing is lost: what was promised is on disk. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    await this.#draining;
  }

  /** A block is due, or none is any more. */
  setDue(due: boolean): void {
    this.#ports.observations.noteDue(due, this.#ports.clock.nowMs());
    if (this.#replica !== null) this.#pushDue();
  }

  /**
   * Blocks from sync, in order, through the same queue as everything else.
   * @returns the verdict on the first that is bad; those before it are committed
   */
  apply(blocks: readonly CertifiedBlock[]): Promise<Verdict> {
    const { promise, resolve } = Promise.withResolvers<Verdict>();
    this.#push({ kind: 'certified', blocks, answer: resolve });
    return promise;
  }

  /** The head comes from a snapshot, through the same queue as blocks. */
  adopt(restored: RestoredBlock): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#push({ kind: 'adopt', restored, done: resolve });
    return promise;
  }

  /** One that comes out of order or proves nothing is dropped: sync fetches what is missing. */
  #onPushed(from: Member, bytes: Uint8Array): void {
    if (this.#pushedWaiting >= MAX_PUSHED_WAITING || from.role !== 'validator') return;
    // The first blocks are of no use to a node that may begin with a late one.
    if (this.#ports.syncer.mayRestore) return;
    const block = decodeCertifiedBlock(bytes);
    if (!block.ok) return this.#ports.onRefused(block.code);
    this.#pushedWaiting += 1;
    this.#beside(this.apply([block.value]).then(() => void (this.#pushedWaiting -= 1)));
  }

  #pushDue(): void {
    if (this.#dueWaiting) return;
    this.#dueWaiting = true;
    this.#push({ kind: 'due' });
  }

  #pushInput(input: Input): void {
    this.#push({ kind: 'input', input });
  }

  #push(task: Task): void {
    if (this.#stopped) return discard(task);
    this.#queue.push(task);
    this.#draining ??= this.#drain();
  }

  async #drain(): Promise<void> {
    // The caller's own work comes first: nobody's stack runs through the loop.
    await Promise.resolve();
    try {
      while (!this.#stopped) {
        const task = this.#queue.shift();
        if (task === undefined) break;
        await this.#handle(task);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#draining = null;
      if (this.#stopped) for (const task of this.#queue.splice(0)) discard(task);
    }
  }

  async #handle(task: Task): Promise<void> {
    switch (task.kind) {
      case 'input':
        task.done?.();
        return this.#step(task.input);
      case 'due':
        this.#dueWaiting = false;
        return this.#step({ kind: 'due', due: this.#ports.due.due });
      case 'committed':
        return this.#committed(task.blocks);
      case 'certified':
        return this.#applyCertified(task);
      case 'adopt':
        await this.#ports.ledger.adopt(task.restored);
        await this.#headMoved();
        return task.done();
      default:
        return unreachable(task);
    }
  }

  /** Takes a part of them; the rest go behind what waits, so that sync and consensus take turns. */
  async #applyCertified({ blocks, answer }: Extract<Task, { readonly kind: 'certified' }>): Promise<void> {
    const { committed, taken, verdict } = await this.#ports.ledger.applyCertified(blocks);
    if (committed.length > 0) this.#queue.unshift({ kind: 'committed', blocks: committed });
    if (verdict.ok && taken < blocks.length) this.#push({ kind: 'certified', blocks: blocks.slice(taken), answer });
    else answer(verdict);
  }

  async #step(input: Input): Promise<void> {
    assert(this.#replica !== null, 'the host was not started');
    await this.#carryOutAll(this.#replica.step(input));
  }

  /**
   * What follows from the effects (own messages, a commit) goes to the core ahead of what waits, and only after all of
   * them: the effects of a later step must not overtake those of this one.
   */
  async #carryOutAll(effects: readonly Effect[]): Promise<void> {
    const following: Task[] = [];
    for (const effect of effects) {
      const pending = this.#carryOut(effect, following);
      if (pending !== undefined) await pending;
      if (this.#stopped) return;
    }
    if (following.length === 0) return;
    this.#queue.unshift(...following);
    this.#draining ??= this.#drain();
  }

  #carryOut(effect: Effect, following: Task[]): Promise<void> | undefined {
    switch (effect.kind) {
      case 'persist':
        return this.#ports.safety.persist(effect.record, effect.block);
      case 'broadcast': {
        const message = this.#sign(effect.message);
        this.#ports.observations.noteOwn(message);
        this.#send(message, null);
        const { validatorsHash } = this.#position.head;
        following.push({ kind: 'input', input: { kind: 'message', message: ownMessage(message), validatorsHash } });
        return undefined;
      }
      case 'answer':
        this.#send(this.#sign(effect.message), effect.to);
        return undefined;
      case 'send':
        this.#send(effect.message, effect.to);
        return undefined;
      case 'setTimer':
        this.#setTimer(effect.timer, effect.token, effect.afterMs);
        return undefined;
      case 'cancelTimer':
        this.#timers.get(effect.timer)?.();
        this.#timers.delete(effect.timer);
        return undefined;
      case 'propose':
        this.#beside(this.#propose(effect));
        return undefined;
      case 'execute':
        this.#beside(this.#execute(effect));
        return undefined;
      case 'fetch':
        this.#beside(this.#fetch(effect));
        return undefined;
      case 'commit':
        return this.#commit(effect, following);
      case 'sync':
        this.#hint(effect.height, effect.from);
        return undefined;
      case 'serve': {
        const peer = this.#position.head.validators[effect.to];
        if (peer !== undefined) this.#beside(this.#ports.blocks.push(peer.peerId, effect.fromHeight));
        return undefined;
      }
      case 'report':
        this.#report(effect.report);
        return undefined;
      default:
        return unreachable(effect);
    }
  }

  /** The last guard before a signature exists: the durable record must cover it, whatever the core asks for. */
  #sign(message: UnsignedMessage): SignedMessage {
    const { safety, signer, chainId } = this.#ports;
    const { self } = this.#position;
    assert(self !== null, 'only a member of the set signs');
    assert(permits(safety.record, message), `refused to sign a ${message.kind} that the durable record does not cover`);
    const signature = signer.sign(signingHash(chainId, message));
    return { validator: self, signature, body: message };
  }

  #send(message: SignedMessage, to: number | null): void {
    const { self, head } = this.#position;
    const payload = wrapDirect('message', encodeMessage(message));
    head.validators.forEach((validator, index) => {
      if (index === self || (to !== null && index !== to)) return;
      this.#ports.network.sendDirect(validator.peerId, payload);
    });
  }

  #setTimer(timer: TimerName, token: number, afterMs: number): void {
    this.#timers.get(timer)?.();
    const cancel = this.#ports.clock.after(afterMs, () => {
      this.#timers.delete(timer);
      this.#pushInput({ kind: 'timer', timer, token });
    });
    this.#timers.set(timer, cancel);
  }

  async #propose({ height, view, minTimestampMs }: Extract<Effect, { kind: 'propose' }>): Promise<void> {
    const block = await this.#ports.proposer.propose({ height, view, minTimestampMs });
    this.#pushInput({ kind: 'proposal', height, view, block });
    if (block !== null) return;
    // The core takes that for "not due"; what is true it must hear anew, but not in a loop that lets nothing else run.
    this.#ports.due.update();
    this.#ports.clock.after(ASK_AGAIN_MS, () => this.#pushDue());
  }

  async #execute({ block, fresh }: Extract<Effect, { kind: 'execute' }>): Promise<void> {
    const { proposals, clock, observations } = this.#ports;
    if (fresh) observations.noteProposal(block.header, this.#position.head.timestampMs, clock.nowMs());
    const { verdict, leavesOut } = await proposals.check(block, fresh);
    const { height, view } = block.header;
    // First: the vote for the block would be given else.
    if (leavesOut) this.#pushInput({ kind: 'suspect', height, view });
    this.#pushInput({ kind: 'executed', height, blockHash: block.hash, verdict });
  }

  async #fetch({ blockHash, from }: Extract<Effect, { kind: 'fetch' }>): Promise<void> {
    const key = bytesToHex(blockHash);
    if (this.#fetching.has(key)) return;
    this.#fetching.add(key);
    try {
      const { validators } = this.#position.head;
      const peers = from.flatMap((index) => validators[index]?.peerId ?? []);
      const block = await this.#ports.syncer.fetchBody(blockHash, peers);
      if (block !== null) this.#pushInput({ kind: 'fetched', block });
    } finally {
      this.#fetching.delete(key);
    }
  }

  async #commit(effect: Extract<Effect, { kind: 'commit' }>, following: Task[]): Promise<void> {
    const committed = await this.#ports.ledger.commitDecided(effect.block, effect.certificate);
    if (committed !== null) following.push({ kind: 'committed', blocks: [committed] });
  }

  /**
   * The head has moved: pool and predicate first, so that the core does not ask for a block that nobody needs. The core
   * hears of the last block alone: it has no business with those before.
   */
  async #committed(blocks: readonly CommittedBlock[]): Promise<void> {
    const { mempool, executor, observations, proposals, clock } = this.#ports;
    let signers = this.#position.head.validators;
    for (const committed of blocks) {
      const { header, certificate, nextValidators, txHashes } = committed;
      observations.noteCommit(header.height, certificate, signers, clock.nowMs());
      this.#ports.onCommitted(committed, mempool.committed(txHashes));
      proposals.committed(committed, signers);
      signers = nextValidators;
    }
    assert(executor.head.height === blocks.at(-1)?.header.height, 'the executor is at the block that was committed');
    await this.#headMoved();
  }

  async #headMoved(): Promise<void> {
    const { due, executor, syncer, observations } = this.#ports;
    syncer.progressed();
    await this.#step({ kind: 'due', due: due.update() });
    const { head } = executor;
    this.#position = positionOf(head, this.#ports.signer.address);
    observations.setValidators(head.validators);
    await this.#step({ kind: 'committed', head: this.#position.head, params: head.params, leaders: head.leaders });
  }

  #hint(height: Height, from: number): void {
    const peer = this.#position.head.validators[from];
    if (peer !== undefined) this.#ports.syncer.hint(height, peer.peerId);
  }

  #report(report: Report): void {
    const { log, observations, clock } = this.#ports;
    this.#ports.onReport(report);
    logReport(log, report);
    observations.noteReport(report, clock.nowMs());
    if (report.kind !== 'evidence') return;
    const { equivocation } = report;
    const validator = this.#position.head.validators[equivocation.validator];
    // The core reports on the height that it decides, whose set this is.
    assert(validator !== undefined, 'evidence names a validator of this set');
    this.#ports.onEvidence({ equivocation, validator });
  }

  /** Work beside the loop. What it throws is a bug or a failed disk, unless the node is stopping. */
  #beside(work: Promise<void>): void {
    work.catch((error: unknown) => this.#fail(error));
  }

  #fail(error: unknown): void {
    if (this.#stopped && error instanceof EmrError && error.code === 'STORAGE_CLOSED') return;
    const first = !this.#stopped;
    this.#stopped = true;
    for (const cancel of this.#timers.values()) cancel();
    if (first) this.#ports.onFatal(error);
  }
}

function discard(task: Task): void {
  if (task.kind === 'input') task.done?.();
  if (task.kind === 'adopt') task.done();
  if (task.kind === 'certified') task.answer({ ok: false, code: 'STOPPED', message: 'the node is stopping' });
}

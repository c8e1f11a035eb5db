/**
 * Carries between the chain and this hospital's custodian: shows it the custody session, says on the chain what it wants to be
 * said, and brings its shares where a requester demands them there. It decides nothing: the custodian judges what it is
 * shown, and the chain judges what the custodian says.
 */
import { bytesToHex, concatBytes, equalBytes } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { unreachable } from '../../common/errors.ts';
import { custodyDemandEntry, custodySessionEntry } from '../../common/protocol/custody.ts';
import type { Hash, OrgId, TimeMs } from '../../common/protocol/primitives.ts';
import type { CustodyStep } from '../../common/protocol/release.ts';
import { prefixRange, stateKey, statePrefix } from '../../common/protocol/state-entries.ts';
import { decodeTransaction, type NodeCall } from '../../common/protocol/transaction.ts';
import type { Clock } from '../clock.ts';
import type { Executor } from '../execution/executor.ts';
import type { Log } from '../log.ts';
import type { OwnCalls } from '../membership/own-calls.ts';
import { SingleLook } from '../membership/single-look.ts';
import type { CustodyNotes } from './custody-notes.ts';
import type { OwnCustodian } from './own-custodian.ts';

/** Of a state that has not changed, the custodian is asked again after this long: its operator may have acted. */
const ASK_AGAIN_MS = 1_000;
/** And where nothing is left to do, after this long: a custodian that is gone is seen before somebody needs it. */
const CHECK_MS = 30_000;
/** Demands for shares on the chain that are seen to at a time; of more, the newest. */
const MAX_OPEN_DEMANDS = 256;
const DEMAND_CALL = Buffer.from('access.demand');

export interface CustodyDriverPorts {
  readonly orgId: OrgId;
  readonly clock: Clock;
  readonly log: Log;
  readonly executor: Pick<Executor, 'state'>;
  readonly calls: Pick<OwnCalls, 'submit' | 'waits'>;
  readonly own: Pick<OwnCustodian, 'exists' | 'step' | 'release'>;
  readonly notes: CustodyNotes;
  isSyncing(): boolean;
  isMember(): boolean;
  /** A bug of ours, or a failed disk: the node stops. */
  failed(error: unknown): void;
}

interface OpenDemand {
  readonly requestHash: Hash;
  /** Of the call that brings the share; null while there is none. */
  submitted: Hash | null;
}

export class CustodyDriver {
  readonly #ports: CustodyDriverPorts;
  readonly #looks: SingleLook;
  /** Session and epoch as the custodian was last shown them, when, and whether there was anything left to do. */
  #shown: { readonly state: Uint8Array; readonly atMs: TimeMs; readonly isDone: boolean } | null = null;
  /** What was submitted of the last answer. */
  #said: readonly Hash[] = [];
  readonly #demands = new Map<string, OpenDemand>();
  /** Why something was refused, so that it is logged once. */
  #refusedWith = '';

  constructor(ports: CustodyDriverPorts) {
    this.#ports = ports;
    this.#looks = new SingleLook(
      ports.clock,
      () => this.#see(),
      (error) => ports.failed(error),
    );
    if (!ports.own.exists) ports.notes.noCustodian();
  }

  start(): void {
    if (!this.#ports.own.exists) return;
    for (const requestHash of this.#demandsOnChain()) this.#open(requestHash);
    this.#looks.start();
  }

  stop(): Promise<void> {
    return this.#looks.stop();
  }

  /** After each block. @param txs its transactions */
  committed(txs: readonly Uint8Array[]): void {
    if (!this.#ports.own.exists) return;
    for (const bytes of txs) {
      // Looking through the bytes costs next to nothing; most blocks demand no shares.
      if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).includes(DEMAND_CALL)) continue;
      const tx = decodeTransaction(bytes);
      if (tx.ok && tx.value.body.call.kind === 'access.demand') this.#open(tx.value.body.call.requestHash);
    }
    this.#looks.look();
  }

  async #see(): Promise<void> {
    if (this.#ports.isSyncing() || !this.#ports.isMember()) return;
    await this.#takeStep();
    for (const [id, demand] of this.#demands) await this.#bring(id, demand);
  }

  // ------------------------------------------------------------------------------------------------------- session

  async #takeStep(): Promise<void> {
    const { orgId, clock, calls, own, log, notes } = this.#ports;
    const state = this.#custodyState();
    if (state.length === 0 || this.#said.some((hash) => calls.waits(hash))) return;
    const nowMs = clock.nowMs();
    const shown = this.#shown;
    const isSame = shown !== null && equalBytes(shown.state, state);
    if (isSame && nowMs - shown.atMs < (shown.isDone ? CHECK_MS : ASK_AGAIN_MS)) return;
    const before = this.#sessionId();
    const answer = await own.step();
    const isNew = notes.note(answer);
    const isIdle = answer.kind === 'steps' && answer.steps.length === 0 && answer.waitsFor === null;
    // What it was shown is the last durable state, which may be older than this one: done is what it is twice in a row.
    const isDone = isIdle && isSame;
    this.#shown = { state, atMs: nowMs, isDone };
    if (isNew && notes.concern !== null) log.warn({ ...notes.status }, 'the custodian waits, or does not answer');
    const sessionId = this.#sessionId();
    if (answer.kind !== 'steps' || before === null || sessionId === null || !equalBytes(before, sessionId)) return;
    const said: Hash[] = [];
    for (const step of answer.steps) {
      const hash = await this.#submit(callOf(orgId, sessionId, step));
      if (hash !== null) said.push(hash);
    }
    this.#said = said;
  }

  /** Session and epoch, byte for byte; nothing where there is neither. */
  #custodyState(): Uint8Array {
    const { reader } = this.#ports.executor.state;
    const parts = [stateKey.custodySession(), stateKey.custodyEpoch()].map((key) => reader.get(key));
    return concatBytes(...parts.flatMap((part) => part ?? []));
  }

  #sessionId(): Hash | null {
    const found = this.#ports.executor.state.reader.get(stateKey.custodySession());
    return found === undefined ? null : decodeTrusted(custodySessionEntry, found, 'custody session').id;
  }

  // ------------------------------------------------------------------------------------------------------- demands

  #demandsOnChain(): readonly Hash[] {
    const range = { ...prefixRange(statePrefix.custodyDemands()), limit: MAX_OPEN_DEMANDS };
    const found = [...this.#ports.executor.state.reader.range(range)];
    return found.map(({ value }) => decodeTrusted(custodyDemandEntry, value, 'custody demand').requestHash);
  }

  #open(requestHash: Hash): void {
    const id = bytesToHex(requestHash);
    if (this.#demands.has(id)) return;
    if (this.#demands.size >= MAX_OPEN_DEMANDS) this.#demands.delete(this.#demands.keys().next().value as string);
    this.#demands.set(id, { requestHash, submitted: null });
  }

  async #bring(id: string, demand: OpenDemand): Promise<void> {
    const { executor, orgId, calls, own, log } = this.#ports;
    const { requestHash } = demand;
    const found = executor.state.reader.get(stateKey.custodyDemand(requestHash));
    const entry = found === undefined ? null : decodeTrusted(custodyDemandEntry, found, 'custody demand');
    // After its time too: while the entry is there the grant is active, and late is better than never.
    if (entry === null || entry.shares.some((share) => share.orgId === orgId)) {
      this.#demands.delete(id);
      return;
    }
    if (calls.waits(demand.submitted)) return;
    const answer = await own.release(requestHash);
    if (answer.kind !== 'share') {
      log.info({ code: answer.kind === 'refused' ? answer.code : answer.kind }, 'no share for a demand on the chain');
      // Without a right to one, the answer stays the same; a custodian that is away may return while the demand is open.
      if (answer.kind !== 'refused' || !PASSING.has(answer.code)) this.#demands.delete(id);
      return;
    }
    demand.submitted = await this.#submit({ kind: 'node.custodyShare', requestHash, share: answer.share });
  }

  /** @returns null where the pool did not take it: it is tried again */
  async #submit(call: NodeCall): Promise<Hash | null> {
    const { calls, log } = this.#ports;
    const said = await calls.submit(call);
    const why = said.ok ? '' : `${call.kind} ${said.code}`;
    if (!said.ok && why !== this.#refusedWith)
      log.warn({ kind: call.kind, code: said.code, reason: said.message }, 'what the custodian says was not taken');
    if (said.ok) log.info({ kind: call.kind }, 'said on the chain for the custodian');
    this.#refusedWith = why;
    return said.ok ? said.value : null;
  }
}

/** Refusals that may end by themselves while a demand is open. */
const PASSING: ReadonlySet<string> = new Set([
  'CUSTODIAN_UNAVAILABLE',
  'CUSTODIAN_TIMEOUT',
  'CUSTODIAN_ROLLBACK',
  'CUSTODIAN_STALE_STATE',
  'RATE_LIMITED',
]);

function callOf(orgId: OrgId, sessionId: Hash, step: CustodyStep): NodeCall {
  switch (step.kind) {
    case 'announce':
      return { ...step, kind: 'node.custodyAnnounce', sessionId, orgId };
    case 'deal':
      return { ...step, kind: 'node.custodyDeal', sessionId };
    case 'complain':
      return { ...step, kind: 'node.custodyComplain', sessionId };
    case 'confirm':
      return { ...step, kind: 'node.custodyConfirm', sessionId };
    default:
      return unreachable(step);
  }
}

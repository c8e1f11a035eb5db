/**
 * A small consortium for the tests of vm/: four hospitals, their people, an ordered state in memory, and blocks of one
 * transaction each. Signatures are blank: that they verify is an obligation, tested on its own in vm-obligations.
 */
import { bytesToHex, compareBytes, utf8 } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { assert } from '../../common/errors.ts';
import { H } from '../../common/crypto/hash.ts';
import { type ChainParams, DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import { type Genesis, genesisHash } from '../../common/protocol/genesis.ts';
import type { ApprovalNode, PolicyDocument, PolicyRule, Role } from '../../common/protocol/policy.ts';
import { policyRefOf } from '../../common/protocol/policy.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import { encodeReceipt, type Event, type Receipt } from '../../common/protocol/receipt.ts';
import { recordIdOf } from '../../common/protocol/record.ts';
import {
  type AccessRequest,
  type Call,
  decodeTransaction,
  encodeSidecar,
  type RecordContent,
  requestHashOf,
  type Sidecar,
  sidecarHash,
  signedTransaction,
  transactionBody,
} from '../../common/protocol/transaction.ts';
import {
  genesisWrites,
  buildBlock,
  executeBlock,
  type CheckedTransaction,
  type StateReader,
  type StateWrite,
} from '../../vm/index.ts';
import { FrozenEntries } from './frozen-entries.ts';

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
export const START = 1_800_000_000_000;
export const NEVER = Number.MAX_SAFE_INTEGER;

/** Ordered entries; refuses what a real state tree would be surprised by. */
export class MemoryState implements StateReader {
  #entries: { key: Uint8Array; value: Uint8Array }[] = [];
  /** Counts what was applied. */
  version = 0;

  #find(key: Uint8Array): { at: number; found: boolean } {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const order = compareBytes(this.#entries[middle]!.key, key);
      if (order === 0) return { at: middle, found: true };
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return { at: low, found: false };
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const { at, found } = this.#find(key);
    return found ? this.#entries[at]!.value : undefined;
  }

  *range(query: { gte: Uint8Array; lt: Uint8Array; limit: number; reverse?: boolean }) {
    const inside = this.#entries.slice(this.#find(query.gte).at, this.#find(query.lt).at);
    if (query.reverse === true) inside.reverse();
    yield* inside.slice(0, query.limit);
  }

  apply(writes: readonly StateWrite[]): void {
    this.version += 1;
    let previous: Uint8Array | null = null;
    for (const { key, value } of writes) {
      assert(previous === null || compareBytes(previous, key) < 0, 'writes are sorted and distinct');
      previous = key;
      const { at, found } = this.#find(key);
      if (value === null) {
        assert(found, 'only what exists is deleted');
        this.#entries.splice(at, 1);
      } else {
        this.#entries.splice(at, found ? 1 : 0, { key, value });
      }
    }
  }

  dump(): string {
    return this.#entries.map(({ key, value }) => `${bytesToHex(key)}=${bytesToHex(value)}`).join('\n');
  }
}

let keys = 0;
/** A key pair that is the same in every run. */
export function newKey(): { privateKey: Uint8Array; publicKey: Uint8Array } {
  keys += 1;
  const privateKey = H('test-key', Uint8Array.of(keys >> 8, keys & 0xff));
  return { privateKey, publicKey: publicKeyOf(privateKey) };
}

export interface Actor {
  readonly id: Uint8Array;
  readonly orgId: string;
  readonly tag: Uint8Array | null;
  readonly custodial: boolean;
  privateKey: Uint8Array;
  publicKey: Uint8Array;
}

export const BLANK = new Uint8Array(64);
export const tag = (name: string): Uint8Array => H('test-tag', utf8(name));
export const token = (name: string): Uint8Array => H('test-token', utf8(name));
let nonces = 0;
export function nonce(): Uint8Array {
  nonces += 1;
  return H('test-nonce', Uint8Array.of(nonces >> 8, nonces & 0xff)).slice(0, 16);
}

/** What peer ids are written in. */
const BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZ';
export const ORGS = ['hospital-a', 'hospital-b', 'hospital-c', 'hospital-d'] as const;
export const [A, B, C, D] = ORGS;

// What policies are made of.
export const owner: ApprovalNode = { kind: 'owner' };
export const attending: ApprovalNode = { kind: 'attending' };
export const all = (...of: ApprovalNode[]): ApprovalNode => ({ kind: 'threshold', k: of.length, of });
export const some = (k: number, ...of: ApprovalNode[]): ApprovalNode => ({ kind: 'threshold', k, of });
export const person = (actor: Actor): ApprovalNode => ({ kind: 'person', account: actor.id });
type Scope = Extract<ApprovalNode, { kind: 'role' }>['scope'];
export const by = (
  role: Role,
  scope: Scope['kind'] | { orgId: string } = 'any',
  department: Uint8Array | null = null,
): ApprovalNode => ({
  kind: 'role',
  role,
  scope: typeof scope === 'string' ? ({ kind: scope } as Scope) : { kind: 'named', orgId: scope.orgId },
  department,
});
export const ANY_PHYSICIAN: PolicyRule['requesters'] = [
  { role: 'physician', scope: { kind: 'any' }, department: null },
];

export interface Outcome {
  readonly ok: boolean;
  readonly code: string | null;
  readonly message: string;
  readonly events: readonly Event[];
}

/** There is no tree here: roots are names of heights. */
export const rootAt = (height: number): Hash => H('test-root', Uint8Array.of(height >> 8, height & 0xff));

export class World {
  readonly state = new MemoryState();
  readonly genesis: Genesis;
  readonly chainId: Hash;
  now = START + DAY;
  height = 1;
  readonly people = new Map<string, Actor>();
  /** Every block's transactions with its time, for replaying. */
  readonly history: { timestampMs: number; txs: readonly CheckedTransaction[] }[] = [];
  #memory = { entries: new FrozenEntries(this.state), version: 0 };

  constructor(
    founders: Record<string, { org: string; roles: Role[]; tag?: string }> = {},
    params: Partial<ChainParams> = {},
    orgs: readonly string[] = ORGS,
  ) {
    const accounts: Genesis['accounts'][number][] = [];
    const found = (name: string, orgId: string, roles: readonly Role[], personTag: Uint8Array): void => {
      const key = newKey();
      accounts.push({ publicKey: key.publicKey, orgId, personTag, roles });
      this.people.set(name, { ...key, id: sm2Address(key.publicKey), orgId, tag: personTag, custodial: false });
    };
    for (const org of orgs) found(`admin@${org.slice(-1)}`, org, ['org_admin'], tag(`admin ${org}`));
    for (const [name, { org, roles, tag: same }] of Object.entries(founders))
      found(name, org, roles, tag(same ?? name));
    const validators = orgs.map((orgId, i) => {
      const { publicKey } = newKey();
      return { orgId, publicKey, address: sm2Address(publicKey), peerId: `12D3KooWTest${BASE58[i]}` };
    });
    this.genesis = {
      version: 1,
      network: 'test',
      timeMs: START,
      params: { ...DEFAULT_CHAIN_PARAMS, ...params },
      organisations: orgs.map((orgId) => ({ orgId, name: orgId, custodianKey: newKey().publicKey })),
      validators: validators.sort((x, y) => compareBytes(x.address, y.address)),
      accounts,
      observers: [],
      salt: new Uint8Array(16),
    };
    this.chainId = genesisHash(this.genesis);
    this.state.apply(genesisWrites(this.genesis));
  }

  who(name: string): Actor {
    const actor = this.people.get(name);
    assert(actor !== undefined, `nobody is called ${name}`);
    return actor;
  }

  tx(
    from: string | Actor,
    call: Call,
    opts: {
      validUntilMs?: number;
      nonce?: Uint8Array;
      chainId?: Hash;
      publicKey?: Uint8Array;
      version?: number;
      sidecar?: Sidecar | null;
    } = {},
  ): CheckedTransaction {
    const actor = typeof from === 'string' ? this.who(from) : from;
    const body = encode(transactionBody, {
      version: opts.version ?? 1,
      chainId: opts.chainId ?? this.chainId,
      account: actor.id,
      nonce: opts.nonce ?? nonce(),
      validUntilMs: opts.validUntilMs ?? this.now + 5 * MINUTE,
      call,
    });
    const bytes = encode(signedTransaction, { body, publicKey: opts.publicKey ?? actor.publicKey, signature: BLANK });
    const tx = decodeTransaction(bytes);
    assert(tx.ok, tx.ok ? '' : tx.message);
    return { tx: tx.value, sidecar: opts.sidecar ?? null };
  }

  get block() {
    const { chainId, height, now: timestampMs } = this;
    return { chainId, height, timestampMs, parentStateRoot: rootAt(height - 1) };
  }

  /** What a node that has executed all blocks so far has in memory. */
  get #entries(): FrozenEntries {
    const { version } = this.state;
    // Some tests write into the state themselves.
    if (this.#memory.version !== version) this.#memory = { entries: new FrozenEntries(this.state), version };
    return this.#memory.entries;
  }

  /**
   * Executes one block of these transactions, and commits it if all are good: as a leader who keeps in memory what it has
   * decoded, and as a replica that decodes everything anew.
   */
  commit(...txs: readonly CheckedTransaction[]): Outcome {
    const before = this.#entries;
    const built = buildBlock(before, this.block, txs);
    const [refused] = built.rejected;
    if (refused !== undefined) {
      const replica = executeBlock(this.state, this.block, txs);
      assert(!replica.ok && replica.code === refused.code, 'a replica refuses what a leader leaves out');
      const idle = buildBlock(this.state, this.block, []);
      assert(txs.length > 1 || sameWrites(idle.writes, built.writes), 'a refused transaction changes nothing');
      return { ok: false, code: refused.code, message: refused.message, events: [] };
    }
    const executed = executeBlock(this.state, this.block, txs);
    assert(executed.ok && sameWrites(executed.value.writes, built.writes), 'a replica writes what the leader wrote');
    assert(sameReceipts(executed.value.receipts, built.receipts), 'a replica reports what the leader reported');
    this.state.apply(built.writes);
    const { writes } = built;
    this.#memory = { entries: new FrozenEntries(this.state, { before, writes }), version: this.state.version };
    this.history.push({ timestampMs: this.now, txs });
    this.height += 1;
    this.now += 1;
    return { ok: true, code: null, message: '', events: built.receipts.flatMap(({ events }) => events) };
  }

  /** One transaction that must succeed. */
  do(from: string | Actor, call: Call, opts: Parameters<World['tx']>[2] = {}): readonly Event[] {
    const outcome = this.commit(this.tx(from, call, opts));
    assert(outcome.ok, `${call.kind}: ${outcome.code} ${outcome.message}`);
    return outcome.events;
  }

  /** The code that one transaction is refused with; null if it was executed. */
  try(from: string | Actor, call: Call, opts: Parameters<World['tx']>[2] = {}): string | null {
    return this.commit(this.tx(from, call, opts)).code;
  }

  /** Time passes; an empty block shows what it brings. */
  pass(ms: number): readonly Event[] {
    this.now += ms;
    return this.commit().events;
  }

  // --- People

  newActor(orgId: string, personTag: Uint8Array | null, custodial = false): Actor {
    const key = newKey();
    return { ...key, id: sm2Address(key.publicKey), orgId, tag: personTag, custodial };
  }

  enrolCall(actor: Actor, kind: 'staff' | 'patient' | 'service', countersigner?: string): Call {
    const { publicKey, orgId, tag: personTag, custodial } = actor;
    return {
      kind: 'account.enrol',
      enrolment: { publicKey, orgId, kind, personTag, custodial },
      possession: BLANK,
      countersignature: countersigner === undefined ? null : this.sign(countersigner),
    };
  }

  sign(name: string) {
    const { id, publicKey } = this.who(name);
    return { account: id, publicKey, signature: BLANK };
  }

  patient(name: string, orgId: string = A, custodial = false): Actor {
    const actor = this.newActor(orgId, null, custodial);
    this.do(`admin@${orgId.slice(-1)}`, this.enrolCall(actor, 'patient'));
    this.people.set(name, actor);
    return actor;
  }

  staff(name: string, orgId: string, roles: readonly Role[], same: string = name): Actor {
    const actor = this.newActor(orgId, tag(same));
    const admin = `admin@${orgId.slice(-1)}`;
    this.do(admin, this.enrolCall(actor, 'staff', orgId === B ? 'admin@a' : 'admin@b'));
    this.people.set(name, actor);
    for (const role of roles) this.do(admin, this.grantCall(actor, role));
    return actor;
  }

  grantCall(actor: Actor, role: Role, expiresAtMs = NEVER, department: Uint8Array | null = null): Call {
    return { kind: 'role.grant', scope: { account: actor.id, role, orgId: actor.orgId, department }, expiresAtMs };
  }

  attend(patient: string, physician: string, expiresAtMs = NEVER): void {
    const relation = { patient: this.who(patient).id, physician: this.who(physician).id, expiresAtMs };
    this.do(patient, { kind: 'attending.set', relation, countersignature: null });
  }

  // --- Policies and records

  document(rules: readonly Partial<PolicyRule>[], more: Partial<PolicyDocument> = {}): PolicyDocument {
    const rule: PolicyRule = {
      purposes: ['TREAT'],
      requesters: ANY_PHYSICIAN,
      categories: null,
      maxDurationMs: DAY,
      approvals: owner,
    };
    return {
      nonce: nonce(),
      orgId: A,
      rules: rules.map((r) => ({ ...rule, ...r })),
      adminRule: owner,
      custodian: true,
      patientWrap: true,
      recovery: false,
      ...more,
    };
  }

  policy(approvals: ApprovalNode, rule: Partial<PolicyRule> = {}, more: Partial<PolicyDocument> = {}): Hash {
    const document = this.document([{ approvals, ...rule }], more);
    this.do('admin@a', { kind: 'policy.create', document });
    return policyRefOf(document);
  }

  wraps(orgId: string = A, ...to: ('patient' | 'custodian')[]): Sidecar {
    const targets = to.length === 0 ? (['patient', 'custodian'] as const) : to;
    const ciphertext = new Uint8Array(165).fill(7);
    return {
      kind: 'wraps',
      wraps: targets.map((kind) => ({ to: kind === 'patient' ? { kind } : { kind, orgId }, ciphertext })),
    };
  }

  content(patient: string, policyRef: Hash, sidecar: Sidecar, more: Partial<RecordContent> = {}): RecordContent {
    return {
      policyRef,
      cid: Uint8Array.from([1, 0x70, 0x12, 32, ...token('cid')]),
      dataDigest: token('digest'),
      sizeBytes: 4096,
      categoryToken: token('category'),
      headerHash: token('header'),
      keyCheck: new Uint8Array(16),
      capsule: { kind: 'direct' },
      sidecarHash: sidecarHash(encodeSidecar(sidecar)),
      ownerPublicKey: this.who(patient).publicKey,
      ownerSignature: BLANK,
      ...more,
    };
  }

  createCall(
    patient: string,
    policyRef: Hash,
    more: Partial<RecordContent> = {},
    sidecar = this.wraps(),
  ): Call & { kind: 'record.create' } {
    const content = this.content(patient, policyRef, sidecar, more);
    const { id, orgId } = this.who(patient);
    return { kind: 'record.create', owner: id, hospital: orgId, nonce: nonce(), sectionClass: 'general', content };
  }

  record(writer: string, patient: string, policyRef: Hash): Hash {
    const call = this.createCall(patient, policyRef);
    this.do(writer, call, { sidecar: this.wraps() });
    return recordIdOf(this.who(writer).id, call.owner, call.nonce, call.sectionClass);
  }

  // --- Access

  request(requester: string, recordId: Hash, more: Partial<AccessRequest> = {}): AccessRequest {
    return {
      recordId,
      version: 1,
      requester: this.who(requester).id,
      requesterKey: newKey().publicKey,
      purpose: 'TREAT',
      ruleIndex: 0,
      policyVersion: 1,
      notAfterMs: this.now + HOUR,
      nonce: nonce(),
      ...more,
    };
  }

  requestCall(request: AccessRequest): Call {
    return { kind: 'access.request', request, possession: BLANK };
  }

  /** Asks, and gives the request's hash. */
  ask(requester: string, recordId: Hash, more: Partial<AccessRequest> = {}): Hash {
    const request = this.request(requester, recordId, more);
    this.do(requester, this.requestCall(request));
    return requestHashOf(this.chainId, request);
  }

  approve(name: string, requestHash: Hash): string | null {
    return this.try(name, { kind: 'access.approve', requestHash });
  }

  deny(name: string, requestHash: Hash): string | null {
    return this.try(name, { kind: 'access.deny', requestHash, reason: 'NOT_JUSTIFIED' });
  }
}

function sameReceipts(a: readonly Receipt[], b: readonly Receipt[]): boolean {
  const text = (receipts: readonly Receipt[]): string =>
    receipts.map((receipt) => bytesToHex(encodeReceipt(receipt))).join();
  return text(a) === text(b);
}

function sameWrites(a: readonly StateWrite[], b: readonly StateWrite[]): boolean {
  const text = (writes: readonly StateWrite[]): string =>
    writes.map(({ key, value }) => `${bytesToHex(key)}=${value === null ? '-' : bytesToHex(value)}`).join();
  return text(a) === text(b);
}

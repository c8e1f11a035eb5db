/**
 * A state as it is after so many records, written straight into a database: accounts, records, versions, lists and audit
 * entries as execution would have left them, in far less time. Patients and physicians have keys that nobody knows: what
 * measures execution needs no signatures.
 */
import { compareBytes, u32be, utf8 } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { H } from '../../common/crypto/hash.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import { type Genesis, genesisHash, genesisHeader } from '../../common/protocol/genesis.ts';
import { encodeHeader } from '../../common/protocol/block.ts';
import { type PolicyDocument, policyRefOf } from '../../common/protocol/policy.ts';
import * as entries from '../../common/protocol/state-entries.ts';
import type { RecordContent } from '../../common/protocol/transaction.ts';
import { sortedValidatorSet } from '../../common/protocol/validator-set.ts';
import { NO_LEADER_HISTORY } from '../../consensus/leader-order.ts';
import type { CommittedBlock } from '../../node/storage/chain-store.ts';
import type { KeyValueStore, Write } from '../../node/storage/key-value-store.ts';
import { storageKey } from '../../node/storage/keyspace.ts';
import { genesisWrites, type StateWrite } from '../../vm/index.ts';
import { applyWrites, EMPTY, encodeRoot, type NodeReader, nodeKey, type TreeRoot } from '../../vm/state-tree/index.ts';

const { stateKey } = entries;

export const ORGS = ['hospital-a', 'hospital-b', 'hospital-c', 'hospital-d'] as const;
const START_MS = 1_800_000_000_000;
const FOUNDING: ReadonlySet<string> = new Set(['administrator', 'validator', 'custodian']);
const NEVER_MS = Number.MAX_SAFE_INTEGER;
const PHYSICIANS = 5_000;
/** Records of one patient. */
const RECORDS_EACH = 10;
/** Namespace byte of records; theirs end before those of anything else that a genesis has. */
const RECORDS_FROM = 0x30;
/** Entries that are applied and written at a time. */
const BATCH_ENTRIES = 20_000;

export interface Person {
  readonly id: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly orgId: string;
  /** Null for patients. */
  readonly tag: Uint8Array | null;
}

const named = (what: string, index: number): Uint8Array => H('bench', utf8(what), u32be(index));

function person(what: string, index: number): Person {
  const publicKey = new Uint8Array(64);
  // What the genesis names has to be a point; of all others, nothing but a signature would show that they are none.
  if (FOUNDING.has(what)) publicKey.set(publicKeyOf(named(what, index)));
  else {
    publicKey.set(named(what, index));
    publicKey.set(named(`${what} y`, index), 32);
  }
  const tag = what === 'patient' ? null : named(`${what} tag`, index);
  return { id: sm2Address(publicKey), publicKey, orgId: ORGS[index % ORGS.length] as string, tag };
}

const put = (key: Uint8Array, value: Uint8Array): StateWrite => ({ key, value });
const sorted = (writes: StateWrite[]): StateWrite[] => writes.sort((a, b) => compareBytes(a.key, b.key));

/** A consortium with its people, and the entries that so many records leave. */
export class HospitalState {
  readonly genesis: Genesis;
  readonly chainId: Uint8Array;
  readonly records: number;
  /** How many there are. */
  readonly patients: number;
  readonly physicians: readonly Person[];
  readonly administrators: readonly Person[];
  readonly policyRef: Uint8Array;
  readonly #document: PolicyDocument;
  /** Ids of records, 32 bytes each, ascending. In one array: a million small ones would be work for the garbage collector. */
  readonly #ids: Uint8Array;

  constructor(records: number) {
    this.records = records;
    this.administrators = ORGS.map((_, index) => person('administrator', index));
    this.physicians = Array.from({ length: PHYSICIANS }, (_, index) => person('physician', index));
    this.patients = Math.max(1_000, Math.ceil(records / RECORDS_EACH));
    this.genesis = genesisOf(this.administrators);
    this.chainId = genesisHash(this.genesis);
    this.#document = {
      nonce: new Uint8Array(16),
      orgId: ORGS[0],
      rules: [
        {
          purposes: ['TREAT'],
          requesters: [{ role: 'physician', scope: { kind: 'any' }, department: null }],
          categories: null,
          maxDurationMs: 24 * 3_600_000,
          approvals: { kind: 'owner' },
        },
      ],
      adminRule: { kind: 'owner' },
      custodian: true,
      patientWrap: true,
      recovery: false,
    };
    this.policyRef = policyRefOf(this.#document);
    const ids = Array.from({ length: records }, (_, index) => named('record', index)).sort(compareBytes);
    this.#ids = new Uint8Array(32 * records);
    ids.forEach((id, index) => this.#ids.set(id, 32 * index));
  }

  recordId(index: number): Uint8Array {
    return this.#ids.slice(32 * index, 32 * (index + 1));
  }

  patient(index: number): Person {
    return person('patient', index);
  }

  ownerOf(index: number): Person {
    const digest = this.recordId(index);
    const number = ((digest[5] as number) << 16) | ((digest[6] as number) << 8) | (digest[7] as number);
    return this.patient(number % this.patients);
  }

  writerOf(owner: Person): Person {
    const orgIndex = ORGS.indexOf(owner.orgId as (typeof ORGS)[number]);
    const number = ((owner.id[0] as number) << 8) | (owner.id[1] as number);
    return this.physicians[((number * ORGS.length) % PHYSICIANS) + orgIndex] as Person;
  }

  content(owner: Person, seed: Uint8Array): RecordContent {
    return {
      policyRef: this.policyRef,
      cid: Uint8Array.from([1, 0x70, 0x12, 32, ...seed]),
      dataDigest: seed,
      sizeBytes: 4096,
      categoryToken: seed,
      headerHash: seed,
      keyCheck: seed.subarray(0, 16),
      capsule: { kind: 'direct' },
      sidecarHash: seed,
      ownerPublicKey: owner.publicKey,
      ownerSignature: new Uint8Array(64).fill(7),
    };
  }

  /** All entries in the order of their keys. */
  *entries(): Generator<StateWrite, void, void> {
    const few = sorted([...genesisWrites(this.genesis), ...this.#people(), this.#policy()]);
    const records = few.findIndex(({ key }) => (key[0] as number) >= RECORDS_FROM);
    yield* records === -1 ? few : few.slice(0, records);
    const all = Array.from({ length: this.records }, (_, index) => index);
    for (const index of all) yield this.#record(index);
    for (const index of all) yield this.#version(index);
    const byOwner = all
      .map((index) => ({ index, owner: this.ownerOf(index) }))
      .sort((a, b) => compareBytes(a.owner.id, b.owner.id) || a.index - b.index);
    for (const { index, owner } of byOwner) {
      const id = this.recordId(index);
      const value = encode(entries.recordByOwnerEntry, { id });
      yield put(stateKey.recordByOwner(owner.id, this.#createdMs(index), id), value);
    }
    let last: Uint8Array = new Uint8Array(0);
    for (const { owner } of byOwner) {
      if (compareBytes(owner.id, last) === 0) continue;
      last = owner.id;
      yield put(stateKey.author(owner.id, this.writerOf(owner).id), encode(entries.emptyEntry, {}));
    }
    for (const index of all) yield this.#audit(index);
    if (records !== -1) yield* few.slice(records);
  }

  /** Distinct, so that two records of one owner are in the order of their times. */
  #createdMs(index: number): number {
    return START_MS - this.records + index;
  }

  *#people(): Generator<StateWrite, void, void> {
    const patients = Array.from({ length: this.patients }, (_, index) => this.patient(index));
    for (const { id, publicKey, orgId, tag } of [...this.physicians, ...patients]) {
      yield put(
        stateKey.account(id),
        encode(entries.accountEntry, {
          id,
          orgId,
          kind: tag === null ? 'patient' : 'staff',
          publicKey,
          keySinceMs: 0,
          recoveredMs: null,
          personTag: tag,
          custodial: false,
          status: 'active',
          enrolledMs: 0,
          enrolledBy: null,
        }),
      );
      yield put(stateKey.key(id), encode(entries.keyEntry, { account: id, use: 'account' }));
      if (tag === null) continue;
      yield put(
        stateKey.role(id, 'physician', orgId, null),
        encode(entries.roleEntry, {
          account: id,
          role: 'physician',
          orgId,
          department: null,
          grantedMs: 0,
          effectiveMs: 0,
          grantedBy: null,
          expiresAtMs: NEVER_MS,
        }),
      );
      yield put(stateKey.person(tag, id), encode(entries.emptyEntry, {}));
    }
  }

  #policy(): StateWrite {
    return put(
      stateKey.policy(this.policyRef),
      encode(entries.policyEntry, {
        ref: this.policyRef,
        version: 1,
        document: this.#document,
        createdBy: (this.administrators[0] as Person).id,
        createdMs: 0,
        sinceMs: 0,
        amendmentId: null,
      }),
    );
  }

  #record(index: number): StateWrite {
    const id = this.recordId(index);
    const owner = this.ownerOf(index);
    const writer = this.writerOf(owner).id;
    const { orgId } = owner;
    const createdMs = this.#createdMs(index);
    return put(
      stateKey.record(id),
      encode(entries.recordEntry, {
        id,
        owner: owner.id,
        writer,
        orgId,
        section: 'general',
        latestVersion: 1,
        createdMs,
      }),
    );
  }

  #version(index: number): StateWrite {
    const recordId = this.recordId(index);
    const owner = this.ownerOf(index);
    return put(
      stateKey.recordVersion(recordId, 1),
      encode(entries.recordVersionEntry, {
        recordId,
        version: 1,
        writer: this.writerOf(owner).id,
        orgId: owner.orgId,
        content: this.content(owner, recordId),
        height: 0,
        createdMs: this.#createdMs(index),
      }),
    );
  }

  #audit(index: number): StateWrite {
    const recordId = this.recordId(index);
    const owner = this.ownerOf(index);
    return put(
      stateKey.audit(recordId, 0, 0),
      encode(entries.auditEntry, {
        timestampMs: this.#createdMs(index),
        txHash: recordId,
        event: {
          type: 'record.create',
          actor: this.writerOf(owner).id,
          subject: owner.id,
          orgId: owner.orgId,
          recordId,
          requestHash: null,
          objectId: this.policyRef,
          detail: null,
        },
      }),
    );
  }
}

function genesisOf(administrators: readonly Person[]): Genesis {
  const validators = ORGS.map((orgId, index) => {
    const { publicKey, id: address } = person('validator', index);
    return { orgId, publicKey, address, peerId: `12D3KooWBench${index + 1}` };
  });
  return {
    version: 1,
    network: 'bench',
    timeMs: START_MS,
    params: { ...DEFAULT_CHAIN_PARAMS, maxOpenRequests: 10_000 },
    organisations: ORGS.map((orgId, index) => ({
      orgId,
      name: orgId,
      custodianKey: person('custodian', index).publicKey,
    })),
    validators: validators.sort((a, b) => compareBytes(a.address, b.address)),
    accounts: administrators.map(({ publicKey, orgId, tag }) => ({
      publicKey,
      orgId,
      personTag: tag as Uint8Array,
      roles: ['org_admin'],
    })),
    observers: [],
    salt: new Uint8Array(16),
  };
}

/**
 * Writes the nodes of a state into an empty database, all of version 0, and answers with the block that has it as its state.
 * The chain store makes that its block 0.
 */
export async function writeHospitalState(kv: KeyValueStore, state: HospitalState): Promise<CommittedBlock> {
  const reader: NodeReader = { getNode: (ref) => kv.getSync(storageKey.stateNode(nodeKey(ref))) };
  let root: TreeRoot = EMPTY;
  let nodes = 0;
  let rootHash = new Uint8Array(32);
  const flush = async (batch: readonly StateWrite[]): Promise<void> => {
    const applied = applyWrites(reader, root, batch, 0, nodes);
    const writes: Write[] = applied.newNodes.map(({ key, bytes }) => ({
      type: 'put',
      key: storageKey.stateNode(key),
      value: bytes,
    }));
    for (const ref of applied.staleNodes) writes.push({ type: 'del', key: storageKey.stateNode(nodeKey(ref)) });
    await kv.write(writes, { sync: false });
    root = applied.root;
    rootHash = applied.rootHash.slice();
    nodes += applied.newNodes.length;
  };
  let batch: StateWrite[] = [];
  for (const write of state.entries()) {
    batch.push(write);
    if (batch.length < BATCH_ENTRIES) continue;
    await flush(batch);
    batch = [];
  }
  if (batch.length > 0) await flush(batch);
  const { header, hash } = genesisHeader(state.genesis, rootHash);
  return {
    hash,
    header,
    block: { header: encodeHeader(header), txs: [], sidecars: [] },
    certificate: null,
    receipts: [],
    txHashes: [],
    nextValidators: sortedValidatorSet(state.genesis.validators),
    leaders: NO_LEADER_HISTORY,
    state: { root: encodeRoot(root), newNodes: [], staleNodes: [] },
  };
}

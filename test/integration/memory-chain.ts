/**
 * A chain in memory behind the ports that services of the node read: the real state machine, tree, codecs and
 * signatures of real validator keys; no consensus, no disk. And the short story that most tests need: a patient, a policy,
 * records, a request that is granted.
 */
import { bytesToHex, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import { blockHash, type BlockHeader, type Certificate, encodeHeader, txRootOf } from '../../common/protocol/block.ts';
import { type Genesis, genesisHash, genesisHeader } from '../../common/protocol/genesis.ts';
import { type PolicyDocument, policyRefOf } from '../../common/protocol/policy.ts';
import { encodeReceipt, type Receipt, receiptsRootOf } from '../../common/protocol/receipt.ts';
import { recordIdOf } from '../../common/protocol/record.ts';
import { voteSigningHash } from '../../common/protocol/signing.ts';
import { enrolmentPossessionHash, ownerWriteHash } from '../../common/protocol/statements.ts';
import {
  type AccessRequest,
  type Call,
  type CallOf,
  decodeSidecar,
  decodeTransaction,
  encodeSidecar,
  type RecordContent,
  requestHashOf,
  type Sidecar,
  sidecarHash,
} from '../../common/protocol/transaction.ts';
import { quorumSize, type ValidatorSet, validatorSetHash } from '../../common/protocol/validator-set.ts';
import type { ChainPort, CommittedNotice, StateAnswer, StatePort, StateQuery, StoredBlock } from '../../rpc/ports.ts';
import { buildBlock, genesisWrites, type StateReader } from '../../vm/index.ts';
import { applyWrites, EMPTY, get, iterate, nodeKey, type NodeReader } from '../../vm/state-tree/index.ts';
import { proveKey, type TreeRoot } from '../../vm/state-tree/index.ts';
import { signCall } from './node-consortium.ts';

interface KeptBlock extends StoredBlock {
  readonly receipts: readonly Receipt[];
  readonly certificate: Certificate | null;
  readonly root: TreeRoot;
}

export class MemoryChain implements ChainPort, StatePort {
  readonly #genesis: Genesis;
  readonly #chainId: Uint8Array;
  /** In the order of the validator set. */
  readonly #signers: readonly Sm2Signer[];
  readonly #nodes = new Map<string, Uint8Array>();
  readonly #reader: NodeReader = { getNode: (ref) => this.#nodes.get(bytesToHex(nodeKey(ref))) };
  readonly #listeners = new Set<(notice: CommittedNotice) => void>();
  readonly #blocks: KeptBlock[] = [];

  constructor(genesis: Genesis, validators: readonly Sm2Signer[]) {
    this.#genesis = genesis;
    this.#chainId = genesisHash(genesis);
    this.#signers = genesis.validators.map(
      ({ address }) => validators.find((s) => bytesToHex(s.address) === bytesToHex(address)) as Sm2Signer,
    );
    const { root, rootHash } = this.#apply(EMPTY, genesisWrites(genesis), 0);
    const block = { ...genesisHeader(genesis, rootHash), txs: [], sidecars: [], receipts: [], certificate: null, root };
    this.#blocks.push(block);
  }

  /**
   * One block of these transactions, each of which must succeed.
   * @param timestampMs block time; by default now, or just after the last block
   */
  commit(
    txs: readonly { readonly bytes: Uint8Array; readonly sidecar?: Uint8Array | null }[],
    timestampMs = Math.max(Date.now(), this.head().timestampMs + 1),
  ): void {
    const before = this.#last();
    const height = before.header.height + 1;
    const checked = txs.map(({ bytes, sidecar = null }) => {
      const tx = decodeTransaction(bytes);
      const opened = sidecar === null ? null : decodeSidecar(sidecar);
      if (!tx.ok || opened?.ok === false) throw new Error('a transaction that does not decode');
      return { tx: tx.value, sidecar: opened?.value ?? null };
    });
    const built = buildBlock(
      this.reader,
      { chainId: this.#chainId, height, timestampMs, parentStateRoot: before.header.stateRoot },
      checked,
    );
    const [refused] = built.rejected;
    if (refused !== undefined) throw new Error(`${refused.code}: ${refused.message}`);
    const { root, rootHash } = this.#apply(before.root, built.writes, height);
    const bytes = built.included.map(({ tx }) => tx.bytes);
    const setHash = validatorSetHash(this.#genesis.validators);
    const header: BlockHeader = {
      chainId: this.#chainId,
      height,
      view: 0,
      parentHash: before.hash,
      timestampMs,
      proposer: (this.#signers[0] as Sm2Signer).address,
      txRoot: txRootOf(bytes),
      receiptsRoot: receiptsRootOf(built.receipts.map(encodeReceipt)),
      stateRoot: rootHash,
      validatorsHash: setHash,
      nextValidatorsHash: setHash,
    };
    const hash = blockHash(encodeHeader(header));
    const sidecars = built.included.map(({ sidecar }) => sidecar && encodeSidecar(sidecar));
    const certificate = this.#certify(height, hash);
    this.#blocks.push({ header, hash, txs: bytes, sidecars, receipts: built.receipts, certificate, root });
    const notice = { height, hash, timestampMs, txHashes: built.included.map(({ tx }) => tx.hash) };
    for (const listener of this.#listeners) listener(notice);
  }

  #certify(height: number, hash: Uint8Array): Certificate {
    const message = voteSigningHash(this.#chainId, 'commit', height, 0, hash);
    const signatures = this.#signers
      .slice(0, quorumSize(this.#signers.length))
      .map((signer, validator) => ({ validator, signature: signer.sign(message) }));
    return { height, view: 0, blockHash: hash, signatures };
  }

  #apply(root: TreeRoot, writes: Parameters<typeof applyWrites>[2], height: number) {
    const applied = applyWrites(this.#reader, root, writes, height);
    for (const { key, bytes } of applied.newNodes) this.#nodes.set(bytesToHex(key), bytes);
    return applied;
  }

  #last(): KeptBlock {
    return this.#blocks.at(-1) as KeptBlock;
  }

  /** The state after the last block. */
  get reader(): StateReader {
    const { root } = this.#last();
    return { get: (key) => get(this.#reader, root, key), range: (range) => iterate(this.#reader, root, range) };
  }

  genesis = (): Genesis => this.#genesis;
  chainId = (): Uint8Array => this.#chainId;
  lowestHeight = (): number => 0;
  handovers = (): Promise<readonly []> => Promise.resolve([]);
  validatorsAt = (): Promise<ValidatorSet> => Promise.resolve(this.#genesis.validators);

  head() {
    const { header, hash } = this.#last();
    return { height: header.height, hash, timestampMs: header.timestampMs };
  }

  header = (height: number) => Promise.resolve(this.#blocks[height] ?? null);
  block = (height: number) => Promise.resolve(this.#blocks[height] ?? null);
  certificate = (height: number) => Promise.resolve(this.#blocks[height]?.certificate ?? null);
  receipts = (height: number) => Promise.resolve(this.#blocks[height]?.receipts ?? null);

  heightOfBlock(hash: Uint8Array): Promise<number | null> {
    const at = this.#blocks.findIndex((b) => bytesToHex(b.hash) === bytesToHex(hash));
    return Promise.resolve(at === -1 ? null : at);
  }

  locateTransaction(): Promise<null> {
    return Promise.resolve(null);
  }

  onCommitted(listener: (notice: CommittedNotice) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async read(queries: readonly StateQuery[], height = this.head().height) {
    const { root, hash } = this.#blocks[height] as KeptBlock;
    const answers = queries.map((query): StateAnswer => {
      if (query.kind === 'range') throw new Error('no ranges here');
      const proof = query.prove === true ? proveKey(this.#reader, root, query.key) : null;
      return { kind: 'get', value: get(this.#reader, root, query.key) ?? null, proof };
    });
    return Promise.resolve({ at: { height, hash }, answers });
  }
}

/** A record's key under the key that the custodians share; without it, it is wrapped to the custodian. */
interface Sealed {
  readonly capsule: RecordContent['capsule'];
  readonly c: Uint8Array;
}

/** Somebody of a hospital who writes, or reads. */
export interface Person {
  readonly orgId: string;
  readonly signer: Sm2Signer;
}

let counter = 0;
const fresh = (what: string): Uint8Array => H('test-fresh', utf8(`${what}/${(counter += 1)}`));

/** A patient of the writer's hospital and a policy: any physician may ask, the patient decides. */
export class Story {
  readonly chain: MemoryChain;
  readonly writer: Person;
  readonly patient: Sm2Signer;
  readonly policyRef: Uint8Array;
  readonly #custodian: boolean;

  constructor(chain: MemoryChain, writer: Person, patient: Sm2Signer, options: { readonly custodian?: boolean } = {}) {
    this.chain = chain;
    this.writer = writer;
    this.patient = patient;
    this.#custodian = options.custodian ?? false;
    const enrolment = {
      publicKey: patient.publicKey,
      orgId: writer.orgId,
      kind: 'patient' as const,
      personTag: null,
      custodial: false,
    };
    const possession = patient.sign(enrolmentPossessionHash(chain.chainId(), enrolment));
    const document: PolicyDocument = {
      nonce: fresh('policy').slice(0, 16),
      orgId: writer.orgId,
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
      custodian: this.#custodian,
      patientWrap: true,
      recovery: false,
    };
    this.policyRef = policyRefOf(document);
    chain.commit([
      this.sign(writer.signer, { kind: 'account.enrol', enrolment, possession, countersignature: null }),
      this.sign(writer.signer, { kind: 'policy.create', document }),
    ]);
  }

  sign(by: Sm2Signer, call: Call) {
    const validUntilMs = Math.max(Date.now(), this.chain.head().timestampMs) + 60_000;
    return signCall(this.chain.chainId(), by, call, { validUntilMs });
  }

  /** A record's id before it is written: its key wrap names it. */
  recordId(nonce: Uint8Array): Uint8Array {
    return recordIdOf(this.writer.signer.address, this.patient.address, nonce, 'general');
  }

  /** The transaction of a record that says of its ciphertext what it is told to, with its sidecar. */
  record(
    blob: { readonly cid: Uint8Array; readonly sizeBytes: number; readonly dataDigest: Uint8Array },
    more: {
      readonly nonce?: Uint8Array;
      readonly keyCheck?: Uint8Array;
      readonly custodianWrap?: Uint8Array;
      readonly sealed?: Sealed;
    } = {},
  ) {
    const blank = new Uint8Array(165).fill(7);
    const toCustodian = {
      to: { kind: 'custodian' as const, orgId: this.writer.orgId },
      ciphertext: more.custodianWrap ?? blank,
    };
    const toPatient = { to: { kind: 'patient' as const }, ciphertext: blank };
    const wraps: Sidecar =
      more.sealed === undefined
        ? { kind: 'wraps', wraps: [toPatient, ...(this.#custodian ? [toCustodian] : [])] }
        : { kind: 'sealed', c: more.sealed.c, recoveryC: null, wraps: [toPatient] };
    const sidecar = encodeSidecar(wraps);
    const { cid, sizeBytes, dataDigest } = blob;
    const content: RecordContent = {
      policyRef: this.policyRef,
      cid,
      sizeBytes,
      dataDigest,
      categoryToken: fresh('category'),
      headerHash: fresh('header'),
      keyCheck: more.keyCheck ?? new Uint8Array(16),
      capsule: more.sealed?.capsule ?? { kind: 'direct' },
      sidecarHash: sidecarHash(sidecar),
      ownerPublicKey: this.patient.publicKey,
      ownerSignature: new Uint8Array(64),
    };
    const call: CallOf<'record.create'> & { readonly kind: 'record.create' } = {
      kind: 'record.create',
      owner: this.patient.address,
      hospital: this.writer.orgId,
      nonce: more.nonce ?? fresh('record').slice(0, 16),
      sectionClass: 'general',
      content,
    };
    const ownerSignature = this.patient.sign(ownerWriteHash(this.chain.chainId(), this.writer.signer.address, call));
    const signed = { ...call, content: { ...content, ownerSignature } };
    return { ...this.sign(this.writer.signer, signed), call: signed, sidecar };
  }

  /** Asks for a record and has the patient approve, in two blocks. @returns the grant's id */
  grant(recordId: Uint8Array, requester: Person, requesterKey: Uint8Array): Uint8Array {
    const requestHash = this.ask(recordId, requester, requesterKey);
    this.approve(requestHash);
    return requestHash;
  }

  approve(requestHash: Uint8Array): void {
    this.chain.commit([this.sign(this.patient, { kind: 'access.approve', requestHash })]);
  }

  /** Asks for a record, in a block. @returns the request's hash */
  ask(recordId: Uint8Array, requester: Person, requesterKey: Uint8Array): Uint8Array {
    const request: AccessRequest = {
      recordId,
      version: 1,
      requester: requester.signer.address,
      requesterKey,
      purpose: 'TREAT',
      ruleIndex: 0,
      policyVersion: 1,
      notAfterMs: Math.max(Date.now(), this.chain.head().timestampMs) + 3_600_000,
      nonce: fresh('request').slice(0, 16),
    };
    const requestHash = requestHashOf(this.chain.chainId(), request);
    // Obligations are discharged before execution, elsewhere: the proof of possession is not looked at here.
    const ask: Call = { kind: 'access.request', request, possession: new Uint8Array(64) };
    this.chain.commit([this.sign(requester.signer, ask)]);
    return requestHash;
  }

  revoke(requestHash: Uint8Array): void {
    this.chain.commit([this.sign(this.patient, { kind: 'access.revoke', requestHash, reason: 'CHANGED_MIND' })]);
  }
}

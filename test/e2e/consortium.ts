/**
 * Four hospitals as real processes, and people who act through the client library with keys in memory: the ground that
 * end-to-end tests stand on. Each test file has one; all of it ends with the file, even when that is cut off.
 */
import '../untraced.ts';
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { H } from '../../common/crypto/hash.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { utf8 } from '../../common/bytes.ts';
import { SM2_KEY_KIND, writeKeystore } from '../../common/native/keystore.ts';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import type { ApprovalNode, PolicyDocument, Purpose, Role } from '../../common/protocol/policy.ts';
import { policyRefOf } from '../../common/protocol/policy.ts';
import type { Call } from '../../common/protocol/transaction.ts';
import { decide, type Decision, provenRequest, requestAccess } from '../../client/access.ts';
import {
  authorizer,
  ChainView,
  type Committed,
  execute,
  Home,
  meetNode,
  type PinnedNode,
  RpcClient,
  type Sender,
  signTransaction,
  type UnlockedKey,
} from '../../client/index.ts';
import { callOf, countersigned, possessed, type SignedStatement } from '../../client/statements.ts';
import { type NewRecord, prepareOffer } from '../../client/record-add.ts';
import { consentTo, type RecordOffer } from '../../client/record-offer.ts';
import { signedCall } from '../../client/record-offer.ts';
import type { SignedBytes } from '../../client/transactions.ts';
import { Devnet, type Hospital } from '../../scripts/devnet/devnet.ts';

// What ends by a signal emits no 'exit', and leaves processes behind.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]));
}

const DAY_MS = 86_400_000;
const POLL_MS = 20;
const FILE_DEADLINE_MS = 280_000;
export const DEADLINE_MS = 60_000;

/** Waits for a condition. @throws Error when it does not come true in time */
export async function until<T>(
  what: string,
  condition: () => T | undefined | false | null | Promise<T | undefined | false | null>,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    const found = await condition();
    if (found !== undefined && found !== false && found !== null) return found;
    if (performance.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** The token of a licence, as a registrar would make it. */
export const tagOf = (licence: string): Uint8Array => H('e2e-person', utf8(licence));

function newKey(name: string): UnlockedKey {
  const privateKey = newPrivateKey();
  const publicKey = publicKeyOf(privateKey);
  const address = sm2Address(publicKey);
  const { createSigner } = selectSm2Engine();
  return {
    name,
    kind: SM2_KEY_KIND,
    address,
    publicKey,
    account: address,
    path: '',
    signer: createSigner(privateKey),
    privateKey,
  };
}

/** How far the chain is by what anybody here has seen: people tell each other, nodes take a moment to follow. */
interface Progress {
  height: number;
}

/** Somebody with a key, a home, and the node of the own hospital. */
export class Person implements Sender {
  readonly name: string;
  readonly key: UnlockedKey;
  readonly home: Home;
  readonly hospital: Hospital;
  readonly personTag: Uint8Array;
  readonly view: ChainView;
  readonly #progress: Progress;

  constructor(name: string, key: UnlockedKey, devnet: Devnet, hospital: Hospital, node: PinnedNode, licence = name) {
    this.name = name;
    this.key = key;
    this.home = new Home(join(devnet.dir, 'people', name));
    this.hospital = hospital;
    this.personTag = tagOf(licence);
    this.view = viewOf(node, key);
    this.#progress = progressOf(devnet);
  }

  get account(): Uint8Array {
    return this.key.account;
  }

  get signer(): UnlockedKey['signer'] {
    return this.key.signer;
  }

  async do(call: Call, sidecar: Uint8Array | null = null): Promise<Committed> {
    await this.caughtUp();
    return this.#seen(await execute(this.view, this, call, { sidecar }));
  }

  /** Signed bytes that nobody has seen yet. */
  sign(call: Call, options: { validUntilMs?: number; nonce?: Uint8Array; chainId?: Uint8Array } = {}): SignedBytes {
    return signTransaction(options.chainId ?? this.view.node.chainId, this, call, {
      validUntilMs: options.validUntilMs ?? Date.now() + 60_000,
      ...(options.nonce === undefined ? {} : { nonce: options.nonce }),
    });
  }

  async ask(recordId: Uint8Array, purpose: Purpose = 'TREAT', durationMs = DAY_MS): Promise<Uint8Array> {
    await this.caughtUp();
    const asked = await requestAccess(this.view, this.home, this.key, { recordId, purpose, durationMs });
    this.#seen(asked.committed);
    return asked.hash;
  }

  async decide(hash: Uint8Array, decision: Decision = { kind: 'approve' }): Promise<Committed> {
    await this.caughtUp();
    const { value } = await provenRequest(this.view, hash);
    return this.#seen(await decide(this.view, this.key, value, decision));
  }

  #seen(committed: Committed): Committed {
    this.#progress.height = Math.max(this.#progress.height, committed.height);
    return committed;
  }

  /** Waits until the own node has what the others have told of. */
  async caughtUp(): Promise<void> {
    const { height } = this.#progress;
    // Without a token: that of a suspended account is refused.
    const rpc = this.view.rpc.as(() => null);
    await until(`${this.hospital.orgId} is at height ${height}`, async () => {
      return (await rpc.call('chain_getHeight', {})).height >= height;
    });
  }
}

const progresses = new WeakMap<Devnet, Progress>();

function progressOf(devnet: Devnet): Progress {
  const progress = progresses.get(devnet) ?? { height: 0 };
  progresses.set(devnet, progress);
  return progress;
}

export const viewOf = (node: PinnedNode, key: UnlockedKey): ChainView =>
  new ChainView(new RpcClient(node.origin, { authorize: authorizer(node, key.signer) }), node);

export interface Head {
  readonly height: number;
  readonly stateRoot: string;
}

/** What a consortium asks of the test, or the benchmark, that it is for. */
export interface Stage {
  setTimeout(ms: number): void;
  teardown(end: () => unknown): void;
}

export class Consortium {
  readonly devnet: Devnet;
  /** One for each hospital. */
  readonly admins: readonly Person[];
  readonly nodes: readonly PinnedNode[];

  private constructor(devnet: Devnet, admins: readonly Person[], nodes: readonly PinnedNode[]) {
    this.devnet = devnet;
    this.admins = admins;
    this.nodes = nodes;
  }

  /**
   * @param before runs when the folders are there and nothing is started yet
   * @param deadlineMs for all of the file: eight processes start on two cores, beside whatever else runs there
   */
  static async open(
    t: Stage,
    before: (devnet: Devnet) => Promise<void> = async () => {},
    deadlineMs = FILE_DEADLINE_MS,
  ): Promise<Consortium> {
    t.setTimeout(deadlineMs);
    const dir = await mkdtemp(join(tmpdir(), 'emrchain-e2e-'));
    await Devnet.prepare(dir);
    const keys = ['admin-a', 'admin-b', 'admin-c', 'admin-d'].map(newKey);
    const devnet = await Devnet.create(
      dir,
      keys.map(({ name, publicKey }) => ({ publicKey, personTag: tagOf(name) })),
      0,
    );
    // For the life of this process, not only until `stop`: a test that was cut off may start a node even later.
    process.once('exit', () => {
      devnet.killAll();
      rmSync(dir, { recursive: true, force: true });
    });
    t.teardown(async () => {
      await devnet.stop();
      await rm(dir, { recursive: true, force: true });
    });
    await before(devnet);
    await devnet.start();
    const home = new Home(join(dir, 'people', 'everybody'));
    const nodes: PinnedNode[] = [];
    for (const { rpcUrl } of devnet.hospitals) nodes.push(await meetNode(home, new RpcClient(rpcUrl)));
    const admins = keys.map((key, i) => {
      const hospital = devnet.hospitals[i] as Hospital;
      return new Person(key.name, key, devnet, hospital, nodes[i] as PinnedNode);
    });
    return new Consortium(devnet, admins, nodes);
  }

  hospital(index: number): Hospital {
    return this.devnet.hospitals[index] as Hospital;
  }

  admin(index: number): Person {
    return this.admins[index] as Person;
  }

  /** A node as anybody sees it. */
  rpc(index: number): RpcClient {
    return new RpcClient(this.hospital(index).rpcUrl);
  }

  /** What this person sees at another hospital. */
  viewAt(person: Person, index: number): ChainView {
    return viewOf(this.nodes[index] as PinnedNode, person.key);
  }

  /** Somebody with a key who has no account yet. @param licence the same for all accounts of one person */
  newcomer(name: string, index: number, licence = name): Person {
    const node = this.nodes[index] as PinnedNode;
    return new Person(name, newKey(name), this.devnet, this.hospital(index), node, licence);
  }

  enrolment(person: Person, kind: 'staff' | 'patient'): SignedStatement {
    const personTag = kind === 'staff' ? person.personTag : null;
    const { publicKey } = person.key;
    const enrolment = { publicKey, orgId: person.hospital.orgId, kind, personTag, custodial: false };
    return possessed(person.view.node.chainId, { kind: 'enrolment', enrolment }, person.signer);
  }

  /** Enrolled by the own hospital, countersigned by the next one. */
  async staff(name: string, index: number, roles: readonly Role[], licence = name): Promise<Person> {
    const person = this.newcomer(name, index, licence);
    const second = this.admin((index + 1) % this.admins.length);
    await this.admin(index).do(callOf(countersigned(this.enrolment(person, 'staff'), second)));
    await Promise.all(roles.map((role) => this.grantRole(person, role)));
    return person;
  }

  async patient(name: string, index: number): Promise<Person> {
    const person = this.newcomer(name, index);
    await this.admin(index).do(callOf(this.enrolment(person, 'patient')));
    return person;
  }

  async grantRole(person: Person, role: Role, expiresAtMs = Date.now() + DAY_MS): Promise<void> {
    const index = this.devnet.hospitals.indexOf(person.hospital);
    await this.admin(index).do({ kind: 'role.grant', scope: scopeOf(person, role), expiresAtMs });
  }

  async attending(patient: Person, physician: Person): Promise<void> {
    const relation = { patient: patient.account, physician: physician.account, expiresAtMs: Date.now() + DAY_MS };
    await patient.do({ kind: 'attending.set', relation, countersignature: null });
  }

  /** A policy of hospital-a with one rule: physicians of any hospital ask for treatment. */
  async policy(approvals: ApprovalNode, maxDurationMs = 7 * DAY_MS): Promise<Uint8Array> {
    const document: PolicyDocument = {
      nonce: new Uint8Array(randomBytes(16)),
      orgId: this.hospital(0).orgId,
      rules: [
        {
          purposes: ['TREAT'],
          requesters: [{ role: 'physician', scope: { kind: 'any' }, department: null }],
          categories: null,
          maxDurationMs,
          approvals,
        },
      ],
      adminRule: { kind: 'owner' },
      custodian: true,
      patientWrap: true,
    };
    await this.admin(0).do({ kind: 'policy.create', document });
    return policyRefOf(document);
  }

  /** An offer and the call that its patient has signed; nothing of it is on the chain yet. */
  async offer(writer: Person, patient: Person, path: string, policyRef: Uint8Array) {
    // What is written before the custodians have their key is kept otherwise than what is written after.
    await this.devnet.waitCustodyKey();
    const record: NewRecord = {
      path,
      contentType: 'application/octet-stream',
      policyRef,
      categoryToken: H('e2e-category', utf8('cardiology')),
      target: { kind: 'new', owner: patient.account, section: 'general' },
    };
    const offer = await prepareOffer(writer.view, writer, record);
    return { offer, call: signedBy(patient, offer) };
  }

  /** Head of every node, once all have the same and nothing waits for a block. */
  settled(indices = this.devnet.hospitals.map((_, i) => i)): Promise<Head> {
    const nodes = indices.map((i) => this.admin(i).view.rpc);
    return until('all nodes at one state, with nothing pending', async () => {
      const heads = await Promise.all(nodes.map((rpc) => rpc.call('chain_getHeader', { height: 'latest' })));
      const pools = await Promise.all(nodes.map((rpc) => rpc.call('tx_poolStatus', {})));
      if (pools.some(({ transactions }) => transactions > 0)) return undefined;
      if (new Set(heads.map(({ hash }) => hash)).size > 1) return undefined;
      const { height, stateRoot } = (heads[0] as (typeof heads)[number]).header;
      return { height, stateRoot };
    });
  }

  /** Writes this person's key to its home, for the command line to use. Some 0.4 s. */
  async writeKey(person: Person, passphrase: Uint8Array): Promise<void> {
    const folder = await person.home.ensure('keys');
    const { address, publicKey, privateKey } = person.key;
    const identity = { kind: SM2_KEY_KIND, address, publicKey };
    await writeKeystore(join(folder, `${person.name}.json`), identity, privateKey, passphrase);
  }
}

export const scopeOf = (person: Person, role: Role) => ({
  account: person.account,
  role,
  orgId: person.hospital.orgId,
  department: null,
});

/** The offer's call with the patient's signature on it. */
export function signedBy(patient: Person, offer: RecordOffer) {
  return signedCall(offer, consentTo(offer, patient.key), selectSm2Engine().engine);
}

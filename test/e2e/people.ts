/**
 * People of several hospitals who act through the client library with keys in memory: enrolled by their administrators,
 * writing, asking and deciding as they do anywhere.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { H } from '../../common/crypto/hash.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { utf8 } from '../../common/bytes.ts';
import { SM2_KEY_KIND } from '../../common/native/keystore.ts';
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
  type PinnedNode,
  RpcClient,
  type Sender,
  signTransaction,
  type UnlockedKey,
} from '../../client/index.ts';
import { callOf, countersigned, possessed, type SignedStatement } from '../../client/statements.ts';
import { type NewRecord, prepareOffer } from '../../client/record-add.ts';
import { consentTo, type RecordOffer, signedCall } from '../../client/record-offer.ts';
import type { SignedBytes } from '../../client/transactions.ts';
import type { Hospital } from '../../scripts/devnet/devnet.ts';
import { until } from './until.ts';

const DAY_MS = 86_400_000;

/** The token of a licence, as a registrar would make it. */
export const tagOf = (licence: string): Uint8Array => H('e2e-person', utf8(licence));

/** A key in memory, with an account of its own. */
export function newKey(name: string): UnlockedKey {
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

/** Where people act: one network. What they have told each other of is kept by it. */
export interface Place {
  /** Their homes are in here. */
  readonly dir: string;
  readonly hospitals: readonly Hospital[];
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

  constructor(name: string, key: UnlockedKey, place: Place, hospital: Hospital, node: PinnedNode, licence = name) {
    this.name = name;
    this.key = key;
    this.home = new Home(join(place.dir, 'people', name));
    this.hospital = hospital;
    this.personTag = tagOf(licence);
    this.view = viewOf(node, key);
    this.#progress = progressOf(place);
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

const progresses = new WeakMap<Place, Progress>();

function progressOf(place: Place): Progress {
  const progress = progresses.get(place) ?? { height: 0 };
  progresses.set(place, progress);
  return progress;
}

export const viewOf = (node: PinnedNode, key: UnlockedKey): ChainView =>
  new ChainView(new RpcClient(node.origin, { authorize: authorizer(node, key.signer) }), node);

/** Everybody of a network, and how they come to be. */
export class People {
  readonly place: Place;
  /** One for each hospital that the network began with. */
  readonly admins: readonly Person[];
  readonly nodes: readonly PinnedNode[];

  constructor(place: Place, admins: readonly Person[], nodes: readonly PinnedNode[]) {
    this.place = place;
    this.admins = admins;
    this.nodes = nodes;
  }

  hospital(index: number): Hospital {
    return this.place.hospitals[index] as Hospital;
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
    return new Person(name, newKey(name), this.place, this.hospital(index), node, licence);
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
    const index = this.place.hospitals.indexOf(person.hospital);
    await this.admin(index).do({ kind: 'role.grant', scope: scopeOf(person, role), expiresAtMs });
  }

  async attending(patient: Person, physician: Person): Promise<void> {
    const relation = { patient: patient.account, physician: physician.account, expiresAtMs: Date.now() + DAY_MS };
    await patient.do({ kind: 'attending.set', relation, countersignature: null });
  }

  /** A policy of hospital-a with one rule: physicians of any hospital ask for treatment. */
  async policy(approvals: ApprovalNode, { maxDurationMs = 7 * DAY_MS, recovery = false } = {}): Promise<Uint8Array> {
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
      recovery,
    };
    await this.admin(0).do({ kind: 'policy.create', document });
    return policyRefOf(document);
  }

  /** An offer and the call that its patient has signed; nothing of it is on the chain yet. */
  async offer(writer: Person, patient: Person, path: string, policyRef: Uint8Array) {
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

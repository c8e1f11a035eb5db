/** Custodians beside a world of the tests of vm/: what each would say in a custody session, with real curve arithmetic. */
import { utf8 } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import {
  type CurvePoint,
  decodePoint,
  encodePoint,
  GENERATOR,
  invertModOrder,
  modOrder,
  rawToPoint,
} from '../../common/crypto/curve.ts';
import { encodeLabel, keyCheckOf, sealCapsule } from '../../common/crypto/custody/capsule.ts';
import {
  complain,
  deal,
  type EncryptionKey,
  openDealing,
  proveEncryptionKey,
  type Session,
  storedDealing,
} from '../../common/crypto/custody/dealing.ts';
import { createReleaseShare } from '../../common/crypto/custody/release-share.ts';
import { proveShare, secretShare } from '../../common/crypto/custody/shared-key.ts';
import { interpolateAtZero } from '../../common/crypto/custody/sharing.ts';
import { H, hq } from '../../common/crypto/hash.ts';
import type { RandomBytes } from '../../common/crypto/sm2.ts';
import {
  custodyDealingEntry,
  type CustodyEpochEntry,
  custodyEpochEntry,
  type CustodySessionEntry,
  custodySessionEntry,
  splitCapsule,
} from '../../common/protocol/custody.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import type { Event } from '../../common/protocol/receipt.ts';
import { recordIdOf } from '../../common/protocol/record.ts';
import { recordVersionEntry, requestEntry, stateKey, validatorsEntry } from '../../common/protocol/state-entries.ts';
import {
  type Call,
  type CallOf,
  encodeSidecar,
  proposalIdOf,
  type RecordContent,
  type Sidecar,
  sidecarHash,
} from '../../common/protocol/transaction.ts';
import { type Actor, BLANK, nonce, type World } from './vm-world.ts';

let draws = 0;
/** The same in every run. */
export const seeded: RandomBytes = (length) => {
  draws += 1;
  return H('test-draw', utf8(`${draws}`)).slice(0, length);
};
const scalarOf = (...what: string[]): bigint => hq('test-scalar', ...what.map(utf8));
export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const pointOf = (bytes: Uint8Array | null | undefined): CurvePoint => decodePoint(bytes!)!;

export const typesOf = (events: readonly Event[]): string[] => events.map(({ type }) => type);

export class Custodians {
  readonly world: World;
  /** Nodes that are no validators yet. */
  readonly observers = new Map<string, Actor>();
  /** Shares by epoch and organisation. */
  readonly shares = new Map<string, bigint>();

  constructor(world: World) {
    this.world = world;
  }

  read<T>(codec: Parameters<typeof decodeTrusted<T>>[0], key: Uint8Array): T | undefined {
    const bytes = this.world.state.get(key);
    return bytes === undefined ? undefined : decodeTrusted(codec, bytes, 'entry');
  }

  get session(): CustodySessionEntry {
    return this.read(custodySessionEntry, stateKey.custodySession())!;
  }

  get isOpen(): boolean {
    return this.world.state.get(stateKey.custodySession()) !== undefined;
  }

  get epoch(): CustodyEpochEntry {
    return this.read(custodyEpochEntry, stateKey.custodyEpoch())!;
  }

  get formula(): Session {
    const { id, receivers, threshold } = this.session;
    return { id, n: receivers.length, t: threshold };
  }

  node(orgId: string): Actor {
    const found = this.read(validatorsEntry, stateKey.validators())!.find((v) => v.orgId === orgId);
    if (found === undefined) return this.observers.get(orgId)!;
    return { id: found.address, orgId, tag: null, custodial: false, privateKey: BLANK, publicKey: found.publicKey };
  }

  get receivers(): string[] {
    return this.session.receivers.map(({ orgId }) => orgId);
  }

  get dealers(): string[] {
    return this.session.kind === 'genesis' ? this.receivers : this.epoch.holders.map(({ orgId }) => orgId);
  }

  index(orgId: string): number {
    return this.receivers.indexOf(orgId) + 1;
  }

  p(orgId: string): bigint {
    return scalarOf('p', hexOf(this.session.id), orgId);
  }

  announcement(orgId: string): CallOf<'node.custodyAnnounce'> {
    const index = this.index(orgId);
    const p = this.p(orgId);
    const P = GENERATOR.multiply(p);
    return {
      kind: 'node.custodyAnnounce',
      sessionId: this.session.id,
      orgId,
      key: encodePoint(P),
      proof: proveEncryptionKey(this.formula, { index, P }, p, seeded),
      custodianKey: this.session.receivers[index - 1]?.custodianKey ?? BLANK,
      signature: BLANK,
    };
  }

  /** @param victim gets a part that is encrypted to nobody */
  dealing(
    orgId: string,
    { victim, secret, random = seeded }: { victim?: string; secret?: bigint; random?: RandomBytes } = {},
  ): CallOf<'node.custodyDeal'> {
    const { kind, keys, id } = this.session;
    const receivers = keys.map((key, k): EncryptionKey => {
      const isVictim = this.receivers[k] === victim;
      return { index: k + 1, P: isVictim ? GENERATOR.multiply(scalarOf('nobody')) : pointOf(key) };
    });
    const own = kind === 'genesis' ? null : this.shares.get(`${this.epoch.epoch} ${orgId}`)!;
    const dealing = deal(this.formula, this.dealers.indexOf(orgId) + 1, secret ?? own, receivers, random);
    return { kind: 'node.custodyDeal', sessionId: id, dealing };
  }

  #receiver(orgId: string): EncryptionKey {
    const index = this.index(orgId);
    return { index, P: pointOf(this.session.keys[index - 1]) };
  }

  stored(dealer: string): Uint8Array {
    const index = this.dealers.indexOf(dealer) + 1;
    return this.read(custodyDealingEntry, stateKey.custodyDealing(this.session.id, index))!.dealing;
  }

  /** What a receiver finds for itself in a dealing. */
  part(orgId: string, dealing: Uint8Array): bigint {
    const opened = openDealing(
      this.formula,
      storedDealing(this.formula, dealing),
      this.#receiver(orgId),
      this.p(orgId),
    );
    if (!opened.ok) throw new Error(`${orgId} cannot open the dealing`);
    return opened.value;
  }

  complaint(orgId: string, dealer: string): CallOf<'node.custodyComplain'> {
    const dealing = storedDealing(this.formula, this.stored(dealer));
    const complaint = complain(this.formula, dealing, this.#receiver(orgId), this.p(orgId), seeded);
    return { kind: 'node.custodyComplain', sessionId: this.session.id, complaint };
  }

  /** The receiver's share out of the dealings that count. */
  share(orgId: string): bigint {
    const { kind, dealt, disqualified, result } = this.session;
    const qualified = dealt.filter((dealer) => !disqualified.includes(dealer));
    const dealers = kind === 'genesis' ? qualified : qualified.slice(0, this.epoch.threshold);
    const subShares = dealers.map((dealer) => this.part(orgId, this.stored(this.dealers[dealer - 1]!)));
    const weights = kind === 'genesis' ? 'sum' : 'interpolate';
    return secretShare(dealers, subShares, weights, pointOf(result!.shares[this.index(orgId) - 1]));
  }

  /** What as many receivers as determine the key could work out together for another. */
  shareFromOthers(orgId: string, others: readonly string[]): bigint {
    const at = this.index(orgId);
    const indices = others.map((other) => this.index(other));
    return indices.reduce((sum, i, k) => {
      const factors = indices.filter((j) => j !== i);
      const numerator = factors.reduce((product, j) => modOrder(product * BigInt(at - j)), 1n);
      const denominator = factors.reduce((product, j) => modOrder(product * BigInt(i - j)), 1n);
      return modOrder(sum + this.share(others[k]!) * numerator * invertModOrder(denominator));
    }, 0n);
  }

  confirmation(orgId: string, x = this.share(orgId)): CallOf<'node.custodyConfirm'> {
    const { id, epoch, result } = this.session;
    const index = this.index(orgId);
    this.shares.set(`${epoch} ${orgId}`, x);
    const proof = proveShare(this.formula, index, pointOf(result!.key), pointOf(result!.shares[index - 1]), x, seeded);
    return { kind: 'node.custodyConfirm', sessionId: id, proof };
  }

  do(orgId: string, call: Call): readonly Event[] {
    return this.world.do(this.node(orgId), call);
  }

  try(orgId: string, call: Call): string | null {
    return this.world.try(this.node(orgId), call);
  }

  announceAll(orgs: readonly string[] = this.receivers): void {
    for (const org of orgs) this.do(org, this.announcement(org));
  }

  dealAll(orgs: readonly string[] = this.dealers): void {
    for (const org of orgs) this.do(org, this.dealing(org));
  }

  confirmAll(orgs: readonly string[] = this.receivers): readonly Event[] {
    return orgs.flatMap((org) => this.do(org, this.confirmation(org)));
  }

  /** The open session, to its end. */
  make(): void {
    this.announceAll();
    this.dealAll();
    this.confirmAll();
  }

  // --- Records

  /** A record's call and sidecar, sealed under the key of the active epoch, and under a recovery key where one is given. */
  sealed(
    writer: string,
    patient: string,
    policyRef: Hash,
    wraps: readonly 'patient'[] = ['patient'],
    more: Partial<RecordContent> = {},
    recoveryKey: Uint8Array | null = null,
  ): { call: CallOf<'record.create'>; sidecar: Sidecar; recordId: Hash } {
    const { world } = this;
    const draft = world.createCall(patient, policyRef);
    const recordId = recordIdOf(world.who(writer).id, draft.owner, draft.nonce, draft.sectionClass);
    const recordKey = H('test-record-key', recordId);
    const { dataDigest } = draft.content;
    const keyCheck = keyCheckOf(recordId, 1, recordKey);
    const label = {
      chainId: world.chainId,
      recordId,
      version: 1,
      policyRef,
      ownerId: draft.owner,
      dataDigest,
      keyCheck,
    };
    const under = (key: Uint8Array) =>
      splitCapsule(key, sealCapsule(pointOf(key), encodeLabel(label), recordKey, seeded));
    const custody = under(this.epoch.key);
    const recovery = recoveryKey && under(recoveryKey);
    const sidecar: Sidecar = {
      kind: 'sealed',
      c: custody.c,
      recoveryC: recovery && recovery.c,
      wraps: wraps.map((kind) => ({ to: { kind }, ciphertext: new Uint8Array(165).fill(7) })),
    };
    const capsule = { kind: 'threshold' as const, ...custody.sealed, recovery: recovery && recovery.sealed };
    const content = {
      ...draft.content,
      keyCheck,
      capsule,
      sidecarHash: sidecarHash(encodeSidecar(sidecar)),
      ...more,
    };
    return { call: { ...draft, content }, sidecar, recordId };
  }

  releaseShare(orgId: string, requestHash: Hash, more: { grantId?: Hash } = {}): CallOf<'node.custodyShare'> {
    const { request } = this.read(requestEntry, stateKey.request(requestHash))!;
    const version = this.read(recordVersionEntry, stateKey.recordVersion(request.recordId, request.version))!;
    const { capsule } = version.content;
    if (capsule.kind !== 'threshold') throw new Error('not sealed');
    const { epoch, holders } = this.epoch;
    const index = holders.findIndex((holder) => holder.orgId === orgId) + 1;
    const context = {
      use: 'custody' as const,
      chainId: this.world.chainId,
      epoch,
      grantId: more.grantId ?? requestHash,
      U: pointOf(capsule.u),
      Q: rawToPoint(request.requesterKey)!,
    };
    const holder = { index, X: pointOf(holders[index - 1]!.share) };
    const share = createReleaseShare(context, holder, this.shares.get(`${epoch} ${orgId}`)!, seeded);
    return { kind: 'node.custodyShare', requestHash, share };
  }
}

/** New shares for the same holders, as a vote brings them. */
export function refresh(custodians: Custodians): void {
  const { world } = custodians;
  const proposal = { kind: 'refreshCustody' } as const;
  const call = { kind: 'gov.propose', proposal, nonce: nonce() } as const;
  world.do('admin@a', call);
  const proposalId = proposalIdOf(world.chainId, world.who('admin@a').id, call.nonce, proposal);
  for (const org of ['a', 'b', 'c']) world.do(`admin@${org}`, { kind: 'gov.vote', proposalId, approve: true });
  world.pass(1_000);
  custodians.make();
}

/** The holders' shares are of the key, whichever threshold of them is asked. */
export function holds({ epoch }: Custodians): boolean {
  const points = epoch.holders.map(({ share }) => decodePoint(share)!);
  const all = points.map((_, k) => k + 1);
  const subsets = all.map((without) => all.filter((k) => k !== without).slice(0, epoch.threshold));
  return subsets.every(
    (subset) =>
      hexOf(
        encodePoint(
          interpolateAtZero(
            subset,
            subset.map((k) => points[k - 1]!),
          ),
        ),
      ) === hexOf(epoch.key),
  );
}

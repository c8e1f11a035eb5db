/**
 * What a verified state says of custody: the epoch whose shares are in use, the session that makes or hands on shares, and
 * this custodian's part in it. Pure; the secrets and what is done with them are in session-keeper.ts.
 */
import { bytesToHex0x, equalBytes } from '../../common/bytes.ts';
import { type CurvePoint, decodePoint } from '../../common/crypto/curve.ts';
import type { EncryptionKey, Session } from '../../common/crypto/custody/dealing.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import {
  custodyDealingEntry,
  type CustodyEpochEntry,
  custodyEpochEntry,
  type CustodySessionEntry,
  custodySessionEntry,
  custodySetHash,
  custodyThreshold,
} from '../../common/protocol/custody.ts';
import type { VerifiedHeader } from '../../common/protocol/light.ts';
import type { OrgId, PublicKey } from '../../common/protocol/primitives.ts';
import { entry, entryOrNone } from '../../common/protocol/proven-grant.ts';
import type { SessionDemand } from '../../common/protocol/release.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';

/** The epoch whose shares are in use. */
export interface ProvenEpoch {
  readonly entry: CustodyEpochEntry;
  readonly X: CurvePoint;
  /** X_1 .. X_n. */
  readonly holders: readonly CurvePoint[];
  /** This organisation's index; null where it holds no share. */
  readonly own: number | null;
}

/** The session that is under way. */
export interface ProvenSession {
  readonly entry: CustodySessionEntry;
  readonly session: Session;
  readonly setHash: string;
  /** Index of this organisation among the receivers; null where it is none. */
  readonly receiver: number | null;
  /** Whether the receivers' entry names this custodian's key. */
  readonly isNamed: boolean;
  /** Index of this organisation among the dealers; null where it is none. */
  readonly dealer: number | null;
  /** The keys of all receivers; null while one is not announced. */
  readonly keys: readonly EncryptionKey[] | null;
  /** Stored dealings that were shown, by dealer. */
  readonly dealings: ReadonlyMap<number, Uint8Array>;
}

export interface ProvenCustody {
  readonly epoch: ProvenEpoch | null;
  readonly session: ProvenSession | null;
}

export interface Self {
  readonly orgId: OrgId;
  readonly custodianKey: PublicKey;
}

/**
 * @param at verified by `judgeHead`
 * @returns CUSTODY_INCONSISTENT where the state is none that the chain's rules make, or the code of a proof that does not
 *   hold
 */
export function judgeSession(demand: SessionDemand, at: VerifiedHeader, self: Self): Verdict<ProvenCustody> {
  const epochEntry = entryOrNone(custodyEpochEntry, at, stateKey.custodyEpoch(), demand.epoch);
  if (!epochEntry.ok) return epochEntry;
  const epoch = epochEntry.value === null ? accept(null) : readEpoch(epochEntry.value, self);
  if (!epoch.ok) return epoch;
  const found = entryOrNone(custodySessionEntry, at, stateKey.custodySession(), demand.session);
  if (!found.ok) return found;
  if (found.value === null) return accept({ epoch: epoch.value, session: null });
  const session = readSession(found.value, epoch.value, demand, at, self);
  return session.ok ? accept({ epoch: epoch.value, session: session.value }) : session;
}

const inconsistent = (what: string): Verdict<never> => reject('CUSTODY_INCONSISTENT', what);

function readEpoch(value: CustodyEpochEntry, { orgId }: Self): Verdict<ProvenEpoch> {
  const X = decodePoint(value.key);
  const holders = value.holders.flatMap(({ share }) => decodePoint(share) ?? []);
  if (X === undefined || holders.length !== value.holders.length) return inconsistent('a public share is no point');
  const own = value.holders.findIndex((holder) => holder.orgId === orgId) + 1;
  return accept({ entry: value, X, holders, own: own === 0 ? null : own });
}

function readSession(
  value: CustodySessionEntry,
  epoch: ProvenEpoch | null,
  demand: SessionDemand,
  at: VerifiedHeader,
  { orgId, custodianKey }: Self,
): Verdict<ProvenSession> {
  const n = value.receivers.length;
  // The threshold is what keeps a share worthless alone: nobody may set it lower, the chain included.
  if (value.threshold !== custodyThreshold(n) || value.keys.length !== n)
    return inconsistent(`a threshold of ${value.threshold} for ${n} organisations`);
  if ((value.kind === 'reshare') !== (epoch !== null) || value.epoch !== (epoch?.entry.epoch ?? 0) + 1)
    return inconsistent(`a session of the kind ${value.kind} for epoch ${value.epoch}`);
  const receiver = value.receivers.findIndex((one) => one.orgId === orgId) + 1;
  const named = value.receivers[receiver - 1];
  const dealings = readDealings(value, demand, at);
  if (!dealings.ok) return dealings;
  const keys = readKeys(value);
  if (!keys.ok) return keys;
  return accept({
    entry: value,
    session: { id: value.id, n, t: value.threshold },
    setHash: bytesToHex0x(custodySetHash(value.receivers)),
    receiver: named === undefined ? null : receiver,
    isNamed: named !== undefined && equalBytes(named.custodianKey, custodianKey),
    dealer: epoch === null ? (named === undefined ? null : receiver) : epoch.own,
    keys: keys.value,
    dealings: dealings.value,
  });
}

/** All receivers' keys; null while one is missing. */
function readKeys({ keys }: CustodySessionEntry): Verdict<readonly EncryptionKey[] | null> {
  const read: EncryptionKey[] = [];
  for (const [k, bytes] of keys.entries()) {
    if (bytes === null) return accept(null);
    const P = decodePoint(bytes);
    if (P === undefined) return inconsistent('a key of the session is no point');
    read.push({ index: k + 1, P });
  }
  return accept(read);
}

function readDealings(
  { id, dealt }: CustodySessionEntry,
  demand: SessionDemand,
  at: VerifiedHeader,
): Verdict<ReadonlyMap<number, Uint8Array>> {
  const dealings = new Map<number, Uint8Array>();
  for (const { dealer, proof } of demand.dealings) {
    if (!dealt.includes(dealer)) continue;
    const found = entry(custodyDealingEntry, at, stateKey.custodyDealing(id, dealer), proof, 'CUSTODY_INCONSISTENT');
    if (!found.ok) return found;
    dealings.set(dealer, found.value.dealing);
  }
  return accept(dealings);
}

/**
 * The mix of transactions that carry one signature: in ten, six approvals of requests that three people must approve, two
 * revocations of grants, two changes of roles. Requests and grants are prepared: one for each that will be decided on.
 */
import { requestHashOf } from '../../../common/protocol/transaction.ts';
import type { Call, Sidecar } from '../../../common/protocol/transaction.ts';
import { Prng } from '../../sim/prng.ts';
import { type BenchKey, benchKey } from './bench-key.ts';
import type { PreparedChain } from './prepared-chain.ts';
import { zipf } from './schedule.ts';
import { blank } from './transactions.ts';
import { HEADS, PHYSICIANS, POLICY, type RULES, type Town } from './town.ts';

/** As names of people, and much else that people choose, are distributed. */
const EXPONENT = 1;
const TEN = [
  'approve',
  'revoke',
  'approve',
  'role',
  'approve',
  'approve',
  'revoke',
  'approve',
  'role',
  'approve',
] as const;
const DAY_MS = 86_400_000;

export interface Planned {
  readonly by: BenchKey;
  readonly call: Call;
  readonly sidecar?: Sidecar;
  /** Index of the node that takes it, where that is not any. */
  readonly node?: number;
}

/** What a load of `count` transactions decides on. */
export interface Prepared {
  /** Waiting for their three approvals. */
  readonly pending: readonly Planned[];
  readonly granted: readonly Planned[];
}

/**
 * Everything before the load: enrolment, policies, records, requests, and the grants that will be revoked.
 * @param count transactions of the load
 */
export async function prepareOneSignature(
  chain: PreparedChain,
  town: Town,
  count: number,
  seed: number,
): Promise<Prepared> {
  const origin = { chainId: chain.store.chainId, validUntilMs: chain.timestampMs + 300_000 };
  const write = (planned: readonly Planned[]) => chain.commit(planned.map(({ by, call }) => blank(origin, by, call)));
  const patients = Array.from({ length: town.patientCount }, (_, index) => index);
  await write(patients.map((patient) => town.enrolment(patient)));
  await write([{ by: town.admin(0), call: { kind: 'policy.create', document: POLICY } }]);
  const records = patients.map((patient) => town.record(patient));
  await chain.commit(records.map(({ writer, call, sidecar }) => blank(origin, writer, call, sidecar)));

  const random = new Prng(seed);
  const whose = zipf(town.patientCount, EXPONENT, random);
  let fresh = 0;
  const ask = (rule: keyof typeof RULES) => {
    const patient = whose();
    // Who asks is none of the two who approve.
    const physician = random.between(0, PHYSICIANS / 2 - 1);
    fresh += 1;
    const request = town.request(patient, physician, rule, benchKey('request', fresh).publicKey, chain.timestampMs);
    const hash = requestHashOf(chain.store.chainId, request);
    const asked: Planned = {
      by: town.physician(physician),
      call: { kind: 'access.request', request, possession: new Uint8Array(64) },
    };
    return { asked, hash, owner: town.patient(patient) };
  };
  const perTen = Math.ceil(count / TEN.length);
  const three = Array.from({ length: perTen * 2 }, () => ask('three'));
  await write(three.map(({ asked }) => asked));
  const one = Array.from({ length: perTen * 2 }, () => ask('owner'));
  await write(one.map(({ asked }) => asked));
  await write(one.map(({ hash, owner }) => ({ by: owner, call: { kind: 'access.approve', requestHash: hash } })));
  return {
    pending: three.flatMap(({ hash, owner }) => {
      const physician = town.physician(PHYSICIANS / 2 + random.between(0, PHYSICIANS / 2 - 1));
      const head = town.head(random.between(0, HEADS - 1));
      const call: Call = { kind: 'access.approve', requestHash: hash };
      return [owner, physician, head].map((by) => ({ by, call }));
    }),
    granted: one.map(({ hash, owner }) => ({
      by: owner,
      call: { kind: 'access.revoke', requestHash: hash, reason: 'CONSENT_WITHDRAWN' },
    })),
  };
}

/** The load in its order, each transaction to be sent once. */
export function* oneSignature(town: Town, { pending, granted }: Prepared, seed: number): Generator<Planned> {
  const random = new Prng(seed);
  let [approved, revoked] = [0, 0];
  for (let turn = 0; ; turn += 1) {
    switch (TEN[turn % TEN.length]) {
      case 'approve':
        if (approved >= pending.length) return;
        yield pending[approved++] as Planned;
        break;
      case 'revoke':
        if (revoked >= granted.length) return;
        yield granted[revoked++] as Planned;
        break;
      default:
        yield roleChange(town, random);
    }
  }
}

function roleChange(town: Town, random: Prng): Planned {
  const org = random.between(0, town.orgs.length - 1);
  const nth = random.between(0, Math.floor(HEADS / town.orgs.length) - 1);
  const index = org + town.orgs.length * nth;
  const scope = {
    account: town.head(index).address,
    role: 'nurse' as const,
    orgId: town.orgOf(index),
    department: null,
  };
  return { by: town.admin(org), call: { kind: 'role.grant', scope, expiresAtMs: Date.now() + DAY_MS } };
}

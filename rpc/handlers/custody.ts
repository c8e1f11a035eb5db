/** custody_getStatus. */
import {
  type CustodyEpochEntry,
  custodyEpochEntry,
  type CustodySessionEntry,
  custodySessionEntry,
  custodySetHash,
} from '../../common/protocol/custody.ts';
import type { OrgId } from '../../common/protocol/primitives.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import { toHex } from '../json.ts';
import type { ResultOf } from '../methods.ts';
import type { Handlers, Service } from '../service.ts';
import { atOf, get } from '../state-reads.ts';

type Status = ResultOf<'custody_getStatus'>;

export function custodyStatusHandlers({ reads, ports }: Service): Handlers<'custody_getStatus'> {
  return {
    async custody_getStatus() {
      const { at, results } = await reads.read(
        get(custodyEpochEntry, stateKey.custodyEpoch()),
        get(custodySessionEntry, stateKey.custodySession()),
      );
      const [epoch, session] = results;
      return {
        epoch: epoch && epochView(epoch),
        session: session && sessionView(session, epoch),
        custodian: { ...ports.custody.status() },
        ...atOf(at),
      };
    },
  };
}

function epochView(entry: CustodyEpochEntry): NonNullable<Status['epoch']> {
  const { epoch, key, threshold, holders, sinceHeight, sinceMs, refreshMs } = entry;
  return {
    epoch,
    key: toHex(key),
    threshold,
    holders: holders.map(({ orgId, share }) => ({ orgId, share: toHex(share) })),
    sinceHeight,
    sinceMs,
    refreshMs,
  };
}

function sessionView(session: CustodySessionEntry, before: CustodyEpochEntry | null): NonNullable<Status['session']> {
  const { id, kind, epoch, phase, threshold, receivers, override, openedHeight, openedMs, deadlineMs } = session;
  const dealers = (before?.holders ?? receivers).map(({ orgId }) => orgId);
  const named = (orgs: readonly OrgId[], indices: readonly number[]): OrgId[] =>
    indices.flatMap((i) => orgs[i - 1] ?? []);
  const receiving = receivers.map(({ orgId }) => orgId);
  return {
    id: toHex(id),
    kind,
    epoch,
    phase,
    threshold,
    setHash: toHex(custodySetHash(receivers)),
    receivers: receivers.map(({ orgId, custodianKey }, k) => ({
      orgId,
      custodianKey: toHex(custodianKey),
      announced: session.keys[k] !== null,
      confirmed: session.confirmed.includes(k + 1),
    })),
    dealt: named(dealers, session.dealt),
    disqualified: named(dealers, session.disqualified),
    falseAccusers: named(receiving, session.falseAccusers),
    missing: missingOf(session, dealers),
    override,
    openedHeight,
    openedMs,
    deadlineMs,
    proposalId: session.proposalId && toHex(session.proposalId),
  };
}

function missingOf(
  { phase, receivers, keys, dealt, confirmed }: CustodySessionEntry,
  dealers: readonly OrgId[],
): OrgId[] {
  switch (phase) {
    case 'announce':
      return receivers.filter((_, k) => keys[k] === null).map(({ orgId }) => orgId);
    case 'deal':
      return dealers.filter((_, k) => !dealt.includes(k + 1));
    case 'confirm':
      return receivers.filter((_, k) => !confirmed.includes(k + 1)).map(({ orgId }) => orgId);
    case 'prepared':
      return [];
  }
}

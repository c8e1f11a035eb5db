/** What a custodian waits for that no node can do for it, in sentences of at most 300 characters for its operator. */
import type { CustodyEpochEntry, CustodySessionEntry } from '../../common/protocol/custody.ts';
import type { OrgId } from '../../common/protocol/primitives.ts';

/** Names of organisations that a sentence has room for. */
const MAX_NAMES = 1;

export const waits = {
  confirmation(
    setHash: string,
    { receivers }: Pick<CustodySessionEntry, 'receivers'>,
    { holders }: Pick<CustodyEpochEntry, 'holders'>,
  ): string {
    const before = new Set(holders.map(({ orgId }) => orgId));
    const after = new Set(receivers.map(({ orgId }) => orgId));
    const joined = [...after].filter((org) => !before.has(org));
    const gone = [...before].filter((org) => !after.has(org));
    return `Shares are to go to ${after.size} hospitals (new: ${named(joined)}; gone: ${named(gone)}). If that is right: emrchain custody confirm ${setHash} --dir DIR`;
  },
  otherCustodian: (org: OrgId): string =>
    `The session names another custodian key for ${org} than this custodian has; check keys/custodian.json.`,
  otherKey: (org: OrgId): string =>
    `${org} has no part in this session: its key there is not this custodian's, or it was absent. Afterwards: emrchain gov propose refresh-custody.`,
  newShares: (epoch: number): string =>
    `This custodian has no share of epoch ${epoch}, so only the others release keys. Put DIR/custody back from a backup, or: emrchain gov propose refresh-custody.`,
} as const;

function named(orgs: readonly OrgId[]): string {
  if (orgs.length === 0) return 'none';
  const rest = orgs.length - MAX_NAMES;
  return orgs.slice(0, MAX_NAMES).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

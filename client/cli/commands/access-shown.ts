/** A request as it is shown before anybody signs something about it. */
import type { RequestEntry } from '../../../common/protocol/state-entries.ts';
import { policyOfRequest } from '../../access.ts';
import type { ChainView } from '../../chain-view.ts';
import { hexOf } from '../../hex.ts';
import { ruleLines } from '../../policy-text.ts';
import { duration, fields, time } from '../../text.ts';
import type { Session } from '../session.ts';

export const requestFields = (entry: RequestEntry): readonly (readonly [string, string | number | null])[] => [
  ['request', hexOf(entry.hash)],
  ['record', hexOf(entry.request.recordId)],
  ['version', entry.request.version],
  ['owner', hexOf(entry.owner)],
  ['hospital', entry.recordOrg],
  ['requester', `${hexOf(entry.request.requester)} of ${entry.requesterOrg}`],
  ['purpose', entry.request.purpose],
  ['until', time(entry.request.notAfterMs)],
  ['fresh key', hexOf(entry.request.requesterKey)],
  ['policy', `${hexOf(entry.policyRef)}, version ${entry.request.policyVersion}, rule ${entry.request.ruleIndex}`],
  ['status', entry.status],
];

/** Shows all that is signed, decoded from what is signed. */
export async function showBefore(session: Session, view: ChainView, entry: RequestEntry): Promise<void> {
  for (const line of fields(requestFields(entry))) session.out.note(line);
  const policy = await policyOfRequest(view, entry);
  const rule = policy?.document.rules[entry.request.ruleIndex];
  if (rule !== undefined) for (const line of ruleLines(rule, entry.request.ruleIndex)) session.out.note(line);
  session.out.note(`lasts ${duration(entry.request.notAfterMs - session.nowMs())} from now`);
}

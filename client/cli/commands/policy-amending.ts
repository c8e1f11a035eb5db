/** Amendments of policies: proposing one, and deciding on it, after the difference was shown in words. */
import { amendmentIdOf } from '../../../common/protocol/transaction.ts';
import { hexOf, parseId } from '../../hex.ts';
import { toJson } from '../../json.ts';
import { type ProvenAmendment, provenAmendment, provenPolicy } from '../../policies.ts';
import { differenceLines } from '../../policy-text.ts';
import { randomNonce } from '../../randomness.ts';
import { clean, fields, time } from '../../text.ts';
import { submitCall, txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';
import { readPolicy } from './policy-reading.ts';

interface AmendOptions {
  readonly tokens?: string;
  readonly yes?: boolean;
}

export async function amend(session: Session, options: AmendOptions, id: string, file: string): Promise<Result> {
  const policy = await provenPolicy(await session.view(), parseId(id, 32, 'policy'));
  const document = await readPolicy(session, options.tokens, file, policy.document.nonce);
  const amendment = { policyRef: policy.ref, version: policy.version + 1, document };
  for (const line of differenceLines(policy.document, document)) session.out.note(line);
  await session.confirm('Propose it?', options.yes);
  const node = await session.node();
  const { account } = await session.sender();
  const nonce = randomNonce();
  const amendmentId = hexOf(amendmentIdOf(node.chainId, account, nonce, amendment));
  const committed = await submitCall(session, { kind: 'policy.propose', amendment, nonce });
  return {
    json: { id: amendmentId, policy: hexOf(policy.ref), version: amendment.version, tx: txView(committed) },
    text: [
      'Proposed. Approving is another step: emrchain policy approve AMENDMENT.',
      ...fields([['amendment', amendmentId], ['policy', hexOf(policy.ref)], ...txFields(committed)]),
    ],
  };
}

/** What becomes of the policy, and who has said what. */
function amendmentLines({ entry, before }: ProvenAmendment): string[] {
  const { amendment, decisions } = entry;
  return [
    ...fields([
      ['amendment', hexOf(entry.id)],
      ['policy', `${hexOf(amendment.policyRef)}, version ${amendment.version}`],
      ['by', `${hexOf(entry.proposer)} of ${clean(entry.proposerOrg)}`],
      ['status', entry.status],
      ['closes', time(entry.closesMs)],
      ...decisions.map(
        (said) =>
          [said.approve ? 'approved by' : 'rejected by', `${hexOf(said.account)} of ${clean(said.orgId)}`] as const,
      ),
    ]),
    '',
    ...differenceLines(before.document, amendment.document),
  ];
}

export async function showAmendment(session: Session, _options: object, id: string): Promise<Result> {
  const found = await provenAmendment(await session.view(), parseId(id, 32, 'amendment'));
  return { json: toJson(found.entry), text: amendmentLines(found) };
}

/** `policy approve` and `policy reject`. */
export const decideBy =
  (decision: 'approve' | 'reject') =>
  async (session: Session, options: { yes?: boolean }, id: string): Promise<Result> => {
    const amendmentId = parseId(id, 32, 'amendment');
    const view = await session.view();
    for (const line of amendmentLines(await provenAmendment(view, amendmentId))) session.out.note(line);
    await session.confirm(decision === 'approve' ? 'Approve it?' : 'Reject it?', options.yes);
    const committed = await submitCall(session, { kind: `policy.${decision}`, amendmentId });
    const { entry } = await provenAmendment(view, amendmentId);
    return {
      json: { id: hexOf(amendmentId), decision, status: entry.status, tx: txView(committed) },
      text: fields([['amendment', hexOf(amendmentId)], ['status', entry.status], ...txFields(committed)]),
    };
  };

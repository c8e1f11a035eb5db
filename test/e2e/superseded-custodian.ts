/**
 * A custodian that kept its share of an epoch that is over, against the protocol, in the place of the real one:
 * `node superseded-custodian.ts --dir DIR`. It answers each grant with a share of that number, signed by its own key.
 */
import { bytesToBigint } from '../../common/bytes.ts';
import { createReleaseShare } from '../../common/crypto/custody/release-share.ts';
import { custodyShareHash } from '../../common/protocol/custody.ts';
import { type CustodianAnswer, refusal, type ShareDemand } from '../../common/protocol/release.ts';
import { judgeShare } from '../../node/custodian/judge.ts';
import { takeCustodian } from './custodian-in-hand.ts';

const { believed, orgId, signer, random, store, serve } = await takeCustodian();
const [kept] = store.all().filter(({ kind }) => kind === 'share');
if (kept === undefined) throw new Error('there is no share from before');
const x = bytesToBigint(kept.content);

function answer(demand: ShareDemand): CustodianAnswer {
  const judged = judgeShare(demand, believed(demand.head), { orgId, nowMs: Date.now() });
  if (!judged.ok) return refusal(orgId, judged);
  const { context, holder } = judged.value;
  const share = createReleaseShare(context, holder, x, random);
  const signature = signer.sign(custodyShareHash(context, orgId, share));
  return { kind: 'share', orgId, share, custodianKey: signer.publicKey, signature };
}

const SILENCE = { code: 'NOT_NOW', message: 'it takes no part in anything else' };
await serve('kept an old share', (demand) =>
  Promise.resolve(demand.kind === 'share' ? answer(demand) : refusal(orgId, SILENCE)),
);

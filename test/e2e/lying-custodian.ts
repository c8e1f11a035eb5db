/**
 * A custodian that was broken into, in the place of the real one: `node lying-custodian.ts --dir DIR`. It judges what it is
 * shown as it should, and answers each grant with a share of another number, signed by its own key.
 */
import { encodePoint, GENERATOR } from '../../common/crypto/curve.ts';
import { custodyShareHash } from '../../common/protocol/custody.ts';
import { judgeShare } from '../../node/custodian/judge.ts';
import { takeCustodian } from './custodian-in-hand.ts';

const { honest, believed, orgId, signer, serve } = await takeCustodian();
await serve('lies', async (demand) => {
  const answer = await honest.answer(demand);
  if (answer.kind !== 'share' || demand.kind !== 'share') return answer;
  const judged = judgeShare(demand, believed(demand.head), { orgId, nowMs: Date.now() });
  if (!judged.ok) return answer;
  const share = Uint8Array.from(answer.share);
  share.set(encodePoint(GENERATOR.multiply(3n)), 35);
  const signature = signer.sign(custodyShareHash(judged.value.context, orgId, share));
  return { ...answer, share, signature };
});

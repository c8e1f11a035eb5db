/**
 * A custodian that was broken into, in the place of the real one: `node lying-custodian.ts --dir DIR`. It judges what it is
 * shown as it should, and answers each grant with a share of another number, signed by its own key.
 */
import { encodePoint, GENERATOR } from '../../common/crypto/curve.ts';
import { custodyShareHash } from '../../common/protocol/custody.ts';
import { takeCustodian } from './custodian-in-hand.ts';

const { honest, chainId, orgId, signer, serve } = await takeCustodian();
await serve('lies', async (demand) => {
  const answer = await honest.answer(demand);
  if (answer.kind !== 'share' || demand.kind !== 'share') return answer;
  const share = Uint8Array.from(answer.share);
  share.set(encodePoint(GENERATOR.multiply(3n)), 35);
  const signature = signer.sign(custodyShareHash(chainId, demand.grantId, orgId, share));
  return { ...answer, share, signature };
});

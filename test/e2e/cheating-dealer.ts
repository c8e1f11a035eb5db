/**
 * A custodian that was broken into, in the place of the real one: `node cheating-dealer.ts --dir DIR`. In each session it
 * deals so that everything which is public is right, and one receiver cannot use its part: it is encrypted to another key.
 * It asks no operator, and is honest in all else.
 */
import { bytesToBigint } from '../../common/bytes.ts';
import { GENERATOR } from '../../common/crypto/curve.ts';
import { deal } from '../../common/crypto/custody/dealing.ts';
import type { SessionDemand } from '../../common/protocol/release.ts';
import { judgeSession } from '../../node/custodian/judge-session.ts';
import { takeCustodian } from './custodian-in-hand.ts';

const { honest, believed, orgId, signer, random, store, serve } = await takeCustodian();

/** Kept as if the honest program had made it: that says on the chain what it has kept. */
async function dealFalsely(demand: SessionDemand): Promise<void> {
  const judged = judgeSession(demand, believed(demand.head), { orgId, custodianKey: signer.publicKey });
  if (!judged.ok || judged.value.session === null) return;
  const { epoch } = judged.value;
  const { entry, session, dealer, keys } = judged.value.session;
  if (entry.phase !== 'deal' || dealer === null || keys === null) return;
  if (store.get('dealing', session.id) !== undefined) return;
  const share = epoch === null ? null : bytesToBigint(store.get('share', epoch.entry.sessionId)!.content);
  const victim = entry.receivers.findIndex((receiver) => receiver.orgId !== orgId);
  const falseKeys = keys.map((key, k) => (k === victim ? { ...key, P: GENERATOR } : key));
  const content = deal(session, dealer, share, falseKeys, random);
  await store.put({ kind: 'dealing', sessionId: session.id, epoch: entry.epoch, content });
}

await serve('deals falsely', async (demand) => {
  if (demand.kind === 'session') await dealFalsely(demand);
  return honest.answer(demand);
});

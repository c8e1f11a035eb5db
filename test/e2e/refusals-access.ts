/** Who may not ask, not decide, and not read: roles, purposes, approvals, ends and revocations. */
import type { Test } from 'tap';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import { publicKeyOf } from '../../common/crypto/sm2.ts';
import type { Purpose } from '../../common/protocol/policy.ts';
import { requestHashOf } from '../../common/protocol/transaction.ts';
import { revocationStatus } from '../../client/revocation.ts';
import { hexOf } from '../../client/hex.ts';
import { randomNonce } from '../../client/randomness.ts';
import { findGrant } from '../../client/record-get.ts';
import type { Person } from './people.ts';
import { until } from './until.ts';
import { BRIEF_MS, type Cast } from './refusals-cast.ts';
import { refused, refusedByAll, unchanged } from './refusals.ts';

const HOUR_MS = 3_600_000;

/** A signed request as a client would make it that checks nothing itself. */
export function requestOf(person: Person, recordId: Uint8Array, purpose: Purpose = 'TREAT', durationMs = HOUR_MS) {
  const secret = newPrivateKey();
  const request = {
    recordId,
    version: 1,
    requester: person.account,
    requesterKey: publicKeyOf(secret),
    purpose,
    ruleIndex: 0,
    policyVersion: 1,
    notAfterMs: Date.now() + durationMs,
    nonce: randomNonce(),
  };
  const hash = requestHashOf(person.view.node.chainId, request);
  const possession = selectSm2Engine().createSigner(secret).sign(hash);
  return person.sign({ kind: 'access.request', request, possession });
}

const approvalOf = (person: Person, requestHash: Uint8Array) => person.sign({ kind: 'access.approve', requestHash });

async function keyOf(person: Person, grant: Uint8Array) {
  await person.caughtUp();
  return person.view.rpc.call('custody_getShare', { grantId: hexOf(grant), timeoutMs: 5_000 });
}

async function statusOf(person: Person, request: Uint8Array) {
  await person.caughtUp();
  return (await person.view.rpc.call('acl_getRequest', { requestHash: hexOf(request) })).explanation;
}

/** The answer of each node to the question whether somebody may read, as its owner sees it. */
async function decisionsOf(cast: Cast, subject: Person, recordId: Uint8Array, purpose: Purpose) {
  await cast.consortium.settled();
  const params = { subject: hexOf(subject.account), recordId: hexOf(recordId), purpose };
  const answers = await Promise.all(
    cast.consortium.nodes.map((_, i) => cast.consortium.viewAt(cast.mei, i).rpc.call('acl_checkAccess', params)),
  );
  return [...new Set(answers.map(({ reason }) => reason))];
}

export async function refusedAccess(t: Test, cast: Cast): Promise<void> {
  const { consortium } = cast;

  await t.test('who may not ask: role, purpose, duration', async (t) => {
    const { wang, zhao, mei, eve, strictRecord } = cast;
    await until('the role of Eve has expired', () => Date.now() > cast.eveUntilMs);
    await unchanged(t, consortium, async () => {
      await refusedByAll(t, consortium, 'ROLE_MISSING', 'a nurse', requestOf(zhao, strictRecord));
      await refusedByAll(t, consortium, 'ROLE_MISSING', 'a patient', requestOf(mei, strictRecord));
      await refusedByAll(t, consortium, 'ROLE_EXPIRED', 'an expired role', requestOf(eve, strictRecord));
      const research = requestOf(wang, strictRecord, 'HRESCH');
      await refusedByAll(t, consortium, 'PURPOSE_NOT_ALLOWED', 'another purpose', research);
      const forLong = requestOf(wang, strictRecord, 'TREAT', 30 * 24 * HOUR_MS);
      await refusedByAll(t, consortium, 'DURATION_TOO_LONG', 'longer than the rule allows', forLong);
      const unknown = requestOf(wang, new Uint8Array(32).fill(9));
      await refusedByAll(t, consortium, 'RECORD_UNKNOWN', 'a record that does not exist', unknown);
    });
  });

  await t.test('a suspended account does nothing and reads nothing', async (t) => {
    const sam = await consortium.staff('sam', 1, ['physician']);
    const [asking, reading] = [requestOf(sam, cast.strictRecord), sam.view.rpc];
    t.equal((await reading.call('acl_getAccount', { account: hexOf(sam.account) })).account.status, 'active');
    await consortium.admin(1).do({ kind: 'account.suspend', account: sam.account, reason: 'left' });
    await unchanged(t, consortium, async () => {
      await refusedByAll(t, consortium, 'ACCOUNT_SUSPENDED', 'a request', asking);
      await refused(t, 'ACCOUNT_SUSPENDED', "its reader's token", () =>
        reading.call('acl_getAccount', { account: hexOf(sam.account) }),
      );
    });
  });

  await t.test('who may not decide, and what a missing approval means', async (t) => {
    const { wang, wangAgain, zhao, mei, chen, chenAgain, li } = cast;
    const request = await wang.ask(cast.strictRecord);
    await mei.decide(request);
    await chen.decide(request);
    await unchanged(t, consortium, async () => {
      const approve = (person: Person) => approvalOf(person, request);
      await refusedByAll(t, consortium, 'REQUESTER_CANNOT_APPROVE', 'the requester', approve(wang));
      await refusedByAll(t, consortium, 'REQUESTER_CANNOT_APPROVE', 'by a second account', approve(wangAgain));
      // Chen is attending physician and department head: one person, one slot.
      await refusedByAll(t, consortium, 'ALREADY_DECIDED', 'the same person in another role', approve(chen));
      await refusedByAll(t, consortium, 'ALREADY_DECIDED', 'and by a second account', approve(chenAgain));
      await refusedByAll(t, consortium, 'NOT_AN_APPROVER', 'a nurse', approve(zhao));
      const cancel = chen.sign({ kind: 'access.cancel', requestHash: request });
      await refusedByAll(t, consortium, 'NOT_THE_REQUESTER', 'cancelled by another', cancel);

      t.match(await statusOf(wang, request), { status: 'pending', missing: { code: 'APPROVALS_MISSING' } });
      await refused(t, 'NOT_GRANTED', 'the key, while one approval is missing', () => keyOf(wang, request));
      await refused(t, 'OUT_OF_SCOPE', 'the key, for another than the requester', () => keyOf(chen, request));
      await refused(t, 'REQUEST_NOT_GRANTED', "the reader's own client", () =>
        findGrant(wang.view, wang.home, wang.account, cast.strictRecord, { hash: request, nowMs: Date.now() }),
      );
      t.same(await decisionsOf(cast, wang, cast.strictRecord, 'TREAT'), ['WAITING']);
    });
    await li.decide(request);
    t.match(await statusOf(wang, request), { status: 'granted' }, 'the third person makes it a grant');
    await useThenRevoke(t, cast, request);
  });

  await t.test('an expired request', async (t) => {
    const { wang, mei, strictRecord } = cast;
    const endsMs = Date.now() + BRIEF_MS;
    const request = await wang.ask(strictRecord, 'TREAT', BRIEF_MS);
    await until('the request has expired', () => Date.now() > endsMs + 50);
    // The block in which it expires may come by itself meanwhile: it says the same.
    const approval = approvalOf(mei, request);
    await refusedByAll(t, consortium, 'REQUEST_EXPIRED', 'approved too late', approval);
    const cancel = wang.sign({ kind: 'access.cancel', requestHash: request });
    await refusedByAll(t, consortium, 'REQUEST_EXPIRED', 'cancelled too late', cancel);
    await refused(t, 'NOT_GRANTED', 'its key', () => keyOf(wang, request));
    t.match(await statusOf(wang, request), { status: 'expired' });
  });
}

async function useThenRevoke(t: Test, cast: Cast, grant: Uint8Array): Promise<void> {
  const { consortium, wang, mei, li } = cast;
  const released = await keyOf(wang, grant);
  t.equal(released.complete, true);
  t.equal(released.replies.filter(({ share }) => share !== null).length, 3, 'released to the requester');
  t.same(await decisionsOf(cast, wang, cast.strictRecord, 'TREAT'), ['GRANTED']);
  t.same(await decisionsOf(cast, wang, cast.strictRecord, 'HPAYMT'), ['WRONG_PURPOSE'], 'for its purpose only');
  await unchanged(t, consortium, async () => {
    const notHis = wang.sign({ kind: 'access.deliver', requestHash: grant, sidecarHash: new Uint8Array(32) });
    await refusedByAll(t, consortium, 'SIDECAR_MISSING', 'delivered by another than the owner', notHis);
    await refused(t, 'OUT_OF_SCOPE', 'to somebody else', () => keyOf(li, grant));
    const outsider = cast.zhao.sign({ kind: 'access.revoke', requestHash: grant, reason: 'no' });
    await refusedByAll(t, consortium, 'NOT_ALLOWED_TO_REVOKE', 'revoked by an outsider', outsider);
  });

  await mei.decide(grant, { kind: 'revoke', reason: 'withdrawn' });
  const quorum = 3;
  for (const [index] of consortium.nodes.entries()) {
    const view = consortium.viewAt(mei, index);
    const status = await until(`the revocation is final at node ${index}`, async () => {
      const found = await revocationStatus(view, grant);
      return found.final && found;
    });
    t.ok(status.quorum === quorum && status.executedBy.length >= quorum, 'a quorum has executed it');
  }
  await unchanged(t, consortium, async () => {
    await refused(t, 'NOT_GRANTED', 'the key of a revoked grant', () => keyOf(wang, grant));
    await refused(t, 'GRANT_REVOKED', "the reader's own client", () =>
      findGrant(wang.view, wang.home, wang.account, cast.strictRecord, { hash: grant, nowMs: Date.now() }),
    );
    await refusedByAll(t, consortium, 'NOT_PENDING', 'approved again', approvalOf(cast.chenAgain, grant));
    const again = mei.sign({ kind: 'access.revoke', requestHash: grant, reason: 'twice' });
    await refusedByAll(t, consortium, 'NOT_GRANTED', 'revoked twice', again);
    t.same(await decisionsOf(cast, wang, cast.strictRecord, 'TREAT'), ['REVOKED']);
  });
}

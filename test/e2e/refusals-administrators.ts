/** What an administrator may not do alone: make up the people an approval takes, take over a patient, vote twice. */
import type { Test } from 'tap';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import { proposalIdOf } from '../../common/protocol/transaction.ts';
import { DEVNET_PARAMS } from '../../scripts/devnet/devnet.ts';
import { hexOf } from '../../client/hex.ts';
import { randomNonce } from '../../client/randomness.ts';
import { ownKey, provenRecord } from '../../client/record-get.ts';
import { subjectOf } from '../../client/record-offer.ts';
import { callOf, countersigned, possessed, type SignedStatement } from '../../client/statements.ts';
import type { Consortium } from './consortium.ts';
import { Person, scopeOf, viewOf } from './people.ts';
import { until } from './until.ts';
import type { Cast } from './refusals-cast.ts';
import { refused, refusedByAll, unchanged } from './refusals.ts';

const DAY_MS = 86_400_000;

export async function refusedAdministrators(t: Test, cast: Cast): Promise<void> {
  await t.test('an administrator alone makes up nobody', (t) => alone(t, cast));
  await t.test('an administrator with made-up staff satisfies no policy', (t) => withPuppets(t, cast));
  await t.test("an administrator does not take over a patient's account", (t) => takingOver(t, cast));
  await t.test('one person has one voice', (t) => twoVoices(t, cast));
}

async function alone(t: Test, { consortium, wang }: Cast): Promise<void> {
  const rogue = consortium.admin(0);
  const [registrar, twinElsewhere, twinHere, paper] = await Promise.all([
    consortium.staff('registrar-a', 0, ['registrar']),
    consortium.staff('rogue-at-c', 2, ['registrar', 'org_admin'], rogue.name),
    consortium.staff('rogue-at-a', 0, [], rogue.name),
    consortium.patient('paper', 0),
  ]);
  const puppet = consortium.newcomer('puppet', 0);
  const enrolment = consortium.enrolment(puppet, 'staff');
  const enrolled = (signed: SignedStatement) => rogue.sign(callOf(signed));
  const grant = (person: Person) =>
    rogue.sign({ kind: 'role.grant', scope: scopeOf(person, 'physician'), expiresAtMs: Date.now() + DAY_MS });
  await unchanged(t, consortium, async () => {
    await refusedByAll(t, consortium, 'COUNTERSIGNATURE_REQUIRED', 'enrols alone', enrolled(enrolment));
    for (const [by, code] of [
      [rogue, 'COUNTERSIGNER_SAME_PERSON'],
      [twinElsewhere, 'COUNTERSIGNER_SAME_PERSON'],
      [registrar, 'COUNTERSIGNER_SAME_ORGANISATION'],
      [wang, 'COUNTERSIGNER_ROLE_MISSING'],
    ] as const) {
      await refusedByAll(t, consortium, code, `countersigned by ${by.name}`, enrolled(countersigned(enrolment, by)));
    }
    const genuine = countersigned(enrolment, rogue).countersignature;
    const { account, key } = consortium.admin(1);
    const forged = genuine && { ...genuine, account, publicKey: key.publicKey };
    const inHisName = enrolled({ ...enrolment, countersignature: forged });
    await refusedByAll(t, consortium, 'BAD_COUNTERSIGNATURE', "in another administrator's name", inHisName);
    await refusedByAll(t, consortium, 'ROLE_SELF_GRANT', 'a role for himself', grant(rogue));
    await refusedByAll(t, consortium, 'ROLE_SELF_GRANT', 'or for his other account', grant(twinHere));
    await refusedByAll(t, consortium, 'ROLE_ONLY_FOR_STAFF', 'or for a patient whom nobody confirmed', grant(paper));
    await refusedByAll(t, consortium, 'NOT_YOUR_ORGANISATION', 'or at another hospital', grant(wang));
  });
}

/** Even where a second hospital was deceived into confirming each of them. */
async function withPuppets(t: Test, { consortium, strictRecord, withoutOwnerRecord }: Cast): Promise<void> {
  const [asks, physician, head] = await Promise.all([
    consortium.staff('puppet-1', 0, ['physician']),
    consortium.staff('puppet-2', 0, []),
    consortium.staff('puppet-3', 0, []),
  ]);
  const rogue = consortium.admin(0);
  const approve = (person: Person, requestHash: Uint8Array) => person.sign({ kind: 'access.approve', requestHash });
  const early = await asks.ask(withoutOwnerRecord);
  await consortium.grantRole(physician, 'physician');
  await consortium.grantRole(head, 'department_head');
  await effective(physician, head);
  await unchanged(t, consortium, async () => {
    for (const person of [physician, head]) {
      const role = `${person.name}, whose role came after the request`;
      await refusedByAll(t, consortium, 'ROLE_NOT_YET_EFFECTIVE', role, approve(person, early));
    }
    await refusedByAll(t, consortium, 'NOT_AN_APPROVER', 'the administrator himself', approve(rogue, early));
    await refusedByAll(t, consortium, 'REQUESTER_CANNOT_APPROVE', 'who asked', approve(asks, early));
  });

  const later = await asks.ask(withoutOwnerRecord);
  await physician.decide(later);
  await head.decide(later);
  await unchanged(t, consortium, async () => {
    const { explanation } = await asks.view.rpc.call('acl_getRequest', { requestHash: hexOf(later) });
    const missing = { code: 'APPROVALS_ONE_ORGANISATION' };
    t.match(explanation, { status: 'pending', missing }, 'every slot is filled, by one organisation alone');
    await refused(t, 'NOT_GRANTED', 'the key', () =>
      asks.view.rpc.call('custody_getShare', { grantId: hexOf(later), timeoutMs: 5_000 }),
    );
  });

  const strict = await asks.ask(strictRecord);
  await head.decide(strict);
  await unchanged(t, consortium, async () => {
    await refusedByAll(t, consortium, 'NOT_AN_APPROVER', 'nobody attends by role', approve(physician, strict));
    const { explanation } = await asks.view.rpc.call('acl_getRequest', { requestHash: hexOf(strict) });
    t.match(explanation, { status: 'pending', missing: { code: 'APPROVALS_MISSING' } }, 'the patient is missing');
  });
}

/** Waits until the cooling period of all roles of these people is over. */
async function effective(...people: readonly Person[]): Promise<void> {
  for (const person of people) {
    const { roles } = await person.view.rpc.call('acl_getRoles', { account: hexOf(person.account) });
    const fromMs = Math.max(...roles.map(({ effectiveMs }) => effectiveMs));
    await until(`the roles of ${person.name} are effective`, () => Date.now() > fromMs);
  }
}

function recoveryOf(consortium: Consortium, of: Person) {
  const secret = newPrivateKey();
  const signer = selectSm2Engine().createSigner(secret);
  const recovery = { account: of.account, newPublicKey: signer.publicKey };
  const { chainId } = consortium.admin(0).view.node;
  const key = { ...of.key, publicKey: signer.publicKey, address: signer.address, signer, privateKey: secret };
  return { signed: possessed(chainId, { kind: 'recovery', recovery }, signer), key };
}

async function takingOver(t: Test, { consortium, chen, wang, file, strict }: Cast): Promise<void> {
  const [rogue, second] = [consortium.admin(0), consortium.admin(1)];
  const [rosa, paul] = await Promise.all([consortium.patient('rosa', 0), consortium.patient('paul', 0)]);
  const { offer, call } = await consortium.offer(chen, paul, file, strict);
  await chen.do(call, offer.sidecar);
  const { recordId } = subjectOf(offer);
  const asked = await wang.ask(recordId);
  // Paul never looks: his account is taken over, with the help of a second hospital and after the delay.
  const stolen = recoveryOf(consortium, paul);
  const opened = await rogue.do(callOf(countersigned(stolen.signed, second)));
  const completePaul = { kind: 'account.completeRecovery' as const, account: paul.account };

  const attempt = recoveryOf(consortium, rosa);
  const complete = { kind: 'account.completeRecovery' as const, account: rosa.account };
  await unchanged(t, consortium, async () => {
    const recover = (signed: SignedStatement) => rogue.sign(callOf(signed));
    await refusedByAll(t, consortium, 'COUNTERSIGNATURE_REQUIRED', 'alone', recover(attempt.signed));
    const byHimself = recover(countersigned(attempt.signed, rogue));
    await refusedByAll(t, consortium, 'COUNTERSIGNER_SAME_PERSON', 'countersigned by himself', byHimself);
    const elsewhere = second.sign(callOf(countersigned(attempt.signed, consortium.admin(2))));
    await refusedByAll(t, consortium, 'NOT_YOUR_ORGANISATION', 'by another hospital', elsewhere);
    await refusedByAll(t, consortium, 'RECOVERY_NOT_PENDING', 'completed without being open', rogue.sign(complete));
    await refusedByAll(t, consortium, 'RECOVERY_NOT_DUE', 'completed before the delay', rogue.sign(completePaul));
  });

  await rogue.do(callOf(countersigned(attempt.signed, second)));
  await rogue.do({ kind: 'account.suspend', account: rosa.account, reason: 'lost_key' });
  await rosa.do({ kind: 'account.vetoRecovery' });
  await unchanged(t, consortium, async () => {
    await refusedByAll(t, consortium, 'RECOVERY_NOT_PENDING', 'after a veto', rogue.sign(complete));
    const again = rogue.sign(callOf(countersigned(attempt.signed, second)));
    await refusedByAll(t, consortium, 'KEY_ALREADY_USED', 'once more with the same key', again);
  });

  const dueMs = opened.timestampMs + DEVNET_PARAMS.recoveryDelayMs;
  await until('the delay of the recovery is over', () => Date.now() > dueMs);
  await rogue.do(completePaul);
  const node = consortium.nodes[0] as (typeof consortium.nodes)[number];
  const thief = new Person('thief', stolen.key, consortium.devnet, paul.hospital, node);
  await unchanged(t, consortium, async () => {
    const approval = { kind: 'access.approve' as const, requestHash: asked };
    const code = 'ACCOUNT_RECENTLY_RECOVERED';
    await refusedByAll(t, consortium, code, 'approves with the new key', thief.sign(approval));
    await refusedByAll(t, consortium, 'KEY_NOT_CURRENT', 'the old key', paul.sign(approval));
    const view = viewOf(node, thief.key);
    await refused(t, 'OWNER_KEY_ROTATED', 'opens a record that was written before', async () =>
      ownKey(view, thief.key, await provenRecord(view, recordId)),
    );
  });
}

async function twoVoices(t: Test, { consortium }: Cast): Promise<void> {
  const [a, b] = [consortium.admin(0), consortium.admin(1)];
  const twin = await consortium.staff('admin-b-at-d', 3, ['org_admin'], b.name);
  const proposal = { kind: 'setParams' as const, params: { ...DEVNET_PARAMS, maxOpenRequests: 99 } };
  const nonce = randomNonce();
  await a.do({ kind: 'gov.propose', proposal, nonce });
  const proposalId = proposalIdOf(a.view.node.chainId, a.account, nonce, proposal);
  await b.do({ kind: 'gov.vote', proposalId, approve: false });
  await unchanged(t, consortium, async () => {
    const vote = { kind: 'gov.vote' as const, proposalId, approve: true };
    await refusedByAll(t, consortium, 'ALREADY_VOTED', 'once more', b.sign(vote));
    await refusedByAll(t, consortium, 'PERSON_ALREADY_VOTED', 'for a second organisation', twin.sign(vote));
  });
}

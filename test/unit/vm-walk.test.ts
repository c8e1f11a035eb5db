import t from 'tap';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { type Codec, decodeTrusted } from '../../common/codec.ts';
import type { ApprovalNode, Role } from '../../common/protocol/policy.ts';
import {
  accountEntry,
  counterEntry,
  decisionEntry,
  prefixRange,
  type RequestEntry,
  requestEntry,
  stateKey,
  statePrefix,
} from '../../common/protocol/state-entries.ts';
import type { Call } from '../../common/protocol/transaction.ts';
import { blockDue, checkGrant, explainRequest } from '../../vm/index.ts';
import { A, all, attending, B, by, C, D, HOUR, MINUTE, owner, some, World } from './vm-world.ts';

/** A small deterministic generator: the same walks in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const staff = (org: string, ...roles: Role[]) => ({ org, roles });
const PEOPLE = {
  alice: staff(A, 'physician'),
  hans: staff(A, 'department_head', 'physician'),
  mona: staff(A, 'medical_affairs', 'ethics_board'),
  bob: staff(B, 'physician', 'ethics_board'),
  hilda: staff(B, 'department_head'),
  twin: { ...staff(C, 'department_head', 'ethics_board'), tag: 'hilda' },
  erik: staff(C, 'ethics_board'),
  erna: staff(D, 'ethics_board', 'department_head'),
};
const TREES: ApprovalNode[] = [
  all(owner, attending),
  some(2, by('ethics_board'), by('ethics_board'), by('ethics_board')),
  some(1, all(owner, by('department_head')), all(by('physician', 'writer'), by('department_head'), by('ethics_board'))),
  some(2, owner, by('department_head', 'writer'), by('department_head', 'requester'), by('medical_affairs')),
];

const entries = <T>(world: World, codec: Codec<T>, prefix: Uint8Array): T[] =>
  [...world.state.range({ ...prefixRange(prefix), limit: 10_000 })].map(({ value }) =>
    decodeTrusted(codec, value, 'entry'),
  );

interface Failing {
  fail(why: string): unknown;
}

/** Rules stated once more, as plainly as possible, over what the state says. */
function checkRequest(t: Failing, world: World, request: RequestEntry): void {
  const personOf = (id: Uint8Array): string => {
    const account = decodeTrusted(accountEntry, world.state.get(stateKey.account(id))!, 'account');
    return bytesToHex(account.personTag ?? account.id);
  };
  const decisions = entries(world, decisionEntry, statePrefix.decisions(request.hash));
  const deciders = decisions.map(({ account }) => personOf(account));
  if (new Set(deciders).size !== deciders.length) t.fail('one person decided twice');
  if (deciders.includes(personOf(request.request.requester))) t.fail('the requester decided');
  const out = decisions.flatMap(({ slot }) => (slot === null ? [] : [slot]));
  if (new Set(out).size !== out.length) t.fail('one slot was denied twice');
  if (request.filled.length === 0) return;
  const seated = request.filled.map(({ account }) => personOf(account));
  if (new Set(seated).size !== seated.length) t.fail('one person fills two slots');
  if (request.filled.some(({ slot }) => out.includes(slot))) t.fail('a denied slot is filled');
  const approved = (id: Uint8Array): boolean => decisions.some((d) => d.approve && equalBytes(d.account, id));
  if (!request.filled.every(({ account }) => approved(account))) t.fail('a slot is filled by who did not approve');
  const byOwner = request.filled.some(({ account }) => equalBytes(account, request.owner));
  const orgs = new Set(request.filled.map(({ orgId }) => orgId));
  if (!byOwner && orgs.size < 2) t.fail('neither the owner nor two organisations');
  if (!explainRequest(world.state, request.hash, world.now)!.tree.satisfied) t.fail('the explanation does not show it');
}

function checkState(test: Failing, world: World): { granted: number; denied: number } {
  const requests = entries(world, requestEntry, statePrefix.requests());
  for (const request of requests) checkRequest(test, world, request);
  const at = (status: string): RequestEntry[] => requests.filter((r) => r.status === status);
  const counter = (key: Uint8Array): number => {
    const value = world.state.get(key);
    return value === undefined ? 0 : decodeTrusted(counterEntry, value, 'counter').value;
  };
  if (counter(stateKey.activeGrants()) !== at('granted').length) test.fail('active grants are miscounted');
  const bob = at('pending').filter((r) => equalBytes(r.request.requester, world.who('bob').id));
  if (counter(stateKey.openRequests(world.who('bob').tag!)) !== bob.length) test.fail('open requests are miscounted');
  const times = [...at('pending').map((r) => r.pendingUntilMs), ...at('granted').map((r) => r.request.notAfterMs)];
  const earliest = times.length === 0 ? null : Math.min(...times);
  if (blockDue(world.state).nextDeadlineMs !== earliest) test.fail('the earliest deadline is another');
  for (const request of requests) {
    const active = request.status === 'granted' && world.now < request.request.notAfterMs;
    if (checkGrant(world.state, request.hash, world.now).ok !== active) test.fail('a grant is judged otherwise');
  }
  return { granted: requests.filter((r) => r.filled.length > 0).length, denied: at('denied').length };
}

t.test('random walks never leave the rules', async (t) => {
  const totals = { granted: 0, denied: 0 };
  for (let seed = 1; seed <= 4; seed += 1) {
    const random = generator(seed);
    const pick = <T>(from: readonly T[]): T => from[random(from.length)] as T;
    const world = new World(PEOPLE, { requestTtlMs: 5 * HOUR });
    world.patient('paula');
    world.attend('paula', 'alice');
    const records = TREES.map((tree) => world.record('alice', 'paula', world.policy(tree)));
    const names = ['paula', ...Object.keys(PEOPLE)];
    const hashes: Uint8Array[] = [];
    for (let step = 0; step < 150; step += 1) {
      const action = random(12);
      if (hashes.length === 0 || action < 2) {
        hashes.push(
          world.ask(pick(['bob', 'hans']), pick(records), { notAfterMs: world.now + (1 + random(12)) * HOUR }),
        );
      } else {
        const requestHash = hashes[Math.max(0, hashes.length - 1 - random(3))]!;
        const reason = 'NOT_JUSTIFIED';
        const calls: Call[] = [
          ...Array.from({ length: 6 }, (): Call => ({ kind: 'access.approve', requestHash })),
          { kind: 'access.deny', requestHash, reason },
          { kind: random(4) === 0 ? 'access.revoke' : 'access.deny', requestHash, reason },
          { kind: 'access.approve', requestHash },
        ];
        if (action === 11) world.pass(random(90) * MINUTE);
        else world.try(pick(names), pick(calls));
      }
      if (step % 10 === 9) checkState(t, world);
    }
    const { granted, denied } = checkState(t, world);
    totals.granted += granted;
    totals.denied += denied;
  }
  t.ok(totals.granted > 10 && totals.denied > 5, `the walks met both outcomes: ${totals.granted}, ${totals.denied}`);
});

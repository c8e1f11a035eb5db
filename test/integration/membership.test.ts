/** Institutions come and go while the chain goes on: real nodes of one consortium in one process. */
import t from 'tap';
import { bytesToHex, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { voteSigningHash } from '../../common/protocol/signing.ts';
import { evidenceEntry, stateKey } from '../../common/protocol/state-entries.ts';
import type { Proposal } from '../../common/protocol/transaction.ts';
import { encodeHeader } from '../../common/protocol/block.ts';
import type { Handover } from '../../common/protocol/light.ts';
import { createOpensslEngine } from '../../common/native/sm2-openssl.ts';
import { ChainView } from '../../client/chain-view.ts';
import type { RpcClient } from '../../client/rpc-client.ts';
import { judgeHead } from '../../node/custodian/judge.ts';
import { silentLog } from '../../node/log.ts';
import { MemberWatch } from '../../node/membership/members.ts';
import type { Member } from '../../node/network/types.ts';
import { createChainPort } from '../../node/rpc-ports/index.ts';
import { chainHandlers } from '../../rpc/handlers/chain.ts';
import type { Service } from '../../rpc/service.ts';
import { genesisWrites } from '../../vm/index.ts';
import type { EmrNode } from '../../node/node.ts';
import { Assembly, type Seat, seatOf } from './assembly.ts';
import { consortium } from './node-consortium.ts';

const [A, B, C, D, E] = ['a', 'b', 'c', 'd', 'e'].map((name) => `hospital-${name}`) as [
  string,
  string,
  string,
  string,
  string,
];
const founder = (assembly: Assembly, orgId: string): Seat =>
  assembly.of.net.hospitals.find((hospital) => hospital.orgId === orgId) as Seat;
const indexOf = (assembly: Assembly, orgId: string): number =>
  assembly.of.net.hospitals.findIndex((hospital) => hospital.orgId === orgId);

t.test('from observer to validator, another leaves, keys change, and the chain commits throughout', async (t) => {
  const assembly = new Assembly(t);
  const { of } = assembly;
  await assembly.start();
  // Whom the transactions go through stays until the end.
  const stays = of.net.hospitals[0]?.orgId as string;
  const [leaves, rotates] = [A, B, C, D].filter((orgId) => orgId !== stays) as [string, string];
  const founders = [stays, ...[A, B, C, D].filter((orgId) => orgId !== stays && orgId !== leaves)];
  for (let n = 0; n < 5; n += 1) await assembly.work();

  const seat = seatOf('e');
  const joining = await of.startAs(seat, await assembly.open('e'));
  const newcomer = of.node(joining);
  await assembly.found(seat, founders);
  t.equal(newcomer.executor.head.height, 0, 'nobody talks to a stranger');
  await assembly.enact(assembly.admission(seat), founders);
  await assembly.wait(() => newcomer.membership.isMember, 'the observer has the block that admits it');
  await assembly.work();
  t.notOk(newcomer.host.isValidator, 'an observer has no vote');
  await assembly.agree(t);

  const add: Proposal = { kind: 'addValidator', orgId: E, address: seat.validator.address };
  await assembly.enact(add, founders);
  t.same(assembly.orgs(), [A, B, C, D, E], 'by its own word on chain, without an operator');
  await assembly.wait(() => newcomer.host.isValidator, 'it knows that it votes');
  await assembly.signs(seat);
  await assembly.agree(t);

  const gone = of.node(indexOf(assembly, leaves));
  await assembly.enact({ kind: 'removeValidator', orgId: leaves }, [...founders, E]);
  await assembly.wait(
    () => !gone.membership.isMember || gone.network.peers().every(({ connected }) => !connected),
    'left',
  );
  const knowsIt = (node: EmrNode): boolean => node.network.peers().some(({ peerId }) => peerId === gone.network.peerId);
  const stayed = of.nodes().filter((other) => other !== gone);
  // Each lets go of it with the block that removes it, which the slowest has a moment later.
  await assembly.wait(() => !stayed.some(knowsIt), 'it is cut off by all');
  await assembly.work();
  await assembly.signs(seat);

  const before = founder(assembly, rotates);
  const after = { ...seatOf(rotates.slice(-1), `${rotates.slice(-1)}new`), admin: before.admin };
  await assembly.enact(assembly.rotation(before, after), [...founders, E], rotates);
  const index = indexOf(assembly, rotates);
  const retired = of.node(index);
  of.running[index] = undefined;
  await retired.stop();
  const fresh = of.node(await of.startAs(after, await assembly.open('fresh')));
  await assembly.wait(() => fresh.host.isValidator, 'the new keys have caught up');
  await assembly.signs(after);
  await assembly.signs(seat);
  await assembly.agree(t);
  t.equal(of.node(0).executor.head.validators.length, 4);
});

t.test('a candidate that is not there stays an observer, and no quorum waits for it', async (t) => {
  const assembly = new Assembly(t, { readyTtlMs: 1_500 });
  await assembly.start();
  const founders = [A, B, C];
  const seat = seatOf('e');
  await assembly.found(seat, founders);
  await assembly.enact(assembly.admission(seat), founders);
  const add: Proposal = { kind: 'addValidator', orgId: E, address: seat.validator.address };
  const id = await assembly.vote(add, founders);
  await assembly.wait(() => assembly.status(id) === 'awaitingReady', 'the delay is over');
  await assembly.work();
  t.same(assembly.orgs(), [A, B, C, D]);
  await assembly.wait(
    () => assembly.status(id) === 'failed CANDIDATE_NOT_READY',
    'its time is over, on an idle chain too',
  );

  // Its node comes up late: asked once more, it is there.
  await assembly.of.startAs(seat, await assembly.open('e'));
  const again = await assembly.vote(add, founders);
  await assembly.wait(() => /effective|failed/.test(assembly.status(again)), 'decided');
  t.equal(assembly.status(again), 'effective');
  t.same(assembly.orgs(), [A, B, C, D, E]);
  await assembly.agree(t);
});

t.test('a vote that would leave too few is refused', async (t) => {
  const assembly = new Assembly(t);
  await assembly.start();
  const proposal: Proposal = { kind: 'removeValidator', orgId: D };
  await t.rejects(assembly.vote(proposal, [A, B, C]), { message: /^SET_TOO_SMALL/ });
  await assembly.work();
});

t.test('who saw two votes that exclude each other brings them onto the chain', async (t) => {
  const assembly = new Assembly(t);
  await assembly.start();
  await assembly.work();
  const { validator, orgId } = founder(assembly, D);
  const { chainId } = assembly.of.net;
  const signed = (name: string) => {
    const digest = H('test-digest', utf8(name));
    return { digest, signature: validator.sign(voteSigningHash(chainId, 'prepare', 1, 3, digest)) };
  };
  const member = assembly.via.executor.head.validators.find((v) => v.orgId === orgId);
  if (member === undefined) throw new Error('no such validator');
  const equivocation = {
    validator: 0,
    vote: 'prepare' as const,
    height: 1,
    view: 3,
    first: signed('one'),
    second: signed('two'),
  };
  for (const node of assembly.of.nodes()) node.evidence.add({ equivocation, validator: member });
  const key = stateKey.evidence(validator.address, 1, 'prepare');
  await assembly.wait(() => assembly.read(evidenceEntry, key) !== undefined, 'evidence on chain');
  t.match(assembly.read(evidenceEntry, key), { orgId: D, view: 3 });
  await assembly.wait(
    () => assembly.of.nodes().every((node) => node.evidence.pending().length === 0),
    'settled by all',
  );
  t.same(assembly.orgs(), [A, B, C, D], 'and nobody is expelled');
  await assembly.work();
  await assembly.agree(t);
});

t.test(
  'a light client and a custodian that slept over changes of the set follow them, and believe nothing else',
  async (t) => {
    const assembly = new Assembly(t);
    const { of } = assembly;
    await assembly.start();
    await assembly.work();
    const { genesis, chainId } = of.net;
    const chain = createChainPort({ store: assembly.via.store, executor: assembly.via.executor, host: assembly.via });
    const blocks = { resolve: ({ height }: { height: number }) => Promise.resolve(height) };
    const handlers = chainHandlers({ ports: { chain }, blocks } as unknown as Service);
    const shown: string[] = [];
    const rpc = {
      call: (method: 'light_getBundle' | 'chain_getCommit', params: never) => {
        shown.push(method);
        return handlers[method](params, undefined as never);
      },
    } as unknown as RpcClient;
    const node = {
      ...genesis,
      chainId,
      genesis,
      validators: genesis.validators,
      nodeId: new Uint8Array(20),
      origin: '',
    };
    const engine = createOpensslEngine();
    const view = new ChainView(rpc, node, engine);
    await view.header(1);

    const seat = seatOf('e');
    const founders = [A, B, C];
    await of.startAs(seat, await assembly.open('e'));
    await assembly.found(seat, founders);
    await assembly.enact(assembly.admission(seat), founders);
    await assembly.enact({ kind: 'addValidator', orgId: E, address: seat.validator.address }, founders);
    await assembly.work();
    const between = assembly.via.executor.head.height;
    await assembly.enact({ kind: 'removeValidator', orgId: D }, [A, B, C, E]);
    await assembly.work();
    await assembly.work();
    const { height, hash } = assembly.via.executor.head;

    t.same((await view.header(height)).hash, hash);
    t.same(view.validators.map(({ orgId }) => orgId).sort(), [A, B, C, E]);
    t.equal((await view.header(between)).header.height, between, 'and heights of the sets between');
    t.equal((await view.header(2)).header.height, 2);
    t.equal(shown.filter((method) => method === 'light_getBundle').length, 1, 'in one answer');
    const other = chain.handovers.bind(chain);
    chain.handovers = async (from, limit) =>
      (await other(from, limit)).map((step) => ({ ...step, nextValidators: [...genesis.validators] }));
    await t.rejects(
      new ChainView(rpc, node, engine).header(height),
      { code: 'PROOF_INVALID' },
      'another set than was named',
    );
    chain.handovers = other;

    const head = await chain.header(height);
    const certificate = await chain.certificate(height);
    const handovers = await chain.handovers(1, 10);
    t.equal(handovers.length, 2);
    if (head === null || certificate === null) throw new Error('no head');
    const proof = { handovers: [...handovers], head: { header: encodeHeader(head.header), certificate } };
    const trusted = { chainId, fromHeight: 1, validators: genesis.validators };
    const seen = (set: typeof trusted) => ({ trusted: set, seenHeight: 0, last: null, genesis: null });
    const followed = judgeHead(proof, seen(trusted), engine);
    if (!followed.ok) throw new Error(followed.message);
    t.match(judgeHead({ ...proof, handovers: [] }, seen(trusted), engine), { ok: false, code: 'WRONG_VALIDATOR_SET' });
    const now = followed.value.trusted as typeof trusted;
    t.ok(judgeHead({ ...proof, handovers: [] }, seen(now), engine).ok, 'it keeps what it learned');
    t.ok(judgeHead(proof, seen(now), engine).ok, 'and passes over what it knows');
    const forged = {
      ...proof,
      handovers: [{ ...(handovers[0] as Handover), nextValidators: [...genesis.validators] }],
    };
    t.match(judgeHead(forged, seen(trusted), engine), { ok: false, code: 'WRONG_VALIDATOR_SET' });
  },
);

t.test('a node whose members are all away asks the configured peers, and lets go of them afterwards', async (t) => {
  const { genesis } = consortium();
  const state = new Map(genesisWrites(genesis).map(({ key, value }) => [bytesToHex(key), value]));
  let away = true;
  let nowMs = 0;
  let tick: () => void = () => {};
  let members: readonly Member[] = [];
  const watch = new MemberWatch({
    clock: {
      nowMs: () => nowMs,
      after: (_ms, action) => {
        tick = action;
        return () => {};
      },
    },
    log: silentLog,
    network: {
      setMembers: (set) => void (members = set),
      peers: () =>
        members.map(
          (member) => ({ member, connected: !away }) as unknown as ReturnType<EmrNode['network']['peers']>[number],
        ),
    },
    self: genesis.validators[0]?.address as Uint8Array,
    bootstrap: ['12D3KooWstranger', genesis.validators[1]?.peerId as string],
    state: () => ({ get: (key) => state.get(bytesToHex(key)) ?? undefined, range: () => [] }),
  });
  watch.start();
  t.same(
    members.map(({ role }) => role),
    Array(4).fill('validator'),
    'the chain says who is a member',
  );
  nowMs = 9_999;
  tick();
  t.equal(members.length, 4, 'not for a moment without the others');
  nowMs = 10_000;
  tick();
  t.match(members[4], { peerId: '12D3KooWstranger', role: 'bootstrap', orgId: '' });
  t.equal(members.length, 5, 'a member is no stranger');
  away = false;
  nowMs = 11_000;
  tick();
  t.equal(members.length, 4, 'a quorum of its own set is there again');
  watch.stop();
});

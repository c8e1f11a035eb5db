import t from 'tap';
import { hexToBytes } from '../../common/bytes.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import type { Call } from '../../common/protocol/transaction.ts';
import type { CheckedTransaction } from '../../vm/types.ts';
import { Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { TransactionGossip } from '../../node/mempool/gossip.ts';
import { Mempool } from '../../node/mempool/mempool.ts';
import { Pool, type PoolEntry, type PoolLimits } from '../../node/mempool/pool.ts';
import { decodeFrame, encodeFrame } from '../../node/mempool/transaction-frame.ts';
import type { Member } from '../../node/network/types.ts';
import { openChainStore } from '../../node/storage/chain-store.ts';
import { type RawTransaction, TransactionChecker } from '../../node/verification/transaction-checker.ts';
import { Verifier } from '../../node/verification/verifier.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { commitOne } from '../integration/node-chain.ts';
import { ManualClock } from '../integration/node-clock.ts';
import {
  consortium,
  enrolPatient,
  type Hospital,
  signCall,
  type TestTransaction,
} from '../integration/node-consortium.ts';
import { flipBit, mustFail } from '../integration/node-expect.ts';

const net = consortium();
const raw = ({ bytes }: TestTransaction): RawTransaction => ({ bytes, sidecar: null });

/** Keeps its verdicts to itself until it is let go. */
class HeldChecker extends TransactionChecker {
  #held: Promise<void> = Promise.resolve();

  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#held = promise;
    return resolve;
  }

  override async checkMany(...of: Parameters<TransactionChecker['checkMany']>) {
    const held = this.#held;
    const verdicts = await super.checkMany(...of);
    await held;
    return verdicts;
  }
}

async function open(limits: Partial<PoolLimits> = {}) {
  const store = await openChainStore(new SimulatedDisk().open(), net.genesis, () => genesisBlock(net.genesis));
  const executor = Executor.open(store);
  const clock = new ManualClock(Date.now());
  const spread: RawTransaction[] = [];
  const checker = new HeldChecker(net.chainId, new Verifier(createWasmEngine()));
  let located = 0;
  const mempool = new Mempool({
    clock,
    limits: { maxTransactions: 100, maxBytes: 1024 * 1024, ...limits },
    checker,
    simulate: (tx, nowMs) => executor.simulate(tx, nowMs),
    checkEnvelope: (tx, nowMs) => executor.checkEnvelope(tx, nowMs),
    locate: (hash) => {
      located += 1;
      return store.locateTx(hash);
    },
    spread: (tx) => spread.push(tx),
  });
  mempool.start();
  /** @param isTold whether the pool hears of it */
  const commit = async (txs: readonly TestTransaction[], isTold = true): Promise<void> => {
    await commitOne(net, store, executor, txs);
    if (isTold) mempool.committed(txs.map((tx) => tx.hash));
  };
  return { mempool, clock, spread, commit, checker, located: () => located };
}

t.test('a transaction is pending, then committed, and taken once', async (t) => {
  const { mempool, spread, commit } = await open();
  const tx = enrolPatient(net);
  t.same(mempool.status(tx.hash), { kind: 'unknown' });
  const [first, second] = await Promise.all([mempool.submit(raw(tx)), mempool.submit(raw(tx))]);
  t.same(first, { ok: true, value: { hash: tx.hash } });
  t.equal(mustFail(second), 'ALREADY_PENDING');
  t.same(mempool.status(tx.hash), { kind: 'pending' });
  t.same(spread, [raw(tx)], 'the others hear of it once');
  t.equal(mempool.candidates(10, 1_000_000).length, 1);
  await commit([tx]);
  t.same(mempool.status(tx.hash), { kind: 'committed', height: 1, index: 0 });
  t.equal(mempool.size, 0);
  t.equal(mempool.bytes, 0);
  t.equal(mustFail(await mempool.submit(raw(tx))), 'ALREADY_COMMITTED');
});

t.test('what blocks take while its signature is being verified is known without asking the chain again', async (t) => {
  const { mempool, checker, commit, located } = await open();
  const [first, second, waiting, twice, last] = Array.from({ length: 5 }, (_, index) => enrolPatient(net, index % 4));
  const txs = [first, second, waiting, twice, last] as TestTransaction[];
  const letClientGo = checker.hold();
  const client = mempool.admit([...txs, txs[3] as TestTransaction].map(raw), null);
  const letPeerGo = checker.hold();
  const peer = mempool.admit(txs.slice(1, 4).map(raw), 'peer');
  await commit(txs.slice(0, 1));
  await commit([txs[1], enrolPatient(net)] as TestTransaction[]);
  t.equal(located(), 9);
  letClientGo();
  const codes = (verdicts: Awaited<typeof client>) => verdicts.map((verdict) => (verdict.ok ? 'OK' : verdict.code));
  t.same(codes(await client), ['ALREADY_COMMITTED', 'ALREADY_COMMITTED', 'OK', 'OK', 'OK', 'ALREADY_PENDING']);
  t.equal(located(), 9, 'although blocks were committed');
  letPeerGo();
  t.same(codes(await peer), ['ALREADY_COMMITTED', 'ALREADY_PENDING', 'ALREADY_PENDING']);
  t.equal(located(), 10, 'once more for what came twice');
  t.equal(mempool.size, 3);
  await commit(txs.slice(2));
  t.equal(mempool.size, 0);
  t.same(codes(await mempool.admit(txs.map(raw), 'peer')), Array(5).fill('ALREADY_COMMITTED'));
});

t.test('one that comes again while it is under check, and ends after the block that has it', async (t) => {
  const { mempool, checker, commit } = await open();
  const tx = enrolPatient(net);
  const letGo = [checker.hold()];
  const first = mempool.submit(raw(tx));
  letGo.push(checker.hold());
  const second = mempool.submit(raw(tx));
  letGo[0]?.();
  t.ok((await first).ok);
  await commit([tx]);
  letGo[1]?.();
  t.equal(mustFail(await second), 'ALREADY_COMMITTED');
  t.equal(mempool.size, 0);
});

t.test('a transaction of a block that the pool has yet to hear of', async (t) => {
  const { mempool, checker, commit } = await open();
  const tx = enrolPatient(net);
  const letGo = checker.hold();
  const submitted = mempool.submit(raw(tx));
  await commit([tx], false);
  letGo();
  t.equal(mustFail(await submitted), 'ALREADY_COMMITTED');
  mempool.committed([tx.hash]);
  t.equal(mempool.size, 0);
});

t.test('those that have waited so long are found as by a look at all', (t) => {
  const pool = new Pool({ maxTransactions: 1_000, maxBytes: 1_000 });
  const keysOf = (entries: Iterable<PoolEntry>) => Array.from(entries, ({ key }) => key);
  const add = (index: number, receivedMs: number) =>
    pool.add({
      key: `${index}`,
      account: 'account',
      priority: index % 7 === 0 ? 'urgent' : 'normal',
      sizeBytes: 1,
      receivedMs,
    } as PoolEntry);
  // They came before the clock went back by an hour.
  for (let index = 0; index < 20; index += 1) add(index, 3_600_000 + index * 10);
  for (let index = 20; index < 300; index += 1) add(index, 10_000 + (index >> 1) * 10);
  for (let nowMs = 10_000; nowMs <= 14_000; nowMs += 70) {
    const all = [...pool.entries()].filter(({ receivedMs }) => nowMs - receivedMs >= 1_500);
    t.same(keysOf(pool.waiting(1_500, nowMs)), keysOf(all));
  }
  for (const { key } of pool.waiting(1_500, 14_000)) pool.remove(key);
  t.equal(pool.size, 20, 'and may be removed on the way');
  t.end();
});

t.test('what a peer sends is not gossiped again', async (t) => {
  const { mempool, spread } = await open();
  const verdicts = await mempool.admit([enrolPatient(net), enrolPatient(net)].map(raw), 'peer');
  t.ok(verdicts.every((v) => v.ok));
  t.equal(mempool.size, 2);
  t.same(spread, []);
});

t.test('what does not execute is refused with the code of execution', async (t) => {
  const { mempool } = await open();
  t.equal(mustFail(await mempool.submit(raw(enrolPatient(net, 0, { validUntilMs: 1 })))), 'TX_EXPIRED');
  const wrongChain = { ...net, chainId: new Uint8Array(32) };
  t.equal(mustFail(await mempool.submit(raw(enrolPatient(wrongChain)))), 'CHAIN_ID_MISMATCH');
  const forged = flipBit(enrolPatient(net).bytes, 3000);
  t.notOk((await mempool.submit({ bytes: forged, sidecar: null })).ok);
  t.equal(mempool.size, 0);
  t.equal(mempool.rejections.get('TX_EXPIRED'), 1);
});

t.test('one account cannot fill the pool, nor a flood keep a revocation out', async (t) => {
  const { mempool } = await open({ maxTransactions: 16 });
  const fill = async (index: number) => mempool.submit(raw(enrolPatient(net, index)));
  t.ok((await fill(0)).ok);
  t.ok((await fill(0)).ok);
  t.equal(mustFail(await fill(0)), 'ACCOUNT_QUOTA', 'an eighth of the pool');
  const small = await open({ maxTransactions: 4 });
  for (let index = 0; index < 3; index += 1) t.ok((await small.mempool.submit(raw(enrolPatient(net, index)))).ok);
  t.equal(mustFail(await small.mempool.submit(raw(enrolPatient(net, 3)))), 'POOL_FULL');
  const { admin, orgId } = net.hospitals[3] as Hospital;
  const tight = signCall(net.chainId, admin, revokeRole(admin.address, orgId));
  t.ok((await small.mempool.submit(raw(tight))).ok, 'urgent ones have a reserve');
  const first = small.mempool.candidates(1, 1_000_000)[0];
  t.same(first?.tx.hash, tight.hash, 'and go first');
});

const revokeRole = (account: Uint8Array, orgId: string): Call => ({
  kind: 'role.revoke',
  scope: { account, role: 'physician', orgId, department: null },
});

t.test('what expires while it waits is dropped, and its submitter can ask why', async (t) => {
  const { mempool, clock } = await open();
  const heard: string[] = [];
  mempool.onDropped(({ code }) => heard.push(code));
  const tx = enrolPatient(net, 0, { validUntilMs: clock.nowMs() + 1_500 });
  t.ok((await mempool.submit(raw(tx))).ok);
  clock.advance(1_000);
  t.same(mempool.status(tx.hash), { kind: 'pending' });
  clock.advance(3_000);
  t.match(mempool.status(tx.hash), { kind: 'dropped', code: 'TX_EXPIRED' });
  t.same(heard, ['TX_EXPIRED']);
});

t.test('what a leader finds not to execute is dropped', async (t) => {
  const { mempool } = await open();
  const tx = enrolPatient(net);
  await mempool.submit(raw(tx));
  const [candidate] = mempool.candidates(1, 1_000_000);
  mempool.reject([{ tx: candidate as never, code: 'ROLE_MISSING', message: 'gone' }]);
  t.match(mempool.status(tx.hash), { kind: 'dropped', code: 'ROLE_MISSING' });
});

t.test("a peer's transaction that needs the next block gets a second look after it", async (t) => {
  const { mempool, commit } = await open();
  const { admin, orgId } = net.hospitals[1] as Hospital;
  const scope = { account: admin.address, role: 'nurse' as const, orgId, department: null };
  const grant = signCall(net.chainId, (net.hospitals[1] as Hospital).admin, { kind: 'role.revoke', scope });
  const [verdict] = await mempool.admit([raw(grant)], 'peer');
  const code = mustFail(verdict as never);
  t.match(code, /ROLE/);
  t.same(mempool.status(grant.hash), { kind: 'pending' }, 'kept aside');
  t.equal(mempool.size, 0);
  for (let block = 0; block < 3; block += 1) await commit([enrolPatient(net)]);
  t.same(mempool.status(grant.hash), { kind: 'unknown' }, 'and forgotten when the next blocks do not help');
});

t.test(
  'a busy node believes a member that a transaction executes, and looks for itself when it is busy no more',
  async (t) => {
    const { mempool, commit } = await open({ maxTransactions: 1_000 });
    const waiting = Array.from({ length: 64 }, (_, index) => enrolPatient(net, index % 4));
    await Promise.all(waiting.map((tx) => mempool.submit(raw(tx))));
    t.ok(mempool.isBusy);
    const expired = enrolPatient(net, 0, { validUntilMs: 1 });
    const [late] = await mempool.admit([raw(expired)], 'peer');
    t.equal(mustFail(late as never), 'TX_EXPIRED', 'what the envelope says is looked at');
    const idle = unexecutable();
    const [taken] = await mempool.admit([raw(idle)], 'peer');
    t.ok(taken?.ok);
    t.equal(mempool.size, 65);
    t.match(mustFail(await mempool.submit(raw(unexecutable()))), /ROLE/, 'a client hears at once');
    await commit(waiting.slice(0, 1));
    t.equal(mempool.size, 64, 'still busy');
    await commit(waiting.slice(1));
    t.equal(mempool.size, 0, 'nothing is left that makes a block due');
    t.same(mempool.status(idle.hash), { kind: 'pending' }, 'the second look that it would have had');
    for (let block = 0; block < 3; block += 1) await commit([enrolPatient(net)]);
    t.same(mempool.status(idle.hash), { kind: 'unknown' });
  },
);

t.test('a member whose transactions fail again and again is not believed', async (t) => {
  const { mempool } = await open({ maxTransactions: 1_000 });
  await Promise.all(Array.from({ length: 64 }, (_, index) => mempool.submit(raw(enrolPatient(net, index % 4)))));
  for (let failure = 0; failure < 64; failure += 1) {
    const [verdict] = await mempool.admit([raw(unexecutable())], 'liar');
    t.ok(verdict?.ok, `believed ${failure}`);
    const [first] = mempool.candidates(1, 1_000_000) as [CheckedTransaction];
    mempool.reject([{ tx: first, code: 'ROLE_MISSING', message: 'as the leader found' }]);
  }
  const [verdict] = await mempool.admit([raw(unexecutable())], 'liar');
  t.match(mustFail(verdict as never), /ROLE/);
  const [other] = await mempool.admit([raw(unexecutable())], 'peer');
  t.ok(other?.ok, 'others are');
});

/** Revokes a role that its account does not have. Revocations go first. */
const unexecutable = (): TestTransaction => {
  const { admin, orgId } = net.hospitals[1] as Hospital;
  const scope = { account: admin.address, role: 'nurse' as const, orgId, department: null };
  return signCall(net.chainId, admin, { kind: 'role.revoke', scope });
};

t.test('empty and not empty are announced once each', async (t) => {
  const { mempool, commit } = await open();
  let changes = 0;
  mempool.onChange(() => (changes += 1));
  const [one, two] = [enrolPatient(net), enrolPatient(net)];
  await mempool.submit(raw(one));
  await mempool.submit(raw(two));
  t.equal(changes, 1);
  await commit([one]);
  t.equal(changes, 1);
  await commit([two]);
  t.equal(changes, 2);
});

t.test('a batch is passed on by those who reach a member that its sender does not', async (t) => {
  const { mempool, clock, spread } = await open();
  const member = (index: number): Member => ({
    peerId: `peer-${index}`,
    orgId: `org-${index}`,
    role: 'validator',
    address: new Uint8Array(20).fill(index),
  });
  const [sender, reached, away] = [member(1), member(2), member(3)];
  const published: Uint8Array[] = [];
  let judge: (from: Member, payload: Uint8Array) => unknown = () => undefined;
  const network = {
    publish: (_topic: string, payload: Uint8Array) => void published.push(payload),
    audience: () => ({ reached: [sender, reached], unreached: [away] }),
    onGossip: (_topic: string, handler: typeof judge) => void (judge = handler),
    onRequest: () => undefined,
    request: () => {
      throw new Error('nothing is asked for');
    },
  };
  const gossip = new TransactionGossip(mempool, { clock, network, validatorPeers: () => [] });
  gossip.start();
  t.teardown(() => gossip.stop());
  const heard = (unreached: readonly Member[]) => {
    const addresses = unreached.map(({ address }) => address);
    return judge(sender, encodeFrame({ unreached: addresses, transactions: [raw(enrolPatient(net))] }));
  };
  t.equal(await heard([]), 'keep');
  t.equal(await heard([away]), 'keep', 'nor does this node reach it: it may be off');
  t.equal(await heard([away, reached]), 'accept');
  t.equal(await heard([member(9)]), 'keep', 'no member as far as this node knows');
  t.equal(mempool.size, 4);

  gossip.spread(raw(enrolPatient(net)));
  clock.advance(1);
  const [own] = published.map((payload) => decodeFrame(payload));
  t.same(own?.ok && own.value.unreached, [away.address]);
  t.same(spread, [], 'what a member sent is not spread by the pool');
});

t.test('frames of transactions are strict', async (t) => {
  const transactions = [raw(enrolPatient(net)), { bytes: Uint8Array.of(1), sidecar: Uint8Array.of(2) }];
  const frame = { unreached: [new Uint8Array(20)], transactions };
  const bytes = encodeFrame(frame);
  t.same(decodeFrame(bytes), { ok: true, value: frame });
  t.equal(mustFail(decodeFrame(bytes.slice(0, -1))), 'MALFORMED');
  t.equal(mustFail(decodeFrame(new Uint8Array(200_000))), 'TOO_LARGE');
  t.equal(
    mustFail(decodeFrame(hexToBytes('a269756e72656163686564806c7472616e73616374696f6e7380'))),
    'MALFORMED',
    'an empty frame',
  );
});

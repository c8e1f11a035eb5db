/** The small parts of replication: who holds what, whose turn it is, what is remembered, and what stops a node. */
import t from 'tap';
import { EmrError, InvariantError } from '../../common/errors.ts';
import type { BlobIndex, IndexWrite } from '../../node/ipfs/blob-store.ts';
import { isFault } from '../../node/replication/blob-context.ts';
import { BlobRecords, type NamedBlob } from '../../node/replication/blob-records.ts';
import { FairQueue } from '../../node/replication/fair-queue.ts';
import { PeerSlots } from '../../node/replication/peer-slots.ts';
import { replicaOrder, standbyMs } from '../../node/replication/placement.ts';
import { MemoryIndex } from '../contract/ipfs-memory-index.ts';

const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('everybody computes the same order, and a member that leaves moves nobody else', async (t) => {
  const orgs = Array.from({ length: 12 }, (_, i) => `hospital-${i}`);
  const first = new Map<string, number>();
  for (let i = 0; i < 600; i += 1) {
    const cid = Uint8Array.from([i >> 8, i & 0xff]);
    const order = replicaOrder(cid, 'hospital-3', orgs);
    if (order.length !== 11 || order.includes('hospital-3')) t.fail('the writer is in its own order');
    const [head = ''] = order;
    first.set(head, (first.get(head) ?? 0) + 1);
    const shuffled = replicaOrder(cid, 'hospital-3', [...orgs].reverse());
    const without = replicaOrder(
      cid,
      'hospital-3',
      orgs.filter((org) => org !== head),
    );
    if (shuffled.join() !== order.join() || without.join() !== order.slice(1).join()) t.fail('the order moved');
  }
  t.equal(first.size, 11);
  t.ok(
    [...first.values()].every((count) => count > 20 && count < 110),
    'and the load is spread',
  );
  t.same(replicaOrder(filled(36, 1), 'only', ['only']), [], 'alone there is nobody to hold it');
  t.equal(standbyMs(3, 4_000), 12_000);
});

t.test('nobody keeps everybody else waiting', async (t) => {
  const queue = new FairQueue({ running: 3, runningPerGroup: 2, waitingPerGroup: 4 });
  const started: string[] = [];
  const ends = new Map<string, () => void>();
  const offer = (group: string, name: string): boolean =>
    queue.offer(group, () => {
      started.push(name);
      return new Promise((resolve) => ends.set(name, resolve));
    });
  t.same(
    ['a1', 'a2', 'a3', 'a4', 'a5', 'a6', 'a7'].map((name) => offer('a', name)),
    [true, true, true, true, true, true, false],
    'two run, four wait, the rest is refused',
  );
  t.same(started, ['a1', 'a2']);
  t.same([offer('b', 'b1'), offer('b', 'b2'), offer('c', 'c1')], [true, true, true]);
  t.same(started, ['a1', 'a2', 'b1'], 'another group has its place, however many of the first wait');
  for (const name of ['a1', 'a2']) ends.get(name)?.();
  await tick();
  t.same(started.slice(3).sort(), ['a3', 'b2'], 'and groups take turns');
  ends.get('b1')?.();
  await tick();
  t.equal(started.at(-1), 'c1');
  const closed = queue.close();
  t.equal(offer('d', 'd1'), false, 'nothing is taken any more');
  for (const end of ends.values()) end();
  await tick();
  for (const end of ends.values()) end();
  await closed;
  t.equal(started.length, 6, 'what waited is not started');
});

t.test('a peer is asked so much at a time, and failures free the place', async (t) => {
  const slots = new PeerSlots();
  let running = 0;
  let most = 0;
  const ask = (peer: string, fail: boolean): Promise<unknown> =>
    slots
      .run(peer, async () => {
        running += 1;
        most = Math.max(most, running);
        await tick();
        running -= 1;
        if (fail) throw new Error('away');
      })
      .catch(() => undefined);
  await Promise.all(Array.from({ length: 50 }, (_, i) => ask('a', i % 2 === 0)));
  t.equal(most, 8);
  most = 0;
  await Promise.all(Array.from({ length: 32 }, (_, i) => ask(i % 2 === 0 ? 'a' : 'b', false)));
  t.equal(most, 16, 'each peer for itself');
});

const named = (height: number, digest: number, cid = 1): NamedBlob => ({
  cid: filled(36, cid),
  recordId: filled(32, height),
  version: 1,
  orgId: 'hospital-a',
  sizeBytes: 1000,
  dataDigest: filled(32, digest),
  height,
});

/** An index that dies in the middle of things. */
class DyingIndex extends MemoryIndex implements BlobIndex {
  writesLeft = Number.MAX_SAFE_INTEGER;

  override async write(writes: readonly IndexWrite[]): Promise<void> {
    if (this.writesLeft === 0) throw new Error('power is gone');
    this.writesLeft -= 1;
    if (writes.length > 1_100) throw new Error('more than the index takes at once');
    return super.write(writes);
  }
}

t.test('what records say about a CID, whoever says it', async (t) => {
  const records = new BlobRecords(new MemoryIndex());
  const honest = named(7, 200);
  await records.commit(7, [honest]);
  // Somebody names the same CID a hundred times, with digests that sort before the honest one.
  for (let height = 8; height < 108; height += 1) await records.commit(height, [named(height, height)]);
  t.equal((await records.named(honest.cid)).length, 64, 'bounded');
  t.same((await records.named(honest.cid))[0], honest, 'the first stays the first');
  t.equal(await records.isNamed(honest), true);
  t.equal(await records.isNamed(named(0, 107)), true, 'and each is known by its digest, however many there are');
  t.equal(await records.isNamed(named(0, 250)), false);
  t.equal(await records.isNamed(named(0, 200, 2)), false);
  t.equal((await records.open(1_000)).length, 101);
  await records.settle(honest);
  t.equal((await records.open(1_000)).length, 100, 'settled one by one');
  t.same(await records.named(filled(36, 9)), []);
});

t.test('a block is noted whole, however often it is interrupted', async (t) => {
  const blobs = Array.from({ length: 1_200 }, (_, i) => ({ ...named(5, i % 256), cid: filled(36, i % 250) }));
  const whole = new BlobRecords(new MemoryIndex());
  await whole.commit(5, blobs);
  for (let writes = 0; writes < 5; writes += 1) {
    const index = new DyingIndex();
    index.writesLeft = writes;
    const records = new BlobRecords(index);
    await t.rejects(records.commit(5, blobs));
    t.equal(await records.cursor(), 0, `after ${writes} writes the block is still to come`);
    index.writesLeft = Number.MAX_SAFE_INTEGER;
    await records.commit(5, blobs);
    t.equal(await records.cursor(), 5);
    t.same(await records.open(2_000), await whole.open(2_000), 'and then as if nothing had been');
    t.same(await records.named(filled(36, 3)), await whole.named(filled(36, 3)));
  }
});

t.test('receipts that come at a time do not lose one another', async (t) => {
  const records = new BlobRecords(new MemoryIndex());
  const name = named(1, 1);
  const receiptOf = (i: number, atMs = 1) => ({
    orgId: `org-${i}`,
    holder: filled(20, i),
    signature: filled(64, i),
    atMs,
  });
  await Promise.all(Array.from({ length: 20 }, (_, i) => records.addReceipt(name, receiptOf(i))));
  t.equal((await records.receipts(name)).length, 20);
  await records.addReceipt(name, receiptOf(3, 99));
  t.equal((await records.receipts(name)).length, 20, 'one of each organisation');
  t.equal((await records.receipts(name)).at(-1)?.atMs, 99, 'the newest');
  for (let i = 20; i < 60; i += 1) await records.addReceipt(name, receiptOf(i));
  t.equal((await records.receipts(name)).length, 31, 'never more than there can be members');
  t.same(await records.receipts(named(1, 2)), [], 'and none for another digest');
});

t.test('who uploaded, once', async (t) => {
  const records = new BlobRecords(new MemoryIndex());
  const cid = filled(36, 1);
  await records.noteUpload(cid, { account: filled(20, 1), orgId: 'hospital-a' }, filled(32, 9));
  await records.noteUpload(cid, { account: filled(20, 2), orgId: 'hospital-a' }, filled(32, 9));
  t.same((await records.upload(cid))?.account, filled(20, 1), 'who sends the same bytes later takes nothing over');
  await records.noteUpload(filled(36, 2), { account: filled(20, 2), orgId: 'hospital-a' }, filled(32, 8));
  t.same(await records.uploads(10), [cid, filled(36, 2)]);
  t.same(await records.uploads(10, cid), [filled(36, 2)]);
  await records.forgetUpload(cid);
  t.equal(await records.upload(cid), undefined);
  t.same(await records.digest(cid), filled(32, 9), 'its digest is what it is');
  await records.forgetBytes(filled(36, 2));
  t.equal(await records.digest(filled(36, 2)), undefined);
});

t.test('what stops the node, and what does not', async (t) => {
  const stops = [
    new TypeError('a bug'),
    new InvariantError('a broken promise'),
    new EmrError('STORAGE_FAILED', 'the database'),
    new EmrError('DATA_CORRUPT', 'the database'),
    new EmrError('IPFS_FAILED', 'the disk', { reason: 'EIO' }),
    new EmrError('IPFS_FAILED', 'the disk', { reason: 'EROFS' }),
  ];
  const goesOn = [
    new EmrError('IPFS_FAILED', 'the daemon', { status: 500, reason: 'pin: not found' }),
    ...['IPFS_UNAVAILABLE', 'IPFS_BUSY', 'IPFS_STORAGE_FULL', 'BLOB_BUSY', 'BLOB_INCOMPLETE', 'BLOCK_CORRUPT'].map(
      (code) => new EmrError(code, 'for now'),
    ),
    ...['PEER_UNAVAILABLE', 'PEER_TIMEOUT', 'PEER_PROTOCOL', 'STOPPING'].map((code) => new EmrError(code, 'others')),
    new EmrError('PEER_REFUSED', 'a peer that calls itself our disk', { code: 'STORAGE_FAILED' }),
  ];
  for (const error of stops) t.equal(isFault(error), true, `${error.name} ${error.message}`);
  for (const error of goesOn) t.equal(isFault(error), false, error.code);
});

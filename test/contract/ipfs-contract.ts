/**
 * The contract of the blob store, run by every implementation: what is stored comes back, under the CID that anybody
 * computes; what a peer or a record makes up is refused; nothing is left behind that nobody answers for.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { exporter } from 'ipfs-unixfs-exporter';
import { CID } from 'multiformats/cid';
import type { Test } from 'tap';
import { computeCid } from '../../common/native/unixfs-cid.ts';
import { CHUNK_SIZE_BYTES, DAG_PB_CODEC, dagLimitsFor, dagShape, nodeShape } from '../../common/unixfs-layout.ts';
import type { BlobStore, Blockstore, GetBlockFromPeer } from '../../node/ipfs/blob-store.ts';
import { FETCH_FAULTS } from '../../node/ipfs/blob-store.ts';
import { UnixfsBlobStore } from '../../node/ipfs/unixfs-blob-store.ts';
import { PeerBlocks, collect, digestOf, fileOf, leaf, linkTo, node, peerWith, repetitiveFile } from './ipfs-files.ts';
import type { Block } from './ipfs-files.ts';
import { MemoryIndex } from './ipfs-memory-index.ts';

const CHUNK = CHUNK_SIZE_BYTES;

/** One implementation: a fresh, empty blockstore, and the same one opened again as after a restart. */
export interface Subject {
  readonly blocks: Blockstore;
  reopen(): Promise<Blockstore>;
  /** Changes a bit of a stored block where it lies, behind the blockstore's back. */
  damage(cid: CID): Promise<void>;
}

interface Fixture {
  readonly store: BlobStore;
  readonly blocks: Blockstore;
  readonly index: MemoryIndex;
  readonly clock: { nowMs: number };
  readonly damage: Subject['damage'];
  /** The store as a new process finds it, `index` as the crash left it. */
  restart(index?: MemoryIndex): Promise<BlobStore>;
}

export function blobStoreContract(t: Test, makeSubject: (t: Test) => Promise<Subject>): void {
  async function open(t: Test): Promise<Fixture> {
    const subject = await makeSubject(t);
    const index = new MemoryIndex();
    const clock = { nowMs: 1_000_000 };
    const nowMs = (): number => clock.nowMs;
    const opened: BlobStore[] = [];
    const start = async (blocks: Blockstore, from: MemoryIndex): Promise<BlobStore> => {
      const store = await UnixfsBlobStore.open({ blocks, index: from, nowMs });
      opened.push(store);
      return store;
    };
    const store = await start(subject.blocks, index);
    t.teardown(async () => {
      for (const each of opened) await each.close();
      // The next case may run on the same daemon: what this one kept must not be there any more.
      const sweeper = await UnixfsBlobStore.open({ blocks: await subject.reopen(), index });
      await sweeper.gcStaged({ olderThanMs: 0, nowMs: Number.MAX_SAFE_INTEGER });
      for (const { cid } of await sweeper.list({ limit: 1_000 })) await sweeper.remove(cid);
      await sweeper.close();
    });
    return {
      store,
      blocks: subject.blocks,
      index,
      clock,
      damage: (cid) => subject.damage(cid),
      restart: async (from = index) => start(await subject.reopen(), from),
    };
  }

  async function present(blocks: Blockstore, those: readonly Block[]): Promise<number> {
    const sizes = await Promise.all(those.map(({ cid }) => blocks.sizeOf(cid)));
    return sizes.filter((size) => size !== undefined).length;
  }

  t.test('a file of any size has the CID that everybody computes, and comes back whole', async (t) => {
    const { store, blocks } = await open(t);
    for (const sizeBytes of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]) {
      const added = await store.add(fileOf(sizeBytes));
      t.same(added, await computeCid(fileOf(sizeBytes)), `${sizeBytes} bytes: summary`);
      const content = await collect(fileOf(sizeBytes));
      t.ok((await collect(store.cat(added.cid))).equals(content), `${sizeBytes} bytes: content`);
      t.match(await store.stat(added.cid), { ...dagShape(sizeBytes), state: 'staged' });
      t.ok(await store.has(added.cid));
      // The reader of the IPFS project must find the same file in our blocks.
      const source = {
        async *get(cid: CID): AsyncGenerator<Uint8Array> {
          const bytes = await blocks.get(cid);
          if (bytes !== undefined) yield bytes;
        },
      };
      const entry = await exporter(added.cid, source);
      const read = 'content' in entry ? await collect(entry.content()) : Buffer.from('no file');
      t.ok(read.equals(content), `${sizeBytes} bytes: read by ipfs-unixfs-exporter`);
    }
  });

  t.test('a tree of two levels', async (t) => {
    const { store } = await open(t);
    const sizeBytes = 174 * CHUNK + 1;
    const added = await store.add(repetitiveFile(sizeBytes));
    t.equal(added.depth, 2);
    t.ok(added.cid.equals((await computeCid(repetitiveFile(sizeBytes))).cid));
    t.equal(await digestOf(store.cat(added.cid)), Buffer.from(added.dataDigest).toString('hex'));
    t.equal((await collect(store.cat(added.cid, { offsetBytes: 174 * CHUNK - 1 }))).length, 2);
  });

  t.test('ranges', async (t) => {
    const { store } = await open(t);
    const sizeBytes = 2 * CHUNK + 7;
    const { cid } = await store.add(fileOf(sizeBytes));
    const content = await collect(fileOf(sizeBytes));
    const ranges: [number, number][] = [
      [0, 0],
      [0, 1],
      [CHUNK - 1, 2],
      [CHUNK, CHUNK],
      [5, 2 * CHUNK],
      [2 * CHUNK, 100],
      [sizeBytes, 5],
      [0, Number.MAX_SAFE_INTEGER],
    ];
    for (const [offsetBytes, lengthBytes] of ranges) {
      const got = await collect(store.cat(cid, { offsetBytes, lengthBytes }));
      t.ok(got.equals(content.subarray(offsetBytes, offsetBytes + lengthBytes)), `${offsetBytes} + ${lengthBytes}`);
    }
    for (const bad of [
      { offsetBytes: sizeBytes + 1 },
      { offsetBytes: -1 },
      { lengthBytes: -1 },
      { offsetBytes: 0.5 },
    ]) {
      await t.rejects(collect(store.cat(cid, bad)), { code: 'RANGE_INVALID' }, JSON.stringify(bad));
    }
    const reader = store.cat(cid)[Symbol.asyncIterator]();
    t.match(await reader.next(), { done: false });
    await reader.return?.();
    await t.rejects(collect(store.cat(leaf(Buffer.from('absent')).cid)), { code: 'BLOB_NOT_FOUND' });
  });

  t.test('an upload that does not end well leaves nothing', async (t) => {
    const { store, blocks, index } = await open(t);
    const { blocks: those } = await peerWith(fileOf(12 * CHUNK));
    await t.rejects(store.add(fileOf(3 * CHUNK), { maxSizeBytes: 3 * CHUNK - 1 }), { code: 'BLOB_TOO_LARGE' });

    async function* failing(): AsyncGenerator<Uint8Array> {
      yield* fileOf(6 * CHUNK);
      throw new Error('the connection broke');
    }
    await t.rejects(store.add(failing()), /connection broke/);

    const stop = new AbortController();
    async function* stopped(): AsyncGenerator<Uint8Array> {
      for await (const piece of fileOf(12 * CHUNK)) {
        yield piece;
        if (index.size > 5) stop.abort(new Error('the client left'));
      }
    }
    await t.rejects(store.add(stopped(), { signal: stop.signal }), /client left/);

    t.equal(await present(blocks, those), 0, 'no block');
    t.equal(index.size, 0, 'no bookkeeping');
    t.same(store.usage(), { blobCount: 0, stagedBytes: 0, pinnedBytes: 0, openBytes: 0 });
  });

  t.test('a blob comes from a peer block by block', async (t) => {
    const { store } = await open(t);
    for (const [index, sizeBytes] of [0, 1, CHUNK, CHUNK + 20, 20 * CHUNK + 30].entries()) {
      const { peer, summary } = await peerWith(fileOf(sizeBytes, 100 + index));
      const fetched = await store.fetchDag(summary.cid, dagLimitsFor(sizeBytes), peer.get);
      t.match(fetched, { ok: true, value: { ...dagShape(sizeBytes), state: 'staged' } });
      t.equal(peer.asked.length, summary.blockCount, 'each block asked for once');
      t.equal(await digestOf(store.cat(summary.cid)), Buffer.from(summary.dataDigest).toString('hex'));
      t.match(await store.fetchDag(summary.cid, dagLimitsFor(sizeBytes), peer.get), { ok: true });
      t.equal(peer.asked.length, summary.blockCount, 'nothing asked for what is here');
    }
  });

  t.test('a record that lies is refused, and nothing of it stays', async (t) => {
    const { store, blocks, index } = await open(t);
    const full = leaf(await collect(fileOf(CHUNK, 3)));
    const rest = leaf(await collect(fileOf(10, 3)));
    const sizeBytes = 3 * CHUNK + 10;
    const honest = [linkTo(full), linkTo(full), linkTo(full), linkTo(rest)];
    const long = leaf(await collect(fileOf(CHUNK + 1, 4)));
    const lies: [string, Block, Block[], string][] = [
      [
        'a larger file than declared',
        node([...honest.slice(0, 3), linkTo(full), linkTo(rest)]),
        [],
        'DAG_EXCEEDS_DECLARED',
      ],
      [
        'a last leaf longer than claimed',
        node([...honest.slice(0, 3), { cid: full.cid, size: 10, tsize: 10 }]),
        [full],
        'DAG_EXCEEDS_DECLARED',
      ],
      [
        'a leaf of more than a chunk',
        node([{ cid: long.cid, size: CHUNK, tsize: CHUNK }, ...honest.slice(1)]),
        [long, full, rest],
        'DAG_EXCEEDS_DECLARED',
      ],
      [
        'a leaf shorter than claimed',
        node([{ cid: rest.cid, size: CHUNK, tsize: CHUNK }, ...honest.slice(1)]),
        [rest, full],
        'DAG_MALFORMED',
      ],
      [
        'a cumulative size that lies',
        node([...honest.slice(0, 3), { ...linkTo(rest), tsize: 9 }]),
        [],
        'DAG_MALFORMED',
      ],
    ];
    for (const [name, root, rest, code] of lies) {
      const peer = new PeerBlocks();
      for (const block of [root, ...rest]) peer.put(block);
      t.match(await store.fetchDag(root.cid, dagLimitsFor(sizeBytes), peer.get), { ok: false, code }, name);
      t.equal(FETCH_FAULTS[code], 'record');
      t.equal(await present(blocks, [root, ...rest]), 0, `${name}: no block stays`);
      t.equal(index.size, 0, `${name}: no bookkeeping stays`);
    }

    // Two levels: the second subtree is larger than the root claims for it.
    const large = 174 * CHUNK + 1;
    const { peer, blocks: those } = await peerWith(repetitiveFile(large, 5));
    const subtree = those.find(({ cid, bytes }) => cid.code === DAG_PB_CODEC && bytes.length > 1_000)!;
    const { fullChild, lastChild } = nodeShape(2, large);
    const deep = peer.put(
      node([
        { cid: subtree.cid, size: fullChild.sizeBytes, tsize: fullChild.dagSizeBytes },
        { cid: subtree.cid, size: lastChild.sizeBytes, tsize: lastChild.dagSizeBytes },
      ]),
    );
    const verdict = await store.fetchDag(deep, dagLimitsFor(large), peer.get, { parallelism: 16 });
    t.match(verdict, { ok: false, code: 'DAG_EXCEEDS_DECLARED' }, 'a subtree that expands');
    t.equal(await present(blocks, those), 0);
    t.equal(index.size, 0);

    const here = await store.add(fileOf(CHUNK + 1, 6));
    const tooSmall = await store.fetchDag(here.cid, dagLimitsFor(CHUNK), peer.get);
    t.match(tooSmall, { ok: false, code: 'DAG_EXCEEDS_DECLARED' }, 'a file that is here, declared smaller');
    t.ok(await store.has(here.cid), 'and is not touched by that');
  });

  t.test('a peer that lies or fails; another one goes on where it stopped', async (t) => {
    const { store, blocks, restart, index } = await open(t);
    const sizeBytes = 6 * CHUNK + 1;
    const { peer, summary, blocks: those } = await peerWith(fileOf(sizeBytes, 7));
    const limits = dagLimitsFor(sizeBytes);
    const victim = those[4]!.cid;
    const liar = new PeerBlocks();
    for (const block of those) liar.put(block);
    liar.lie(victim, Buffer.from('something else'));
    t.match(await store.fetchDag(summary.cid, limits, liar.get, { parallelism: 1 }), {
      ok: false,
      code: 'BLOCK_HASH_MISMATCH',
    });
    t.equal(FETCH_FAULTS['BLOCK_HASH_MISMATCH'], 'peer');
    liar.lie(victim, Buffer.alloc(2 * CHUNK + 1));
    t.match(await store.fetchDag(summary.cid, limits, liar.get, { parallelism: 1 }), {
      ok: false,
      code: 'BLOCK_TOO_LARGE',
    });
    t.notOk(await store.has(summary.cid));
    t.equal(await store.stat(summary.cid), undefined);
    const before = await present(blocks, those);
    t.ok(before >= 5, 'what was fetched stays for the next try');
    t.ok(store.usage().openBytes > 4 * CHUNK);

    const again = await restart();
    t.equal(again.usage().openBytes, store.usage().openBytes, 'and is known after a restart');
    const gone: GetBlockFromPeer = async () => {
      throw new Error('nobody has it');
    };
    await t.rejects(again.fetchDag(summary.cid, limits, gone), /nobody has it/);
    t.match(await again.fetchDag(summary.cid, limits, peer.get), { ok: true });
    t.equal(peer.asked.length, those.length - before, 'only what was missing is asked for');
    t.equal(await digestOf(again.cat(summary.cid)), Buffer.from(summary.dataDigest).toString('hex'));
    t.equal(again.usage().openBytes, 0);
    t.ok(await again.remove(summary.cid));
    t.equal(index.size, 0);
  });

  t.test('a fetch is ended by its signal, even when the peer does not listen', async (t) => {
    const { store } = await open(t);
    const { peer, summary } = await peerWith(fileOf(4 * CHUNK, 8));
    const stop = new AbortController();
    const deaf: GetBlockFromPeer = async (cid, signal) => {
      if (cid.code === DAG_PB_CODEC) return peer.get(cid, signal);
      setImmediate(() => stop.abort(new Error('no more')));
      return new Promise(() => {});
    };
    const limits = dagLimitsFor(4 * CHUNK);
    const running = store.fetchDag(summary.cid, limits, deaf, { signal: stop.signal });
    await t.rejects(store.fetchDag(summary.cid, limits, deaf), { code: 'BLOB_BUSY' }, 'one fetch of a blob at a time');
    await t.rejects(running, /no more/);
    t.ok(await store.remove(summary.cid), 'what it left can be removed by the CID');
    t.same(store.usage(), { blobCount: 0, stagedBytes: 0, pinnedBytes: 0, openBytes: 0 });
  });

  t.test('removal leaves what another blob shares', async (t) => {
    const { store, blocks, index } = await open(t);
    async function* both(seed: number): AsyncGenerator<Uint8Array> {
      yield* fileOf(CHUNK, 9);
      yield* fileOf(CHUNK, seed);
    }
    const left = await peerWith(both(10));
    const right = await peerWith(both(11));
    await store.add(both(10));
    await store.add(both(11));
    const shared = left.blocks[0]!.cid;
    t.ok(shared.equals(right.blocks[0]!.cid));
    t.same(
      new Set((await store.rootsOf(shared)).map(String)),
      new Set([left, right].map(({ summary }) => summary.cid.toString())),
    );

    t.ok(await store.remove(left.summary.cid));
    t.notOk(await store.remove(left.summary.cid));
    t.notOk(await store.has(left.summary.cid));
    t.equal(await present(blocks, left.blocks), 1, 'only the shared block is left');
    t.ok(await store.has(right.summary.cid));
    t.equal(await digestOf(store.cat(right.summary.cid)), await digestOf(both(11)));
    t.same((await store.rootsOf(shared)).map(String), [right.summary.cid.toString()]);

    t.ok(await store.remove(right.summary.cid));
    t.equal(await present(blocks, right.blocks), 0);
    t.equal(index.size, 0);
  });

  t.test('the same file at the same time, and again', async (t) => {
    const { store, blocks, index } = await open(t);
    const { blocks: those, summary } = await peerWith(fileOf(2 * CHUNK + 1, 12));
    const added = await Promise.all([1, 2, 3].map(() => store.add(fileOf(2 * CHUNK + 1, 12))));
    t.ok(added.every(({ cid }) => cid.equals(summary.cid)));
    t.match(store.usage(), { blobCount: 1, stagedBytes: summary.dagSizeBytes, openBytes: 0 });
    await store.pin(summary.cid);
    await store.add(fileOf(2 * CHUNK + 1, 12));
    t.match(await store.stat(summary.cid), { state: 'pinned' }, 'stays pinned');
    t.ok(await store.has(summary.cid));

    await Promise.all([store.remove(summary.cid), store.add(fileOf(2 * CHUNK + 1, 12)).catch(() => {})]);
    const isThere = (await store.stat(summary.cid)) !== undefined;
    t.equal(await store.has(summary.cid), isThere, 'removed and added at once: whole or gone');
    await store.remove(summary.cid);
    t.equal(await present(blocks, those), 0);
    t.equal(index.size, 0);
  });

  t.test('staged blobs are collected, pinned ones stay', async (t) => {
    const { store, clock } = await open(t);
    const old = await store.add(fileOf(10, 13));
    const kept = await store.add(fileOf(CHUNK + 1, 14));
    await store.pin(kept.cid);
    const half = await peerWith(fileOf(3 * CHUNK, 15));
    let calls = 0;
    await t.rejects(
      store.fetchDag(half.summary.cid, dagLimitsFor(3 * CHUNK), async (cid, signal) => {
        if (++calls > 2) throw new Error('gone');
        return half.peer.get(cid, signal);
      }),
      /gone/,
    );
    clock.nowMs += 60_000;
    const fresh = await store.add(fileOf(10, 16));
    t.same(await store.gcStaged({ olderThanMs: 60_000, nowMs: clock.nowMs }), { removedCount: 0 }, 'not old enough');
    t.same(await store.gcStaged({ olderThanMs: 59_999, nowMs: clock.nowMs }), { removedCount: 2 });
    t.notOk(await store.has(old.cid));
    t.ok(await store.has(kept.cid));
    t.ok(await store.has(fresh.cid));
    t.same(store.usage(), {
      blobCount: 2,
      stagedBytes: fresh.dagSizeBytes,
      pinnedBytes: kept.dagSizeBytes,
      openBytes: 0,
    });
    await t.rejects(store.pin(old.cid), { code: 'BLOB_NOT_FOUND' });
  });

  t.test('what is listed, page by page', async (t) => {
    const { store } = await open(t);
    const cids: string[] = [];
    for (let seed = 20; seed < 25; seed++) cids.push((await store.add(fileOf(seed, seed))).cid.toString());
    cids.sort();
    const listed: string[] = [];
    for (let after: CID | undefined; ;) {
      const page = await store.list(after === undefined ? { limit: 2 } : { limit: 2, after });
      listed.push(...page.map(({ cid }) => cid.toString()));
      after = page.at(-1)?.cid;
      if (after === undefined) break;
    }
    t.same(listed, cids);
  });

  t.test('blocks are given out only as parts of blobs', async (t) => {
    const { store, blocks } = await open(t);
    const stray = leaf(Buffer.from('something else that the hospital keeps in the same place'));
    await blocks.put(stray.cid, stray.bytes);
    t.teardown(() => blocks.delete([stray.cid]));
    t.equal(await store.getBlock(stray.cid), undefined);
    const { summary, blocks: those } = await peerWith(fileOf(CHUNK + 9, 26));
    await store.add(fileOf(CHUNK + 9, 26));
    for (const { cid, bytes } of those) t.ok(Buffer.compare((await store.getBlock(cid))!, bytes) === 0);
    t.same((await store.rootsOf(those[0]!.cid)).map(String), [summary.cid.toString()]);
    t.same(await store.rootsOf(stray.cid), []);
    const other = CID.createV1(0x71, summary.cid.multihash);
    t.equal(await store.getBlock(other), undefined, 'another codec is another CID');
  });

  t.test('a missing block is noticed, and fetched again', async (t) => {
    const { store, blocks } = await open(t);
    const { peer, summary, blocks: those } = await peerWith(fileOf(2 * CHUNK + 1, 27));
    await store.add(fileOf(2 * CHUNK + 1, 27));
    await store.pin(summary.cid);
    // Kubo deletes no pinned block, as it should be: the pin goes first.
    await blocks.unprotect(summary.cid);
    await blocks.delete([those[1]!.cid]);
    t.notOk(await store.has(summary.cid));
    await t.rejects(collect(store.cat(summary.cid)), { code: 'BLOB_INCOMPLETE' });
    await t.rejects(store.pin(summary.cid), { code: 'BLOB_INCOMPLETE' });
    t.match(await store.fetchDag(summary.cid, dagLimitsFor(2 * CHUNK + 1), peer.get), { ok: true });
    t.same(peer.asked, [those[1]!.cid.toString()]);
    t.match(await store.stat(summary.cid), { state: 'pinned' });
    await t.resolves(store.pin(summary.cid));
    t.equal(await digestOf(store.cat(summary.cid)), Buffer.from(summary.dataDigest).toString('hex'));
  });

  t.test('a damaged block is noticed, and fetched again', async (t) => {
    const { store, damage } = await open(t);
    const sizeBytes = 174 * 2 + CHUNK;
    const { peer, summary, blocks: those } = await peerWith(fileOf(sizeBytes, 31));
    await store.add(fileOf(sizeBytes, 31));
    await store.pin(summary.cid);
    for (const { cid } of those) {
      await damage(cid);
      await t.rejects(store.getBlock(cid), { code: 'BLOCK_CORRUPT' });
      t.notOk(await store.has(summary.cid), 'it counts as missing from then on');
      t.match(await store.fetchDag(summary.cid, dagLimitsFor(sizeBytes), peer.get), { ok: true });
      t.ok(await store.has(summary.cid));
    }
    t.same(
      peer.asked,
      those.map(({ cid }) => cid.toString()),
    );
    t.match(await store.stat(summary.cid), { state: 'pinned' });
    t.equal(await digestOf(store.cat(summary.cid)), Buffer.from(summary.dataDigest).toString('hex'));
  });

  t.test('a restart in the middle of an upload or a removal', async (t) => {
    const { store, blocks, index, restart } = await open(t);
    const { blocks: those, summary } = await peerWith(fileOf(4 * CHUNK, 28));
    const stop = new AbortController();
    let crashed: MemoryIndex | undefined;
    async function* interrupted(): AsyncGenerator<Uint8Array> {
      yield* fileOf(4 * CHUNK, 28);
      // The importer asks for more while the first blocks are being written: now some are on disk.
      while ((await present(blocks, those)) < 2) await nextTurn();
      crashed = index.copy();
      stop.abort(new Error('end of the process'));
    }
    await t.rejects(store.add(interrupted(), { signal: stop.signal }), /end of the process/);
    // As if the process had ended before it could clean up.
    for (const { cid, bytes } of those.slice(0, 2)) await blocks.put(cid, bytes);
    t.ok(crashed!.size > 0);
    await restart(crashed);
    t.equal(await present(blocks, those), 0, 'the next start cleans up');
    t.equal(crashed!.size, 0);

    await store.add(fileOf(4 * CHUNK, 28));
    await store.pin(summary.cid);
    const holder = (await index.list('h/', 1))[0]!;
    const leaving = { ...(JSON.parse(Buffer.from(holder.value).toString()) as object), state: 'leaving' };
    await index.write([
      { kind: 'put', key: holder.key, value: Buffer.from(JSON.stringify(leaving)) },
      { kind: 'del', key: `r/${summary.cid.toString()}` },
    ]);
    await restart();
    t.equal(await present(blocks, those), 0, 'the next start ends the removal');
    t.equal(index.size, 0);
  });

  t.test('a closed store ends what runs and takes nothing more', async (t) => {
    const { store, index } = await open(t);
    const { cid } = await store.add(fileOf(CHUNK + 1, 29));
    const before = index.size;
    async function* endless(): AsyncGenerator<Uint8Array> {
      yield* fileOf(CHUNK, 30);
      await new Promise(() => {});
    }
    const adding = t.rejects(store.add(endless()), { code: 'IPFS_CLOSED' });
    await nextTurn();
    await store.close();
    await adding;
    t.equal(index.size, before);
    await t.rejects(store.add(fileOf(1)), { code: 'IPFS_CLOSED' });
    await t.rejects(collect(store.cat(cid)), { code: 'IPFS_CLOSED' });
    await t.rejects(store.has(cid), { code: 'IPFS_CLOSED' });
  });

  t.test('the number of uploads at a time is bounded', async (t) => {
    const { store } = await open(t);
    const stop = new AbortController();
    async function* waiting(): AsyncGenerator<Uint8Array> {
      await new Promise(() => {});
      yield new Uint8Array(0);
    }
    const adding = Array.from({ length: 16 }, () => store.add(waiting(), { signal: stop.signal }).catch(() => {}));
    await t.rejects(store.add(fileOf(1)), { code: 'IPFS_BUSY' });
    stop.abort();
    await Promise.all(adding);
    await t.resolves(store.add(fileOf(1)));
  });
}

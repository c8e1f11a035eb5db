/** npm run bench -- storage: what the database takes for a block, and for what is read while blocks are made. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { openLevelStore } from '../../node/storage/level-store.ts';
import type { Write } from '../../node/storage/key-value-store.ts';
import { type Case, interleaved } from '../../scripts/bench/measure.ts';
import { inWorkFolder } from './load/work-folder.ts';

const ROUNDS = 20;
/** Entries that are there before: some 120 MB, more than the database's cache holds. */
const ENTRIES = 300_000;
const VALUE_BYTES = 400;
const READS = 200;
const FILLED_AT_ONCE = 10_000;

const bytes = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

/** 33 bytes, in no order. */
function keyOf(index: number): Uint8Array {
  const key = new Uint8Array(33);
  const view = new DataView(key.buffer);
  key[0] = 0x20;
  view.setUint32(1, Math.imul(index, 0x9e3779b1));
  view.setUint32(5, index);
  return key;
}

const put = (index: number): Write => ({ type: 'put', key: keyOf(index), value: bytes(VALUE_BYTES) });

await inWorkFolder(async (dir) => {
  const kv = await openLevelStore(join(dir, 'db'));
  for (let first = 0; first < ENTRIES; first += FILLED_AT_ONCE) {
    const writes = Array.from({ length: FILLED_AT_ONCE }, (_, n) => put(first + n));
    await kv.write(writes, { sync: false });
  }
  let next = ENTRIES;
  let batch: Write[] = [];
  const writing = (puts: number, sync: boolean): Case => ({
    name: `a batch of ${puts} entries of ${VALUE_BYTES} bytes, ${sync ? 'synced' : 'not synced'}`,
    operations: 1,
    prepare: () => {
      batch = Array.from({ length: puts }, () => put(next++));
    },
    run: () => kv.write(batch, { sync }),
  });
  let keys: Uint8Array[] = [];
  const reading = (name: string, pick: () => number, run: () => void | Promise<void>): Case => ({
    name,
    operations: READS,
    prepare: () => {
      keys = Array.from({ length: READS }, () => keyOf(pick()));
    },
    run,
  });
  const anywhere = (): number => Math.floor(Math.random() * ENTRIES);
  const readAll = (): void => keys.forEach((key) => kv.getSync(key));
  const { rows } = await interleaved(
    [
      writing(1, true),
      writing(100, true),
      writing(1_000, true),
      writing(5_000, true),
      writing(1_000, false),
      reading('read at once (getSync), of a few that are read often', () => anywhere() % 1_000, readAll),
      reading('read at once (getSync), anywhere', anywhere, readAll),
      reading('read at once (getSync), what is not there', () => 2 * ENTRIES + 50_000_000 + anywhere(), readAll),
      reading('read by a promise (get), anywhere, one after the other', anywhere, async () => {
        for (const key of keys) await kv.get(key);
      }),
      {
        name: 'a scan of 100 entries',
        operations: 1,
        run: async () => void (await kv.scan({ gte: keyOf(anywhere()), lt: Uint8Array.of(0x21), limit: 100 })),
      },
    ],
    ROUNDS,
  );
  await kv.close();
  process.stdout.write(JSON.stringify({ rows, ratios: [] }));
});

/** What every implementation of the key-value port owes the node, whatever lies under it. */
import type { Test } from 'tap';
import type { KeyValueStore } from '../../node/storage/key-value-store.ts';

const at = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes);
const put = (key: Uint8Array, value: Uint8Array) => ({ type: 'put' as const, key, value });
const del = (key: Uint8Array) => ({ type: 'del' as const, key });

export interface StorageUnderTest {
  /** Opens the same data as before, or none the first time. */
  open(): Promise<KeyValueStore>;
}

export function storageContract(t: Test, make: () => Promise<StorageUnderTest>): void {
  t.test('gives back what was written, as plain byte arrays', async (t) => {
    const store = await (await make()).open();
    await store.write([put(at(1, 1), at(7)), put(at(1, 2), at())], { sync: false });
    t.same(store.getSync(at(1, 1)), at(7));
    t.same(await store.get(at(1, 2)), at(), 'an empty value is a value');
    t.equal(store.getSync(at(1, 3)), undefined);
    t.equal(await store.get(at(1, 3)), undefined);
    t.equal(Object.getPrototypeOf(store.getSync(at(1, 1))), Uint8Array.prototype, 'no Buffer leaves the store');
    await store.close();
  });

  t.test('scans in order of unsigned bytes, within bounds', async (t) => {
    const store = await (await make()).open();
    const keys = [at(0x30, 0xff), at(0x30), at(0x30, 0x00), at(0x2f, 0xff), at(0x31), at(0x30, 0x7f, 0x00)];
    await store.write(
      keys.map((key) => put(key, key)),
      { sync: true },
    );
    const range = { gte: at(0x30), lt: at(0x31) };
    const found = await store.scan({ ...range, limit: 10 });
    t.same(
      found.map((e) => e.key),
      [at(0x30), at(0x30, 0x00), at(0x30, 0x7f, 0x00), at(0x30, 0xff)],
    );
    t.same(
      (await store.scan({ ...range, limit: 2, reverse: true })).map((e) => e.key),
      [at(0x30, 0xff), at(0x30, 0x7f, 0x00)],
    );
    await store.close();
  });

  t.test('a batch is applied in order and whole', async (t) => {
    const store = await (await make()).open();
    await store.write([put(at(1), at(1)), put(at(2), at(2))], { sync: true });
    await store.write([del(at(1)), put(at(2), at(3)), put(at(3), at(3))], { sync: true });
    t.same([store.getSync(at(1)), store.getSync(at(2)), store.getSync(at(3))], [undefined, at(3), at(3)]);
    await store.close();
  });

  t.test('is there again after it was closed', async (t) => {
    const disk = await make();
    const first = await disk.open();
    await first.write([put(at(9), at(9))], { sync: true });
    await first.close();
    await t.rejects(first.get(at(9)), { code: 'STORAGE_CLOSED' });
    const second = await disk.open();
    t.same(second.getSync(at(9)), at(9));
    await second.close();
  });
}

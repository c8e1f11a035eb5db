/** SM3 over ciphertext that is here, remembered, and computed without keeping consensus waiting. */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { CID } from 'multiformats/cid';
import type { BlobContext } from './blob-context.ts';

/** SM3 of a MiB takes some 3 ms, in which a vote would have to wait; of this much, 0.2 ms. */
const SLICE_BYTES = 64 * 1024;

/** @throws EmrError those of `BlobStore.cat` */
export async function digestOf({ records, store, stopped }: BlobContext, cid: CID): Promise<Uint8Array> {
  const known = await records.digest(cid.bytes);
  if (known !== undefined) return known;
  const hash = createHash('sm3');
  for await (const chunk of store.cat(cid, { signal: stopped })) {
    for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
      hash.update(chunk.subarray(at, at + SLICE_BYTES));
      await setImmediate();
    }
  }
  const digest = new Uint8Array(hash.digest());
  await records.noteDigest(cid.bytes, digest);
  return digest;
}

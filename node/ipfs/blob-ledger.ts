/**
 * Who holds which block: the bookkeeping that makes removal safe when blobs share blocks, and a crash harmless.
 *
 * A *holder* is one upload, one fetch, or the blob that came of it. Its claim on a block is written before the block
 * is, and goes only after the block is deleted or another holder was seen to have it; so no block on disk is ever
 * without a holder, and whatever a crash leaves can be found and undone from here alone.
 *
 * Keys: `h/<holder>` the holder; `r/<cid>` the holder of a finished blob; `o/<cid>` of a fetch under way;
 * `b/<holder>/<cid>` its blocks with their length; `d/<sha2-256>/<holder>` the same the other way round.
 */

import { randomBytes } from 'node:crypto';
import { CID } from 'multiformats/cid';
import { bytesToHex } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
import type { DagShape } from '../../common/unixfs-layout.ts';
import type { BlobIndex, BlobState, BlobUsage, Blockstore, IndexWrite } from './blob-store.ts';
import { KeyedMutex } from './keyed-mutex.ts';

/** Blocks let go in one step: two index writes each, and one call to Kubo. */
const LET_GO_BATCH = 256;

/** Holders read at a time when the store opens, or is cleaned. */
const PAGE = 1_000;

export interface Holder {
  readonly id: string;
  /** `open`: being filled. `leaving`: being removed. Only the other two are blobs. */
  readonly state: 'open' | 'leaving' | BlobState;
  /** Text of the root CID; empty for an upload whose root is not known yet. */
  readonly root: string;
  readonly createdMs: number;
  /** Zeros until the holder has become a blob. */
  readonly shape: DagShape;
}

const NO_SHAPE: DagShape = { sizeBytes: 0, dagSizeBytes: 0, blockCount: 0, depth: 0 };
const EMPTY = new Uint8Array(0);

function put(key: string, value: Uint8Array = EMPTY): IndexWrite {
  return { kind: 'put', key, value };
}

function del(key: string): IndexWrite {
  return { kind: 'del', key };
}

function encodeHolder(holder: Holder): IndexWrite {
  return put(`h/${holder.id}`, new TextEncoder().encode(JSON.stringify(holder)));
}

function decodeHolder(value: Uint8Array): Holder {
  // Only this file writes these values, into the node's own database.
  return JSON.parse(new TextDecoder().decode(value)) as Holder;
}

function digestKey(cid: CID): string {
  return `d/${bytesToHex(cid.multihash.digest)}/`;
}

function lastPart(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1);
}

/** Claims written at once: all that 16 sessions of 4 to 16 blocks can have waiting. */
const MAX_CLAIMS = 256;

interface Claim {
  readonly holder: Holder;
  readonly cid: CID;
  readonly sizeBytes: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

type Tally = { -readonly [Field in keyof BlobUsage]: BlobUsage[Field] };

export class BlobLedger {
  readonly #index: BlobIndex;
  readonly #blocks: Blockstore;
  /** Claims and removals take turns: a block is never deleted between somebody's claim and his look at it. */
  readonly #turns = new KeyedMutex();
  /** Waiting to be written; at most one for each block in flight. */
  readonly #claims: Claim[] = [];
  readonly #tally: Tally = { blobCount: 0, stagedBytes: 0, pinnedBytes: 0, openBytes: 0 };

  constructor(index: BlobIndex, blocks: Blockstore) {
    this.#index = index;
    this.#blocks = blocks;
  }

  /** Counts what is there and undoes what a crash interrupted: uploads, and removals. Fetches stay, to be resumed. */
  async recover(): Promise<void> {
    for await (const holder of this.holders()) {
      if (holder.state === 'open') this.#tally.openBytes += await this.#heldBytes(holder);
      if (holder.state === 'leaving') await this.#blocks.unprotect(CID.parse(holder.root));
      if (holder.state === 'leaving' || (holder.state === 'open' && holder.root === '')) await this.letGo(holder);
      else this.#count(holder, 1);
    }
  }

  usage(): BlobUsage {
    return { ...this.#tally };
  }

  async *holders(): AsyncGenerator<Holder> {
    let after: string | undefined;
    for (;;) {
      const page = await this.#index.list('h/', PAGE, after);
      for (const entry of page) yield decodeHolder(entry.value);
      after = page.at(-1)?.key;
      if (page.length < PAGE || after === undefined) return;
    }
  }

  /** The holder of a finished blob. */
  async blob(root: CID): Promise<Holder | undefined> {
    return this.#byRoot(`r/${root.toString()}`);
  }

  /** The holder of a fetch that has not ended, if there is one. */
  async openFetch(root: CID): Promise<Holder | undefined> {
    return this.#byRoot(`o/${root.toString()}`);
  }

  async #byRoot(key: string): Promise<Holder | undefined> {
    const id = await this.#index.get(key);
    if (id === undefined) return undefined;
    const value = await this.#index.get(`h/${new TextDecoder().decode(id)}`);
    // Two reads: a removal may come in between.
    return value === undefined ? undefined : decodeHolder(value);
  }

  /** Finished blobs in the order of their root's text, after `after`. */
  async page(after: CID | undefined, limit: number): Promise<Holder[]> {
    const entries = await this.#index.list('r/', limit, after === undefined ? undefined : `r/${after.toString()}`);
    const holders: Holder[] = [];
    for (const { value } of entries) {
      const holder = await this.#index.get(`h/${new TextDecoder().decode(value)}`);
      if (holder !== undefined) holders.push(decodeHolder(holder));
    }
    return holders;
  }

  /** A new holder for an upload, or, with a root, for a fetch. */
  async begin(nowMs: number, root?: CID): Promise<Holder> {
    const id = randomBytes(16).toString('hex');
    const holder: Holder = {
      id,
      state: 'open',
      root: root?.toString() ?? '',
      createdMs: nowMs,
      shape: NO_SHAPE,
    };
    const writes = [encodeHolder(holder)];
    if (root !== undefined) writes.push(put(`o/${holder.root}`, new TextEncoder().encode(id)));
    await this.#index.write(writes);
    return holder;
  }

  /** Claims a block, before it is looked for or written. */
  async hold(holder: Holder, cid: CID, sizeBytes: number): Promise<void> {
    const { promise: written, resolve, reject } = Promise.withResolvers<void>();
    this.#claims.push({ holder, cid, sizeBytes, resolve, reject });
    await this.#turns.run('claims', () => this.#writeClaims());
    await written;
  }

  /** Writes all claims that have come together: one sync for several, on a disk that consensus waits for as well. */
  async #writeClaims(): Promise<void> {
    const claims = this.#claims.splice(0, MAX_CLAIMS);
    const writes = new Map<string, IndexWrite>();
    let bytes = 0;
    try {
      for (const { holder, cid, sizeBytes } of claims) {
        const key = `b/${holder.id}/${cid.toString()}`;
        if (writes.has(key) || (await this.#index.get(key)) !== undefined) continue;
        const own = `${digestKey(cid)}${holder.id}`;
        writes.set(key, put(key, new TextEncoder().encode(String(sizeBytes)))).set(own, put(own));
        bytes += sizeBytes;
      }
      if (writes.size > 0) await this.#index.write([...writes.values()]);
      this.#tally.openBytes += bytes;
      for (const { resolve } of claims) resolve();
    } catch (error) {
      for (const { reject } of claims) reject(error);
    }
  }

  async isHeld(cid: CID): Promise<boolean> {
    return (await this.#index.list(digestKey(cid), 1)).length > 0;
  }

  /** Finished blobs that hold a block, at most `limit`. */
  async blobsWith(cid: CID, limit: number): Promise<Holder[]> {
    const found: Holder[] = [];
    for (const { key } of await this.#index.list(digestKey(cid), limit)) {
      const value = await this.#index.get(`h/${lastPart(key)}`);
      if (value === undefined) continue;
      const holder = decodeHolder(value);
      if (holder.state === 'staged' || holder.state === 'pinned') found.push(holder);
    }
    return found;
  }

  /** The holder has become a blob. The caller knows that there is none of this root yet. */
  async finish(holder: Holder, root: CID, shape: DagShape): Promise<Holder> {
    assert(holder.state === 'open', 'only an open holder becomes a blob');
    const openBytes = await this.#heldBytes(holder);
    const finished: Holder = { ...holder, state: 'staged', root: root.toString(), shape };
    await this.#index.write([
      encodeHolder(finished),
      put(`r/${finished.root}`, new TextEncoder().encode(holder.id)),
      del(`o/${finished.root}`),
    ]);
    this.#tally.openBytes -= openBytes;
    this.#count(finished, 1);
    return finished;
  }

  /** Keeps a blob for good, or begins its removal: from then on it is not found. */
  async turn(holder: Holder, state: 'pinned' | 'leaving'): Promise<Holder> {
    const changed: Holder = { ...holder, state };
    const writes = [encodeHolder(changed)];
    if (state === 'leaving') writes.push(del(`r/${changed.root}`));
    await this.#index.write(writes);
    this.#count(holder, -1);
    this.#count(changed, 1);
    return changed;
  }

  /** Undoes a holder: blocks that nobody else holds are deleted. Can be interrupted and repeated. */
  async letGo(holder: Holder): Promise<void> {
    assert(holder.state === 'open' || holder.state === 'leaving', 'a blob must be marked as leaving first');
    while (await this.#turns.run('claims', () => this.#letGoPage(holder)));
    const writes = [del(`h/${holder.id}`)];
    if (holder.state === 'open' && holder.root !== '') writes.push(del(`o/${holder.root}`));
    await this.#index.write(writes);
  }

  /** Lets some blocks go; false when there are none left. */
  async #letGoPage(holder: Holder): Promise<boolean> {
    const page = await this.#index.list(`b/${holder.id}/`, LET_GO_BATCH);
    if (page.length === 0) return false;
    const alone: CID[] = [];
    const writes: IndexWrite[] = [];
    let bytes = 0;
    for (const { key, value } of page) {
      const cid = CID.parse(lastPart(key));
      const own = `${digestKey(cid)}${holder.id}`;
      const holders = await this.#index.list(digestKey(cid), 2);
      if (holders.every((other) => other.key === own)) alone.push(cid);
      writes.push(del(key), del(own));
      bytes += Number(new TextDecoder().decode(value));
    }
    // Deleted first: after a crash in between, the claims are still there and this runs again.
    await this.#blocks.delete(alone);
    await this.#index.write(writes);
    if (holder.state === 'open') this.#tally.openBytes -= bytes;
    return true;
  }

  async #heldBytes(holder: Holder): Promise<number> {
    let bytes = 0;
    let after: string | undefined;
    for (;;) {
      const page = await this.#index.list(`b/${holder.id}/`, PAGE, after);
      for (const { value } of page) bytes += Number(new TextDecoder().decode(value));
      after = page.at(-1)?.key;
      if (page.length < PAGE || after === undefined) return bytes;
    }
  }

  #count(holder: Holder, sign: 1 | -1): void {
    if (holder.state === 'open' || holder.state === 'leaving') return;
    this.#tally.blobCount += sign;
    if (holder.state === 'staged') this.#tally.stagedBytes += sign * holder.shape.dagSizeBytes;
    else this.#tally.pinnedBytes += sign * holder.shape.dagSizeBytes;
  }
}

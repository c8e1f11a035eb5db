/**
 * Blocks in a Kubo daemon of the hospital, over its RPC API. Always offline: the daemon is asked for what it has, never
 * to look for it elsewhere. What it returns is checked against the hash by the caller, like any other block.
 *
 * Blobs are protected from the daemon's garbage collection by a recursive pin of our name. A pin of the hospital's own
 * on the same CID is left as it is, and blocks that it still pins are not deleted: Kubo refuses that itself.
 */

import type { CID } from 'multiformats/cid';
import { EmrError } from '../../common/errors.ts';
import { RAW_CODEC } from '../../common/unixfs-layout.ts';
import type { Blockstore } from './blob-store.ts';
import { saysNotFound } from './kubo-rpc.ts';
import type { KuboRpc } from './kubo-rpc.ts';

/** By this name our pins are known from the hospital's. */
const PIN_NAME = 'emrchain';

/** Pinning walks the DAG, deleting walks all pins: minutes in a large repository. */
const LONG_CALL_MS = 600_000;

export class KuboBlockstore implements Blockstore {
  readonly #rpc: KuboRpc;

  constructor(rpc: KuboRpc) {
    this.#rpc = rpc;
  }

  async put(cid: CID, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const cidCodec = cid.code === RAW_CODEC ? 'raw' : 'dag-pb';
    const stored = await this.#rpc.call((client, call) => {
      // A variable, since the client's type does not know `cidCodec`; it passes every option on.
      const options = { ...call, cidCodec, mhtype: 'sha2-256', pin: false };
      return client.block.put(bytes, options);
    }, signal);
    if (stored.toString() !== cid.toString()) {
      throw new EmrError('IPFS_FAILED', 'The Kubo daemon stored a block under another CID than its own.', {
        expected: cid.toString(),
        stored: stored.toString(),
      });
    }
  }

  async get(cid: CID, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    try {
      return await this.#rpc.call((client, call) => client.block.get(cid, call), signal);
    } catch (error) {
      if (saysNotFound(error)) return undefined;
      throw error;
    }
  }

  async sizeOf(cid: CID, signal?: AbortSignal): Promise<number | undefined> {
    try {
      return (await this.#rpc.call((client, call) => client.block.stat(cid, call), signal)).size;
    } catch (error) {
      if (saysNotFound(error)) return undefined;
      throw error;
    }
  }

  async delete(cids: readonly CID[]): Promise<void> {
    if (cids.length === 0) return;
    await this.#rpc.call(
      async (client, call) => {
        for await (const { cid, error } of client.block.rm([...cids], { ...call, force: true })) {
          if (error === undefined || error.message.startsWith('pinned')) continue;
          throw new EmrError('IPFS_FAILED', `The Kubo daemon could not delete a block: ${error.message}`, {
            block: cid.toString(),
          });
        }
      },
      undefined,
      LONG_CALL_MS,
    );
  }

  /** Kubo has no way to hide one block, and may skip writing what it thinks it has: a damaged one must go. */
  async setAside(cid: CID): Promise<void> {
    await this.delete([cid]);
  }

  async protect(root: CID, signal?: AbortSignal): Promise<void> {
    if ((await this.#pinOf(root, signal)) !== undefined) return;
    await this.#rpc.call(
      (client, call) => client.pin.add(root, { ...call, recursive: true, name: PIN_NAME }),
      signal,
      LONG_CALL_MS,
    );
  }

  async unprotect(root: CID): Promise<void> {
    if ((await this.#pinOf(root)) !== PIN_NAME) return;
    await this.#rpc.call((client, call) => client.pin.rm(root, { ...call, recursive: true }));
  }

  /** Name of the recursive pin on a root; empty when it has none; undefined when the root is not pinned. */
  async #pinOf(root: CID, signal?: AbortSignal): Promise<string | undefined> {
    try {
      return await this.#rpc.call(async (client, call) => {
        const options = { ...call, paths: [root], type: 'recursive' as const, names: true };
        for await (const pin of client.pin.ls(options)) return pin.name ?? '';
        return undefined;
      }, signal);
    } catch (error) {
      if (error instanceof EmrError && /is not pinned/.test(String(error.detail['reason']))) return undefined;
      throw error;
    }
  }

  async close(): Promise<void> {}
}

/**
 * Pulling a blob from peers, block by block, bounded in everything: size, number and depth by the limits, memory by
 * the number of blocks in flight. Decides nothing about where blocks are kept or whom they are asked from.
 *
 * The first block says how large the file claims to be; from then on the layout prescribes the length and the place of
 * every other. A record that lies is caught at the first block that differs, before that block is stored.
 */

import type { CID } from 'multiformats/cid';
import { accept } from '../../common/errors.ts';
import type { Verdict } from '../../common/errors.ts';
import { raceAbort } from '../../common/native/race-abort.ts';
import { nodeShape } from '../../common/unixfs-layout.ts';
import type { DagLimits, DagShape } from '../../common/unixfs-layout.ts';
import type { GetBlockFromPeer } from './blob-store.ts';
import { checkBlock, checkLeaf, checkNode, checkRoot } from './dag-node.ts';

/** What a fetch needs of the store it fills. */
export interface FetchTarget {
  /** The block if it is stored here already, checked against its hash. */
  read(cid: CID): Promise<Uint8Array | undefined>;
  /** Length of the stored block, undefined when absent. Only asked after `hold`. */
  sizeOf(cid: CID): Promise<number | undefined>;
  /** From now on nobody else's removal deletes this block. */
  hold(cid: CID, sizeBytes: number): Promise<void>;
  write(cid: CID, bytes: Uint8Array): Promise<void>;
}

export interface FetchRun {
  readonly limits: DagLimits;
  readonly getBlockFromPeer: GetBlockFromPeer;
  readonly target: FetchTarget;
  readonly parallelism: number;
  readonly signal: AbortSignal;
}

type Refusal = Extract<Verdict, { ok: false }>;

/** Runs at most `width` tasks at a time and stops all at the first that is refused or fails. */
class FetchPool {
  readonly #running = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  readonly #width: number;
  readonly signal: AbortSignal;
  #refusal: Refusal | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(width: number, outer: AbortSignal) {
    this.#width = width;
    this.signal = AbortSignal.any([outer, this.#stop.signal]);
  }

  get stopped(): boolean {
    return this.signal.aborted;
  }

  /** The first cause counts, refusal or failure; what follows are tasks that were told to stop. */
  refuse(refusal: Refusal): void {
    if (this.#failure === undefined) this.#refusal ??= refusal;
    this.#stop.abort();
  }

  fail(error: unknown): void {
    if (this.#refusal === undefined) this.#failure ??= { error };
    this.#stop.abort();
  }

  /** Returns when there is room for the next task. */
  async start(task: () => Promise<Verdict>): Promise<void> {
    const run = task()
      .then(
        (verdict) => {
          if (!verdict.ok) this.refuse(verdict);
        },
        (error: unknown) => this.fail(error),
      )
      .finally(() => this.#running.delete(run));
    this.#running.add(run);
    while (this.#running.size >= this.#width) await Promise.race(this.#running);
  }

  /** Waits for all; throws the failure or returns the refusal, if there was one. */
  async end(): Promise<Refusal | undefined> {
    await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure.error;
    return this.#refusal;
  }
}

/**
 * Fetches what is missing of `root`.
 * @returns the shape of the blob, every block of it stored and held; or the refusal
 * @throws what `getBlockFromPeer` or the target throws; the signal's reason
 */
export async function fetchTree(root: CID, run: FetchRun): Promise<Verdict<DagShape>> {
  const rootBlock = await obtain(root, run, run.signal);
  if (!rootBlock.ok) return rootBlock;
  const shape = checkRoot(root, rootBlock.value, run.limits);
  if (!shape.ok) return shape;
  await keep(root, rootBlock.value, run);
  if (shape.value.depth === 0) return shape;

  const pool = new FetchPool(run.parallelism, run.signal);
  await fetchChildren(rootBlock.value, shape.value.depth, shape.value.sizeBytes, run, pool).catch((error: unknown) =>
    pool.fail(error),
  );
  const refusal = await pool.end();
  run.signal.throwIfAborted();
  return refusal ?? shape;
}

/** Everything below one node that has been checked. Nodes in turn, leaves in the pool. */
async function fetchChildren(
  node: Uint8Array,
  level: number,
  sizeBytes: number,
  run: FetchRun,
  pool: FetchPool,
): Promise<void> {
  const children = checkNode(node, level, sizeBytes);
  if (!children.ok) return pool.refuse(children);
  const { childCount, fullChild, lastChild } = nodeShape(level, sizeBytes);
  for (const [index, cid] of children.value.entries()) {
    if (pool.stopped) return;
    const childSize = index === childCount - 1 ? lastChild.sizeBytes : fullChild.sizeBytes;
    if (level === 1) {
      await pool.start(() => fetchLeaf(cid, childSize, run, pool.signal));
      continue;
    }
    const block = await obtain(cid, run, pool.signal);
    if (!block.ok) return pool.refuse(block);
    const checked = checkNode(block.value, level - 1, childSize);
    if (!checked.ok) return pool.refuse(checked);
    await keep(cid, block.value, run);
    await fetchChildren(block.value, level - 1, childSize, run, pool);
  }
}

async function fetchLeaf(cid: CID, sizeBytes: number, run: FetchRun, signal: AbortSignal): Promise<Verdict> {
  await run.target.hold(cid, sizeBytes);
  if ((await run.target.sizeOf(cid)) === sizeBytes) return accept(undefined);
  const block = await fromPeer(cid, run, signal);
  if (!block.ok) return block;
  const fits = checkLeaf(block.value, sizeBytes);
  if (!fits.ok) return fits;
  await run.target.write(cid, block.value);
  return fits;
}

/** The block from here or from a peer, checked against its hash. */
async function obtain(cid: CID, run: FetchRun, signal: AbortSignal): Promise<Verdict<Uint8Array>> {
  const stored = await run.target.read(cid);
  return stored === undefined ? fromPeer(cid, run, signal) : accept(stored);
}

async function fromPeer(cid: CID, run: FetchRun, signal: AbortSignal): Promise<Verdict<Uint8Array>> {
  signal.throwIfAborted();
  // Raced: a peer function that ignores its signal must not keep a stopped fetch alive.
  return checkBlock(cid, await raceAbort(run.getBlockFromPeer(cid, signal), signal));
}

/** Held first, looked at second: in the other order a removal in between would delete what was seen. */
async function keep(cid: CID, bytes: Uint8Array, run: FetchRun): Promise<void> {
  await run.target.hold(cid, bytes.length);
  if ((await run.target.sizeOf(cid)) !== bytes.length) await run.target.write(cid, bytes);
}

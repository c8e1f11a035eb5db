/** Pages over a range of the state: one read, filtered by scope, with a sealed cursor. */
import type { Codec } from '../common/codec.ts';
import type { Call, Service } from './service.ts';
import { type At, atOf, type Entry, list } from './state-reads.ts';
import { DEFAULT_PAGE } from './methods/shapes.ts';
import { RpcError } from './errors.ts';

/** Entries that one page looks at where most may be out of scope. A page may then be short, and says where to go on. */
const SCANNED_ENTRIES = 1_000;

export interface PageQuery<E, I> {
  /** Names method and filters: a cursor is good for the same question only. */
  readonly question: string;
  readonly prefix: Uint8Array;
  readonly codec: Codec<E>;
  readonly limit: number | undefined;
  readonly cursor: string | undefined;
  /** Every entry is in scope and passes: no more is read than the page holds. */
  readonly whole: boolean;
  /** Null: out of scope, or filtered out. */
  readonly item: (entry: Entry<E>) => Promise<I | null> | I | null;
}

export interface Page<I> extends At {
  readonly items: readonly I[];
  readonly nextCursor: string | null;
}

export async function page<E, I>(service: Service, call: Call, query: PageQuery<E, I>): Promise<Page<I>> {
  const { reads, cursors } = service;
  const limit = query.limit ?? DEFAULT_PAGE;
  const after = query.cursor === undefined ? null : cursors.open(query.question, query.cursor);
  const { at, results } = await reads.read(
    list(query.codec, query.prefix, { limit: query.whole ? limit : SCANNED_ENTRIES, after }),
  );
  const { entries, more } = results[0];
  const items: I[] = [];
  let looked = 0;
  for (const entry of entries) {
    if (items.length === limit || call.signal.aborted) break;
    looked += 1;
    const item = await query.item(entry);
    if (item !== null) items.push(item);
  }
  const last = entries[looked - 1];
  const rest = more || looked < entries.length;
  return { items, nextCursor: rest && last ? cursors.seal(query.question, last.key) : null, ...atOf(at) };
}

/** Blocks come every few milliseconds at the most, and an attempt takes about one. */
const STABLE_ATTEMPTS = 8;

/**
 * Runs `attempt`, which puts an answer together from several reads, until all of them stood at one block.
 * @param attempt undefined when they did not
 * @throws RpcError CONFLICT
 */
export async function whileStable<R>(attempt: () => Promise<R | undefined>): Promise<R> {
  for (let tries = 0; tries < STABLE_ATTEMPTS; tries += 1) {
    const answer = await attempt();
    if (answer !== undefined) return answer;
  }
  throw new RpcError('CONFLICT', 'Blocks came faster than the answer could be put together; ask again.', 'STATE_MOVED');
}

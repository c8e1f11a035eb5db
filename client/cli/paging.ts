/** Listings over pages: gathers until the limit, and says when there is more. */
import { ClientError } from '../errors.ts';

/** Most that one command lists; beyond, filters are the better tool. */
const MAX_LISTED = 10_000;
export const DEFAULT_LISTED = 100;
/** A page may be empty, where all of it is out of scope: so many are asked for at the most. */
const MAX_PAGES = 2_000;

interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor: string | null;
}

/** @throws ClientError LIMIT_INVALID */
export function parseLimit(text: string | undefined): number {
  if (text === undefined) return DEFAULT_LISTED;
  const limit = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > MAX_LISTED) {
    throw new ClientError('LIMIT_INVALID', 'That is no number of lines.', `Give --limit 1 to ${MAX_LISTED}.`);
  }
  return limit;
}

export async function gather<T>(
  limit: number,
  page: (query: { readonly limit: number; readonly cursor?: string }) => Promise<Page<T>>,
): Promise<{ readonly items: readonly T[]; readonly more: boolean }> {
  const items: T[] = [];
  let cursor: string | undefined;
  for (let pages = 0; pages < MAX_PAGES; pages += 1) {
    const left = limit - items.length;
    if (left <= 0) return { items, more: true };
    const answer = await page({ limit: Math.min(100, left), ...(cursor === undefined ? {} : { cursor }) });
    items.push(...answer.items.slice(0, left));
    if (answer.nextCursor === null) return { items, more: false };
    cursor = answer.nextCursor;
  }
  return { items, more: true };
}

export const moreLine = (more: boolean): readonly string[] => (more ? ['… and more: --limit N shows them.'] : []);

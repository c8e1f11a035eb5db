/** Values, ranges and proofs from the state after the last durable block: all queries of a read against the same one. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { equalBytes } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
import { MAX_STATE_QUERIES, type StateAnswer, type StatePort, type StateQuery } from '../../rpc/ports.ts';
import { get, iterate, proveKey, proveRange } from '../../vm/state-tree/index.ts';
import type { Executor, StateView } from '../execution/executor.ts';
import type { StateHistory } from '../storage/state-history.ts';

/** Entries that one query may ask for; see `StateQuery`. */
const MAX_ENTRIES = 1_000;
/** A read gives the thread back after this long: votes must not wait for somebody's long list. */
const SLICE_MS = 4;

export function createStatePort(executor: Pick<Executor, 'state'>, history: Pick<StateHistory, 'reading'>): StatePort {
  return {
    async read(queries) {
      assert(queries.length <= MAX_STATE_QUERIES, 'a read of the state asks too much');
      // Versions are immutable: blocks that are committed meanwhile do not change this one.
      const view = executor.state;
      const end = history.reading(view.height);
      assert(end !== null, 'the latest state is kept');
      try {
        return { at: { height: view.height, hash: view.hash }, answers: await answerAll(view, queries) };
      } finally {
        end();
      }
    },
  };
}

async function answerAll(view: StateView, queries: readonly StateQuery[]): Promise<StateAnswer[]> {
  const answers: StateAnswer[] = [];
  let sinceMs = performance.now();
  for (const query of queries) {
    if (performance.now() - sinceMs >= SLICE_MS) {
      await nextTurn();
      sinceMs = performance.now();
    }
    answers.push(query.kind === 'get' ? answerGet(view, query) : answerRange(view, query));
  }
  return answers;
}

function answerGet({ nodes, root }: StateView, { key, prove }: Extract<StateQuery, { kind: 'get' }>): StateAnswer {
  const value = get(nodes, root, key) ?? null;
  return { kind: 'get', value, proof: prove === true ? proveKey(nodes, root, key) : null };
}

function answerRange({ nodes, root }: StateView, query: Extract<StateQuery, { kind: 'range' }>): StateAnswer {
  const { gte, lt, limit, reverse = false, prove = false } = query;
  assert(Number.isSafeInteger(limit) && limit >= 1 && limit <= MAX_ENTRIES, 'a range asks for 1 to 1,000 entries');
  if (!prove) {
    const found = [...iterate(nodes, root, { gte, lt, limit: limit + 1, reverse })];
    return {
      kind: 'range',
      entries: found.slice(0, limit),
      more: found.length > limit,
      proof: null,
      provenLt: null,
    };
  }
  assert(!reverse, 'a range is proven in ascending order');
  const proven = proveRange(nodes, root, { gte, lt }, limit);
  const entries = [...iterate(nodes, root, { gte, lt: proven.lt, limit })];
  const more = proven.lt !== null && !equalBytes(proven.lt, lt);
  return { kind: 'range', entries, more, proof: proven.proof, provenLt: proven.lt };
}

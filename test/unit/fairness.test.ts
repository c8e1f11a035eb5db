import t from 'tap';
import type { CheckedTransaction } from '../../vm/types.ts';
import { Pool, type PoolEntry, URGENT_PER_BLOCK } from '../../node/mempool/pool.ts';
import { FairnessWatch, type Offer, OVERDUE_AFTER_MS, type Waiting } from '../../node/host/fairness.ts';

const LIMITS = { roomTxs: 4, maxBlockBytes: 1_000, urgentPerBlock: 2, maxWatched: 1 };
const LATE = OVERDUE_AFTER_MS + 1;

interface Pooled extends Waiting {
  readonly receivedMs: number;
}

function tx(key: string, more: Partial<Pooled> = {}): Pooled {
  return { key, account: 'patient', priority: 'normal', sizeBytes: 100, receivedMs: 0, ...more };
}

function offer(proposer: string, keys: readonly string[], more: Partial<Offer> = {}): Offer {
  const sizeBytes = 100 * keys.length;
  return { proposer, keys: new Set(keys), sizeBytes, hasNormal: true, urgentOfAccount: new Map(), ...more };
}

/** A watch over a pool; `block` is proposed and decided, and says whether its leader would have been passed over. */
function watching(...pool: readonly Pooled[]) {
  const dead = new Set<string>();
  const asked: string[] = [];
  const watch = new FairnessWatch(
    {
      overdue: (beforeMs) => pool.filter(({ receivedMs }) => receivedMs < beforeMs),
      executes: ({ key }) => {
        asked.push(key);
        return !dead.has(key);
      },
    },
    0,
  );
  let height = 0;
  const block = (of: Offer, nowMs: number, limits = LIMITS): { refused: boolean; found: string | null } => {
    height += 1;
    const refused = watch.proposed(`${height}`, of, limits, nowMs);
    return { refused, found: watch.committed(`${height}`, limits, nowMs) };
  };
  /** The first block says only when the next could begin. */
  block(offer('nobody', []), LATE);
  asked.length = 0;
  return { watch, block, dead, asked };
}

t.test('a leader that leaves out what waits is found, and passed over when it does it again [F3, F4]', async (t) => {
  const { block } = watching(tx('a'));
  t.same(block(offer('mallory', ['x']), LATE), { refused: false, found: 'mallory' }, 'once proves nothing');
  t.same(block(offer('bob', ['a']), LATE), { refused: false, found: null });
  t.same(block(offer('mallory', ['a']), LATE), { refused: false, found: null }, 'nor is it held against what is right');
  t.same(block(offer('mallory', ['x']), LATE), { refused: true, found: 'mallory' });
  t.same(block(offer('mallory', ['x']), LATE + 20 * 60_000).refused, false, 'after a while it is forgotten');
});

t.test('nobody is found who is not to blame', async (t) => {
  const cases: Readonly<Record<string, readonly [Pooled, Offer]>> = {
    'it came too late': [tx('a', { receivedMs: 2 }), offer('bob', ['x'])],
    'the block was full': [tx('a'), offer('bob', ['w', 'x', 'y', 'z'])],
    'it was too large': [tx('a', { sizeBytes: 950 }), offer('bob', ['x'])],
    'its account had its share of urgent ones': [
      tx('a', { priority: 'urgent' }),
      offer('bob', ['x'], { urgentOfAccount: new Map([['patient', 2]]) }),
    ],
    'everything in a full block was urgent': [
      tx('a', { priority: 'urgent' }),
      offer('bob', ['w', 'x', 'y', 'z'], { hasNormal: false }),
    ],
  };
  for (const [name, [pooled, proposed]] of Object.entries(cases))
    t.equal(watching(pooled).block(proposed, LATE).found, null, name);
  const { block, dead } = watching(tx('a'));
  dead.add('a');
  t.equal(block(offer('bob', ['x']), LATE).found, null, 'it does not execute on the block that left it out');
});

t.test('an urgent one goes before others: a full block with normal ones had room [F1]', async (t) => {
  const full = offer('mallory', ['w', 'x', 'y', 'z']);
  t.equal(watching(tx('a', { priority: 'urgent' })).block(full, LATE).found, 'mallory');
});

t.test('blocks that were not proposed to this node judge nobody', async (t) => {
  const { watch } = watching(tx('a'));
  t.equal(watch.committed('from sync', LIMITS, LATE), null);
});

t.test('no more than f are watched, the latest; none where f is 0', async (t) => {
  const { block } = watching(tx('a'));
  for (const who of ['mallory', 'oscar']) t.equal(block(offer(who, ['x']), LATE).found, who);
  t.equal(block(offer('oscar', ['x']), LATE).refused, true);
  t.equal(block(offer('mallory', ['x']), LATE).refused, false);
  const few = watching(tx('a'));
  const none = { ...LIMITS, maxWatched: 0 };
  for (let i = 0; i < 3; i += 1) t.equal(few.block(offer('mallory', ['x']), LATE, none).refused, false);
});

t.test('a flood costs nothing: full blocks are not judged, whoever sent what is in them', async (t) => {
  const flood = Array.from({ length: 1_000 }, (_, n) => tx(`flood ${n}`));
  const { block, asked } = watching(...flood);
  for (let i = 0; i < 10; i += 1)
    t.same(block(offer('bob', ['w', 'x', 'y', 'z']), LATE), { refused: false, found: null });
  t.equal(asked.length, 0);
});

t.test('what a leader takes first [F1]', async (t) => {
  const pool = new Pool({ maxTransactions: 1_000, maxBytes: 1_000_000 });
  const byTransaction = new Map<CheckedTransaction, string>();
  const put = (key: string, account: string, priority: 'urgent' | 'normal', receivedMs: number): void => {
    const checked = {} as CheckedTransaction;
    byTransaction.set(checked, key);
    const times = { receivedMs, checkedMs: receivedMs, escalatedMs: 0 };
    const entry: PoolEntry = {
      key,
      checked,
      sidecar: null,
      sizeBytes: 10,
      account,
      priority,
      from: null,
      executed: true,
      ...times,
    };
    t.ok(pool.room(entry).ok);
    pool.add(entry);
  };
  put('first', 'a', 'normal', 1);
  put('second', 'a', 'normal', 2);
  for (let i = 0; i < URGENT_PER_BLOCK + 5; i += 1) put(`b ${i}`, 'b', 'urgent', 3 + i);
  put('veto', 'c', 'urgent', 50);
  const taken = (maxTxs: number, maxBytes = 1_000_000) =>
    pool.candidates(maxTxs, maxBytes).map((checked) => byTransaction.get(checked));
  const order = taken(1_000);
  t.equal(order.indexOf('veto'), URGENT_PER_BLOCK, "an account that floods is in nobody's way");
  t.same(order.slice(URGENT_PER_BLOCK + 1), ['first', 'second'], 'nor in that of others: the rest of it waits');
  t.equal(taken(3).length, 3);
  t.equal(taken(1_000, 55).length, 5);
  t.same(
    pool.overdue(5, 3).map(({ key }) => key),
    ['b 0', 'b 1', 'first'],
    'the oldest, of both kinds',
  );
});

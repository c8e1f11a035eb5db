import t from 'tap';
import {
  leaderOf,
  leaderOrder,
  leaderSpanStart,
  NO_LEADER_HISTORY,
  nextLeaderHistory,
} from '../../consensus/leader-order.ts';
import type { LeaderHistory } from '../../consensus/types.ts';
import { toyGenesis } from '../sim/toy-chain.ts';
import { toyConsortium } from '../sim/toy-crypto.ts';

const SPAN = 200;
const consortium = toyConsortium(4);
const { validators } = consortium;
const genesis = toyGenesis(consortium).header;
const header = (height: number, view: number, proposer: number) => ({
  ...genesis,
  height,
  view,
  proposer: validators[proposer]!.address,
});

/** Decides one height with some validators dead; gives the history for the next, and the view that it took. */
function decideHeight(
  history: LeaderHistory,
  height: number,
  dead: readonly number[],
  span = SPAN,
): { history: LeaderHistory; view: number } {
  const order = leaderOrder(height, validators.length, history);
  let view = 0;
  while (dead.includes(leaderOf(order, view))) view += 1;
  return { history: nextLeaderHistory(history, header(height, view, leaderOf(order, view)), validators, span), view };
}

t.test('rotates by height, and through all validators by view [L1]', async (t) => {
  t.strictSame(leaderOrder(1, 4, NO_LEADER_HISTORY), [1, 2, 3, 0]);
  t.strictSame(leaderOrder(6, 4, NO_LEADER_HISTORY), [2, 3, 0, 1]);
  t.equal(leaderOf([1, 2, 3, 0], 5), 2);
  t.equal(leaderOf([1, 2, 3, 0], Number.MAX_SAFE_INTEGER), 0);
});

t.test('whoever was passed over comes last, and loses that place by leading [L2, L3]', async (t) => {
  const skipped = nextLeaderHistory(NO_LEADER_HISTORY, header(1, 1, 2), validators, SPAN);
  t.strictSame([...skipped.skippedAt], [[1, 1]]);
  t.strictSame(leaderOrder(5, 4, skipped), [2, 3, 0, 1]);
  const back = nextLeaderHistory(skipped, header(2, 3, 1), validators, SPAN);
  t.notOk(back.skippedAt.has(1));
});

t.test('no more than f are demoted, the latest ones [L3]', async (t) => {
  const two = nextLeaderHistory(NO_LEADER_HISTORY, header(1, 2, 3), validators, SPAN);
  t.equal(two.skippedAt.size, 1);
  const later = nextLeaderHistory(two, header(2, 1, leaderOrder(2, 4, two)[1]!), validators, SPAN);
  t.strictSame([...later.skippedAt.values()], [2]);
});

t.test('a height that took a whole round or more blames nobody', async (t) => {
  for (const view of [4, 5, 2 ** 31, Number.MAX_SAFE_INTEGER]) {
    t.equal(nextLeaderHistory(NO_LEADER_HISTORY, header(1, view, 2), validators, SPAN).skippedAt.size, 0);
  }
});

t.test('spans begin anew, so that one span of headers is enough for anybody [L4]', async (t) => {
  t.strictSame(
    [1, 199, 200, 201, 399, 400].map((h) => leaderSpanStart(h, SPAN)),
    [1, 1, 200, 200, 200, 400],
  );
  t.equal(leaderSpanStart(77, 0), 77, 'no demotion at all');
  let history = NO_LEADER_HISTORY;
  const headers = [];
  for (let height = 1; height <= 650; height += 1) {
    const order = leaderOrder(height, 4, history);
    const view = height % 37 === 0 ? 1 : 0;
    const decided = header(height, view, leaderOf(order, view));
    headers.push(decided);
    history = nextLeaderHistory(history, decided, validators, SPAN);
    const start = leaderSpanStart(height + 1, SPAN);
    const fromSpan = headers
      .slice(start - 1)
      .reduce((h, x) => nextLeaderHistory(h, x, validators, SPAN), NO_LEADER_HISTORY);
    if (JSON.stringify([...fromSpan.skippedAt]) !== JSON.stringify([...history.skippedAt])) t.fail(`height ${height}`);
  }
  t.ok(history.skippedAt.size <= 1);
});

t.test('a changed validator set begins anew: an index means somebody else [L4]', async (t) => {
  const skipped = nextLeaderHistory(NO_LEADER_HISTORY, header(1, 1, 2), validators, SPAN);
  const changing = { ...header(2, 0, 2), nextValidatorsHash: new Uint8Array(32) };
  t.equal(nextLeaderHistory(skipped, changing, validators, SPAN).skippedAt.size, 0);
});

t.test('one dead validator of four costs one timeout in each span [L2]', async (t) => {
  let history = NO_LEADER_HISTORY;
  let timeouts = 0;
  for (let height = 1; height < 1_000; height += 1) {
    const decided = decideHeight(history, height, [2]);
    history = decided.history;
    timeouts += decided.view;
  }
  t.equal(timeouts, 5, 'five spans');
});

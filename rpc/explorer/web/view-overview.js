/** The state of the chain at a glance, live. */
import { blockChart, rateChart } from './charts.js';
import { callName } from './decoded.js';
import { el, link, swap } from './dom.js';
import { duration, nodeNow, number, purpose, rate } from './format.js';
import { accountLink, badge, blockLink, ends, hash, panel, table, txLink, when } from './parts.js';
import { slotDots } from './policy-tree.js';

const SPAN_MS = 300_000;
const BUCKETS = 60;
const SHOWN_BLOCKS = 10;
const CHART_BLOCKS = 60;
/** The average of the last minute. */
const RATE_BUCKETS = 12;

function tile(label, value, detail, attributes) {
  return el(
    'div',
    { class: 'tile', ...attributes },
    el('div', { class: 'tile-label' }, label),
    el('div', { class: 'tile-value' }, value),
    el('div', { class: 'tile-detail' }, detail),
  );
}

function tiles(chain) {
  const { status } = chain;
  const interval = chain.intervalMs();
  const rates = chain.rates(nodeNow(), SPAN_MS / BUCKETS, BUCKETS).slice(-RATE_BUCKETS);
  const perSecond = rates.reduce((sum, value) => sum + value, 0) / RATE_BUCKETS;
  const short = status.validatorsUp < status.quorum;
  return el(
    'div',
    { class: 'tiles' },
    tile(
      'Height',
      link(['block', status.height], el('span', { class: 'num' }, number(status.height))),
      when(status.timestampMs),
      { class: 'tile tile-main' },
    ),
    tile('View', number(status.view), words(status.phase)),
    tile('Leader', status.leaderOrg ?? hash(status.leader), `of block ${number(status.decidingHeight)}`),
    tile('Block interval', interval === null ? '–' : duration(interval), 'median of 20 blocks'),
    tile('Transactions', [rate(perSecond), el('small', null, ' /s')], 'over the last minute'),
    tile('Pending', number(status.pendingTransactions), 'wait for a block'),
    tile(
      'Validators up',
      [number(status.validatorsUp), el('small', null, ` of ${number(status.validators)}`)],
      short ? badge('away', `below the quorum of ${status.quorum}`) : `quorum ${number(status.quorum)}`,
      { 'data-tone': short ? 'bad' : status.validatorsUp < status.validators ? 'wait' : null },
    ),
  );
}

const PHASES = {
  idle: 'nothing due',
  awaitPrePrepare: 'awaits the proposal',
  awaitPrepares: 'awaits prepares',
  awaitCommits: 'awaits commits',
  viewChange: 'changes the view',
  committing: 'commits',
  observing: 'observes',
};
const words = (phase) => PHASES[phase] ?? phase;

function blocksTable(chain) {
  return table(
    [
      ['Height', ({ height }) => blockLink(height), 'num'],
      ['Age', ({ timestampMs }) => when(timestampMs)],
      ['Tx', ({ txs }) => (txs === 0 ? el('span', { class: 'muted' }, '0') : number(txs)), 'num'],
      ['Proposer', ({ proposer, height }) => (height === 0 ? 'genesis' : (chain.orgOf(proposer) ?? hash(proposer)))],
      ['Hash', (block) => hash(block.hash), 'wide'],
    ],
    chain.blocks.slice(-SHOWN_BLOCKS).reverse(),
    { caption: 'Latest blocks', compact: true },
  );
}

function txTable(items) {
  return table(
    [
      ['Transaction', ({ hash: of }) => txLink(of)],
      ['Call', ({ callKind }) => callName(callKind)],
      ['Account', ({ account }) => accountLink(account), 'wide'],
      ['Block', ({ height }) => blockLink(height), 'num'],
      ['Age', ({ timestampMs }) => when(timestampMs)],
    ],
    items,
    { caption: 'Latest transactions', compact: true, empty: 'No transactions yet.' },
  );
}

function validatorStrip(chain) {
  const up = new Map(chain.validators.map((one) => [one.address, one.liveness]));
  return el(
    'ul',
    { class: 'strip' },
    ...chain.validators.map(({ address, orgId }) => {
      const liveness = up.get(address);
      const state = liveness === null ? 'unknown' : liveness?.connected ? 'up' : 'away';
      return el(
        'li',
        { 'data-state': state },
        el('span', { class: 'strip-dot', 'aria-hidden': 'true' }),
        el('span', null, orgId),
        el(
          'span',
          { class: 'muted' },
          liveness === null ? '' : state === 'up' ? `signed ${number(liveness.lastSignedHeight)}` : 'away',
        ),
      );
    }),
  );
}

/** Pending requests with their slots; only for who may read them. */
async function openRequests(api) {
  const page = await api.call('acl_listRequests', { status: 'pending', limit: 8 });
  const details = await api.many(page.items.map(({ hash: of }) => ['acl_getRequest', { requestHash: of }]));
  const rows = page.items.map((request, index) => ({ request, detail: details[index] }));
  return table(
    [
      ['Request', ({ request }) => link(['request', request.hash], hash(request.hash))],
      ['From', ({ request }) => request.requesterOrg],
      ['To', ({ request }) => request.recordOrg],
      ['Purpose', ({ request }) => purpose(request.purpose)],
      ['Slots', ({ detail }) => (detail instanceof Error ? '–' : slotDots(detail.explanation))],
      ['Expires', ({ request }) => ends(request.pendingUntilMs)],
    ],
    rows,
    { caption: 'Pending requests', empty: 'No request waits for a decision.' },
  );
}

const isWaiting = ({ code }) => code === 'SYNCING' || code === 'STARTING';

/** What is wrong, since when, and the first thing to do: as the node's own status says it. */
function alarmNotice({ code, message, action, sinceMs }, tone) {
  return el(
    'div',
    { class: 'notice', 'data-tone': tone, 'data-alarm': code },
    el('strong', null, code),
    ' ',
    when(sinceMs),
    el('p', null, message),
    el('p', null, action),
  );
}

export function overview({ api, chain, mayRead }) {
  const [top, charts, blocks, validators, txs, requests] = Array.from({ length: 6 }, () => el('div'));
  const stalled = el('div');
  const draw = () => {
    swap(top, tiles(chain));
    swap(
      charts,
      panel('Transactions per second', rateChart(chain.rates(nodeNow(), SPAN_MS / BUCKETS, BUCKETS), SPAN_MS)),
      panel('Transactions per block', blockChart(chain.blocks, CHART_BLOCKS)),
    );
    swap(blocks, blocksTable(chain));
    swap(validators, validatorStrip(chain));
    const { stalledReason, warnings } = chain.status;
    swap(
      stalled,
      stalledReason && alarmNotice(stalledReason, isWaiting(stalledReason) ? 'wait' : 'bad'),
      warnings.map((warning) => alarmNotice(warning, 'wait')),
    );
  };
  const drawTxs = async () => {
    const { items } = await api.call('tx_list', { limit: SHOWN_BLOCKS });
    swap(txs, txTable(items));
  };
  const drawRequests = async () => {
    if (mayRead())
      swap(requests, panel('Waiting for a decision', await openRequests(api), link(['requests'], 'all requests')));
  };
  charts.className = 'charts';
  draw();
  void drawTxs().catch(() => {});
  void drawRequests().catch(() => {});
  return {
    title: 'Overview',
    node: el(
      'div',
      { class: 'overview' },
      el('h1', { class: 'visually-hidden' }, 'Overview'),
      stalled,
      top,
      charts,
      panel('Validators', validators, link(['validators'], 'details')),
      el(
        'div',
        { class: 'columns' },
        panel('Latest blocks', blocks, link(['blocks'], 'all blocks')),
        panel('Latest transactions', txs, link(['txs'], 'all transactions')),
      ),
      requests,
    ),
    onBlock: (block) => {
      draw();
      if (block.txHashes.length > 0) void drawTxs().catch(() => {});
    },
    onEvents: () => void drawRequests().catch(() => {}),
    onTick: draw,
  };
}

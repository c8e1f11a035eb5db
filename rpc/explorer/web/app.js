/** Starts the page: routes, live updates, the reader's token, search. Views are in view-*.js. */
import { Api, ApiError, Live } from './api.js';
import { Chain } from './chain.js';
import { el, link, swap } from './dom.js';
import { ago, setNodeTime, short, until } from './format.js';
import { failure } from './parts.js';
import { find } from './search.js';
import { blockDetail, blockList } from './view-blocks.js';
import { accountDetail, accountList, validatorList } from './view-members.js';
import { overview } from './view-overview.js';
import { policyDetail, recordDetail, recordList } from './view-records.js';
import { requestDetail, requestList } from './view-requests.js';
import { txDetail, txList } from './view-txs.js';

const $ = (id) => document.getElementById(id);
const api = new Api();
const live = new Live(api);
const chain = new Chain(api);
let info = null;

const mayRead = () => info !== null && (info.openReads || live.reader !== null);
const context = { api, live, chain, mayRead };

/** Path -> view; `reads`: it shows nothing to who may not read. */
const ROUTES = {
  '': { tab: 'Overview', view: overview },
  blocks: { tab: 'Blocks', view: blockList },
  txs: { tab: 'Transactions', view: txList },
  requests: { tab: 'Requests', view: requestList, reads: true },
  records: { tab: 'Records', view: recordList, reads: true },
  validators: { tab: 'Validators', view: validatorList },
  accounts: { tab: 'Accounts', view: accountList, reads: true },
  block: { of: 'blocks', view: blockDetail },
  tx: { of: 'txs', view: txDetail },
  request: { of: 'requests', view: requestDetail, reads: true },
  record: { of: 'records', view: recordDetail, reads: true },
  policy: { of: 'records', view: policyDetail, reads: true },
  account: { of: 'accounts', view: accountDetail, reads: true },
};

// Routes ----------------------------------------------------------------------------------------------------------

let current = null;
let rendering = 0;

function route() {
  const [name = '', ...parts] = location.hash.replace(/^#\/?/, '').split('/');
  try {
    return { name, parts: parts.map(decodeURIComponent) };
  } catch {
    return { name: 'unknown', parts: [] };
  }
}

function drawTabs(active) {
  const tabs = Object.entries(ROUTES).filter(([, { tab }]) => tab);
  swap(
    $('tabs'),
    ...tabs.map(([name, { tab }]) =>
      link(name === '' ? [] : [name], tab, {
        'aria-current': name === active ? 'page' : null,
        'data-key': `tab ${name}`,
      }),
    ),
  );
  $('tabs').querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
}

/** `keep`: the same view again; what is shown stays until the new one is ready. */
async function render({ keep = false } = {}) {
  rendering += 1;
  const turn = rendering;
  const { name, parts } = route();
  const known = Object.hasOwn(ROUTES, name) ? ROUTES[name] : null;
  drawTabs(known?.of ?? name);
  if (!keep) current = null;
  let view;
  try {
    if (known === null) throw new ApiError({ code: -32001, message: 'The explorer has no such page.' });
    view = known.reads && !mayRead() ? closedView(known) : await known.view(context, ...parts);
  } catch (error) {
    view = { title: 'Not shown', node: el('div', null, failure(error)) };
  }
  // Another route was taken meanwhile.
  if (turn !== rendering) return;
  current = view;
  document.title = `${view.title} · emrchain`;
  if (keep) {
    swap($('main'), view.node);
    return;
  }
  $('main').replaceChildren(view.node);
  window.scrollTo(0, 0);
}

function navigated() {
  void render().then(() => $('main').focus({ preventScroll: true }));
}

// Reads -----------------------------------------------------------------------------------------------------------

function closedView({ tab, of }) {
  const what = (tab ?? ROUTES[of].tab).toLowerCase();
  return {
    title: 'Reads are closed',
    node: el(
      'div',
      null,
      el(
        'p',
        { class: 'notice', 'data-tone': 'wait' },
        el('strong', null, 'For members. '),
        `This node shows ${what} to readers with a token.`,
      ),
      tokenForm(),
    ),
  };
}

function tokenForm() {
  const input = el('textarea', {
    id: 'token',
    rows: 4,
    spellcheck: 'false',
    autocomplete: 'off',
    required: true,
    placeholder: 'Paste the token here',
  });
  const error = el('p', { class: 'form-error', role: 'alert' });
  const form = el(
    'form',
    { class: 'panel token' },
    el('h2', null, 'Read as your account'),
    el('p', null, 'Make a token with your own key, on your own machine, for this address:'),
    el('pre', null, `emrchain token --rpc ${location.origin} --as NAME`),
    el('label', { for: 'token' }, 'Token'),
    input,
    error,
    el(
      'div',
      { class: 'form-row' },
      el('button', { type: 'submit' }, 'Use token'),
      el('span', { class: 'muted' }, 'It is kept in this page only, and ends after 15 minutes at the latest.'),
    ),
  );
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    error.textContent = '';
    const token = input.value.replace(/^\s*EMR\s+/i, '').replace(/\s/g, '');
    try {
      await useToken(token);
    } catch (failed) {
      error.textContent = failed.message;
    }
  });
  return form;
}

async function useToken(token) {
  const before = api.token;
  api.token = token;
  try {
    // Any read that takes a token says whether it holds.
    await api.call('chain_getParams');
  } catch (error) {
    api.token = before;
    throw error;
  }
  live.restart();
}

function dropToken(message) {
  api.token = null;
  swap($('notices'), message && el('div', { class: 'notice', 'data-tone': 'wait' }, message));
  live.restart();
}

function drawAccess() {
  const button = $('access');
  if (info === null) return;
  button.hidden = false;
  if (live.reader !== null) {
    swap(
      button,
      'Reading as ',
      el('code', null, short(live.reader.account, 4)),
      ' ',
      el('span', { class: 'muted', 'data-until': live.reader.notAfterMs }, until(live.reader.notAfterMs)),
    );
    button.title = 'Forget the token';
    button.onclick = () => dropToken(null);
  } else if (info.openReads) {
    swap(button, 'Open reads');
    button.title = 'The operator of this node has opened reads: everybody who reaches it sees this.';
    button.onclick = null;
  } else {
    swap(button, 'Public view · use a token');
    button.title = 'Reads are closed on this node';
    button.onclick = () => {
      swap($('main'), tokenForm());
      $('token').focus();
    };
  }
}

// Live ------------------------------------------------------------------------------------------------------------

const LIVE_WORDS = { connecting: 'connecting', live: 'live', away: 'reconnecting' };

live.addEventListener('state', ({ detail }) => {
  $('live').dataset.state = detail;
  $('live-text').textContent = LIVE_WORDS[detail];
});

let shownTo = null;
live.addEventListener('reader', ({ detail }) => {
  drawAccess();
  const reader = detail?.account ?? null;
  // The same reader after a lost connection: what is shown stays.
  if (reader === shownTo) return;
  shownTo = reader;
  void render({ keep: true });
});

live.addEventListener('refused', ({ detail }) => dropToken(`${detail.message} You see the public view.`));

/** Blocks may come by the dozen in a second: what is drawn follows once in a while, with the last one. */
const DRAW_EVERY_MS = 400;
let waiting = null;
let events = [];

live.addEventListener('block', ({ detail }) => {
  chain.add(detail.header, detail.hash, detail.txHashes.length);
  later(detail);
});

live.addEventListener('event', ({ detail }) => {
  if (events.length < 1_000) events.push(detail);
  later(null);
});

let lastBlock = null;
function later(block) {
  lastBlock = block === null ? lastBlock : { ...block, txHashes: [...(lastBlock?.txHashes ?? []), ...block.txHashes] };
  waiting ??= setTimeout(async () => {
    waiting = null;
    const [block, some] = [lastBlock, events];
    lastBlock = null;
    events = [];
    await chain.refresh().catch(() => {});
    setNodeTime(chain.status.timestampMs + chain.status.lastBlockAgeMs);
    let again = false;
    if (block !== null) again = react(current?.onBlock, block);
    if (some.length > 0) again = react(current?.onEvents, some) || again;
    if (again) void render({ keep: true });
  }, DRAW_EVERY_MS);
}

/** A view redraws itself, or asks to be made anew. */
function react(handler, detail) {
  if (handler === 'reload') return true;
  return typeof handler === 'function' && handler(detail) === 'reload';
}

/** Ages and ends move on by themselves. */
const TICK_MS = 1_000;
/** What no block announces: validators that go away, a pool that fills. */
const REFRESH_TICKS = 5;
let ticks = 0;

setInterval(async () => {
  for (const node of document.querySelectorAll('[data-ago]')) node.textContent = ago(Number(node.dataset.ago));
  for (const node of document.querySelectorAll('[data-until]')) node.textContent = until(Number(node.dataset.until));
  ticks += 1;
  if (ticks % REFRESH_TICKS !== 0 || document.hidden || chain.status === null) return;
  await chain.refresh().catch(() => {});
  current?.onTick?.();
}, TICK_MS);

// Search, theme, keys ---------------------------------------------------------------------------------------------

$('search').addEventListener('submit', async (event) => {
  event.preventDefault();
  const found = await find(api, $('query').value).catch((error) => ({ message: error.message }));
  if (found.route) {
    $('query').value = '';
    $('query').blur();
    swap($('notices'));
    location.hash = `#/${found.route.map(encodeURIComponent).join('/')}`;
  } else {
    swap($('notices'), el('div', { class: 'notice', 'data-tone': 'wait', role: 'alert' }, found.message));
  }
});

document.addEventListener('keydown', (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
  if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    $('query').focus();
  }
  if (event.key === 'Escape' && event.target === $('query')) $('query').blur();
});

const THEMES = ['system', 'light', 'dark'];
const THEME_MARKS = { system: '◐ system', light: '○ light', dark: '● dark' };

function useTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $('theme').textContent = THEME_MARKS[theme];
  try {
    localStorage.setItem('emrchain-theme', theme);
  } catch {
    // Storage may be off: the choice then lasts for this page.
  }
}

function storedTheme() {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem('emrchain-theme')) ?? 'system';
  } catch {
    return 'system';
  }
}

$('theme').addEventListener('click', () => {
  useTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
});

// Start -----------------------------------------------------------------------------------------------------------

async function start() {
  useTheme(storedTheme());
  drawTabs(route().name);
  for (;;) {
    try {
      info = await api.call('node_info');
      await chain.load();
      break;
    } catch (error) {
      swap($('main'), failure(error));
      await new Promise((resolve) => setTimeout(resolve, 2_000));
    }
  }
  setNodeTime(chain.status.timestampMs + chain.status.lastBlockAgeMs);
  swap($('network'), info.network);
  swap(
    $('foot-node'),
    `${info.orgId} · ${info.role} · emrchain ${info.version} · chain `,
    el('code', { title: info.chainId }, short(info.chainId, 8)),
  );
  live.mayRead = info.openReads;
  drawAccess();
  window.addEventListener('hashchange', navigated);
  await render();
  live.start(chain.status.height);
}

void start();

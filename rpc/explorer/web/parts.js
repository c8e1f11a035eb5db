/** The small pieces that every view is made of: badges, hashes, tables, facts, empty states. */
import { el, link, svg } from './dom.js';
import { ago, number, short, time, until, words } from './format.js';

/** One tone and one mark for each status, everywhere: colour is never the only sign. */
const STATUS = {
  pending: ['wait', '◔'],
  open: ['wait', '○'],
  granted: ['good', '✓'],
  active: ['good', '✓'],
  committed: ['good', '✓'],
  filled: ['good', '✓'],
  effective: ['good', '✓'],
  accepted: ['good', '✓'],
  connected: ['good', '●'],
  signed: ['good', '✓'],
  final: ['good', '✓'],
  denied: ['bad', '✕'],
  suspended: ['bad', '✕'],
  rejected: ['bad', '✕'],
  failed: ['bad', '✕'],
  away: ['bad', '○'],
  revoked: ['note', '⊘'],
  expired: ['off', '◷'],
  ended: ['off', '■'],
  cancelled: ['off', '–'],
  impossible: ['off', '⊘'],
  absent: ['off', '–'],
};

export function badge(status, text = words(status)) {
  const [tone, mark] = STATUS[status] ?? ['off', '·'];
  return el('span', { class: 'badge', 'data-tone': tone }, el('span', { 'aria-hidden': 'true' }, mark), ' ', text);
}

export function tag(text, tone = 'plain') {
  return el('span', { class: 'tag', 'data-tone': tone }, text);
}

/** A hash in full on hover and to screen readers of the title; short on the page. */
export function hash(value, digits) {
  if (value === null || value === undefined) return el('span', { class: 'muted' }, '–');
  return el('code', { class: 'hash', title: value }, short(value, digits));
}

const COPY_ICON = 'M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8z';
const DONE_ICON = 'M3 8.5l3.5 3.5L13 4.5';

function icon(path) {
  return svg('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true' }, svg('path', { d: path }));
}

/** The whole of it, breaking where it must, with a button to copy. */
export function full(value) {
  const button = el('button', { class: 'copy', type: 'button', title: 'Copy', 'aria-label': 'Copy' }, icon(COPY_ICON));
  button.addEventListener('click', async () => {
    // Without a secure context there is no clipboard: the text can still be selected.
    await navigator.clipboard?.writeText(value);
    button.replaceChildren(icon(DONE_ICON));
    setTimeout(() => button.replaceChildren(icon(COPY_ICON)), 1_200);
  });
  return el('span', { class: 'full' }, el('code', { class: 'hash' }, value), button);
}

const to = (route) => (value, digits) => (value ? link([route, value], hash(value, digits)) : hash(null));
export const blockLink = (height) => link(['block', height], el('span', { class: 'num' }, number(height)));
export const txLink = to('tx');
export const recordLink = to('record');
export const requestLink = to('request');
export const accountLink = to('account');
export const policyLink = to('policy');

/** A time that says how long ago it was and keeps saying it; the clock in app.js renews them. */
export function when(ms) {
  if (ms === null || ms === undefined) return el('span', { class: 'muted' }, '–');
  return el('time', { class: 'when', title: time(ms), 'data-ago': ms }, ago(ms));
}

export function ends(ms) {
  return el('time', { class: 'when', title: time(ms), 'data-until': ms }, until(ms));
}

/**
 * `columns`: [title, cell(row), class]. On a phone each row becomes a card, labelled by the titles; a compact table stays one
 * and leaves out its columns of class `wide`.
 */
export function table(columns, rows, { caption, compact = false, empty = 'Nothing here.' } = {}) {
  if (rows.length === 0) return el('p', { class: 'empty' }, empty);
  const head = el('tr', null, ...columns.map(([title, , kind]) => el('th', { scope: 'col', class: kind }, title)));
  const body = rows.map((row) =>
    el('tr', null, ...columns.map(([title, cell, kind]) => el('td', { class: kind, 'data-label': title }, cell(row)))),
  );
  return el(
    'div',
    { class: compact ? 'table-wrap' : 'table-wrap cards' },
    el(
      'table',
      null,
      caption && el('caption', { class: 'visually-hidden' }, caption),
      el('thead', null, head),
      el('tbody', null, ...body),
    ),
  );
}

/** [label, value] pairs; null values are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined);
  return el(
    'dl',
    { class: 'facts' },
    ...shown.map(([label, value]) => el('div', null, el('dt', null, label), el('dd', null, value))),
  );
}

export function panel(title, content, side) {
  return el(
    'section',
    { class: 'panel' },
    el('div', { class: 'panel-head' }, el('h2', null, title), side && el('div', { class: 'panel-side' }, side)),
    content,
  );
}

export function heading(kind, title, ...side) {
  return el(
    'div',
    { class: 'heading' },
    el('p', { class: 'kind' }, kind),
    el('h1', null, title),
    el('div', { class: 'heading-side' }, ...side),
  );
}

export function failure(error) {
  const hidden = error.code === -32007;
  return el(
    'div',
    { class: 'notice', 'data-tone': hidden ? 'wait' : 'bad' },
    el('strong', null, hidden ? 'Not for this reader. ' : 'That did not work. '),
    error.message,
    error.requestId && el('span', { class: 'muted' }, ` Request ${error.requestId}.`),
  );
}

/** Pages one after the other: a button that asks for more until there is none. */
export function pager(load, render) {
  const items = [];
  const body = el('div', { 'aria-busy': 'true' }, el('p', { class: 'empty' }, 'Loading…'));
  const more = el('button', { class: 'more', type: 'button', hidden: true }, 'Show more');
  let cursor;
  async function next() {
    more.disabled = true;
    try {
      // A page may hold nothing for this reader and still not be the last.
      for (let pages = 0; pages < 20; pages += 1) {
        const page = await load(cursor);
        items.push(...page.items);
        cursor = page.nextCursor ?? undefined;
        if (page.items.length > 0 || cursor === undefined) break;
      }
      body.replaceChildren(render(items));
      more.hidden = cursor === undefined;
    } catch (error) {
      body.replaceChildren(failure(error));
    }
    body.removeAttribute('aria-busy');
    more.disabled = false;
  }
  more.addEventListener('click', next);
  void next();
  return {
    node: el('div', null, body, more),
    /** Begins anew, as when something has changed; keeps what is there until then. */
    reload() {
      items.length = 0;
      cursor = undefined;
      return next();
    },
  };
}

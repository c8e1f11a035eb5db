/** Transactions: the list, and one of them decoded with what it did. */
import { callName, eventLine, fields } from './decoded.js';
import { el } from './dom.js';
import { bytes, time } from './format.js';
import {
  accountLink,
  badge,
  blockLink,
  facts,
  full,
  hash,
  heading,
  pager,
  panel,
  table,
  txLink,
  when,
} from './parts.js';

export function txList({ api }) {
  const list = pager(
    (cursor) => api.call('tx_list', { limit: 30, cursor }),
    (items) =>
      table(
        [
          ['Transaction', ({ hash: of }) => txLink(of, 8)],
          ['Call', ({ callKind }) => callName(callKind)],
          ['Account', ({ account }) => accountLink(account)],
          ['Block', ({ height }) => blockLink(height), 'num'],
          ['Age', ({ timestampMs }) => when(timestampMs)],
          ['Size', ({ sizeBytes }) => bytes(sizeBytes), 'num'],
        ],
        items,
        { caption: 'Transactions', empty: 'No transactions yet.' },
      ),
  );
  return {
    title: 'Transactions',
    node: el('div', null, heading('Chain', 'Transactions'), el('section', { class: 'panel' }, list.node)),
    onBlock: ({ txHashes }) => txHashes.length > 0 && void list.reload(),
  };
}

export async function txDetail({ api, mayRead }, of) {
  const [tx, receipt] = await api.many([
    ['tx_get', { hash: of }],
    ['tx_getReceipt', { hash: of }],
  ]);
  if (tx instanceof Error) throw tx;
  const { call } = tx;
  const events = receipt instanceof Error ? [] : receipt.receipt.events;
  return {
    title: 'Transaction',
    node: el(
      'div',
      null,
      heading('Transaction', tx.visible ? callName(call.kind) : hash(tx.hash, 8), badge(tx.status)),
      panel(
        'Where it is',
        facts([
          ['Hash', full(tx.hash)],
          ['Block', tx.height === null ? 'not yet in a block' : [blockLink(tx.height), ` at position ${tx.index}`]],
          ['Block time', tx.timestampMs === null ? null : [time(tx.timestampMs), ' ', when(tx.timestampMs)]],
          ['Size', tx.sizeBytes === null ? null : bytes(tx.sizeBytes)],
          ['Account', tx.account && accountLink(tx.account, 20)],
          ['Signed with', tx.publicKey && hash(tx.publicKey, 16)],
          ['Valid until', tx.validUntilMs && time(tx.validUntilMs)],
          ['Beside the block', tx.sidecar && `${bytes((tx.sidecar.length - 2) / 2)} of encrypted key wraps, erasable`],
        ]),
      ),
      tx.visible
        ? [
            panel('Call', fields(call)),
            panel(
              'What it did',
              events.length === 0
                ? el('p', { class: 'empty' }, 'No events.')
                : el('ul', { class: 'events' }, ...events.map((event) => el('li', null, eventLine(event)))),
            ),
            el('details', { class: 'panel raw' }, el('summary', null, 'Signed bytes'), full(tx.raw)),
          ]
        : el(
            'p',
            { class: 'notice' },
            tx.status === 'pending'
              ? 'It waits for a block.'
              : mayRead()
                ? 'What it says is out of the scope of this reader.'
                : 'What it says is for members: present a token to see what concerns your account.',
          ),
    ),
    onBlock: tx.status === 'pending' ? 'reload' : undefined,
  };
}

/** Blocks: the list, and one block with who certified it, its transactions and what they did. */
import { callName, eventLine } from './decoded.js';
import { el, link, swap } from './dom.js';
import { bytes, count, number, time } from './format.js';
import {
  accountLink,
  badge,
  blockLink,
  facts,
  failure,
  full,
  hash,
  heading,
  panel,
  table,
  tag,
  txLink,
  when,
} from './parts.js';

const PAGE = 30;

export function blockList({ api, chain }) {
  const body = el('div', null, el('p', { class: 'empty' }, 'Loading…'));
  const older = el('button', { class: 'more', type: 'button' }, 'Show older');
  let rows = [];
  async function load(to) {
    const first = Math.max(0, to - PAGE + 1);
    const calls = [];
    for (let height = to; height >= first; height -= 1) calls.push(['chain_getBlock', { height }]);
    const blocks = await api.many(calls);
    return blocks.filter((block) => !(block instanceof Error)).map(rowOf);
  }
  const rowOf = ({ header, hash: of, txs, certificate, sizeBytes }) => ({
    ...header,
    hash: of,
    txs: txs.length,
    signers: certificate?.signatures.length ?? null,
    sizeBytes,
  });
  const draw = () => {
    swap(
      body,
      table(
        [
          ['Height', ({ height }) => blockLink(height), 'num'],
          ['Age', ({ timestampMs }) => when(timestampMs)],
          ['Tx', ({ txs }) => (txs === 0 ? el('span', { class: 'muted' }, '0') : number(txs)), 'num'],
          ['Size', ({ sizeBytes }) => bytes(sizeBytes), 'num'],
          [
            'Proposer',
            ({ proposer, height }) => (height === 0 ? 'genesis' : (chain.orgOf(proposer) ?? hash(proposer))),
          ],
          [
            'View',
            ({ view }) => (view === 0 ? el('span', { class: 'muted' }, '0') : tag(`view ${view}`, 'wait')),
            'num',
          ],
          ['Signed by', ({ signers }) => (signers === null ? '–' : `${signers} of ${chain.validators.length}`)],
          ['Hash', ({ hash: of }) => hash(of)],
        ],
        rows,
        { caption: 'Blocks' },
      ),
    );
    older.hidden = rows.length === 0 || rows[rows.length - 1].height === 0;
  };
  older.addEventListener('click', async () => {
    rows = [...rows, ...(await load(rows[rows.length - 1].height - 1))];
    draw();
  });
  void load(chain.status.height).then(
    (loaded) => {
      rows = loaded;
      draw();
    },
    (error) => swap(body, failure(error)),
  );
  return {
    title: 'Blocks',
    node: el('div', null, heading('Chain', 'Blocks'), el('section', { class: 'panel' }, body, older)),
    async onBlock({ height }) {
      const [block] = await api.many([['chain_getBlock', { height }]]);
      if (block instanceof Error || rows.some((row) => row.height === height)) return;
      rows = [rowOf(block), ...rows];
      draw();
    },
  };
}

function signers(certificate, validators, quorum) {
  const signed = new Set(certificate.signatures.map(({ address }) => address));
  return el(
    'ul',
    { class: 'signers' },
    ...validators.map(({ address, orgId }) =>
      el(
        'li',
        { 'data-signed': String(signed.has(address)) },
        badge(signed.has(address) ? 'signed' : 'absent', signed.has(address) ? 'signed' : 'absent'),
        el('strong', null, orgId),
        hash(address),
      ),
    ),
    el(
      'li',
      { class: 'muted signers-sum' },
      `${signed.size} of ${validators.length} signed Commit in view ${certificate.view}; ${quorum} are needed.`,
    ),
  );
}

function transactions(txs) {
  return table(
    [
      ['#', ({ index }) => number(index), 'num'],
      ['Transaction', ({ hash: of }) => txLink(of, 8)],
      ['Call', ({ callKind }) => callName(callKind)],
      ['Account', ({ account }) => accountLink(account)],
      ['Size', ({ sizeBytes }) => bytes(sizeBytes), 'num'],
    ],
    txs,
    { caption: 'Transactions', empty: 'No transactions: this block is here because time asked for it.' },
  );
}

function eventsPanel(results) {
  const rows = results.receipts.flatMap(({ txHash, events }) => events.map((event) => ({ txHash, event })));
  const items = rows.map(({ txHash, event }) =>
    el('li', null, eventLine(event), txHash === null && tag('by block time', 'plain')),
  );
  return panel(
    'Events',
    rows.length === 0 ? el('p', { class: 'empty' }, 'None in your scope.') : el('ul', { class: 'events' }, ...items),
  );
}

export async function blockDetail({ api, mayRead, chain }, which) {
  const at = /^\d+$/.test(which) ? { height: Number(which) } : { hash: which };
  const block = await api.call('chain_getBlock', at);
  const { header, certificate } = block;
  const { height } = header;
  const [set, results] = await api.many([
    ['consensus_getValidators', { height }],
    ['chain_getBlockResults', { height }],
  ]);
  const validators = set instanceof Error ? chain.validators : set.validators;
  const proposer = validators.find(({ address }) => address === header.proposer)?.orgId;
  const before = height > 0 && link(['block', height - 1], '← older', { 'data-key': 'older' });
  const after = height < chain.status.height && link(['block', height + 1], 'newer →', { 'data-key': 'newer' });
  return {
    title: `Block ${height}`,
    node: el(
      'div',
      null,
      heading('Block', number(height), height > 0 && badge('final'), el('span', { class: 'step' }, before, after)),
      panel(
        'Header',
        facts([
          ['Hash', full(block.hash)],
          ['Block time', [time(header.timestampMs), ' ', when(header.timestampMs)]],
          ['Proposer', height === 0 ? 'genesis' : [proposer ?? '', ' ', hash(header.proposer)]],
          [
            'View',
            header.view === 0 ? '0, the first leader' : tag(`${header.view}: leaders before were passed over`, 'wait'),
          ],
          ['Parent', height === 0 ? null : link(['block', header.parentHash], hash(header.parentHash, 16))],
          ['Size', `${bytes(block.sizeBytes)} in ${count(block.txs.length, 'transaction')}`],
          ['State root', hash(header.stateRoot, 16)],
          ['Transactions root', hash(header.txRoot, 16)],
          ['Receipts root', hash(header.receiptsRoot, 16)],
          [
            'Validator set',
            [
              hash(header.validatorsHash, 8),
              header.validatorsHash === header.nextValidatorsHash ? '' : [' → ', hash(header.nextValidatorsHash, 8)],
            ],
          ],
        ]),
      ),
      certificate
        ? panel('Certificate', signers(certificate, validators, set.quorum ?? 0))
        : panel(
            'Certificate',
            el('p', { class: 'empty' }, 'The genesis block has none: who knows the chain id knows it.'),
          ),
      panel('Transactions', transactions(block.txs)),
      mayRead() && !(results instanceof Error) && eventsPanel(results),
    ),
  };
}

/** Validators and accounts. */
import { callName } from './decoded.js';
import { el, swap } from './dom.js';
import { bytes, number, time, words } from './format.js';
import {
  accountLink,
  badge,
  blockLink,
  facts,
  failure,
  full,
  hash,
  heading,
  pager,
  panel,
  table,
  tag,
  txLink,
  when,
} from './parts.js';
import { recordTable } from './view-records.js';
import { requestTable } from './view-requests.js';

function validatorTable(chain, peers) {
  const byAddress = new Map(peers.map((peer) => [peer.address, peer]));
  const head = chain.status.height;
  const behind = (height) =>
    height === null
      ? '–'
      : height >= head
        ? number(height)
        : [number(height), ' ', tag(`−${number(head - height)}`, 'wait')];
  return table(
    [
      ['#', ({ index }) => number(index), 'num'],
      [
        'Organisation',
        ({ orgId, address }) => [
          el('strong', null, orgId),
          address === chain.status.leader && [' ', tag('leader', 'good')],
        ],
      ],
      ['State', ({ liveness }) => (liveness === null ? '–' : badge(liveness.connected ? 'connected' : 'away'))],
      ['Last signed', ({ liveness }) => (liveness === null ? '–' : behind(liveness.lastSignedHeight)), 'num'],
      ['Executed', ({ liveness }) => (liveness === null ? '–' : behind(liveness.executedHeight)), 'num'],
      ['Heard', ({ liveness }) => (liveness === null ? '–' : when(liveness.lastSeenMs))],
      ['Address', ({ address }) => hash(address)],
      ['Key', ({ publicKey }) => hash(publicKey)],
      [
        'Traffic',
        ({ address }) => {
          const peer = byAddress.get(address);
          return peer ? el('span', { class: 'muted' }, `↓ ${bytes(peer.bytesIn)} ↑ ${bytes(peer.bytesOut)}`) : '–';
        },
      ],
    ],
    chain.validators,
    { caption: 'Validators' },
  );
}

export async function validatorList({ api, chain }) {
  const body = el('div');
  const members = el('div');
  async function draw() {
    const [peers, gov] = await api.many([['net_peers'], ['gov_getMembers']]);
    swap(body, validatorTable(chain, peers instanceof Error ? [] : peers.peers));
    if (gov instanceof Error) return;
    swap(
      members,
      panel(
        'Organisations',
        table(
          [
            ['Organisation', ({ orgId }) => el('strong', null, orgId)],
            ['Name', ({ name }) => name],
            ['Status', ({ status }) => badge(status)],
            ['Custodian key', ({ custodianKey }) => hash(custodianKey)],
            ['Member since', ({ sinceMs }) => time(sinceMs)],
          ],
          gov.organisations,
          { caption: 'Organisations' },
        ),
      ),
    );
  }
  await draw();
  const { quorum, validators } = chain.status;
  return {
    title: 'Validators',
    node: el(
      'div',
      null,
      heading(
        'Consensus',
        'Validators',
        el(
          'span',
          { class: 'muted' },
          `${validators} validators, ${quorum} decide, ${Math.floor((validators - 1) / 3)} may fail`,
        ),
      ),
      el('section', { class: 'panel' }, body),
      members,
    ),
    onBlock: () => void draw(),
    onTick: () => void draw(),
  };
}

export function accountList({ api }) {
  const list = pager(
    (cursor) => api.call('acl_listAccounts', { limit: 50, cursor }),
    (items) =>
      table(
        [
          ['Account', ({ id }) => accountLink(id, 8)],
          ['Kind', ({ kind, custodial }) => [tag(kind), custodial && [' ', tag('custodial', 'wait')]]],
          ['Organisation', ({ orgId }) => orgId],
          ['Status', ({ status }) => badge(status)],
          ['Person tag', ({ personTag }) => hash(personTag)],
          ['Enrolled', ({ enrolledMs }) => when(enrolledMs)],
        ],
        items,
        { caption: 'Accounts', empty: 'No accounts in your scope.' },
      ),
  );
  return {
    title: 'Accounts',
    node: el(
      'div',
      null,
      heading('People and machines', 'Accounts'),
      el(
        'p',
        { class: 'muted lead' },
        'Patients are pseudonyms of their hospital; staff carry a keyed token of their licence. No name is on the chain.',
      ),
      el('section', { class: 'panel' }, list.node),
    ),
    onEvents: (events) => {
      if (events.some(({ event }) => event.type.startsWith('account.'))) void list.reload();
    },
  };
}

function roleTable(roles) {
  return table(
    [
      ['Role', ({ role }) => el('strong', null, words(role))],
      ['State', ({ current }) => badge(current ? 'active' : 'expired')],
      ['Organisation', ({ orgId }) => orgId],
      ['Department', ({ department }) => (department === null ? 'any' : hash(department))],
      ['Fills slots from', ({ effectiveMs }) => (effectiveMs === 0 ? 'the genesis' : time(effectiveMs))],
      ['Until', ({ expiresAtMs }) => time(expiresAtMs)],
      ['Granted by', ({ grantedBy }) => (grantedBy === null ? 'the founders' : accountLink(grantedBy))],
    ],
    roles,
    { caption: 'Roles', empty: 'No roles.' },
  );
}

export async function accountDetail({ api }, id) {
  const { account } = await api.call('acl_getAccount', { account: id });
  const patient = account.kind === 'patient';
  const [roles, owned, asked, sent] = await api.many([
    ['acl_getRoles', { account: id }],
    ['emr_listRecords', { owner: id, limit: 50 }],
    ['acl_listRequests', { requester: id, limit: 50 }],
    ['tx_list', { account: id, limit: 20 }],
  ]);
  const shown = (result, render) => (result instanceof Error ? failure(result) : render(result));
  return {
    title: 'Account',
    node: el(
      'div',
      null,
      heading(patient ? 'Patient, by pseudonym' : 'Account', el('code', { class: 'hash' }, id), badge(account.status)),
      panel(
        'Account',
        facts([
          ['Id', full(account.id)],
          ['Kind', [tag(account.kind), account.custodial && [' ', tag('the hospital keeps the key', 'wait')]]],
          ['Organisation', account.orgId],
          ['Key', hash(account.publicKey, 16)],
          ['Key since', time(account.keySinceMs)],
          ['Recovered', account.recoveredMs && time(account.recoveredMs)],
          ['Person tag', account.personTag && hash(account.personTag, 16)],
          ['Enrolled', [time(account.enrolledMs), account.enrolledBy && [' by ', accountLink(account.enrolledBy)]]],
        ]),
      ),
      !patient &&
        panel(
          'Roles',
          shown(roles, (of) => roleTable(of.roles)),
        ),
      patient &&
        panel(
          'Records',
          shown(owned, (of) => recordTable(of.items)),
        ),
      panel(
        'Requests by this account',
        shown(asked, (of) => requestTable([...of.items].sort((left, right) => right.createdMs - left.createdMs))),
      ),
      panel(
        'Transactions',
        shown(sent, (of) =>
          table(
            [
              ['Transaction', ({ hash: tx }) => txLink(tx, 8)],
              ['Call', ({ callKind }) => callName(callKind)],
              ['Block', ({ height }) => blockLink(height), 'num'],
              ['Age', ({ timestampMs }) => when(timestampMs)],
            ],
            of.items,
            { caption: 'Transactions', empty: 'None in the last blocks.' },
          ),
        ),
      ),
    ),
    onEvents: (events) =>
      events.some(({ event }) => event.actor === id || event.subject === id) ? 'reload' : undefined,
  };
}

/** Records and policies. */
import { eventLine } from './decoded.js';
import { el } from './dom.js';
import { bytes, capital, duration, number, purpose, time, words } from './format.js';
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
  policyLink,
  recordLink,
  table,
  tag,
  txLink,
  when,
} from './parts.js';
import { plainTree } from './policy-tree.js';
import { requestTable, withTrees } from './view-requests.js';

export function recordTable(items) {
  return table(
    [
      ['Record', ({ id }) => recordLink(id, 8)],
      ['Class', ({ section }) => (section === null ? '–' : tag(words(section)))],
      ['Hospital', ({ orgId }) => orgId],
      ['Owner', ({ owner }) => accountLink(owner)],
      ['Versions', ({ latestVersion }) => number(latestVersion), 'num'],
      ['Size', ({ latest }) => bytes(latest?.sizeBytes), 'num'],
      ['Written', ({ createdMs }) => when(createdMs)],
    ],
    items,
    { caption: 'Records', empty: 'No records in your scope.' },
  );
}

export function recordList({ api }) {
  const list = pager((cursor) => api.call('emr_listRecords', { limit: 30, cursor }), recordTable);
  const policies = pager(
    (cursor) => api.call('emr_listPolicies', { limit: 30, cursor }),
    (items) =>
      table(
        [
          ['Policy', ({ ref }) => policyLink(ref, 8)],
          ['Of', ({ document: { orgId } }) => orgId],
          [
            'Purposes',
            ({ document: { rules } }) =>
              [...new Set(rules.flatMap(({ purposes }) => purposes))].map(purpose).join(', '),
          ],
          ['Rules', ({ document: { rules } }) => number(rules.length), 'num'],
          ['Version', ({ version }) => number(version), 'num'],
        ],
        items,
        { caption: 'Policies', empty: 'No policies yet.' },
      ),
  );
  return {
    title: 'Records',
    node: el(
      'div',
      null,
      heading('Medical records', 'Records'),
      el('section', { class: 'panel' }, list.node),
      panel('Policies', policies.node),
    ),
    onEvents: (events) => {
      if (events.some(({ event }) => event.type.startsWith('record.'))) void list.reload();
    },
  };
}

/** Who holds the ciphertext of each version. */
function replicaCell(receipts) {
  if (receipts instanceof Error) return '–';
  const holders = receipts.receipts.map(({ orgId }) => tag(orgId, 'good'));
  const none = !receipts.local && holders.length === 0;
  return none
    ? el('span', { class: 'muted' }, 'no receipts')
    : el('span', { class: 'tags' }, receipts.local && tag('this node'), ...holders);
}

function versionTable(versions, receipts) {
  return table(
    [
      ['Version', ({ version }) => number(version), 'num'],
      ['CID', ({ cid }) => full(cid)],
      ['Digest (SM3)', ({ dataDigest }) => hash(dataDigest, 8)],
      ['Size', ({ sizeBytes }) => bytes(sizeBytes), 'num'],
      ['Key', ({ custody }) => tag(custody)],
      ['Author', ({ writer }) => accountLink(writer)],
      ['Block', ({ height }) => blockLink(height), 'num'],
      ['Replicas', ({ version }) => replicaCell(receipts.get(version))],
    ],
    versions,
    { caption: 'Versions' },
  );
}

function trail(recordId, items) {
  if (items.length === 0) return el('p', { class: 'empty' }, 'Nothing yet.');
  const steps = items.map(({ timestampMs, height, txHash, event }) =>
    el(
      'li',
      null,
      when(timestampMs),
      el(
        'div',
        null,
        eventLine(event, { within: recordId }),
        el('span', { class: 'muted' }, ' · block ', blockLink(height), txHash && [' · tx ', txLink(txHash, 4)]),
      ),
    ),
  );
  return el('ol', { class: 'timeline' }, ...steps);
}

async function fullRecord(api, record) {
  const recordId = record.id;
  const [versions, requests, audit] = await api.many([
    ['emr_listVersions', { recordId, limit: 100 }],
    ['acl_listRequests', { recordId, limit: 50 }],
    ['acl_getAuditTrail', { recordId, limit: 100 }],
  ]);
  const shown = versions instanceof Error ? [] : [...versions.items].reverse();
  const held = await api.many(shown.map(({ cid }) => ['blob_getReceipts', { cid }]));
  const receipts = new Map(shown.map(({ version }, index) => [version, held[index]]));
  const rows = requests instanceof Error ? null : await withTrees(api, [...requests.items].reverse());
  return [
    panel('Versions', versions instanceof Error ? failure(versions) : versionTable(shown, receipts)),
    panel('Requests for access', rows === null ? failure(requests) : requestTable(rows, { record: false })),
    panel('Audit trail', audit instanceof Error ? failure(audit) : trail(recordId, audit.items)),
  ];
}

export async function recordDetail({ api }, recordId) {
  const { record } = await api.call('emr_getRecord', { recordId });
  const complete = record.view === 'full';
  const more = complete ? await fullRecord(api, record) : [];
  return {
    title: 'Record',
    node: el(
      'div',
      null,
      heading(
        'Record',
        complete ? capital(`${words(record.section)} record`) : 'A record',
        el('span', { class: 'muted' }, record.orgId),
      ),
      !complete &&
        el('p', { class: 'notice' }, 'You see what it takes to ask for access; the rest is out of your scope.'),
      panel(
        'Record',
        facts([
          ['Id', full(record.id)],
          ['Hospital', record.orgId],
          [
            'Owner',
            record.owner && [
              accountLink(record.owner, 20),
              el('span', { class: 'muted' }, ' a pseudonym of this hospital'),
            ],
          ],
          ['Author', record.writer && accountLink(record.writer, 20)],
          ['Class', record.section && words(record.section)],
          ['Policy', policyLink(record.policyRef, 12)],
          ['Latest version', number(record.latestVersion)],
          ['Written', record.createdMs && [time(record.createdMs), ' ', when(record.createdMs)]],
        ]),
      ),
      ...more,
    ),
    onEvents: (events) => (events.some(({ event }) => event.recordId === recordId) ? 'reload' : undefined),
  };
}

function rulePanel(rule, index) {
  const requesters = rule.requesters.map(({ role, scope }) =>
    tag(`${words(role)}, ${scope.kind === 'named' ? scope.orgId : scope.kind}`),
  );
  return panel(
    `Rule ${index + 1}`,
    el(
      'div',
      { class: 'columns' },
      facts([
        ['For', rule.purposes.map(purpose).join(', ')],
        ['May ask', el('span', { class: 'tags' }, ...requesters)],
        ['At most for', duration(rule.maxDurationMs)],
        ['Categories', rule.categories === null ? 'all' : `${rule.categories.length} keyed tokens`],
      ]),
      el('div', null, el('p', { class: 'kind' }, 'Approvals'), plainTree(rule.approvals)),
    ),
  );
}

export async function policyDetail({ api }, policyRef) {
  const { policy } = await api.call('emr_getPolicy', { policyRef });
  const { document: of } = policy;
  return {
    title: 'Policy',
    node: el(
      'div',
      null,
      heading('Policy', `Policy of ${of.orgId}`, badge('active', `version ${policy.version}`)),
      panel(
        'Policy',
        facts([
          ['Reference', full(policy.ref)],
          ['Created by', [accountLink(policy.createdBy, 20), ' ', when(policy.createdMs)]],
          ['In force since', when(policy.sinceMs)],
          ['By amendment', policy.amendmentId === null ? 'none: the first version' : full(policy.amendmentId)],
          ['Key wraps', [of.patientWrap && tag('patient'), ' ', of.custodian && tag('custodian of the hospital')]],
        ]),
      ),
      ...of.rules.map(rulePanel),
      panel('Who may change it', plainTree(of.adminRule)),
    ),
  };
}

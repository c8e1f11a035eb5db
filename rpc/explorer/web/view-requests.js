/** Requests for access: the list, and one with its policy tree filling up, live. */
import { el, link, swap } from './dom.js';
import { capital, count, duration, number, purpose, time } from './format.js';
import {
  accountLink,
  badge,
  blockLink,
  ends,
  facts,
  full,
  hash,
  heading,
  pager,
  panel,
  policyLink,
  recordLink,
  requestLink,
  table,
  tag,
  when,
} from './parts.js';
import { decisionBadge, explainedTree, slotDots } from './policy-tree.js';

const FILTERS = ['all', 'pending', 'granted', 'denied', 'revoked', 'expired', 'cancelled', 'ended'];

/** Requests of a page with their trees; lists of records use it too. */
export async function withTrees(api, requests) {
  const details = await api.many(requests.map(({ hash: of }) => ['acl_getRequest', { requestHash: of }]));
  return requests.map((request, index) => ({
    ...request,
    explanation: details[index] instanceof Error ? null : details[index].explanation,
  }));
}

export function requestTable(rows, { record = true } = {}) {
  const columns = [
    ['Status', ({ explanation, status }) => badge(explanation?.status ?? status)],
    ['Request', ({ hash: of }) => requestLink(of)],
    ['Purpose', ({ purpose: code }) => purpose(code)],
    [
      'Requester',
      ({ requester, requesterOrg }) => [accountLink(requester), ' ', el('span', { class: 'muted' }, requesterOrg)],
    ],
    record && [
      'Record',
      ({ recordId, recordOrg }) => [recordLink(recordId), ' ', el('span', { class: 'muted' }, recordOrg)],
    ],
    ['Slots', ({ explanation }) => (explanation ? slotDots(explanation) : '–')],
    ['Asked', ({ createdMs }) => when(createdMs)],
    ['Until', (request) => endOf(request)],
  ];
  return table(columns.filter(Boolean), rows, { caption: 'Requests for access', empty: 'No requests in your scope.' });
}

function endOf({ status, explanation, pendingUntilMs, notAfterMs, statusMs }) {
  const now = explanation?.status ?? status;
  if (now === 'pending') return ends(pendingUntilMs);
  return now === 'granted' ? ends(notAfterMs) : when(statusMs);
}

export function requestList({ api }, status = 'all') {
  const list = pager(
    async (cursor) => {
      const page = await api.call('acl_listRequests', {
        limit: 50,
        cursor,
        status: status === 'all' ? undefined : status,
      });
      return { ...page, items: await withTrees(api, page.items) };
    },
    (items) => requestTable([...items].sort((left, right) => right.createdMs - left.createdMs)),
  );
  const filters = FILTERS.map((name) =>
    link(['requests', name], name === 'all' ? 'All' : badge(name), {
      class: 'chip',
      'aria-current': name === status ? 'true' : null,
    }),
  );
  return {
    title: 'Requests',
    node: el(
      'div',
      null,
      heading('Access', 'Requests'),
      el('nav', { class: 'chips', 'aria-label': 'Status' }, ...filters),
      el('section', { class: 'panel' }, list.node),
    ),
    onEvents: () => void list.reload(),
  };
}

function timeline(request, decisions, delivered) {
  const steps = [
    {
      atMs: request.createdMs,
      what: [badge('pending', 'asked'), ' by ', accountLink(request.requester), ` ${request.requesterOrg}`],
    },
    ...decisions.map(({ account, orgId, approve, atMs, height, reason }) => ({
      atMs,
      what: [
        decisionBadge(approve),
        ' by ',
        accountLink(account),
        ` ${orgId}`,
        reason && [' ', tag(reason)],
        ' in block ',
        blockLink(height),
      ],
    })),
  ];
  if (request.status !== 'pending') {
    const by = request.statusBy && !(request.status === 'granted') ? [' by ', accountLink(request.statusBy)] : '';
    steps.push({
      atMs: request.statusMs,
      what: [
        badge(request.status),
        by,
        request.statusReason && [' ', tag(request.statusReason)],
        ' in block ',
        blockLink(request.statusHeight),
      ],
    });
  }
  steps.sort((left, right) => left.atMs - right.atMs);
  if (delivered) steps.push({ atMs: null, what: [tag('key delivered by the patient', 'good')] });
  return el(
    'ol',
    { class: 'timeline' },
    ...steps.map(({ atMs, what }) => el('li', null, atMs !== null && when(atMs), el('div', null, ...what))),
  );
}

function missing({ explanation, request }) {
  const { status, missing: lacking, idle } = explanation;
  return [
    lacking &&
      el('p', { class: 'missing' }, badge('pending', 'waits'), ` ${lacking.message}. `, ends(request.pendingUntilMs)),
    status === 'granted' && el('p', { class: 'missing' }, badge('granted', 'access'), ' ', ends(request.notAfterMs)),
    idle.length > 0 &&
      el(
        'p',
        { class: 'missing muted' },
        'Approved, and fills no slot: ',
        ...idle.map((account) => [accountLink(account), ' ']),
      ),
  ];
}

async function revocation(api, of) {
  const state = await api.call('acl_getRevocationStatus', { requestHash: of });
  return panel(
    'Revocation',
    el(
      'p',
      null,
      state.final ? badge('final', 'final') : badge('pending', 'not everywhere yet'),
      ` ${count(state.executedBy.length, 'validator')} executed it, ${number(state.quorum)} are needed: ${state.executedBy.join(', ') || 'none so far'}. `,
      'From then on no key is released for it. What was read before stays read.',
    ),
  );
}

export async function requestDetail({ api }, of) {
  const body = el('div');
  async function draw() {
    const detail = await api.call('acl_getRequest', { requestHash: of });
    const { request, explanation, decisions, delivered, body: asked } = detail;
    const revoked = request.status === 'revoked' ? await revocation(api, of).catch(() => null) : null;
    swap(
      body,
      heading(
        'Request for access',
        [
          capital(purpose(request.purpose)),
          ' ',
          el('span', { class: 'muted' }, `${request.requesterOrg} → ${request.recordOrg}`),
        ],
        badge(explanation.status),
      ),
      el(
        'div',
        { class: 'columns' },
        panel('Approvals', [explainedTree(explanation, decisions), ...missing(detail)]),
        panel('What happened', timeline(request, decisions, delivered)),
      ),
      revoked,
      panel(
        'Request',
        facts([
          ['Hash', full(request.hash)],
          ['Record', [recordLink(request.recordId, 16), ` version ${request.version}`]],
          ['Owner', accountLink(request.owner, 20)],
          ['Requester', [accountLink(request.requester, 20), ` ${request.requesterOrg}`]],
          ['Purpose', `${purpose(request.purpose)} (${request.purpose})`],
          [
            'Policy',
            [policyLink(request.policyRef, 12), ` version ${request.policyVersion}, rule ${request.ruleIndex + 1}`],
          ],
          [
            'Access until',
            [
              time(request.notAfterMs),
              ' (',
              duration(Math.max(0, request.notAfterMs - request.createdMs)),
              ' from the request)',
            ],
          ],
          ['Fresh key', hash(asked.requesterKey, 16)],
        ]),
      ),
    );
  }
  await draw();
  return {
    title: 'Request',
    node: body,
    onEvents: (events) => {
      if (events.some(({ event }) => event.requestHash === of)) void draw().catch(() => {});
    },
    onBlock: () => void draw().catch(() => {}),
  };
}

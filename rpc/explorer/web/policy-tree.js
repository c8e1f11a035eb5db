/** The approval tree of a policy, plain or filling up: who approved, who denied, what is still open. */
import { el } from './dom.js';
import { capital, words } from './format.js';
import { accountLink, badge, when } from './parts.js';

function scopeWords(scope) {
  switch (scope.kind) {
    case 'writer':
      return 'of the hospital that wrote the record';
    case 'requester':
      return "of the requester's organisation";
    case 'named':
      return `of ${scope.orgId}`;
    default:
      return 'of any organisation';
  }
}

function slotName(slot) {
  switch (slot.kind) {
    case 'owner':
      return ['The patient', 'the owner of the record, in person'];
    case 'attending':
      return ['An attending physician', 'whom a relation ties to this patient'];
    case 'person':
      return ['A named person', accountLink(slot.account)];
    case 'role':
      return [capital(words(slot.role)), `${scopeWords(slot.scope)}${slot.department ? ', one department' : ''}`];
    default:
      return ['Unknown slot', ''];
  }
}

const MARKS = { filled: '✓', denied: '✕', open: '', unused: '', impossible: '–' };
const STATE_WORDS = {
  filled: 'approved',
  denied: 'denied',
  open: 'open',
  unused: 'was not needed',
  impossible: 'nobody left who could',
};

/** What is open in a request that waits is not so in one that is decided. */
const shown = (state, pending) => (state === 'open' && !pending ? 'unused' : state);

function slotNode({ slot, state: now, by, orgId }, { decisions, pending }) {
  const state = shown(now, pending);
  const [name, which] = slotName(slot);
  const decision = by && decisions.find(({ account }) => account === by);
  return el(
    'li',
    { class: 'slot', 'data-state': state ?? 'plain' },
    el('span', { class: 'slot-mark', 'aria-hidden': 'true' }, MARKS[state] ?? ''),
    el('div', null, el('span', { class: 'slot-name' }, name), ' ', el('span', { class: 'muted' }, which)),
    state &&
      el(
        'div',
        { class: 'slot-by' },
        by
          ? [STATE_WORDS[state], ' by ', accountLink(by), orgId && ` ${orgId}`, decision && [' ', when(decision.atMs)]]
          : STATE_WORDS[state],
      ),
  );
}

function thresholdTitle(k, count) {
  if (count === 1) return 'This approval';
  if (k === count) return count === 2 ? 'Both of' : `All ${count} of`;
  return k === 1 ? 'One of' : `${k} of ${count}`;
}

/** Approvals that a threshold still lacks. */
function progress({ k, of }) {
  return `${Math.min(k, of.filter(({ satisfied }) => satisfied).length)} / ${k}`;
}

function thresholdNode(node, context) {
  const { explained } = context;
  return el(
    'li',
    { class: 'threshold', 'data-satisfied': explained ? String(node.satisfied) : null },
    el(
      'div',
      { class: 'threshold-head' },
      el('span', { class: 'threshold-title' }, thresholdTitle(node.k, node.of.length)),
      explained && el('span', { class: 'meter', title: 'satisfied of needed' }, progress(node)),
    ),
    el('ul', { class: 'tree' }, ...node.of.map((child) => treeNode(child, context))),
  );
}

function treeNode(node, context) {
  if (node.kind === 'threshold') return thresholdNode(node, context);
  return slotNode(context.explained ? node : { slot: node }, context);
}

/** The tree of a request, with who fills which slot. */
export function explainedTree({ tree, status }, decisions) {
  const context = { decisions, pending: status === 'pending', explained: true };
  return el('ul', { class: 'tree tree-root' }, treeNode(tree, context));
}

/** The tree of a policy's rule. */
export function plainTree(tree) {
  return el('ul', { class: 'tree tree-root' }, treeNode(tree, { decisions: [], pending: false, explained: false }));
}

function leaves(node) {
  return node.kind === 'threshold' ? node.of.flatMap(leaves) : [node];
}

/** One mark for each slot, for lists: filled, denied, open. */
export function slotDots({ tree, status }) {
  const all = leaves(tree).map(({ state }) => shown(state, status === 'pending'));
  const count = (state) => all.filter((one) => one === state).length;
  const said = ['filled', 'denied', 'open', 'unused', 'impossible']
    .filter((state) => count(state) > 0)
    .map((state) => `${count(state)} ${state}`);
  return el(
    'span',
    { class: 'dots', role: 'img', 'aria-label': `Slots: ${said.join(', ')}`, title: said.join(', ') },
    ...all.map((state) => el('span', { class: 'dot', 'data-state': state })),
  );
}

export function decisionBadge(approve) {
  return badge(approve ? 'granted' : 'denied', approve ? 'approved' : 'denied');
}

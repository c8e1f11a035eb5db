/** Calls and events of the ledger, decoded: every field with its name, hashes that lead somewhere as links. */
import { el } from './dom.js';
import { purpose, time, words } from './format.js';
import { accountLink, hash, policyLink, recordLink, requestLink, tag } from './parts.js';

/** Field names whose values are names of things with a page of their own. */
const LINKS = {
  account: accountLink,
  owner: accountLink,
  writer: accountLink,
  requester: accountLink,
  patient: accountLink,
  physician: accountLink,
  actor: accountLink,
  subject: accountLink,
  recordId: recordLink,
  requestHash: requestLink,
  policyRef: policyLink,
};

const ADDRESS = /^0x[0-9a-f]{40}$/;
const BYTES = /^0x[0-9a-f]*$/;

function value(name, content) {
  if (content === null) return el('span', { class: 'muted' }, 'none');
  if (typeof content === 'boolean') return content ? 'yes' : 'no';
  if (typeof content === 'number') return name.endsWith('Ms') && content > 1e12 ? time(content) : String(content);
  if (typeof content === 'string') return text(name, content);
  if (Array.isArray(content)) {
    if (content.length === 0) return el('span', { class: 'muted' }, 'none');
    return el('ol', { class: 'decoded-list' }, ...content.map((item) => el('li', null, value(name, item))));
  }
  return fields(content);
}

function text(name, content) {
  if (LINKS[name] && (name.endsWith('Hash') || name.endsWith('Id') || name.endsWith('Ref') || ADDRESS.test(content)))
    return LINKS[name](content);
  if (name === 'purpose' || name === 'purposes') return `${purpose(content)} (${content})`;
  return BYTES.test(content) ? hash(content, 10) : content;
}

/** An object as a list of its fields; what it is (`kind`) first. */
export function fields(object) {
  const entries = Object.entries(object).filter(([name]) => name !== 'kind');
  const rows = entries.map(([name, content]) =>
    el('div', null, el('dt', null, words(name)), el('dd', null, value(name, content))),
  );
  return el(
    'dl',
    { class: 'decoded' },
    object.kind && el('div', null, el('dt', null, 'kind'), el('dd', null, tag(words(object.kind)))),
    ...rows,
  );
}

/** What a transaction asks for, as a few words. */
export function callName(kind) {
  if (kind === null || kind === undefined) return el('span', { class: 'muted' }, 'out of scope');
  const [family, verb] = kind.split('.');
  return el(
    'span',
    { class: 'call', 'data-family': family },
    el('span', { class: 'call-family' }, family),
    ' ',
    words(verb),
  );
}

/** One event as a line. `within`: the record whose page this is, which needs no saying. */
export function eventLine(event, { within } = {}) {
  const elsewhere = within === undefined || event.recordId !== within;
  const parts = [
    event.actor && [' by ', accountLink(event.actor)],
    event.subject && event.subject !== event.actor && [' · concerns ', accountLink(event.subject)],
    event.recordId && elsewhere && [' · record ', recordLink(event.recordId)],
    event.requestHash && [' · request ', requestLink(event.requestHash)],
    event.objectId && elsewhere && [' · ', hash(event.objectId)],
    event.detail && [' · ', tag(event.detail)],
    event.orgId && [' · ', el('span', { class: 'muted' }, event.orgId)],
  ];
  return el('span', { class: 'event' }, callName(event.type), ...parts.filter(Boolean).flat());
}

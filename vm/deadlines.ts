/**
 * What block time itself brings about, at the start of each block: requests and proposals expire, grants end, accepted
 * proposals take effect. Bounded per block, the rest comes with the next; no rule relies on the sweep being in time.
 */
import { readU64be } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import type { Hash, TimeMs } from '../common/protocol/primitives.ts';
import { MAX_EVENTS_PER_RECEIPT } from '../common/protocol/receipt.ts';
import {
  counterEntry,
  DEADLINE_KINDS,
  type DeadlineKind,
  paramsEntry,
  policyEntry,
  requestEntry,
  type RequestEntry,
  stateKey,
  statePrefix,
  prefixRange,
} from '../common/protocol/state-entries.ts';
import { closeGrant, closePending } from './access-status.ts';
import { expireAmendment } from './amendments.ts';
import { accessFields, type Context, emit } from './context.ts';
import { closeDemand } from './custody/demands.ts';
import { passRefresh } from './custody/handover.ts';
import { passDealDeadline } from './custody/outcome.ts';
import { activateProposal, expireProposal, failCandidacy } from './governance.ts';
import { MAX_DEADLINES_PER_BLOCK, MAX_EVENTS_PER_DEADLINE } from './limits.ts';
import { Overlay } from './overlay.ts';
import type { BlockDue, StateReader } from './types.ts';

interface Deadline {
  readonly atMs: TimeMs;
  readonly kind: DeadlineKind;
  readonly id: Hash;
}

/** Reads a key back: namespace, u64 time, kind, 32 bytes. */
function parseDeadline(key: Uint8Array): Deadline {
  const atMs = readU64be(key, 1);
  const kind = DEADLINE_KINDS[key[9] as number];
  assert(atMs !== undefined && kind !== undefined && key.length === 42, 'a deadline has a time and a kind');
  return { atMs, kind, id: key.slice(10) };
}

const BY_TIME = { by: null, reason: null };

/** A request whose policy has changed waited for nothing any more, and is kept as such. */
function expireRequest(ctx: Context, request: RequestEntry): void {
  const { version } = ctx.state.must(policyEntry, stateKey.policy(request.policyRef), 'policy of a request');
  const reason = version === request.request.policyVersion ? null : 'POLICY_CHANGED';
  closePending(ctx, request, 'expired', { by: null, reason });
  emit(ctx, 'access.expired', accessFields(request, reason));
}

function pass(ctx: Context, { kind, id }: Deadline): void {
  switch (kind) {
    case 'request':
    case 'grant': {
      const request = ctx.state.must(requestEntry, stateKey.request(id), 'request of a deadline');
      if (kind === 'request') return expireRequest(ctx, request);
      closeGrant(ctx, request, 'ended', BY_TIME);
      return emit(ctx, 'access.ended', accessFields(request, null));
    }
    case 'proposal':
      return expireProposal(ctx, id);
    case 'activation':
      return activateProposal(ctx, id);
    case 'candidacy':
      return failCandidacy(ctx, id);
    case 'custodyDeal':
      return passDealDeadline(ctx, id);
    case 'custodyDemand':
      return closeDemand(ctx, id);
    case 'custodyRefresh':
      return passRefresh(ctx);
    case 'amendment':
      return expireAmendment(ctx, id);
  }
}

/** Brings about what is due at block time, earliest first. */
export function passDeadlines(ctx: Context): void {
  const { gte } = prefixRange(statePrefix.deadlines());
  // Past every kind and id of this very millisecond.
  const lt = stateKey.deadline(ctx.now + 1, 'request', new Uint8Array(32));
  const due = [...ctx.state.base.range({ gte, lt, limit: MAX_DEADLINES_PER_BLOCK })].map(({ key }) =>
    parseDeadline(key),
  );
  for (const deadline of due) {
    if (ctx.events.length + MAX_EVENTS_PER_DEADLINE > MAX_EVENTS_PER_RECEIPT) return;
    // A vote that took effect just before may have changed the parameters for those after it.
    pass({ ...ctx, params: ctx.state.must(paramsEntry, stateKey.params(), 'parameters') }, deadline);
  }
}

/** When the state itself asks for a block. */
export function blockDue(reader: StateReader): BlockDue {
  const state = new Overlay(reader);
  const [first] = [...reader.range({ ...prefixRange(statePrefix.deadlines()), limit: 1 })];
  const grants = state.get(counterEntry, stateKey.activeGrants())?.value ?? 0;
  return {
    nextDeadlineMs: first === undefined ? null : parseDeadline(first.key).atMs,
    heartbeatMs: grants > 0 ? state.must(paramsEntry, stateKey.params(), 'parameters').heartbeatMs : null,
  };
}

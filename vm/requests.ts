/** Asking for access, and taking the question back. */
import { equalBytes } from '../common/bytes.ts';
import { accept, type Verdict } from '../common/errors.ts';
import type { PolicyRule } from '../common/protocol/policy.ts';
import {
  recordEntry,
  type RecordEntry,
  recordVersionEntry,
  requestByRecordEntry,
  requestEntry,
  type RequestEntry,
  type RecordVersionEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import { type AccessRequest, type CallOf, requestHashOf } from '../common/protocol/transaction.ts';
import { caseOfRequest, evaluate, prospects } from './access-case.ts';
import { closePending, isPending, openRequest } from './access-status.ts';
import { refuse } from './codes.ts';
import { accessFields, counted, emit, OK, type TxContext } from './context.ts';
import { APPROVED, decide, grantIfSatisfied } from './decisions.ts';
import { requesterEntitled } from './eligibility.ts';
import { claimKey, unusedKey } from './keys.ts';
import { personOf } from './persons.ts';
import { policyOf, ruleCovers } from './policies.ts';

interface Asked {
  readonly record: RecordEntry;
  readonly version: RecordVersionEntry;
  readonly rule: PolicyRule;
}

/** Record, version, policy and rule that the request names, and that they fit each other. */
function findAsked(ctx: TxContext, request: AccessRequest): Verdict<Asked> {
  const record = ctx.state.get(recordEntry, stateKey.record(request.recordId));
  if (record === undefined) return refuse('RECORD_UNKNOWN');
  const version = ctx.state.get(recordVersionEntry, stateKey.recordVersion(request.recordId, request.version));
  if (version === undefined) return refuse('VERSION_UNKNOWN', `${request.version} of ${record.latestVersion}`);
  const policy = policyOf(ctx.state, version.content.policyRef);
  if (policy === undefined) return refuse('POLICY_UNKNOWN');
  if (policy.version !== request.policyVersion) return refuse('POLICY_CHANGED', `version ${policy.version}`);
  const rule = policy.document.rules[request.ruleIndex];
  if (rule === undefined) return refuse('RULE_UNKNOWN', `${request.ruleIndex}`);
  if (!ruleCovers(rule, version.content.categoryToken)) return refuse('RULE_NOT_FOR_CATEGORY');
  if (!rule.purposes.includes(request.purpose)) return refuse('PURPOSE_NOT_ALLOWED', request.purpose);
  return accept({ record, version, rule });
}

function checkTimes(ctx: TxContext, request: AccessRequest, rule: PolicyRule): Verdict {
  const durationMs = request.notAfterMs - ctx.now;
  if (durationMs <= 0) return refuse('NOT_AFTER_PASSED');
  const maxMs = Math.min(rule.maxDurationMs, ctx.params.maxGrantMs);
  return durationMs <= maxMs ? OK : refuse('DURATION_TOO_LONG', `${durationMs} ms of ${maxMs} ms`);
}

export function requestAccess(ctx: TxContext, call: CallOf<'access.request'>): Verdict {
  const { request } = call;
  const { sender, state, now } = ctx;
  if (!equalBytes(request.requester, sender.id)) return refuse('NOT_THE_REQUESTER');
  const asked = findAsked(ctx, request);
  if (!asked.ok) return asked;
  const { record, version, rule } = asked.value;
  const entitled = requesterEntitled(state, rule, sender, record, now);
  if (!entitled.ok) return entitled;
  const times = checkTimes(ctx, request, rule);
  if (!times.ok) return times;
  if (counted(state, stateKey.openRequests(personOf(sender))) >= ctx.params.maxOpenRequests) {
    return refuse('TOO_MANY_OPEN_REQUESTS', `${ctx.params.maxOpenRequests}`);
  }
  // Fresh for each request: the spec's attacks on static keys need one that serves twice (custody protocol, 7.4).
  const key = unusedKey(state, request.requesterKey);
  if (!key.ok) return key;

  const entry: RequestEntry = {
    hash: requestHashOf(ctx.chainId, request),
    request,
    policyRef: version.content.policyRef,
    owner: record.owner,
    recordOrg: record.orgId,
    requesterOrg: sender.orgId,
    requesterTag: sender.personTag,
    status: 'pending',
    createdMs: now,
    pendingUntilMs: Math.min(now + ctx.params.requestTtlMs, request.notAfterMs),
    statusHeight: ctx.height,
    statusMs: now,
    statusBy: sender.id,
    statusReason: null,
    filled: [],
  };
  if (!prospects(caseOfRequest(ctx, entry)).satisfiable) return refuse('REQUEST_UNSATISFIABLE');
  claimKey(state, key.value, 'request', sender.id);
  openRequest(ctx, entry);
  state.put(requestByRecordEntry, stateKey.requestByRecord(record.id, ctx.height, entry.hash), {
    hash: entry.hash,
    purpose: request.purpose,
    requester: sender.id,
  });
  emit(ctx, 'access.request', accessFields(entry, request.purpose));
  if (equalBytes(sender.id, record.owner)) ownRequest(ctx, entry);
  return OK;
}

/** An owner who asks for the own record has consented by asking: the request itself fills the owner slot. */
function ownRequest(ctx: TxContext, entry: RequestEntry): void {
  decide(ctx, entry.hash, APPROVED);
  const own = caseOfRequest(ctx, entry);
  grantIfSatisfied(ctx, own, evaluate(own));
}

export function cancelRequest(ctx: TxContext, call: CallOf<'access.cancel'>): Verdict {
  const request = ctx.state.get(requestEntry, stateKey.request(call.requestHash));
  if (request === undefined) return refuse('REQUEST_UNKNOWN');
  if (!equalBytes(request.request.requester, ctx.sender.id)) return refuse('NOT_THE_REQUESTER');
  // Whether the sweep has come by or not: the same state of affairs has one code.
  if (request.status === 'expired') return refuse('REQUEST_EXPIRED');
  if (request.status !== 'pending') return refuse('NOT_PENDING', request.status);
  if (!isPending(request, ctx.now)) return refuse('REQUEST_EXPIRED');
  closePending(ctx, request, 'cancelled', { by: ctx.sender.id, reason: null });
  emit(ctx, 'access.cancel', accessFields(request, null));
  return OK;
}

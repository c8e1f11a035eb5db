/**
 * The last resort of a requester whom custodians do not answer: a demand on the chain. Each holder is to post its share,
 * which everybody can check and the requester alone can use; at the deadline those that did not are named.
 */
import { equalBytes } from '../../common/bytes.ts';
import { rawToPoint } from '../../common/crypto/curve.ts';
import { checkReleaseShare } from '../../common/crypto/custody/release-share.ts';
import { assert, type Verdict } from '../../common/errors.ts';
import { type CustodyDemandEntry, custodyDemandEntry } from '../../common/protocol/custody.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import {
  emptyEntry,
  recordVersionEntry,
  type RequestEntry,
  requestEntry,
  stateKey,
} from '../../common/protocol/state-entries.ts';
import type { CallOf } from '../../common/protocol/transaction.ts';
import { isActiveGrant } from '../access-status.ts';
import { refuse } from '../codes.ts';
import { accessFields, type Context, emit, type NodeContext, OK, type TxContext } from '../context.ts';
import { CUSTODY_DEMAND_MS } from '../limits.ts';
import { epochOf, storedPoint } from './session.ts';

const demandOf = ({ state }: Context, requestHash: Hash): CustodyDemandEntry | undefined =>
  state.get(custodyDemandEntry, stateKey.custodyDemand(requestHash));

const capsuleOf = ({ state }: Context, { request }: RequestEntry) =>
  state.must(recordVersionEntry, stateKey.recordVersion(request.recordId, request.version), 'version of a request')
    .content.capsule;

/** Again once the last has closed, or when the shares of another epoch are needed; shares that are there stay. */
export function demandShares(ctx: TxContext, { requestHash }: CallOf<'access.demand'>): Verdict {
  const { state, now } = ctx;
  const request = state.get(requestEntry, stateKey.request(requestHash));
  if (request === undefined) return refuse('REQUEST_UNKNOWN');
  if (!equalBytes(request.request.requester, ctx.sender.id)) return refuse('NOT_THE_REQUESTER');
  if (!isActiveGrant(request, now)) return refuse('NOT_GRANTED', request.status);
  const epoch = epochOf(state);
  if (epoch === undefined || capsuleOf(ctx, request).kind === 'direct') return refuse('RECORD_NOT_SHARED');
  const last = demandOf(ctx, requestHash);
  const goesOn = last?.epoch === epoch.epoch;
  if (last !== undefined && goesOn && now < last.untilMs) return refuse('DEMAND_OPEN');
  if (last !== undefined) state.delete(stateKey.deadline(last.untilMs, 'custodyDemand', requestHash));
  const untilMs = now + CUSTODY_DEMAND_MS;
  state.put(custodyDemandEntry, stateKey.custodyDemand(requestHash), {
    requestHash,
    epoch: epoch.epoch,
    openedMs: now,
    untilMs,
    shares: last !== undefined && goesOn ? last.shares : [],
  });
  state.put(emptyEntry, stateKey.deadline(untilMs, 'custodyDemand', requestHash), {});
  emit(ctx, 'access.demand', accessFields(request, null));
  return OK;
}

/** Late is better than never: while the grant is active, a share is taken after the deadline too. */
export function postShare(ctx: NodeContext, { requestHash, share }: CallOf<'node.custodyShare'>): Verdict {
  const { state } = ctx;
  const { orgId } = ctx.node.member;
  const demand = demandOf(ctx, requestHash);
  const epoch = epochOf(state);
  if (demand === undefined || epoch === undefined || demand.epoch !== epoch.epoch) return refuse('DEMAND_UNKNOWN');
  const request = state.must(requestEntry, stateKey.request(requestHash), 'request of a demand');
  if (!isActiveGrant(request, ctx.now)) return refuse('NOT_GRANTED', request.status);
  const index = epoch.holders.findIndex((holder) => holder.orgId === orgId) + 1;
  if (index === 0 || ctx.node.role !== 'validator') return refuse('NOT_A_HOLDER', orgId);
  if (demand.shares.some((given) => given.orgId === orgId)) return refuse('CUSTODY_SAID_ALREADY');
  const capsule = capsuleOf(ctx, request);
  const Q = rawToPoint(request.request.requesterKey);
  assert(capsule.kind === 'threshold' && Q !== undefined, 'a demand was checked');
  const context = {
    use: 'custody' as const,
    chainId: ctx.chainId,
    epoch: epoch.epoch,
    grantId: requestHash,
    U: storedPoint(capsule.u),
    Q,
  };
  const checked = checkReleaseShare(share, context, { index, X: storedPoint(epoch.holders[index - 1]?.share) });
  if (!checked.ok) return refuse('BAD_SHARE', checked.message);
  const shares = [...demand.shares, { orgId, share }];
  state.put(custodyDemandEntry, stateKey.custodyDemand(requestHash), { ...demand, shares });
  emit(ctx, 'node.custodyShare', accessFields(request, null));
  return OK;
}

/** Names the holders that have posted no share. What was posted stays for the requester until the grant ends. */
export function closeDemand(ctx: Context, requestHash: Hash): void {
  const demand = demandOf(ctx, requestHash);
  // The grant ended, or the demand was made anew, by something before it in this block.
  if (demand === undefined || ctx.now < demand.untilMs) return;
  ctx.state.delete(stateKey.deadline(demand.untilMs, 'custodyDemand', requestHash));
  const epoch = epochOf(ctx.state);
  if (epoch?.epoch !== demand.epoch) return;
  const request = ctx.state.must(requestEntry, stateKey.request(requestHash), 'request of a demand');
  for (const { orgId } of epoch.holders) {
    if (demand.shares.some((given) => given.orgId === orgId)) continue;
    emit(ctx, 'custody.withheld', { ...accessFields(request, null), orgId });
  }
}

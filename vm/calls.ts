/** Which rule executes which call, and which calls go first. */
import { unreachable, type Verdict } from '../common/errors.ts';
import type { Call, NodeCall } from '../common/protocol/transaction.ts';
import { enrol, reinstate, rotate, suspend } from './accounts.ts';
import { endAttending, setAttending } from './attending.ts';
import { approveAmendment, proposeAmendment, rejectAmendment } from './amendments.ts';
import { ready } from './candidacies.ts';
import type { NodeContext, TxContext } from './context.ts';
import { announceKey, confirmShare, giveDealing, hearComplaint } from './custody/steps.ts';
import { demandShares, postShare } from './custody/demands.ts';
import { approve, deny } from './decisions.ts';
import { giveEvidence } from './evidence.ts';
import { propose, vote } from './governance.ts';
import { deliver, revoke } from './grants.ts';
import { createPolicy } from './policies.ts';
import { addVersion, createRecord } from './records.ts';
import { completeRecovery, openRecovery, vetoRecovery } from './recovery.ts';
import { cancelRequest, requestAccess } from './requests.ts';
import { grantRole, revokeRole } from './roles.ts';

/** What a node does in its own name. */
export function executeNodeCall(ctx: NodeContext, call: NodeCall): Verdict {
  switch (call.kind) {
    case 'node.ready':
      return ready(ctx, call);
    case 'node.evidence':
      return giveEvidence(ctx, call);
    case 'node.custodyAnnounce':
      return announceKey(ctx, call);
    case 'node.custodyDeal':
      return giveDealing(ctx, call);
    case 'node.custodyComplain':
      return hearComplaint(ctx, call);
    case 'node.custodyConfirm':
      return confirmShare(ctx, call);
    case 'node.custodyShare':
      return postShare(ctx, call);
    default:
      return unreachable(call);
  }
}

export function executeCall(ctx: TxContext, call: Exclude<Call, NodeCall>): Verdict {
  switch (call.kind) {
    case 'account.enrol':
      return enrol(ctx, call);
    case 'account.suspend':
      return suspend(ctx, call);
    case 'account.reinstate':
      return reinstate(ctx, call);
    case 'account.rotate':
      return rotate(ctx, call);
    case 'account.recover':
      return openRecovery(ctx, call);
    case 'account.vetoRecovery':
      return vetoRecovery(ctx);
    case 'account.completeRecovery':
      return completeRecovery(ctx, call);
    case 'role.grant':
      return grantRole(ctx, call);
    case 'role.revoke':
      return revokeRole(ctx, call);
    case 'attending.set':
      return setAttending(ctx, call);
    case 'attending.end':
      return endAttending(ctx, call);
    case 'policy.create':
      return createPolicy(ctx, call);
    case 'policy.propose':
      return proposeAmendment(ctx, call);
    case 'policy.approve':
      return approveAmendment(ctx, call);
    case 'policy.reject':
      return rejectAmendment(ctx, call);
    case 'record.create':
      return createRecord(ctx, call);
    case 'record.addVersion':
      return addVersion(ctx, call);
    case 'access.request':
      return requestAccess(ctx, call);
    case 'access.approve':
      return approve(ctx, call);
    case 'access.deny':
      return deny(ctx, call);
    case 'access.cancel':
      return cancelRequest(ctx, call);
    case 'access.revoke':
      return revoke(ctx, call);
    case 'access.deliver':
      return deliver(ctx, call);
    case 'access.demand':
      return demandShares(ctx, call);
    case 'gov.propose':
      return propose(ctx, call);
    case 'gov.vote':
      return vote(ctx, call);
    default:
      return unreachable(call);
  }
}

/** What takes access away, or stops a take-over, is ordered before the rest. */
export function priorityOf(call: Call): 'urgent' | 'normal' {
  switch (call.kind) {
    case 'access.deny':
    case 'access.cancel':
    case 'access.revoke':
    case 'account.suspend':
    case 'account.vetoRecovery':
    case 'role.revoke':
    case 'attending.end':
    case 'policy.reject':
      return 'urgent';
    default:
      return 'normal';
  }
}

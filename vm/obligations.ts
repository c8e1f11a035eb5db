/**
 * The stateless checks that a transaction owes: signatures over what the transaction says itself. The host discharges
 * them once; execution then checks only that the keys named here are the right ones.
 */
import { equalBytes } from '../common/bytes.ts';
import { custodyAnnounceHash } from '../common/protocol/custody.ts';
import type { Hash, PublicKey } from '../common/protocol/primitives.ts';
import { planOf, recoveryHoldingHash, recoverySessionId } from '../common/protocol/recovery-key.ts';
import { txSigningHash, voteSigningHash } from '../common/protocol/signing.ts';
import {
  admissionHash,
  attendingCountersignHash,
  enrolmentCountersignHash,
  enrolmentPossessionHash,
  firstAdminEnrolment,
  memberRotationHash,
  ownerWriteHash,
  recoveryCountersignHash,
  recoveryPossessionHash,
  rotationPossessionHash,
} from '../common/protocol/statements.ts';
import {
  type Countersignature,
  type DecodedTransaction,
  type Proposal,
  requestHashOf,
  type TransactionBody,
} from '../common/protocol/transaction.ts';
import type { RejectionCode } from './codes.ts';
import type { Obligation } from './types.ts';

const owes = (code: RejectionCode, publicKey: PublicKey, message: Uint8Array, signature: Uint8Array): Obligation => ({
  publicKey,
  message,
  signature,
  code,
});

const countersigned = (given: Countersignature | null, message: Hash): Obligation[] =>
  given === null ? [] : [owes('BAD_COUNTERSIGNATURE', given.publicKey, message, given.signature)];

/** Whoever is to come in, or to come back with another key, holds that key. */
function ofProposal(chainId: Hash, proposal: Proposal): readonly Obligation[] {
  switch (proposal.kind) {
    case 'addOrganisation': {
      const { publicKey, possession } = proposal.admin;
      const message = enrolmentPossessionHash(chainId, firstAdminEnrolment(proposal));
      return [owes('BAD_POSSESSION', publicKey, message, possession)];
    }
    case 'admitObserver': {
      const { card, possession } = proposal;
      return [owes('BAD_POSSESSION', card.publicKey, admissionHash(chainId, card), possession)];
    }
    case 'rotateMember': {
      const { address, card, possession } = proposal;
      return [owes('BAD_POSSESSION', card.publicKey, memberRotationHash(chainId, address, card), possession)];
    }
    case 'setRecoveryKey': {
      const sessionId = recoverySessionId(planOf(chainId, proposal));
      const { commitment } = proposal;
      return proposal.holders.map(({ publicKey, proof, signature }, k) => {
        const message = recoveryHoldingHash({ sessionId, index: k + 1, commitment, proof });
        return owes('BAD_OFFICER_SIGNATURE', publicKey, message, signature);
      });
    }
    default:
      return [];
  }
}

/** What the call owes beside the transaction's own signature: at most two, and one of each officer of a recovery key. */
function ofCall(chainId: Hash, { account, call }: TransactionBody): readonly Obligation[] {
  switch (call.kind) {
    case 'account.enrol': {
      const { enrolment } = call;
      return [
        owes('BAD_POSSESSION', enrolment.publicKey, enrolmentPossessionHash(chainId, enrolment), call.possession),
        ...countersigned(call.countersignature, enrolmentCountersignHash(chainId, enrolment)),
      ];
    }
    case 'account.rotate': {
      const message = rotationPossessionHash(chainId, { account, newPublicKey: call.newPublicKey });
      return [owes('BAD_POSSESSION', call.newPublicKey, message, call.possession)];
    }
    case 'account.recover': {
      const { recovery } = call;
      return [
        owes('BAD_POSSESSION', recovery.newPublicKey, recoveryPossessionHash(chainId, recovery), call.possession),
        ...countersigned(call.countersignature, recoveryCountersignHash(chainId, recovery)),
      ];
    }
    case 'attending.set':
      return countersigned(call.countersignature, attendingCountersignHash(chainId, call.relation));
    case 'record.create':
    case 'record.addVersion': {
      const { ownerPublicKey, ownerSignature } = call.content;
      return [owes('BAD_OWNER_SIGNATURE', ownerPublicKey, ownerWriteHash(chainId, account, call), ownerSignature)];
    }
    case 'access.request':
      return [owes('BAD_POSSESSION', call.request.requesterKey, requestHashOf(chainId, call.request), call.possession)];
    case 'gov.propose':
      return ofProposal(chainId, call.proposal);
    case 'node.evidence': {
      const signed = ({ digest, signature }: typeof call.first): Obligation =>
        owes(
          'BAD_EVIDENCE',
          call.publicKey,
          voteSigningHash(chainId, call.vote, call.height, call.view, digest),
          signature,
        );
      return [signed(call.first), signed(call.second)];
    }
    case 'node.custodyAnnounce': {
      const message = custodyAnnounceHash(call.sessionId, call.orgId, call.key);
      return [owes('BAD_CUSTODIAN_SIGNATURE', call.custodianKey, message, call.signature)];
    }
    default:
      return [];
  }
}

/**
 * @param chainId of this chain, 32 bytes
 * @returns one to three checks, or one and as many as a recovery key has officers. For a transaction of another chain its own
 *   signature only, under that chain's id: execution refuses it, and says why better than a signature that does not verify
 */
export function obligations(chainId: Hash, tx: DecodedTransaction): readonly Obligation[] {
  const { signed, body } = tx;
  const own = owes('BAD_SIGNATURE', signed.publicKey, txSigningHash(body.chainId, signed.body), signed.signature);
  return equalBytes(body.chainId, chainId) ? [own, ...ofCall(chainId, body)] : [own];
}

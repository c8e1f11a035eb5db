/**
 * What a message owes before the core may see it: its structure, and a list of signatures as data, nested ones
 * included, which the host verifies wherever it likes. Only what passed both is branded `Verified` [M1-M4].
 *
 * What must not go in here: anything that depends on the replica's state; those checks are the core's.
 */
import { equalBytes } from '../common/bytes.ts';
import { accept, reject, unreachable, type Verdict } from '../common/errors.ts';
import type { Sm2Engine, Sm2Verification } from '../common/crypto/sm2.ts';
import { txRootOf } from '../common/protocol/block.ts';
import type { Hash, Height, View } from '../common/protocol/primitives.ts';
import { voteSigningHash } from '../common/protocol/signing.ts';
import { quorumSize, type ValidatorSet } from '../common/protocol/validator-set.ts';
import {
  type Echo,
  type NewView,
  type PreparedCertificate,
  type ProposedBlock,
  type SignedMessage,
  signingHash,
  type UnsignedMessage,
  type ViewChangeProof,
} from './messages.ts';
import type { Verified } from './types.ts';

export interface VerificationContext {
  readonly chainId: Hash;
  /** The set that certifies the height that is being decided. */
  readonly validators: ValidatorSet;
}

/**
 * Checks the structure of an untrusted message and lists the signatures it owes.
 * @returns at most 1 + n + n * n signature checks (n validators); or the code of the first rule that is broken
 */
export function owedChecks(message: SignedMessage, context: VerificationContext): Verdict<readonly Sm2Verification[]> {
  const signer = context.validators[message.validator];
  if (signer === undefined) return reject('UNKNOWN_VALIDATOR', `no validator has the index ${message.validator}`);
  const nested = nestedChecks(message.body, context);
  if (!nested.ok) return nested;
  const own: Sm2Verification = {
    publicKey: signer.publicKey,
    message: signingHash(context.chainId, message.body),
    signature: message.signature,
  };
  return accept([own, ...nested.value]);
}

function nestedChecks(body: UnsignedMessage, context: VerificationContext): Verdict<readonly Sm2Verification[]> {
  if (body.kind !== 'status' && body.kind !== 'echo' && body.height === 0)
    return reject('GENESIS_HEIGHT', 'block 0 is not voted on');
  switch (body.kind) {
    case 'prepare':
    case 'commit':
    case 'status':
      return accept([]);
    case 'prePrepare': {
      if (body.block.header.height !== body.height) return reject('WRONG_HEIGHT', 'the block has another height');
      if (body.block.header.view > body.view) return reject('WRONG_VIEW', 'the block is from a later view');
      const bound = checkBody(body.block, context.chainId);
      return bound.ok ? accept([]) : bound;
    }
    case 'viewChange':
      if (body.view === 0) return reject('WRONG_VIEW', 'nobody changes to view 0');
      return preparedChecks(body.prepared, body.height, body.view, context);
    case 'newView':
      return newViewChecks(body, context);
    case 'echo':
      return echoChecks(body, context);
    default:
      return unreachable(body);
  }
}

/** [V4] A quorum of distinct view changes for this very height and view, each with all that it owes itself. */
function newViewChecks(body: NewView, context: VerificationContext): Verdict<readonly Sm2Verification[]> {
  if (body.view === 0) return reject('WRONG_VIEW', 'view 0 needs no new-view');
  const signers = checkSigners(body.viewChanges, context.validators.length);
  if (!signers.ok) return signers;
  const checks: Sm2Verification[] = [];
  for (const proof of body.viewChanges) {
    const nested = preparedChecks(proof.prepared, body.height, body.view, context);
    if (!nested.ok) return nested;
    checks.push(viewChangeCheck(proof, body, context), ...nested.value);
  }
  return accept(withoutRepeats(checks));
}

/** [R5] All that it shows was signed by the one that it answers: nobody can put a promise into another's mouth. */
function echoChecks(body: Echo, context: VerificationContext): Verdict<readonly Sm2Verification[]> {
  if (context.validators[body.to] === undefined)
    return reject('UNKNOWN_VALIDATOR', `no validator has the index ${body.to}`);
  const checks = body.promises.map((promise) => {
    const { height, view, signature } = promise;
    const message =
      promise.kind === 'vote'
        ? voteSigningHash(context.chainId, promise.vote, height, view, promise.digest)
        : signingHash(context.chainId, { kind: 'viewChange', height, view, prepared: promise.prepared });
    return check(context, body.to, message, signature);
  });
  if (body.status === null) return accept(checks);
  const status = signingHash(context.chainId, { kind: 'status', ...body.status });
  return accept([...checks, check(context, body.to, status, body.status.signature)]);
}

function viewChangeCheck(proof: ViewChangeProof, body: NewView, context: VerificationContext): Sm2Verification {
  const message = signingHash(context.chainId, {
    kind: 'viewChange',
    height: body.height,
    view: body.view,
    prepared: proof.prepared,
  });
  return check(context, proof.validator, message, proof.signature);
}

/** [P5] A quorum of distinct Prepare signatures from an earlier view of the same height. */
function preparedChecks(
  certificate: PreparedCertificate | null,
  height: Height,
  beforeView: View,
  context: VerificationContext,
): Verdict<readonly Sm2Verification[]> {
  if (certificate === null) return accept([]);
  if (certificate.view >= beforeView) return reject('WRONG_VIEW', 'prepared in a view that has not been yet');
  const signers = checkSigners(certificate.signatures, context.validators.length);
  if (!signers.ok) return signers;
  const message = voteSigningHash(context.chainId, 'prepare', height, certificate.view, certificate.digest);
  return accept(certificate.signatures.map((s) => check(context, s.validator, message, s.signature)));
}

function checkSigners(signers: readonly { readonly validator: number }[], validatorCount: number): Verdict {
  let previous = -1;
  for (const { validator } of signers) {
    if (validator <= previous) return reject('REPEATED_SIGNER', 'signers are not in ascending order, each once');
    if (validator >= validatorCount) return reject('UNKNOWN_VALIDATOR', `no validator has the index ${validator}`);
    previous = validator;
  }
  return signers.length >= quorumSize(validatorCount)
    ? accept(undefined)
    : reject('NO_QUORUM', `${signers.length} signers, ${quorumSize(validatorCount)} needed`);
}

function check(context: VerificationContext, validator: number, message: Hash, signature: Uint8Array): Sm2Verification {
  // The index was checked against the set by `checkSigners`; an empty key verifies nothing.
  return { publicKey: context.validators[validator]?.publicKey ?? new Uint8Array(0), message, signature };
}

/** View changes of one view mostly carry the same certificate: n of them owe some n checks then, not n * n. */
function withoutRepeats(checks: readonly Sm2Verification[]): readonly Sm2Verification[] {
  const seen: Sm2Verification[] = [];
  for (const candidate of checks) {
    const known = seen.some(
      (s) =>
        equalBytes(s.signature, candidate.signature) &&
        equalBytes(s.message, candidate.message) &&
        equalBytes(s.publicKey, candidate.publicKey),
    );
    if (!known) seen.push(candidate);
  }
  return seen;
}

/**
 * That this body belongs to this header: the transactions' root and one sidecar slot for each transaction. What a
 * sidecar must hash to stands inside its transaction, which execution decodes and checks.
 */
function checkBody(block: ProposedBlock, chainId: Hash): Verdict {
  if (!equalBytes(block.header.chainId, chainId)) return reject('WRONG_CHAIN', 'the block is of another chain');
  if (block.block.sidecars.length !== block.block.txs.length) {
    return reject('WRONG_BODY', `${block.block.sidecars.length} sidecars for ${block.block.txs.length} transactions`);
  }
  return equalBytes(txRootOf(block.block.txs), block.header.txRoot)
    ? accept(undefined)
    : reject('WRONG_BODY', 'the transactions are not those of the header');
}

/** A block that came as the answer to `fetch`: it proves itself by the hash that was asked for. */
export function verifyFetched(block: ProposedBlock, wanted: Hash, chainId: Hash): Verdict<Verified<ProposedBlock>> {
  if (!equalBytes(block.hash, wanted)) return reject('WRONG_BODY', 'another block than the one asked for');
  const bound = checkBody(block, chainId);
  return bound.ok ? accept(block as Verified<ProposedBlock>) : bound;
}

/**
 * Brands a message whose owed checks were all made, with their results in order.
 * @param results of the checks that `owedChecks` listed for this very message
 */
export function verifiedMessage(message: SignedMessage, results: readonly boolean[]): Verdict<Verified<SignedMessage>> {
  if (results.length === 0 || results.includes(false)) return reject('BAD_SIGNATURE', 'a signature does not verify');
  return accept(message as Verified<SignedMessage>);
}

/** Structure and signatures in one synchronous call. */
export function verifyMessage(
  message: SignedMessage,
  context: VerificationContext,
  engine: Sm2Engine,
): Verdict<Verified<SignedMessage>> {
  const owed = owedChecks(message, context);
  return owed.ok ? verifiedMessage(message, engine.verifyBatch(owed.value)) : owed;
}

/** This replica's own message, just signed by its host: nothing to verify. */
export function ownMessage(message: SignedMessage): Verified<SignedMessage> {
  return message as Verified<SignedMessage>;
}

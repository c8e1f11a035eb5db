/**
 * The messages of consensus: their shapes, their canonical bytes and what their signatures cover.
 *
 * A block's hash is never carried: it is computed from the header where the bytes are decoded, so that nobody can name
 * one block and send another. What must not go in here: rules about when a message is valid (verification.ts).
 */
import { equalBytes } from '../common/bytes.ts';
import {
  bytes,
  type Codec,
  decode,
  encode,
  list,
  nullable,
  oneOf,
  struct,
  type TypeOf,
  uint,
  union,
} from '../common/codec.ts';
import { accept, reject, unreachable, type Verdict } from '../common/errors.ts';
import {
  type Block,
  block,
  blockHash,
  type BlockHeader,
  blockHeader,
  MAX_ENCODED_BLOCK_BYTES,
  MAX_HEADER_BYTES,
} from '../common/protocol/block.ts';
import { type Hash, hash32, height, MAX_VALIDATORS, type Signature, signature } from '../common/protocol/primitives.ts';
import { consensusSigningHash, type VoteKind, voteSigningHash } from '../common/protocol/signing.ts';
import { INCARNATION_BYTES, status, statusFields, statusSigningHash } from '../common/protocol/status.ts';

export { INCARNATION_BYTES };

/** A block with what is derived from its header bytes. Made by `proposedBlock` (or by the host that built it) alone. */
export interface ProposedBlock {
  readonly hash: Hash;
  readonly header: BlockHeader;
  readonly block: Block;
}

/** Decodes the header inside a block and hashes it. `MALFORMED` or `NOT_CANONICAL` where it is no header. */
export function proposedBlock(value: Block): Verdict<ProposedBlock> {
  const header = decode(blockHeader, value.header, MAX_HEADER_BYTES);
  if (!header.ok) return header;
  return accept({ hash: blockHash(value.header), header: header.value, block: value });
}

const validatorIndex = uint(MAX_VALIDATORS - 1);
const voteSignature = struct({ validator: validatorIndex, signature });
export type VoteSignature = TypeOf<typeof voteSignature>;

/** A quorum of Prepare signatures over (height, view, digest), the leader's own among them or not [P5]. */
export const preparedCertificate = struct({
  view: uint(),
  digest: hash32,
  /** In ascending order of the validator's index, each at most once. */
  signatures: list(voteSignature, MAX_VALIDATORS),
});
export type PreparedCertificate = TypeOf<typeof preparedCertificate>;

const vote = struct({ height, view: uint(), digest: hash32 });
/** `view` is the view that the sender asks for; it no longer votes in lower ones [V1]. */
const viewChange = struct({ height, view: uint(), prepared: nullable(preparedCertificate) });
/** Height and view of the view changes are the new view's own, and so need no second copy that could differ. */
const viewChangeProof = struct({
  validator: validatorIndex,
  prepared: nullable(preparedCertificate),
  signature,
});
export type ViewChangeProof = TypeOf<typeof viewChangeProof>;
const newView = struct({
  height,
  view: uint(),
  /** In ascending order of the validator's index, each at most once: a quorum of them [V4]. */
  viewChanges: list(viewChangeProof, MAX_VALIDATORS),
});

/** Two processes at a time, and a height and the next: three kinds of votes, and a view change, for each. */
const MAX_ECHOED_PROMISES = 8;

const heardStatus = struct({ ...statusFields, signature });
/** A status as somebody else hands it on. */
export type HeardStatus = TypeOf<typeof heardStatus>;

const voteKind = oneOf(['preprepare', 'prepare', 'commit'] as const satisfies readonly VoteKind[]);
/** What a validator signed, as somebody else hands it on: all that the signature covers, and no block. */
const heardPromise = union({
  vote: struct({ vote: voteKind, height, view: uint(), digest: hash32, signature }),
  viewChange: struct({ height, view: uint(), prepared: nullable(preparedCertificate), signature }),
});
export type HeardPromise = TypeOf<typeof heardPromise>;
/** The head and view of the sender, and what it has heard under the key of the validator that it answers. */
const echo = struct({
  height,
  view: uint(),
  to: validatorIndex,
  /** That of the status that is answered: so that an old echo answers nothing. */
  incarnation: bytes(INCARNATION_BYTES),
  promises: list(heardPromise, MAX_ECHOED_PROMISES),
  /** The latest of another process with that key. */
  status: nullable(heardStatus),
});

export const wireMessage = struct({
  validator: validatorIndex,
  signature,
  body: union({
    prePrepare: struct({ height, view: uint(), block }),
    prepare: vote,
    commit: vote,
    viewChange,
    newView,
    status,
    echo,
  }),
});
type WireMessage = TypeOf<typeof wireMessage>;

export interface PrePrepare {
  readonly kind: 'prePrepare';
  readonly height: number;
  readonly view: number;
  readonly block: ProposedBlock;
}
export type Prepare = { readonly kind: 'prepare' } & TypeOf<typeof vote>;
export type Commit = { readonly kind: 'commit' } & TypeOf<typeof vote>;
export type ViewChange = { readonly kind: 'viewChange' } & TypeOf<typeof viewChange>;
export type NewView = { readonly kind: 'newView' } & TypeOf<typeof newView>;
export type Status = { readonly kind: 'status' } & TypeOf<typeof status>;
export type Echo = { readonly kind: 'echo' } & TypeOf<typeof echo>;

export type UnsignedMessage = PrePrepare | Prepare | Commit | ViewChange | NewView | Status | Echo;

export interface Signed<M extends UnsignedMessage> {
  /** Index in the set that certifies the message's height. */
  readonly validator: number;
  readonly signature: Signature;
  readonly body: M;
}
export type SignedMessage = Signed<UnsignedMessage>;

/** Framing, and the largest body, which is a block. */
export const MAX_MESSAGE_BYTES = MAX_ENCODED_BLOCK_BYTES + 1024;

/** A message as it travels. */
export function encodeMessage(message: SignedMessage): Uint8Array {
  const { validator, signature: by, body } = message;
  const wire: WireMessage['body'] =
    body.kind === 'prePrepare'
      ? { kind: 'prePrepare', height: body.height, view: body.view, block: body.block.block }
      : body;
  return encode(wireMessage, { validator, signature: by, body: wire });
}

/**
 * Untrusted bytes to a message, strictly; nothing is verified yet.
 * @param encoded at most `MAX_MESSAGE_BYTES`
 * @returns TOO_LARGE, MALFORMED or NOT_CANONICAL where they are no message
 */
export function decodeMessage(encoded: Uint8Array): Verdict<SignedMessage> {
  const wire = decode(wireMessage, encoded, MAX_MESSAGE_BYTES);
  if (!wire.ok) return wire;
  const { validator, signature: by, body } = wire.value;
  if (body.kind !== 'prePrepare') return accept({ validator, signature: by, body });
  const opened = proposedBlock(body.block);
  if (!opened.ok) return reject(opened.code, `header: ${opened.message}`);
  return accept({
    validator,
    signature: by,
    body: { kind: 'prePrepare', height: body.height, view: body.view, block: opened.value },
  });
}

/** What a vote is for. */
export function messageDigest(message: PrePrepare | Prepare | Commit): Hash {
  return message.kind === 'prePrepare' ? message.block.hash : message.digest;
}

/** The 32 bytes that the sender signs: chain, kind, height, view and content are all under the signature [M2]. */
export function signingHash(chainId: Hash, message: UnsignedMessage): Hash {
  switch (message.kind) {
    case 'prePrepare':
      return voteSigningHash(chainId, 'preprepare', message.height, message.view, message.block.hash);
    case 'prepare':
    case 'commit':
      return voteSigningHash(chainId, message.kind, message.height, message.view, message.digest);
    case 'viewChange':
      return consensusSigningHash(chainId, 'viewchange', encode(viewChange, message));
    case 'newView':
      return consensusSigningHash(chainId, 'newview', encode(newView, message));
    case 'status':
      return statusSigningHash(chainId, message);
    case 'echo':
      return consensusSigningHash(chainId, 'echo', encode(echo, message));
    default:
      return unreachable(message);
  }
}

/** Two votes of one validator that cannot both be honest: for the chain to punish, so small and without blocks. */
export const equivocation = struct({
  validator: validatorIndex,
  vote: voteKind,
  height,
  view: uint(),
  first: struct({ digest: hash32, signature }),
  second: struct({ digest: hash32, signature }),
}) satisfies Codec<unknown>;
export type Equivocation = TypeOf<typeof equivocation>;

/** Whether two prepared certificates name the same block in the same view; their signers may differ. */
export function samePrepared(a: PreparedCertificate | null, b: PreparedCertificate | null): boolean {
  if (a === null || b === null) return a === b;
  return a.view === b.view && equalBytes(a.digest, b.digest);
}

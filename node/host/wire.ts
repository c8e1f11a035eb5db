/**
 * What nodes send each other beside the consensus messages themselves: the tag that direct payloads begin with, blocks
 * with their certificates, and the requests of the `blocks` protocol. What they mean is decided elsewhere.
 */
import { concatBytes } from '../../common/bytes.ts';
import { decode, encode, struct, type TypeOf, uint, union } from '../../common/codec.ts';
import { reject, type Verdict } from '../../common/errors.ts';
import {
  block,
  type Block,
  certificate,
  MAX_CERTIFICATE_BYTES,
  MAX_ENCODED_BLOCK_BYTES,
} from '../../common/protocol/block.ts';
import { hash32, height } from '../../common/protocol/primitives.ts';

/** A committed block as it travels: what proves it comes with it. */
export const certifiedBlock = struct({ block, certificate });
export type CertifiedBlock = TypeOf<typeof certifiedBlock>;
export const MAX_CERTIFIED_BLOCK_BYTES = MAX_ENCODED_BLOCK_BYTES + MAX_CERTIFICATE_BYTES + 16;

export const encodeCertifiedBlock = (value: CertifiedBlock): Uint8Array => encode(certifiedBlock, value);
export const decodeCertifiedBlock = (bytes: Uint8Array): Verdict<CertifiedBlock> =>
  decode(certifiedBlock, bytes, MAX_CERTIFIED_BLOCK_BYTES);

/** `from`: committed blocks from this height on. `body`: the body of one block, committed or voted for, by its hash. */
const blocksRequest = union({ from: struct({ height }), body: struct({ hash: hash32 }) });
export type BlocksRequest = TypeOf<typeof blocksRequest>;
export const encodeBlocksRequest = (value: BlocksRequest): Uint8Array => encode(blocksRequest, value);
export const decodeBlocksRequest = (bytes: Uint8Array): Verdict<BlocksRequest> => decode(blocksRequest, bytes, 64);

export const encodeBody = (value: Block): Uint8Array => encode(block, value);
export const decodeBody = (bytes: Uint8Array): Verdict<Block> => decode(block, bytes, MAX_ENCODED_BLOCK_BYTES);

/** A node's head, for those who take no part in consensus. A hint: what it names proves itself when it is fetched. */
const headNotice = struct({ height: uint(), hash: hash32 });
export const encodeHeadNotice = (value: TypeOf<typeof headNotice>): Uint8Array => encode(headNotice, value);
export const decodeHeadNotice = (bytes: Uint8Array): Verdict<TypeOf<typeof headNotice>> =>
  decode(headNotice, bytes, 64);

const TAG = { message: 1, block: 2 } as const;

export type DirectPayload =
  { readonly kind: 'message'; readonly bytes: Uint8Array } | { readonly kind: 'block'; readonly bytes: Uint8Array };

export function wrapDirect(kind: DirectPayload['kind'], bytes: Uint8Array): Uint8Array {
  return concatBytes(Uint8Array.of(TAG[kind]), bytes);
}

export function unwrapDirect(payload: Uint8Array): Verdict<DirectPayload> {
  const bytes = payload.subarray(1);
  switch (payload[0]) {
    case TAG.message:
      return { ok: true, value: { kind: 'message', bytes } };
    case TAG.block:
      return { ok: true, value: { kind: 'block', bytes } };
    default:
      return reject('MALFORMED', 'no known kind of direct payload');
  }
}

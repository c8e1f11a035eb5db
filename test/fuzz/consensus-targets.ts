/** Messages and proofs of consensus, and blocks on their way. */
import { encode } from '../../common/codec.ts';
import { block, blockHeader, certificate } from '../../common/protocol/block.ts';
import { certifiedHeader, lightProof, verifyHeader, verifyLightProof } from '../../common/protocol/light.ts';
import { decodeMessage, encodeMessage, wireMessage } from '../../consensus/messages.ts';
import { owedChecks } from '../../consensus/verification.ts';
import {
  certifiedBlock,
  decodeBlocksRequest,
  decodeBody,
  decodeCertifiedBlock,
  decodeHeadNotice,
  encodeBlocksRequest,
  encodeBody,
  encodeCertifiedBlock,
  encodeHeadNotice,
  unwrapDirect,
  wrapDirect,
} from '../../node/host/wire.ts';
import type { Prng } from '../sim/prng.ts';
import { inventBytes } from './generate.ts';
import { decodeAny, draw, engine, type FunctionTarget, must, net, trusted, verdict } from './parts.ts';

function someBlock(random: Prng) {
  return { ...must(block, random), header: inventBytes(blockHeader, random) };
}

/** A message of any kind; the header in a proposal is one. */
function someMessage(random: Prng): Uint8Array {
  const message = must(wireMessage, random);
  const { body } = message;
  if (body.kind !== 'prePrepare') return encode(wireMessage, message);
  return encode(wireMessage, { ...message, body: { ...body, block: someBlock(random) } });
}

export const consensusTargets: readonly FunctionTarget[] = [
  {
    name: 'consensus message',
    covers: ['decodeMessage'],
    form: 'cbor',
    sample: someMessage,
    decode(bytes) {
      const message = decodeMessage(bytes);
      if (!message.ok) return message;
      // What the structure allows and no set has: indexes beyond it, twice the same, out of order (owed, not decoded).
      owedChecks(message.value, { chainId: net.chainId, validators: net.genesis.validators });
      return { ok: true, again: encodeMessage(message.value) };
    },
  },
  {
    name: 'direct payload',
    covers: ['unwrapDirect'],
    form: 'bytes',
    sample: (random) => wrapDirect(random.pick(['message', 'block'] as const), draw(20, random)),
    decode: (bytes) => verdict(unwrapDirect(bytes), (value) => wrapDirect(value.kind, value.bytes)),
  },
  {
    name: 'certified block',
    covers: ['decodeCertifiedBlock'],
    form: 'cbor',
    sample: (random) => inventBytes(certifiedBlock, random),
    decode: (bytes) => verdict(decodeCertifiedBlock(bytes), encodeCertifiedBlock),
  },
  {
    name: 'block body',
    covers: ['decodeBody'],
    form: 'cbor',
    sample: (random) => encodeBody(someBlock(random)),
    decode: (bytes) => verdict(decodeBody(bytes), encodeBody),
  },
  {
    name: 'blocks request',
    covers: ['decodeBlocksRequest', 'blocksRequest'],
    form: 'cbor',
    sample: (random) =>
      encodeBlocksRequest(
        random.chance(500)
          ? { kind: 'from', height: random.between(0, 1_000) }
          : { kind: 'body', hash: draw(32, random) },
      ),
    decode: (bytes) => verdict(decodeBlocksRequest(bytes), encodeBlocksRequest),
  },
  {
    name: 'head notice',
    covers: ['decodeHeadNotice', 'headNotice'],
    form: 'cbor',
    sample: (random) => encodeHeadNotice({ height: random.between(0, 1_000), hash: draw(32, random) }),
    decode: (bytes) => verdict(decodeHeadNotice(bytes), encodeHeadNotice),
  },
  {
    name: 'header against a set',
    covers: [],
    form: 'cbor',
    sample: (random) =>
      encode(certifiedHeader, { header: inventBytes(blockHeader, random), certificate: must(certificate, random) }),
    decode(bytes) {
      const decoded = decodeAny(certifiedHeader, bytes);
      if (!decoded.ok) return decoded;
      verifyHeader(trusted, decoded.value, engine);
      return { ok: true, again: encode(certifiedHeader, decoded.value) };
    },
  },
  {
    name: 'light proof against a set',
    covers: [],
    form: 'cbor',
    costUs: 60,
    sample: (random) => inventBytes(lightProof, random),
    decode(bytes) {
      const decoded = decodeAny(lightProof, bytes);
      if (!decoded.ok) return decoded;
      verifyLightProof(trusted, decoded.value, engine);
      return { ok: true, again: encode(lightProof, decoded.value) };
    },
  },
];

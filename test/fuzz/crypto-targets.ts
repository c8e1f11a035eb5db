/** Points, proofs, shares and signatures; encrypted files; ciphertext in pieces; frames of a stream. */
import * as dagPb from '@ipld/dag-pb';
import { UnixFS } from 'ipfs-unixfs';
import { CID } from 'multiformats/cid';
import * as multihash from 'multiformats/hashes/digest';
import { createHash } from 'node:crypto';
import { parseTrailer } from '../../client/record-content.ts';
import { concatBytes, parseHex, parseHex0x, u16be, u32be, u64be, utf8 } from '../../common/bytes.ts';
import { tlv } from '../../common/crypto/hash.ts';
import { decodePoint, decodeScalar, encodePoint, encodeScalar, GENERATOR } from '../../common/crypto/curve.ts';
import { decodePublicPoint } from '../../common/crypto/public-arithmetic.ts';
import { parseCapsule } from '../../common/crypto/custody/capsule.ts';
import { parseComplaint } from '../../common/crypto/custody/dealing.ts';
import { parseProof } from '../../common/crypto/custody/proofs.ts';
import { parseReleaseShare, RELEASE_SHARE_BYTES } from '../../common/crypto/custody/release-share.ts';
import { parsePrivateKey, parseSignature } from '../../common/crypto/sm2.ts';
import { encodeFileHeader, parseFileHeader } from '../../common/crypto/sm4-format.ts';
import { openChunks } from '../../common/native/sm4-chunks.ts';
import { encryptStream } from '../../common/native/sm4-file.ts';
import { CHUNK_SIZE_BYTES, dagLimitsFor, dagShape, nodeShape, parseBlobCid } from '../../common/unixfs-layout.ts';
import { FrameDecoder } from '../../node/frame-decoder.ts';
import { checkBlock, checkNode, checkRoot } from '../../node/ipfs/dag-node.ts';
import { parsePeerKey } from '../../node/network/peer-key.ts';
import type { Prng } from '../sim/prng.ts';
import type { Outcome } from './engine.ts';
import { draw, type FunctionTarget, maybe, textOf, verdict } from './parts.ts';

const POINTS = [1n, 2n, 3n, 1_234_567n].map((scalar) => encodePoint(GENERATOR.multiply(scalar)));
const scalar = (random: Prng): Uint8Array => encodeScalar(BigInt(random.between(1, 1_000_000)));

const mathTargets: readonly FunctionTarget[] = [
  {
    name: 'curve point',
    covers: ['decodePoint'],
    form: 'bytes',
    costUs: 200,
    sample: (random) => random.pick(POINTS),
    decode: (bytes) => maybe(decodePoint(bytes), encodePoint),
  },
  {
    name: 'curve point, by WebAssembly',
    covers: ['decodePublicPoint'],
    form: 'bytes',
    sample: (random) => random.pick(POINTS),
    decode: (bytes) => maybe(decodePublicPoint(bytes), encodePoint),
  },
  {
    name: 'scalar',
    covers: ['decodeScalar'],
    form: 'bytes',
    sample: scalar,
    decode: (bytes) => maybe(decodeScalar(bytes), encodeScalar),
  },
  {
    name: 'SM2 signature and private key',
    covers: ['parseSignature', 'parsePrivateKey'],
    form: 'bytes',
    sample: (random) => concatBytes(scalar(random), scalar(random)),
    decode(bytes) {
      parsePrivateKey(bytes);
      return maybe(parseSignature(bytes), ({ r, s }) => concatBytes(encodeScalar(r), encodeScalar(s)));
    },
  },
  {
    name: 'capsule',
    covers: ['parseCapsule'],
    form: 'bytes',
    costUs: 400,
    sample: (random) =>
      concatBytes(random.pick(POINTS), random.pick(POINTS), draw(32, random), scalar(random), scalar(random)),
    decode: (bytes) =>
      verdict(parseCapsule(bytes), ({ U, Ubar, C, e, f }) =>
        concatBytes(encodePoint(U), encodePoint(Ubar), C, encodeScalar(e), encodeScalar(f)),
      ),
  },
  {
    name: 'proof of knowledge',
    covers: ['parseProof'],
    form: 'bytes',
    sample: (random) => concatBytes(scalar(random), scalar(random)),
    decode: (bytes) => maybe(parseProof(bytes), ({ e, z }) => concatBytes(encodeScalar(e), encodeScalar(z))),
  },
  {
    name: 'complaint',
    covers: ['parseComplaint'],
    form: 'bytes',
    costUs: 200,
    sample: (random) => concatBytes(u16be(1), u16be(2), random.pick(POINTS), scalar(random), scalar(random)),
    decode: (bytes) => maybe(parseComplaint(bytes)),
  },
  {
    name: 'release share',
    covers: ['parseReleaseShare'],
    form: 'bytes',
    costUs: 400,
    sample: (random) => {
      const head = concatBytes(u16be(random.between(1, 9)), random.pick(POINTS), random.pick(POINTS));
      return concatBytes(head, draw(RELEASE_SHARE_BYTES - head.length, random));
    },
    decode: (bytes) => verdict(parseReleaseShare(bytes)),
  },
  {
    name: 'hex text',
    covers: ['parseHex', 'parseHex0x'],
    form: 'text',
    sample: (random) => utf8(`0x${Buffer.from(draw(20, random)).toString('hex')}`),
    decode(bytes) {
      parseHex(textOf(bytes));
      return maybe(parseHex0x(textOf(bytes)));
    },
  },
];

// --------------------------------------------------------------------------------------------------------- files

const BINDING = {
  recordId: new Uint8Array(32).fill(5),
  version: 1,
  sectionClass: 'general',
  key: new Uint8Array(32).fill(7),
  iv: new Uint8Array(12).fill(3),
};

const meta = (random: Prng, sizeBytes = random.between(0, 300)) => ({
  name: random.pick(['', 'a', 'Befund vom 3. März.pdf', '检查.dcm']),
  contentType: random.pick(['', 'application/pdf', 'text/plain']),
  sizeBytes,
});

/** The smallest blob: its plaintext is what differs, and the mutations. */
const BLOB = await (async () => {
  const content = utf8('content');
  const stream = encryptStream([content], {
    ...BINDING,
    meta: { name: 'n', contentType: '', sizeBytes: content.length },
  });
  const pieces: Uint8Array[] = [];
  for await (const piece of stream) pieces.push(piece.slice());
  return { bytes: concatBytes(...pieces), ...stream.summary() };
})();

async function openBlob(bytes: Uint8Array, random: Prng): Promise<Outcome> {
  const blobBytes = random.chance(500) ? bytes.length : BLOB.blobBytes;
  const chunks = openChunks(pieces(bytes, random), { ...BINDING, blobBytes, dataDigest: BLOB.dataDigest });
  for (;;) {
    const next = await chunks.next();
    if (next.done === true) return verdict(next.value, () => BLOB.bytes);
  }
}

/** The same bytes in pieces, as a stream brings them; empty ones among them. */
function pieces(bytes: Uint8Array, random: Prng): readonly Uint8Array[] {
  const cut: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = random.pick([0, 1, 2, 3, 7, 64, 1_000, 100_000]);
    cut.push(bytes.subarray(at, at + length));
    at += length;
  }
  return cut;
}

const fileTargets: readonly FunctionTarget[] = [
  {
    name: 'header of a decrypted file',
    covers: ['parseFileHeader'],
    form: 'bytes',
    sample: (random) => encodeFileHeader(meta(random)),
    decode: (bytes) =>
      verdict(parseFileHeader(bytes), ({ meta: read, headerBytes }) =>
        concatBytes(encodeFileHeader(read), bytes.subarray(headerBytes)),
      ),
  },
  {
    name: 'end of a decrypted record',
    covers: ['parseTrailer'],
    form: 'bytes',
    sample: (random) => tlv('emr-trailer', draw(16, random), u64be(random.between(0, 1_000_000))),
    decode: (bytes) => verdict(parseTrailer(bytes)),
    mayRefuseSamples: true,
  },
  {
    name: 'encrypted file',
    covers: [],
    form: 'bytes',
    costUs: 150,
    sample: () => BLOB.bytes,
    decode: openBlob,
    mayRefuseSamples: true,
  },
  {
    name: 'CID of a blob',
    covers: ['parseBlobCid'],
    form: 'text',
    sample: (random) => utf8(cidOf(draw(32, random), random.pick([0x55, 0x70])).toString()),
    decode: (bytes) => verdict(parseBlobCid(textOf(bytes)), (cid) => utf8(cid.toString())),
  },
  {
    name: 'node of a ciphertext',
    covers: [],
    form: 'bytes',
    costUs: 60,
    sample: someNode,
    decode(bytes, random) {
      const cid = cidOf(createHash('sha256').update(bytes).digest(), 0x70);
      checkBlock(cid, bytes);
      const root = checkRoot(cid, bytes, dagLimitsFor(random.pick([1, CHUNK_SIZE_BYTES + 1, 3 * CHUNK_SIZE_BYTES])));
      checkNode(bytes, random.between(1, 2), 3 * CHUNK_SIZE_BYTES);
      return verdict<unknown>(root);
    },
    mayRefuseSamples: true,
  },
];

function cidOf(digest: Uint8Array, code: number): CID {
  return CID.createV1(code, multihash.create(0x12, digest));
}

/** A root over two or three leaves, as the layout has it. */
function someNode(random: Prng): Uint8Array {
  const sizeBytes = random.between(CHUNK_SIZE_BYTES + 1, 3 * CHUNK_SIZE_BYTES);
  const { childCount, fullChild, lastChild } = nodeShape(dagShape(sizeBytes).depth, sizeBytes);
  const children = Array.from({ length: childCount }, (_, index) => (index === childCount - 1 ? lastChild : fullChild));
  const unixfs = new UnixFS({ type: 'file', blockSizes: children.map((child) => BigInt(child.sizeBytes)) });
  return dagPb.encode({
    Data: unixfs.marshal(),
    Links: children.map(({ dagSizeBytes }) => ({ Name: '', Tsize: dagSizeBytes, Hash: cidOf(draw(32, random), 0x55) })),
  });
}

// ------------------------------------------------------------------------------------------------------- streams

const MAX_FRAME_BYTES = 5_000;

const streamTargets: readonly FunctionTarget[] = [
  {
    name: 'frames of a stream',
    covers: [],
    form: 'bytes',
    sample: (random) =>
      concatBytes(
        ...Array.from({ length: random.between(1, 4) }, () => {
          const frame = draw(random.between(0, 100), random);
          return concatBytes(u32be(frame.length), frame);
        }),
      ),
    decode(bytes, random) {
      const decoder = new FrameDecoder(MAX_FRAME_BYTES);
      const frames = pieces(bytes, random).flatMap((piece) => [...decoder.push(piece)]);
      if (decoder.heldBytes > Math.max(2 * bytes.length, 16 * 1024)) throw new Error('holds more than came');
      return { ok: true, again: frames.every((frame) => frame.length <= MAX_FRAME_BYTES) ? null : new Uint8Array() };
    },
  },
  {
    name: 'libp2p key',
    covers: ['parsePeerKey'],
    form: 'bytes',
    costUs: 400,
    // libp2p's protobuf: an Ed25519 key of 64 bytes, private and public half.
    sample: () =>
      Buffer.from(
        '080112407e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e',
        'hex',
      ),
    decode(bytes) {
      parsePeerKey(bytes);
      return { ok: true, again: null };
    },
  },
];

export const cryptoTargets: readonly FunctionTarget[] = [...mathTargets, ...fileTargets, ...streamTargets];

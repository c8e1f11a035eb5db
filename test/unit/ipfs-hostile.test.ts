// Blocks and nodes that no honest writer makes: each must be refused with its code, none may throw.

import * as dagPb from '@ipld/dag-pb';
import { CID } from 'multiformats/cid';
import { create as createDigest } from 'multiformats/hashes/digest';
import t from 'tap';
import { CHUNK_SIZE_BYTES, MAX_BLOB_SIZE_BYTES, RAW_CODEC, dagLimitsFor } from '../../common/unixfs-layout.ts';
import { checkBlock, checkLeaf, checkNode, checkRoot } from '../../node/ipfs/dag-node.ts';
import { cidOf, leaf, linkTo, node } from '../contract/ipfs-files.ts';
import type { Block, Child } from '../contract/ipfs-files.ts';

const CHUNK = CHUNK_SIZE_BYTES;
const full = leaf(new Uint8Array(CHUNK).fill(1));
const rest = leaf(new Uint8Array(10).fill(2));
const honest = node([linkTo(full), linkTo(rest)]);
const sizeBytes = CHUNK + 10;
const EXCEEDS = { ok: false, code: 'DAG_EXCEEDS_DECLARED' };
const MALFORMED = { ok: false, code: 'DAG_MALFORMED' };

function rootVerdict(block: Block, declaredBytes = sizeBytes): unknown {
  return checkRoot(block.cid, block.bytes, dagLimitsFor(declaredBytes));
}

t.test('a block is what its CID names, or refused', async (t) => {
  t.match(checkBlock(full.cid, full.bytes), { ok: true });
  t.match(checkBlock(full.cid, rest.bytes), { ok: false, code: 'BLOCK_HASH_MISMATCH' });
  const huge = leaf(new Uint8Array(2 * CHUNK + 1));
  t.match(checkBlock(huge.cid, huge.bytes), { ok: false, code: 'BLOCK_TOO_LARGE' });
  const identity = CID.createV1(RAW_CODEC, createDigest(0x00, Uint8Array.of(1)));
  t.match(checkBlock(identity, Uint8Array.of(1)), { ok: false, code: 'CID_UNSUPPORTED' });
  const dagCbor = cidOf(rest.bytes, 0x71);
  t.match(checkBlock(dagCbor, rest.bytes), { ok: false, code: 'CID_UNSUPPORTED' });
});

t.test('a leaf has the length that its parent claimed', async (t) => {
  t.match(checkLeaf(rest.bytes, 10), { ok: true });
  t.match(checkLeaf(rest.bytes, 9), EXCEEDS);
  t.match(checkLeaf(rest.bytes, 11), MALFORMED);
});

t.test('honest roots, and limits that are too small for them', async (t) => {
  t.match(rootVerdict(honest), { ok: true, value: { sizeBytes, blockCount: 3, depth: 1 } });
  t.match(rootVerdict(rest), { ok: true, value: { sizeBytes: 10, blockCount: 1, depth: 0 } });
  t.match(rootVerdict(honest, sizeBytes - 1), EXCEEDS, 'size');
  t.match(rootVerdict(rest, 9), EXCEEDS, 'size of a single leaf');
  const limits = dagLimitsFor(sizeBytes);
  t.match(checkRoot(honest.cid, honest.bytes, { ...limits, maxBlocks: 2 }), EXCEEDS, 'blocks');
  t.match(checkRoot(honest.cid, honest.bytes, { ...limits, maxDepth: 0 }), EXCEEDS, 'depth');
  const longLeaf = leaf(new Uint8Array(CHUNK + 1));
  t.match(rootVerdict(longLeaf, 2 * CHUNK), EXCEEDS, 'a leaf beyond a chunk');
});

t.test('roots that lie', async (t) => {
  const two = [linkTo(full), linkTo(rest)];
  const lies: [string, Block, object][] = [
    ['claims more than declared', node([linkTo(full), linkTo(full)]), EXCEEDS],
    ['claims 2^64 - 1 bytes', node([linkTo(full), { ...linkTo(rest), size: 2n ** 64n - 1n }]), EXCEEDS],
    ['claims less in its links than in its leaves', node([{ ...linkTo(full), size: 5 }, linkTo(rest)]), MALFORMED],
    ['a cumulative size that lies', node([linkTo(full), { ...linkTo(rest), tsize: 11 }]), MALFORMED],
    ['names on its links', node(two, { name: 'file' }), MALFORMED],
    ['a directory', node(two, { type: 'directory' }), MALFORMED],
    ['data of its own', node([linkTo(full)], { data: new Uint8Array(10) }), MALFORMED],
    ['one child for what needs two', node([{ cid: full.cid, size: sizeBytes, tsize: sizeBytes }]), MALFORMED],
    [
      'three children for what needs two',
      node([linkTo(full), { ...linkTo(rest), size: 9 }, { ...linkTo(rest), size: 1 }]),
      EXCEEDS,
    ],
    ['wrong order of sizes', node([linkTo(rest), linkTo(full)]), MALFORMED],
    ['a node over a single leaf', node([linkTo(rest)]), MALFORMED],
    ['no children', node([]), MALFORMED],
    ['a subtree where a leaf belongs', node([linkTo(full), { ...linkTo(rest), cid: honest.cid }]), EXCEEDS],
    [
      'a link to an identity CID',
      node([linkTo(full), { ...linkTo(rest), cid: CID.createV1(RAW_CODEC, createDigest(0, new Uint8Array(10))) }]),
      MALFORMED,
    ],
    ['a link of another codec', node([linkTo(full), { ...linkTo(rest), cid: cidOf(rest.bytes, 0x71) }]), MALFORMED],
  ];
  for (const [name, block, verdict] of lies) t.match(rootVerdict(block), verdict, name);
});

t.test('too many links are refused before they are parsed', async (t) => {
  const links: Child[] = Array.from({ length: 20_000 }, () => ({ cid: rest.cid, size: 0, tsize: 0 }));
  const bomb = node(links);
  t.ok(bomb.bytes.length < 2 * CHUNK, 'fits into a block');
  t.match(rootVerdict(bomb), EXCEEDS);
});

t.test('deep trees of nothing', async (t) => {
  // Each level links 174 times to the one below: a handful of blocks that expand to billions.
  let below: Block = honest;
  for (let level = 0; level < 4; level++) {
    below = node(Array.from({ length: 174 }, () => ({ cid: below.cid, size: 0, tsize: below.bytes.length })));
  }
  t.match(rootVerdict(below), MALFORMED, 'claims no bytes at all');
  const deep = node([{ cid: below.cid, size: sizeBytes, tsize: sizeBytes }]);
  t.match(rootVerdict(deep), MALFORMED, 'claims the bytes of one leaf too many');
  t.match(checkNode(below.bytes, 1, sizeBytes), EXCEEDS);
});

t.test('bytes that are no node', async (t) => {
  const raw: [string, Uint8Array][] = [
    ['nothing', new Uint8Array(0)],
    ['noise', Uint8Array.from({ length: 200 }, (_, index) => (index * 37) & 0xff)],
    ['a node without data', dagPb.encode({ Links: [] })],
    ['a node with data that is no UnixFS', dagPb.encode({ Data: Uint8Array.of(0xff, 0xff, 0xff), Links: [] })],
    ['an honest node and one byte', Uint8Array.from([...honest.bytes, 0])],
    ['an honest node less one byte', honest.bytes.subarray(0, -1)],
    ['a length beyond the end', Uint8Array.of(0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f)],
  ];
  for (const [name, bytes] of raw) t.match(rootVerdict({ cid: cidOf(bytes, 0x70), bytes }), MALFORMED, name);
  for (let at = 0; at < honest.bytes.length; at++) {
    const bytes = Uint8Array.from(honest.bytes);
    bytes[at] = (bytes[at] as number) ^ 0x01;
    const verdict = checkRoot(cidOf(bytes, 0x70), bytes, dagLimitsFor(MAX_BLOB_SIZE_BYTES));
    // A bit of a child's digest names another child; every other bit must be noticed.
    if (verdict.ok) {
      const children = dagPb.decode(bytes).Links.map((link) => link.Hash.toString());
      t.not(children.join(), [full.cid, rest.cid].join(), `bit of byte ${at}`);
    }
  }
});

import { createHash } from 'node:crypto';
import t from 'tap';
import { bytesToHex, concatBytes, u32be, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { merkleLeaf, merkleProof, merkleRoot, merkleRootOfHashes, merkleVerify } from '../../common/crypto/merkle.ts';
import { MAX_LANES_BYTES } from '../../common/crypto/sm3-lanes/lanes.ts';
import { InvariantError } from '../../common/errors.ts';

const native = (...parts: Uint8Array[]): Uint8Array =>
  Uint8Array.from(
    createHash('sm3')
      .update(concatBytes(...parts))
      .digest(),
  );

/** RFC 6962 section 2.1, word by word. */
function reference(leaves: Uint8Array[]): Uint8Array {
  if (leaves.length === 1) return native(Uint8Array.of(0), leaves[0]!);
  let k = 1;
  while (2 * k < leaves.length) k *= 2;
  return native(Uint8Array.of(1), reference(leaves.slice(0, k)), reference(leaves.slice(k)));
}

const list = (size: number): Uint8Array[] => Array.from({ length: size }, (_, index) => utf8(`entry ${index}`));

t.test('roots follow RFC 6962', async (t) => {
  t.same(merkleRoot([]), H('merkle-empty'));
  for (let size = 1; size <= 70; size++) {
    const leaves = list(size);
    const root = merkleRoot(leaves);
    t.same(root, reference(leaves), `${size} leaves`);
    t.same(merkleRootOfHashes(leaves.map(merkleLeaf)), root);
  }
  t.not(bytesToHex(merkleRoot([new Uint8Array(0)])), bytesToHex(merkleRoot([])), 'one empty entry is not no entry');
});

t.test('roots of long lists, and of entries of all lengths, are those of the tree hashed node by node', async (t) => {
  for (const size of [...Array.from({ length: 71 }, (_, index) => index), 127, 128, 129, 300, 511, 777]) {
    for (const [least, step] of [
      [0, 1],
      [50, 7],
      [118, 1],
      [400, 61],
    ] as const) {
      const leaves = Array.from({ length: size }, (_, index) =>
        new Uint8Array(least + ((index * step) % 450)).fill(index + size),
      );
      const expected = bytesToHex(merkleRootOfHashes(leaves.map(merkleLeaf)));
      const root = bytesToHex(merkleRoot(leaves));
      if (root !== expected) t.equal(root, expected, `${size} leaves from ${least} bytes`);
    }
  }
  const leaves = Array.from({ length: 300 }, (_, index) => utf8(`${index} `.repeat(index % 90)));
  t.same(merkleRoot(leaves), reference(leaves));
});

t.test('a list that the lanes have no room for', async (t) => {
  const leaf = new Uint8Array(MAX_LANES_BYTES / 4).fill(7);
  const leaves = [leaf, leaf, leaf, leaf, Uint8Array.of(1)];
  t.same(merkleRoot(leaves), reference(leaves));
  t.same(merkleRoot(list(9)), reference(list(9)), 'the next one has them again');
});

t.test('every entry has a proof, and a proof proves nothing else', async (t) => {
  let wrong = 0;
  for (let size = 1; size <= 33; size++) {
    const leaves = list(size);
    const root = merkleRoot(leaves);
    for (let index = 0; index < size; index++) {
      const path = merkleProof(leaves, index);
      const leaf = leaves[index]!;
      if (!merkleVerify(root, leaf, index, size, path)) wrong++;
      if (merkleVerify(root, utf8('other'), index, size, path)) wrong++;
      for (let other = 0; other < size; other++) {
        if (other !== index && merkleVerify(root, leaf, other, size, path)) wrong++;
      }
      if (merkleVerify(root, leaf, index, size, [...path, root])) wrong++;
      if (path.length > 0 && merkleVerify(root, leaf, index, size, path.slice(1))) wrong++;
      if (path.length > 0 && merkleVerify(root, leaf, index, size, path.slice(0, -1))) wrong++;
      for (let at = 0; at < path.length; at++) {
        const changed = path.map((hash) => hash.slice());
        changed[at]![31]! ^= 1;
        if (merkleVerify(root, leaf, index, size, changed)) wrong++;
        changed[at] = path[at]!.slice(1);
        if (merkleVerify(root, leaf, index, size, changed)) wrong++;
      }
    }
  }
  t.equal(wrong, 0);
});

t.test('malformed positions are refused, misuse stops', async (t) => {
  const leaves = list(5);
  const root = merkleRoot(leaves);
  const path = merkleProof(leaves, 0);
  for (const [index, size] of [
    [-1, 5],
    [5, 5],
    [0, 0],
    [0.5, 5],
    [0, NaN],
    [0, 2 ** 31],
    [2 ** 32, 2 ** 33],
  ]) {
    t.notOk(merkleVerify(root, leaves[0]!, index!, size!, path));
  }
  t.notOk(merkleVerify(root, leaves[0]!, 0, 5, new Array<Uint8Array>(32).fill(root)));
  t.notOk(merkleVerify(H('merkle-empty'), new Uint8Array(0), 0, 1, []));
  t.throws(() => merkleProof(leaves, 5), InvariantError);
});

t.test('an inner node is never a leaf', async (t) => {
  const leaves = list(2);
  const inner = concatBytes(merkleLeaf(leaves[0]!), merkleLeaf(leaves[1]!));
  t.not(bytesToHex(merkleRoot([inner])), bytesToHex(merkleRoot(leaves)));
  t.not(bytesToHex(merkleRoot([utf8('x'), u32be(1)])), bytesToHex(merkleRoot([u32be(1), utf8('x')])), 'order counts');
});

/**
 * Reads a whole tree and checks all that it promises: hashes, the order of keys, pages as they must be. For tests, for
 * an operator who doubts a disk, and for finding the nodes that a root still uses. Time is linear in the tree.
 */

import { assert } from '../../common/errors.ts';
import { criticalBit, keyBit } from '../../common/protocol/state-tree.ts';
import { describe, EMPTY, type NodeReader, type NodeRef, pageOfBit, refAt, type TreeRoot } from './node.ts';
import { childOf, expandHashed, type Node, stubOf } from './tree.ts';

export interface TreeAudit {
  readonly entries: number;
  readonly nodes: number;
  readonly bytes: number;
}

/**
 * @param visit called for each stored node that the root uses
 * @throws InvariantError naming the first node that is not what it should be
 */
export function auditTree(reader: NodeReader, root: TreeRoot, visit: (ref: NodeRef) => void = () => {}): TreeAudit {
  let entries = 0;
  let nodes = 0;
  let bytes = 0;
  const counting: NodeReader = {
    getNode(ref) {
      const node = reader.getNode(ref);
      nodes += 1;
      bytes += node?.length ?? 0;
      visit(ref);
      return node;
    },
  };
  /** @returns a key below; keys are checked pairwise where their paths part, which is enough for all of them */
  const check = (node: Node, above: number, ref: NodeRef): Uint8Array => {
    if (node.kind === 'stub') {
      const ownRef = refAt(node.bytes, node.at);
      const opened = expandHashed(counting, node, above);
      const separate = opened.kind === 'leaf' || above === -1 || pageOfBit(opened.bit) !== pageOfBit(above);
      assert(separate, `${describe(ownRef)} belongs into the page of its parent`);
      return check(opened, above, ownRef);
    }
    if (node.kind === 'leaf') {
      entries += 1;
      return node.key;
    }
    const [leftChild, rightChild] = [childOf(node, 0), childOf(node, 1)];
    for (const child of [leftChild, rightChild]) {
      const together = child.kind !== 'inner' || pageOfBit(child.bit) === pageOfBit(node.bit);
      assert(together, `${describe(ref)} holds inner nodes of another page`);
    }
    const left = check(leftChild, node.bit, ref);
    const right = check(rightChild, node.bit, ref);
    const sound = criticalBit(left, right) === node.bit && keyBit(left, node.bit) === 0;
    assert(sound, `${describe(ref)}: keys are not where their bits belong`);
    return left;
  };
  if (root !== EMPTY) check(stubOf(root), -1, root);
  return { entries, nodes, bytes };
}

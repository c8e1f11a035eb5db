/** Leaders that leave out one sender's transactions: how long it takes all the same. Steps of docs/protocol.md: [F1-F4]. */
import t from 'tap';
import { equalBytes } from '../../common/bytes.ts';
import type { ConsensusParams } from '../../consensus/types.ts';
import { obedient } from './adversary.ts';
import { Cluster } from './cluster.ts';
import type { SimNode } from './node.ts';

/** From now on `node` does all that the protocol says, but takes in only what `accepts` lets through. */
function censor(node: SimNode, accepts: (tx: Uint8Array) => boolean): (tx: Uint8Array) => void {
  node.behaviour = obedient;
  const submit = node.submit.bind(node);
  node.submit = (tx) => {
    if (accepts(tx)) submit(tx);
  };
  return submit;
}

/** Of the block that has it; 0 when none has. */
function heightOf(cluster: Cluster, tx: Uint8Array): number {
  return cluster.checkers.chain.findIndex((b) => b.block.block.txs.some((other) => equalBytes(tx, other))) + 1;
}

const lengthOf = (cluster: Cluster): number => cluster.checkers.chain.length;

t.test('with blocks flowing, f censors wherever they sit: in a block after 2f others at most', async (t) => {
  for (const validators of [4, 7]) {
    const faulty = Math.floor((validators - 1) / 3);
    for (let seat = 0; seat < validators; seat += 1) {
      for (const apart of faulty === 1 ? [1] : [1, 2, 3]) {
        const cluster = new Cluster(seat + 1, validators);
        const { world, checkers } = cluster;
        const revocation = cluster.newTx();
        for (let i = 0; i < faulty; i += 1)
          censor(cluster.node((seat + i * apart) % validators), (tx) => tx !== revocation);
        cluster.startAll();
        const wants = (height: number): boolean => {
          cluster.submit(cluster.newTx());
          return world.run(world.nowMs + 5_000, () => cluster.heights().low >= height);
        };
        for (let height = 1; height <= validators; height += 1) t.ok(wants(height));
        const before = lengthOf(cluster);
        for (const node of cluster.nodes) node.submit(revocation);
        while (!checkers.isCommitted(revocation) && lengthOf(cluster) < before + 3 * faulty + 2)
          wants(lengthOf(cluster) + 1);
        t.ok(checkers.isCommitted(revocation), `${validators} validators, censors from ${seat}, ${apart} apart`);
        const took = heightOf(cluster, revocation) - before;
        t.ok(took >= 1 && took <= 2 * faulty + 1, `${took} blocks`);
      }
    }
  }
});

/** As slow as a leader can be without being passed over. */
class SlowCluster extends Cluster {
  override readonly params: ConsensusParams = { viewTimeoutMs: 8_000, viewTimeoutCapMs: 16_000 };
}
const SLOWLY_MS = 6_000;

t.test('a leader that does it again is passed over at once, however slowly it goes about it [F3, F4]', async (t) => {
  const cluster = new SlowCluster(1, 7);
  const { world, checkers } = cluster;
  // They lead heights 8 k + 1 and 8 k + 2, one after the other, with what they are handed below.
  const hand = [1, 2].map((index) => censor(cluster.node(index), () => false));
  cluster.startAll();
  const views: number[] = [];
  for (let round = 0; round < 2; round += 1) {
    const revocation = cluster.newTx();
    const before = lengthOf(cluster);
    cluster.submit(revocation);
    while (!checkers.isCommitted(revocation) && lengthOf(cluster) < before + 6) {
      const filler = cluster.newTx();
      const isIn = (): boolean => checkers.isCommitted(revocation);
      world.run(world.nowMs + SLOWLY_MS, isIn);
      if (!isIn()) for (const submit of hand) submit(filler);
      const height = lengthOf(cluster);
      world.run(world.nowMs + 500, () => isIn() || lengthOf(cluster) > height);
    }
    t.ok(checkers.isCommitted(revocation));
    const height = heightOf(cluster, revocation);
    views.push(checkers.chain[height - 1]!.block.header.view);
    if (round === 0) t.equal(height - before, 3, 'both had their turn');
    else t.equal(height - before, 2, 'the second one had none any more');
    // On to the height that the first of them leads.
    while ((lengthOf(cluster) + 1) % 7 !== 1) {
      cluster.submit(cluster.newTx());
      const height = lengthOf(cluster);
      if (!world.run(world.nowMs + 60_000, () => lengthOf(cluster) > height)) throw new Error('no block');
    }
  }
  t.same(views, [0, 1]);
});

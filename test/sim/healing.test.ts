/** How soon a consortium at its default parameters is whole again by itself. */
import t from 'tap';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import type { ConsensusParams } from '../../consensus/types.ts';
import { Cluster } from './cluster.ts';

class DefaultCluster extends Cluster {
  override readonly params: ConsensusParams = DEFAULT_CHAIN_PARAMS;
}

t.test(
  'one silent, one that committed and moved on, two that missed the Commits, an idle chain: two seconds',
  async (t) => {
    for (let seed = 1; seed <= 40; seed += 1) {
      const cluster = new DefaultCluster(seed, 4);
      const { world } = cluster;
      const three = [0, 1, 2].map((index) => cluster.node(index));
      for (const node of three) node.start();
      // Ticks and timers stand to each other in every way.
      world.run(world.nowMs + 41 * seed);
      world.filter = (_from, to, message) => !(message.body.kind === 'commit' && to !== 0);
      const tx = cluster.newTx();
      for (const node of three) node.submit(tx);
      t.ok(world.run(world.nowMs + 900, () => cluster.node(0).disk.chain.length === 1));
      t.ok(three.slice(1).every((node) => node.disk.chain.length === 0));
      const isWhole = (): boolean => three.every((node) => node.disk.chain.length === 1);
      t.ok(world.run(world.nowMs + 2_000, isWhole), `seed ${seed}`);
    }
  },
);

t.test(
  'everything is lost for a while, at any moment: two timeouts and a tick after that, without any client',
  async (t) => {
    for (const validators of [4, 7]) {
      for (let seed = 1; seed <= 40; seed += 1) {
        const cluster = new DefaultCluster(seed, validators);
        const { world, params } = cluster;
        cluster.startAll();
        world.run(world.nowMs + world.prng.between(50, 1_500));
        const tx = cluster.newTx();
        for (const node of cluster.nodes) node.submit(tx);
        world.run(world.nowMs + world.prng.between(0, 30));
        world.filter = () => false;
        world.run(world.nowMs + world.prng.between(500, 30_000));
        world.filter = null;
        const bound = 2 * params.viewTimeoutMs + 1_000;
        const isDone = (): boolean => cluster.heights().low >= 1;
        t.ok(world.run(world.nowMs + bound, isDone), `${validators} validators, seed ${seed}`);
      }
    }
  },
);

/**
 * How fast a node that is far behind catches up, beside how fast blocks are made: three validators that have a chain, and
 * one that has nothing, on real databases in one process. `node test/bench/catch-up.ts BLOCKS`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { Cluster, until } from '../integration/node-cluster.ts';
import { consortium, enrolPatient } from '../integration/node-consortium.ts';
import { LongChain } from '../integration/long-chain.ts';

const blocks = Number(process.argv[2] ?? 2_000);
const dir = await mkdtemp(`${tmpdir()}/catch-up-`);
const say = (text: string): boolean => process.stdout.write(`${text}\n`);
const net = consortium();
try {
  const madeFrom = performance.now();
  const chain = await LongChain.make(net, dir, blocks);
  say(`made ${blocks} blocks in ${Math.round(performance.now() - madeFrom)} ms`);
  const cluster = new Cluster(net);
  for (const index of [0, 1, 2]) await cluster.start(index, await chain.open(`node-${index}`));
  const live = await liveRate(cluster);
  say(`live: ${live.toFixed(0)} blocks/s with three of four validators, one transaction each`);
  const late = await cluster.start(3, await openLevelStore(`${dir}/late`));
  const from = performance.now();
  const cpu = process.cpuUsage();
  await until(
    () => late.host.head.height >= blocks,
    600_000,
    () => cluster.describe(),
  );
  const ms = performance.now() - from;
  const used = process.cpuUsage(cpu);
  const rate = (blocks * 1_000) / ms;
  say(
    `catch-up: ${rate.toFixed(0)} blocks/s, ${(rate / live).toFixed(1)} times the live rate, ${(ms / blocks).toFixed(2)} ms a block, CPU ${((used.user + used.system) / 1000 / blocks).toFixed(2)} ms`,
  );
  say(`verify ${JSON.stringify(late.verifier.counts())}, fatal ${cluster.fatal().join()}`);
  await cluster.stop();
} finally {
  await rm(dir, { recursive: true });
}

async function liveRate(cluster: Cluster): Promise<number> {
  const from = performance.now();
  const before = cluster.node(0).host.head.height;
  while (performance.now() - from < 3_000) {
    const tx = enrolPatient(net, 0);
    const verdict = await cluster.node(0).mempool.submit({ bytes: tx.bytes, sidecar: null });
    if (!verdict.ok) throw new Error(verdict.code);
    await new Promise<void>((resolve) => {
      const end = cluster.node(0).onCommitted(() => {
        end();
        resolve();
      });
    });
  }
  return ((cluster.node(0).host.head.height - before) * 1_000) / (performance.now() - from);
}

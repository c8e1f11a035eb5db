/** A real process on a real database, killed with SIGKILL at moments of no one's choosing. */
import '../untraced.ts';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { openChainStore } from '../../node/storage/chain-store.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { auditTree } from '../../vm/state-tree/index.ts';
import { consortium } from '../integration/node-consortium.ts';

const CHILD = fileURLToPath(new URL('./node-kill-child.ts', import.meta.url));
const timeMs = Date.now() - 1_000;
const net = consortium({ timeMs });

/** Lets it commit some blocks, and kills it in the middle of one. @returns the last height that it said is durable */
async function runAndKill(dir: string, blocks: number): Promise<number> {
  const child = spawn(process.execPath, [CHILD, dir, String(timeMs)], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  let first: number | undefined;
  const exited = once(child, 'exit');
  child.stdout.on('data', (data: Buffer) => {
    said += data.toString();
    const height = Number(said.trim().split('\n').at(-1));
    first ??= height;
    if (height >= first + blocks) child.kill('SIGKILL');
  });
  const [, signal] = (await exited) as [number | null, string | null];
  if (signal !== 'SIGKILL') throw new Error('the child ended by itself');
  return Number(said.trim().split('\n').at(-1));
}

t.test('what was said to be durable is there after kill -9, whole', async (t) => {
  const dir = t.testdir({});
  for (let round = 0; round < 4; round += 1) {
    const durable = await runAndKill(`${dir}/db`, 5 + 7 * round);
    const kv = await openLevelStore(`${dir}/db`);
    const store = await openChainStore(kv, net.genesis, () => genesisBlock(net.genesis));
    const { height } = store.head.header;
    t.ok(height === durable || height === durable + 1, `said ${durable}, has ${height}`);
    const { state } = Executor.open(store);
    t.ok(auditTree(state.nodes, state.root).entries > height * 2, 'the whole state is there and hashes to its root');
    for (let at = 1; at <= height; at += 1) {
      const block = await store.blockAt(at);
      if (block?.txs.length !== 2 || store.certificateAt(at) === null) t.fail(`block ${at} is not whole`);
    }
    await kv.close();
  }
});

/**
 * What must hold after every scenario, looked up at each node as any client could: one chain, certified throughout, with
 * everything in it that was reported as committed. Nothing in here knows what was done to the nodes.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ChainView, Home, meetNode, RpcClient } from '../../../client/index.ts';
import type { Scenario } from './scenario.ts';
import type { Stage } from './stage.ts';
import type { StageNode } from './stage-node.ts';

/** Pages and batches, as the RPC bounds them. */
const HEADERS_PER_PAGE = 100;
const CALLS_AT_A_TIME = 50;
/** Certificates that are verified at each node: all of a chain of this length, else so many, evenly spread. */
const MAX_CERTIFICATES = 1_000;
/** pino's number for fatal. */
const FATAL = 60;

interface BlockSeen {
  readonly hash: string;
  readonly stateRoot: string;
}

export interface Checked {
  readonly failures: readonly string[];
  readonly checked: readonly string[];
}

export async function checkAll(stage: Stage, scenario: Scenario): Promise<Checked> {
  const failures: string[] = [];
  const checked: string[] = [];
  const running = stage.nodes.filter(({ isRunning }) => isRunning);
  if (running.length === 0) return { failures: ['no node runs'], checked };
  const chains = await Promise.all(running.map(chainOf));
  failures.push(...forks(running, chains));
  checked.push(`${Math.max(...chains.map(({ size }) => size))} blocks, the same at ${running.length} nodes`);
  for (const node of running) {
    failures.push(...(await lostTransactions(node, stage)));
    const certificates = await verifyCertificates(stage, node, chains[running.indexOf(node)] as Chain);
    failures.push(...certificates.failures);
    checked.push(`${node.hospital.orgId}: ${certificates.count} certificates verified`);
  }
  checked.push(
    `${stage.load.reported.length} transactions that were reported as committed are at their height everywhere`,
  );
  failures.push(...stage.load.refused.map((code) => `a valid transaction was refused: ${code}`));
  for (const node of running) failures.push(...(await misbehaviour(node)));
  const mayEndWith = new Set(scenario.mayEndWith);
  for (const node of stage.nodes) failures.push(...(await fatalLines(node, mayEndWith)));
  return { failures, checked };
}

type Chain = ReadonlyMap<number, BlockSeen>;

async function chainOf({ hospital }: StageNode): Promise<Chain> {
  const rpc = new RpcClient(hospital.rpcUrl);
  // A node that began with a snapshot has no blocks below it.
  const { height, lowestHeight } = await rpc.call('chain_getHeight', {});
  const chain = new Map<number, BlockSeen>();
  for (let from = Math.max(1, lowestHeight); from <= height; from += HEADERS_PER_PAGE) {
    const { headers } = await rpc.call('chain_getHeaders', { fromHeight: from, limit: HEADERS_PER_PAGE });
    for (const { hash, header } of headers) chain.set(header.height, { hash, stateRoot: header.stateRoot });
  }
  return chain;
}

function forks(nodes: readonly StageNode[], chains: readonly Chain[]): readonly string[] {
  const [first, ...others] = chains as [Chain, ...Chain[]];
  return others.flatMap((chain, i) => {
    const names = `${nodes[0]?.hospital.orgId} and ${nodes[i + 1]?.hospital.orgId}`;
    if (chain.size !== first.size) return [`${names} are at heights ${first.size} and ${chain.size}`];
    const [fork] = [...chain].filter(([height, { hash, stateRoot }]) => {
      const other = first.get(height);
      return other?.hash !== hash || other.stateRoot !== stateRoot;
    });
    return fork === undefined ? [] : [`a fork: ${names} have different blocks at height ${fork[0]}`];
  });
}

async function lostTransactions({ hospital }: StageNode, { load }: Stage): Promise<readonly string[]> {
  const rpc = new RpcClient(hospital.rpcUrl);
  const failures: string[] = [];
  for (let from = 0; from < load.reported.length; from += CALLS_AT_A_TIME) {
    await Promise.all(
      load.reported.slice(from, from + CALLS_AT_A_TIME).map(async ({ hash, height }) => {
        const found = await rpc.call('tx_get', { hash }).catch(() => null);
        if (found?.status === 'committed' && found.height === height) return;
        failures.push(`lost: ${hash}, reported at height ${height}, is ${found?.status} at ${hospital.orgId}`);
      }),
    );
  }
  return failures;
}

async function verifyCertificates(stage: Stage, { hospital }: StageNode, chain: Chain) {
  const rpc = new RpcClient(hospital.rpcUrl);
  const view = new ChainView(rpc, await meetNode(new Home(join(stage.dir, 'checker')), rpc));
  const heights = [...chain.keys()];
  const every = Math.max(1, Math.ceil(heights.length / MAX_CERTIFICATES));
  const chosen = heights.filter((height) => height % every === 0 || height === heights.length);
  const failures: string[] = [];
  for (const height of chosen) {
    // The client library: it trusts the genesis and nothing that this node says.
    await view.header(height).catch((error: unknown) => {
      failures.push(`${hospital.orgId}, certificate of block ${height}: ${(error as Error).message}`);
    });
  }
  return { failures, count: chosen.length };
}

/** No key of an honest node may ever sign what excludes each other, whatever was done to its process and its disk. */
async function misbehaviour({ hospital }: StageNode): Promise<readonly string[]> {
  const { warnings } = await new RpcClient(hospital.rpcUrl).call('node_status', {});
  return warnings
    .filter(({ code }) => code === 'MISBEHAVIOUR')
    .map(({ message }) => `${hospital.orgId} has seen votes that conflict: ${message}`);
}

/** A node that met what it must not go on with says so, and why. */
async function fatalLines(
  { hospital, logFile }: StageNode,
  mayEndWith: ReadonlySet<string>,
): Promise<readonly string[]> {
  const lines = (await readFile(logFile, 'utf8')).split('\n').filter((line) => line.startsWith('{'));
  return lines.flatMap((line) => {
    // The last line of a process that was killed may be half of one.
    if (!line.includes(`"level":"fatal"`) && !line.includes(`"level":${FATAL}`)) return [];
    const { code = '' } = /"code":"(?<code>[A-Z_]+)"/.exec(line)?.groups ?? {};
    return mayEndWith.has(code) ? [] : [`${hospital.orgId} stopped by itself: ${line}`];
  });
}

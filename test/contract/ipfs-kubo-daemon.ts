/**
 * A real Kubo daemon for tests: in a folder of its own, on loopback and free ports only, cut off from the world unless
 * the test is about daemons that are not. Nothing is downloaded: the binary is named by EMRCHAIN_TEST_KUBO.
 */

import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { base32 } from 'multiformats/bases/base32';
import type { CID } from 'multiformats/cid';

const START_DEADLINE_MS = 60_000;

/** Path of the daemon's binary, or undefined with the reason why its tests are skipped. */
export const KUBO_BINARY: string | undefined = process.env['EMRCHAIN_TEST_KUBO'];
export const KUBO_SKIPPED = 'EMRCHAIN_TEST_KUBO does not name a Kubo binary (ipfs)';

export interface KuboDaemon {
  readonly url: string;
  /** Runs the command line against this daemon, optionally with standard input; answers its standard output. */
  ipfs(args: readonly string[], input?: AsyncIterable<Uint8Array>): Promise<Buffer>;
  /** The file in which its flatfs datastore keeps a block. */
  pathOf(cid: CID): string;
  stop(): Promise<void>;
}

export interface KuboSettings {
  /** With a swarm key, routing off, no bootstrap peers. Else the ways in are open, though only to this machine. */
  readonly closed: boolean;
}

interface KuboConfig {
  Addresses: object;
  AutoConf: object;
  AutoTLS: object;
  Bootstrap: string[];
  DNS: { Resolvers: object };
  Discovery: { MDNS: object };
  Ipns: { DelegatedPublishers: string[] };
  Plugins: object;
  Routing: object;
  Swarm: { DisableNatPortMap: boolean; Transports: { Network: object } };
}

async function configure(repo: string, { closed }: KuboSettings): Promise<void> {
  const path = join(repo, 'config');
  const config = JSON.parse(await readFile(path, 'utf8')) as KuboConfig;
  // Port 0 everywhere: the daemon says which ones it got.
  config.Addresses = { Swarm: ['/ip4/127.0.0.1/tcp/0'], API: '/ip4/127.0.0.1/tcp/0', Gateway: '' };
  config.AutoConf = { Enabled: false };
  config.AutoTLS = { Enabled: false };
  config.DNS.Resolvers = {};
  config.Discovery.MDNS = { Enabled: false };
  config.Ipns.DelegatedPublishers = [];
  config.Swarm.DisableNatPortMap = true;
  config.Swarm.Transports.Network = { Websocket: false };
  // A stranger's address that cannot be reached from anywhere.
  const stranger = '/ip4/127.0.0.1/tcp/1/p2p/12D3KooWQfzFYQRHx8giq852fQfFndsD2qh16hwqdLKE66Vv3Eyp';
  config.Bootstrap = closed ? [] : [stranger];
  config.Routing = { Type: closed ? 'none' : 'dht', DelegatedRouters: [] };
  if (closed) {
    config.Plugins = { Plugins: { telemetry: { Config: { Mode: 'off' } } } };
    const key = `/key/swarm/psk/1.0.0/\n/base16/\n${randomBytes(32).toString('hex')}\n`;
    await writeFile(join(repo, 'swarm.key'), key, { mode: 0o600 });
  }
  await writeFile(path, JSON.stringify(config));
}

/** Starts a daemon whose repository is in `dir`, an empty folder. */
export async function startKubo(binary: string, dir: string, settings: KuboSettings): Promise<KuboDaemon> {
  const repo = join(dir, 'kubo');
  const env: NodeJS.ProcessEnv = { PATH: process.env['PATH'], HOME: dir, IPFS_PATH: repo, IPFS_TELEMETRY: 'off' };
  if (settings.closed) env['LIBP2P_FORCE_PNET'] = '1';
  // Without it an open daemon would be configured, not started: `init` needs no network.
  await promisify(execFile)(binary, ['init', '--empty-repo', '--profile=server'], {
    env: { ...env, LIBP2P_FORCE_PNET: undefined },
  });
  await configure(repo, settings);

  const daemon = spawn(binary, ['daemon'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(daemon, 'exit');
  let complaint = '';
  daemon.stderr.on('data', (data: Buffer) => (complaint = (complaint + data.toString()).slice(-2_000)));
  const stop = async (): Promise<void> => {
    daemon.kill('SIGTERM');
    await ended;
  };
  const deadline = setTimeout(() => daemon.kill('SIGKILL'), START_DEADLINE_MS);
  let url = '';
  for await (const line of createInterface({ input: daemon.stdout })) {
    const api = /^RPC API server listening on \/ip4\/127\.0\.0\.1\/tcp\/(\d+)/.exec(line);
    if (api !== null) url = `http://127.0.0.1:${api[1]}`;
    if (line.startsWith('Daemon is ready')) break;
  }
  clearTimeout(deadline);
  daemon.stdout.resume();
  if (url === '' || daemon.exitCode !== null) throw new Error(`the Kubo daemon did not start: ${complaint}`);

  return {
    url,
    stop,
    pathOf: (cid) => {
      // Named by the multihash in upper-case base32 without the multibase letter, sharded by its next-to-last two.
      const name = base32.encode(cid.multihash.bytes).slice(1).toUpperCase();
      return join(repo, 'blocks', name.slice(-3, -1), `${name}.data`);
    },
    ipfs: async (args, input) => {
      const command = spawn(binary, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
      const output: Buffer[] = [];
      let error = '';
      command.stdout.on('data', (data: Buffer) => output.push(data));
      command.stderr.on('data', (data: Buffer) => (error += data.toString()));
      const exit = once(command, 'close');
      for await (const piece of input ?? []) {
        if (!command.stdin.write(piece)) await once(command.stdin, 'drain');
      }
      command.stdin.end();
      const [code] = (await exit) as [number];
      if (code !== 0) throw new Error(`ipfs ${args.join(' ')}: ${error}`);
      return Buffer.concat(output);
    },
  };
}

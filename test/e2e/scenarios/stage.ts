/**
 * The ground that scenarios are played on: hospitals' folders, their node processes, the wires between them, what they
 * commit. All of it ends with `close`, and with this process, whatever happens.
 */
import '../../untraced.ts';
import '../ends-with-signal.ts';
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { H } from '../../../common/crypto/hash.ts';
import { genesisHash } from '../../../common/protocol/genesis.ts';
import { GENESIS_FILE, parseGenesisFile } from '../../../config/genesis-file.ts';
import { NODE_CONFIG_FILE } from '../../../config/node-config.ts';
import { ChainView, Home, meetNode, type PinnedNode, RpcClient, type UnlockedKey } from '../../../client/index.ts';
import { childEnvironment, Devnet, type Hospital } from '../../../scripts/devnet/devnet.ts';
import { freePorts } from '../../../scripts/devnet/processes.ts';
import { newKey, People, Person, type Place } from '../people.ts';
import { HeadWatch } from './head-watch.ts';
import { Load, type Writer } from './load.ts';
import { StageNode } from './stage-node.ts';
import { Votes } from './votes.ts';
import { Wires } from './wires.ts';

/** Watching and checking must not be what the limit for strangers is about. */
const CALLS_PER_MINUTE = 10_000_000;
/** Heights for which the time of their first sight is kept. */
const KEPT_SIGHTS = 50_000;

export interface StageOptions {
  readonly nodes: number;
  readonly wired: boolean;
  readonly custodians: boolean;
  readonly smallDisks: readonly number[];
}

interface Made {
  readonly dir: string;
  readonly chainId: Uint8Array;
  readonly admins: readonly UnlockedKey[];
  readonly custodians: boolean;
  readonly hospitals: readonly Hospital[];
  readonly wires: Wires | null;
}

export class Stage implements Place {
  readonly dir: string;
  /** Whether hospitals that join have custodians too. */
  readonly hasCustodians: boolean;
  readonly load: Load;
  /** What every process of the network is started with. */
  readonly env: NodeJS.ProcessEnv;
  /** When each height was first seen at any node, by the monotonic clock. */
  readonly sights = new Map<number, number>();
  readonly #admins: readonly UnlockedKey[];
  readonly #writers: readonly Writer[];
  readonly #nodes: StageNode[] = [];
  readonly #wires: Wires | null;
  #twin: StageNode | null = null;
  #votes: Votes | null = null;

  private constructor({ dir, chainId, admins, custodians, hospitals, wires }: Made) {
    this.dir = dir;
    this.hasCustodians = custodians;
    this.env = childEnvironment(dir);
    this.#admins = admins;
    this.#writers = hospitals.map(({ orgId }, i) => ({ orgId, signer: (admins[i] as UnlockedKey).signer }));
    this.#wires = wires;
    this.#nodes = hospitals.map((hospital, index) => this.#nodeOf(index, hospital));
    this.load = new Load(
      chainId,
      this.#writers,
      hospitals.map(({ rpcUrl }) => rpcUrl),
    );
  }

  static async open({ nodes: count, wired, custodians, smallDisks }: StageOptions): Promise<Stage> {
    const dir = await mkdtemp(join(tmpdir(), 'emrchain-scenario-'));
    const removeAll = (): void => rmSync(dir, { recursive: true, force: true });
    process.once('exit', removeAll);
    const admins = Array.from({ length: count }, (_, i) => newKey(`admin-${i}`));
    await Devnet.prepare(dir);
    const { hospitals } = await Devnet.create(
      dir,
      admins.map(({ publicKey }) => ({ publicKey, personTag: H('scenario-person', randomBytes(16)) })),
      0,
    );
    const wires = await configure(hospitals, wired);
    const genesis = parseGenesisFile(
      GENESIS_FILE,
      await readFile(join((hospitals[0] as Hospital).dir, GENESIS_FILE), 'utf8'),
    );
    const stage = new Stage({ dir, chainId: genesisHash(genesis), admins, custodians, hospitals, wires });
    process.off('exit', removeAll);
    process.once('exit', stage.#endAtOnce);
    for (const index of smallDisks) await stage.node(index).disk.mount();
    return stage;
  }

  readonly #endAtOnce = (): void => {
    this.#twin?.end();
    for (const node of this.nodes) {
      node.end();
      node.disk.unmount();
    }
    // Killed a moment ago, the processes may still write.
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  };

  #nodeOf(index: number, hospital: Hospital): StageNode {
    const watch = new HeadWatch(hospital.rpcUrl, ({ height }) => noteSight(this.sights, height));
    return new StageNode(index, hospital, this.env, watch);
  }

  get nodes(): readonly StageNode[] {
    return this.#nodes;
  }

  get hospitals(): readonly Hospital[] {
    return this.#nodes.map(({ hospital }) => hospital);
  }

  /** A node that joins a network that runs; its folder is there. Not started yet. */
  async add(index: number, hospital: Hospital): Promise<StageNode> {
    if (index !== this.#nodes.length) throw new Error(`the next node is ${this.#nodes.length}`);
    await configure([hospital], false);
    const node = this.#nodeOf(index, hospital);
    this.#nodes.push(node);
    return node;
  }

  get votes(): Votes {
    if (this.#votes === null) throw new Error('there is no vote before the chain is met');
    return this.#votes;
  }

  /** Meets the chain at node 0, which must run, and takes the founders' administrators for its voters. */
  async meet(): Promise<void> {
    const rpc = new RpcClient(this.node(0).hospital.rpcUrl);
    const view = new ChainView(rpc, await meetNode(new Home(join(this.dir, 'people', 'voters')), rpc));
    this.#votes ??= new Votes(view, this.#writers);
  }

  /** The founders' administrators, and whom they enrol. All nodes must run. */
  async people(): Promise<People> {
    const home = new Home(join(this.dir, 'people', 'everybody'));
    const pinned: PinnedNode[] = [];
    for (const { rpcUrl } of this.hospitals) pinned.push(await meetNode(home, new RpcClient(rpcUrl)));
    const admins = this.#admins.map((key, i) => {
      return new Person(key.name, key, this, this.node(i).hospital, pinned[i] as PinnedNode);
    });
    return new People(this, admins, pinned);
  }

  get wires(): Wires {
    if (this.#wires === null) throw new Error('this scenario has no wires between its nodes');
    return this.#wires;
  }

  node(index: number): StageNode {
    const node = this.nodes[index];
    if (node === undefined) throw new Error(`there is no node ${index}`);
    return node;
  }

  get twin(): StageNode {
    if (this.#twin === null) throw new Error('there is no twin');
    return this.#twin;
  }

  /** A copy of the folder on ports of its own, as if somebody had started last night's backup in another machine. */
  async startTwin(index: number): Promise<void> {
    const { hospital } = this.node(index);
    const dir = `${hospital.dir}-twin`;
    await cp(hospital.dir, dir, {
      recursive: true,
      filter: (path) => !path.endsWith('.sock') && !path.endsWith('node.log'),
    });
    const [rpcPort = 0, p2pPort = 0] = await freePorts(2);
    const twin: Hospital = { ...hospital, dir, rpcPort, rpcUrl: `http://127.0.0.1:${rpcPort}` };
    const configuration = await read(twin);
    configuration.rpc.port = rpcPort;
    configuration.network.listen = [`/ip4/127.0.0.1/tcp/${p2pPort}`];
    await writeFile(fileOf(twin), stringify(configuration), { mode: 0o600 });
    this.#twin = new StageNode(index, twin, this.env, new HeadWatch(twin.rpcUrl, () => undefined));
    this.#twin.start();
  }

  async endTwin(): Promise<void> {
    this.twin.watch.close();
    await this.twin.stop();
    this.#twin = null;
  }

  /** The highest block that any node has told of. */
  get height(): number {
    return Math.max(...this.nodes.map(({ watch }) => watch.height));
  }

  async close(): Promise<void> {
    process.off('exit', this.#endAtOnce);
    const all = this.#twin === null ? this.nodes : [...this.nodes, this.#twin];
    for (const node of all) node.end();
    await Promise.all(all.flatMap((node) => [node.kill(), node.custodian.kill()]));
    for (const { disk } of this.nodes) disk.unmount();
    this.#wires?.close();
    await rm(this.dir, { recursive: true, force: true });
  }
}

function noteSight(sights: Map<number, number>, height: number): void {
  if (sights.has(height)) return;
  sights.set(height, performance.now());
  if (sights.size > KEPT_SIGHTS) sights.delete(sights.keys().next().value as number);
}

/** As much of a configuration as a scenario touches. */
interface Configuration {
  network: { listen: string[]; peers: string[] };
  rpc: { port: number; requestsPerMinute?: number; openReads?: boolean };
}

const fileOf = ({ dir }: Hospital): string => join(dir, NODE_CONFIG_FILE);
const read = async (hospital: Hospital): Promise<Configuration> =>
  parse(await readFile(fileOf(hospital), 'utf8')) as Configuration;
const portOf = (address: string | undefined): number => Number(/\/tcp\/(\d+)/.exec(address ?? '')?.[1]);

/** Lets each node dial through its wires, and be asked by anybody as often as the test wants to. */
async function configure(hospitals: readonly Hospital[], wired: boolean): Promise<Wires | null> {
  const configurations = await Promise.all(hospitals.map(read));
  const ports = configurations.map(({ network }) => portOf(network.listen[0]));
  const wires = wired ? new Wires(ports) : null;
  await wires?.open();
  for (const [from, configuration] of configurations.entries()) {
    const { network, rpc } = configuration;
    rpc.requestsPerMinute = CALLS_PER_MINUTE;
    rpc.openReads = true;
    if (wires !== null) {
      network.peers = network.peers.map((peer) => {
        const port = portOf(peer);
        return peer.replace(`/tcp/${port}/`, `/tcp/${wires.port(from, ports.indexOf(port))}/`);
      });
    }
    await writeFile(fileOf(hospitals[from] as Hospital), stringify(configuration), { mode: 0o600 });
  }
  return wires;
}

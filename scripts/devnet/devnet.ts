/**
 * A development network on one machine: hospitals with real keys, disks and sockets, each as a node process and a
 * custodian process. Everything of it lies in one folder; a folder that holds a network already is started again.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EmrError } from '../../common/errors.ts';
import { DEFAULT_CHAIN_PARAMS, type ChainParams } from '../../common/protocol/chain-params.ts';
import { checkDocument } from '../../config/document.ts';
import { formatGenesisFile, GENESIS_FILE, parseGenesisFile } from '../../config/genesis-file.ts';
import { genesisFromCards, type MemberCard } from '../../config/member-card.ts';
import { initHospital } from '../../node/init/hospital.ts';
import { freePorts, requireFreePort, type Service, startService, stopService, waitFor } from './processes.ts';

const REPOSITORY = join(import.meta.dirname, '..', '..');
const NODE_MAIN = join(REPOSITORY, 'node', 'main.ts');
const CUSTODIAN_MAIN = join(REPOSITORY, 'node', 'custodian', 'main.ts');
const PLAN_FILE = 'devnet.json';
/** Eight processes start within ten seconds on two cores; on a machine that is busy with other things it takes longer. */
const READY_MS = 90_000;

/** Short delays, so that what takes days among hospitals can be tried in seconds. Everything else is the default. */
export const DEVNET_PARAMS: ChainParams = {
  ...DEFAULT_CHAIN_PARAMS,
  roleCoolingMs: 1_000,
  governanceDelayMs: 2_000,
  recoveryDelayMs: 5_000,
};

export interface Hospital {
  readonly orgId: string;
  readonly name: string;
  readonly dir: string;
  readonly rpcUrl: string;
  readonly rpcPort: number;
}

/** As custody_getStatus shows it. */
export interface CustodyKey {
  readonly key: string;
  readonly threshold: number;
  readonly holders: readonly { readonly orgId: string }[];
}

interface Plan {
  readonly hospitals: readonly Omit<Hospital, 'dir'>[];
}

/** The first administrator of each hospital; the caller makes the key, as that person would. */
export interface AdminKey {
  readonly publicKey: Uint8Array;
  readonly personTag: Uint8Array;
}

const NAMES = ['North Hospital', 'East Hospital', 'South Hospital', 'West Hospital'];

export class Devnet {
  readonly dir: string;
  readonly hospitals: readonly Hospital[];
  readonly #env: NodeJS.ProcessEnv;
  readonly #nodes = new Map<string, Service>();
  readonly #custodians = new Map<string, Service>();

  private constructor(dir: string, plan: Plan) {
    this.dir = dir;
    this.hospitals = plan.hospitals.map((h) => ({ ...h, dir: join(dir, h.orgId) }));
    this.#env = childEnvironment(dir);
  }

  /** File with the passphrase of every key of this network: fit for a devnet only. */
  get passphraseFile(): string {
    return passphraseFile(this.dir);
  }

  static exists(dir: string): boolean {
    return existsSync(join(dir, PLAN_FILE));
  }

  /** Opens the network that a folder holds. */
  static async open(dir: string): Promise<Devnet> {
    return new Devnet(dir, JSON.parse(await readFile(join(dir, PLAN_FILE), 'utf8')) as Plan);
  }

  /** The passphrase file comes first: the administrators' keys are made with it too. */
  static async prepare(dir: string): Promise<void> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await writeFile(passphraseFile(dir), randomBytes(24).toString('base64url'), { flag: 'wx', mode: 0o600 });
  }

  /**
   * Makes a network in a prepared folder.
   * @param admins one for each hospital
   * @param rpcPort of the first hospital; the others follow; 0 takes free ones
   */
  static async create(dir: string, admins: readonly AdminKey[], rpcPort: number): Promise<Devnet> {
    const passphrase = new Uint8Array(await readFile(passphraseFile(dir)));
    const ports = await freePorts(admins.length * 2);
    const plan: Plan = {
      hospitals: admins.map((_, i) => {
        const port = rpcPort === 0 ? (ports[admins.length + i] as number) : rpcPort + i;
        const orgId = `hospital-${String.fromCharCode(97 + i)}`;
        return { orgId, name: NAMES[i] ?? `Hospital ${i + 1}`, rpcPort: port, rpcUrl: `http://127.0.0.1:${port}` };
      }),
    };
    const cards = await Promise.all(
      plan.hospitals.map((hospital, i) =>
        initOne(dir, hospital, admins[i] as AdminKey, ports[i] as number, passphrase),
      ),
    );
    const genesis = formatGenesisFile(
      genesisFromCards(cards, {
        name: 'emrchain-devnet',
        timeMs: Date.now(),
        params: DEVNET_PARAMS,
        salt: new Uint8Array(randomBytes(16)),
      }),
    );
    parseGenesisFile(GENESIS_FILE, genesis);
    for (const { orgId } of plan.hospitals) {
      await writeFile(join(dir, orgId, GENESIS_FILE), genesis, { mode: 0o600 });
      await addPeers(
        join(dir, orgId, 'config.yaml'),
        cards.filter((c) => c.orgId !== orgId),
      );
    }
    await writeFile(join(dir, PLAN_FILE), `${JSON.stringify(plan, null, 2)}\n`, { mode: 0o600 });
    return new Devnet(dir, plan);
  }

  /** Starts every process and waits until all nodes are ready. */
  async start(): Promise<void> {
    for (const hospital of this.hospitals) await requireFreePort(hospital.rpcPort);
    for (const hospital of this.hospitals) {
      this.startNode(hospital.orgId);
      this.startCustodian(hospital.orgId);
    }
    await this.waitReady(this.hospitals.map((h) => h.orgId));
  }

  /** @param script another program in the node's place: what a hospital runs is its own affair, the others must bear it */
  startNode(orgId: string, script = NODE_MAIN): void {
    const hospital = this.hospital(orgId);
    this.#nodes.set(
      orgId,
      startService(`node ${orgId}`, script, ['--dir', hospital.dir], join(hospital.dir, 'node.log'), this.#env),
    );
  }

  /** @param script as in `startNode` */
  startCustodian(orgId: string, script = CUSTODIAN_MAIN): void {
    const { dir } = this.hospital(orgId);
    this.#custodians.set(
      orgId,
      startService(`custodian ${orgId}`, script, ['--dir', dir], join(dir, 'custodian.log'), this.#env),
    );
  }

  /** Waits until each node says that it is ready: connected to a quorum, and not behind. */
  async waitReady(orgIds: readonly string[], deadlineMs = READY_MS): Promise<void> {
    const minPeers = Math.min(orgIds.length, this.hospitals.length) - 1;
    for (const orgId of orgIds) {
      const { rpcUrl } = this.hospital(orgId);
      const services = [...this.#nodes.values(), ...this.#custodians.values()].filter(
        (s) => s.exitCode() === null || s === this.#nodes.get(orgId),
      );
      await waitFor(
        `${orgId} is not ready`,
        services,
        () => isReady(`${rpcUrl}/readyz?minPeers=${minPeers}&maxBlocksBehind=0`),
        deadlineMs,
      );
    }
  }

  /** Waits until every node that runs has this block: who reads elsewhere sees what was committed here. */
  async waitHeight(height: number): Promise<void> {
    const running = this.hospitals.filter((h) => this.#nodes.get(h.orgId)?.exitCode() === null);
    await Promise.all(
      running.map(({ orgId, rpcUrl }) =>
        waitFor(`${orgId} is not at height ${height}`, [], async () => (await heightOf(rpcUrl)) >= height, READY_MS),
      ),
    );
  }

  /** Waits until every node shows the key that the custodians share: they make it by themselves after the start. */
  async waitCustodyKey(): Promise<CustodyKey> {
    const keys = await Promise.all(
      this.hospitals.map(async ({ orgId, rpcUrl }) => {
        let found: CustodyKey | null = null;
        const services = [...this.#nodes.values(), ...this.#custodians.values()];
        const look = async (): Promise<boolean> => {
          found = ((await ask(rpcUrl, 'custody_getStatus'))['epoch'] ?? null) as CustodyKey | null;
          return found !== null;
        };
        await waitFor(`${orgId} shows no custody key`, services, look, READY_MS);
        return found as unknown as CustodyKey;
      }),
    );
    return keys[0] as CustodyKey;
  }

  hospital(orgId: string): Hospital {
    const found = this.hospitals.find((h) => h.orgId === orgId);
    if (found === undefined) throw new EmrError('UNKNOWN_HOSPITAL', `there is no ${orgId} in this network`);
    return found;
  }

  /** kill -9: no goodbye, nothing flushed. */
  async killNode(orgId: string): Promise<void> {
    const service = this.#nodes.get(orgId);
    service?.kill('SIGKILL');
    await service?.ended;
  }

  /** As `killNode`, the custodian of a hospital. */
  async killCustodian(orgId: string): Promise<void> {
    const service = this.#custodians.get(orgId);
    service?.kill('SIGKILL');
    await service?.ended;
  }

  /** Stops a custodian where it is, or lets it go on: meanwhile it takes connections and says nothing. */
  freezeCustodian(orgId: string, frozen: boolean): void {
    this.#custodians.get(orgId)?.kill(frozen ? 'SIGSTOP' : 'SIGCONT');
  }

  /** Process ids of the nodes. */
  pids(): ReadonlyMap<string, number> {
    return new Map([...this.#nodes].map(([orgId, service]) => [orgId, service.pid]));
  }

  /** Ends every process at once: for whoever cannot wait for `stop`. */
  killAll(): void {
    for (const service of [...this.#nodes.values(), ...this.#custodians.values()]) {
      if (service.exitCode() === null) service.kill('SIGKILL');
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#nodes.values(), ...this.#custodians.values()].map(stopService));
  }
}

const passphraseFile = (dir: string): string => join(dir, 'passphrase');

/**
 * What every process of the network gets: the passphrase's file, one cache of compiled code for all of them, and what
 * `emrchain node start` sets too (client/cli/program.ts says why).
 */
export function childEnvironment(dir: string): NodeJS.ProcessEnv {
  return {
    MALLOC_ARENA_MAX: '2',
    ...process.env,
    EMRCHAIN_PASSPHRASE_FILE: passphraseFile(dir),
    NODE_COMPILE_CACHE: join(dir, 'compile-cache'),
  };
}

/** One call without a token; an answer without a result is an empty one. */
async function ask(rpcUrl: string, method: string): Promise<Readonly<Record<string, unknown>>> {
  const response = await fetch(`${rpcUrl}/rpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: {} }),
    signal: AbortSignal.timeout(5_000),
  });
  const { result } = (await response.json()) as { result?: Readonly<Record<string, unknown>> };
  return result ?? {};
}

const heightOf = async (rpcUrl: string): Promise<number> =>
  Number((await ask(rpcUrl, 'chain_getHeight'))['height'] ?? -1);

async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(1_000) })).ok;
  } catch {
    return false;
  }
}

async function initOne(
  dir: string,
  hospital: Omit<Hospital, 'dir'>,
  admin: AdminKey,
  p2pPort: number,
  passphrase: Uint8Array,
): Promise<MemberCard> {
  const address = `/ip4/127.0.0.1/tcp/${p2pPort}`;
  return initHospital({
    dir: join(dir, hospital.orgId),
    orgId: hospital.orgId,
    name: hospital.name,
    publicAddress: address,
    config: {
      network: { listen: [address] },
      // On loopback, for the explorer to be looked at without a token; a hospital leaves this closed.
      rpc: { port: hospital.rpcPort, openReads: true },
      custodian: { socket: 'custodian.sock' },
    },
    admin,
    custodian: true,
    passphrase,
  });
}

/** Adds the addresses of the other members to a configuration that was written a moment ago. */
async function addPeers(configFile: string, others: readonly MemberCard[]): Promise<void> {
  // A network of one has nobody to dial, and a key without a list is no configuration.
  if (others.length === 0) return;
  const text = await readFile(configFile, 'utf8');
  const peers = others.map((card) => `    - ${card.address}\n`).join('');
  const edited = text.replace('network:\n', `network:\n  peers:\n${peers}`);
  checkDocument(configFile, edited, { type: 'object' });
  await writeFile(configFile, edited, { mode: 0o600 });
}

/**
 * Four hospitals as real processes, and people who act through the client library with keys in memory: the ground that
 * end-to-end tests stand on. Each test file has one; all of it ends with the file, even when that is cut off.
 */
import '../untraced.ts';
import './ends-with-signal.ts';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SM2_KEY_KIND, writeKeystore } from '../../common/native/keystore.ts';
import { Home, meetNode, type PinnedNode, RpcClient } from '../../client/index.ts';
import { Devnet, type Hospital } from '../../scripts/devnet/devnet.ts';
import { newKey, People, Person, tagOf } from './people.ts';
import { until } from './until.ts';

const FILE_DEADLINE_MS = 280_000;

export interface Head {
  readonly height: number;
  readonly stateRoot: string;
}

/** What a consortium asks of the test, or the benchmark, that it is for. */
export interface Stage {
  setTimeout(ms: number): void;
  teardown(end: () => unknown): void;
}

export class Consortium extends People {
  readonly devnet: Devnet;

  private constructor(devnet: Devnet, admins: readonly Person[], nodes: readonly PinnedNode[]) {
    super(devnet, admins, nodes);
    this.devnet = devnet;
  }

  /**
   * @param before runs when the folders are there and nothing is started yet
   * @param deadlineMs for all of the file: eight processes start on two cores, beside whatever else runs there
   */
  static async open(
    t: Stage,
    before: (devnet: Devnet) => Promise<void> = async () => {},
    deadlineMs = FILE_DEADLINE_MS,
  ): Promise<Consortium> {
    t.setTimeout(deadlineMs);
    const dir = await mkdtemp(join(tmpdir(), 'emrchain-e2e-'));
    await Devnet.prepare(dir);
    const keys = ['admin-a', 'admin-b', 'admin-c', 'admin-d'].map(newKey);
    const devnet = await Devnet.create(
      dir,
      keys.map(({ name, publicKey }) => ({ publicKey, personTag: tagOf(name) })),
      0,
    );
    // For the life of this process, not only until `stop`: a test that was cut off may start a node even later.
    process.once('exit', () => {
      devnet.killAll();
      rmSync(dir, { recursive: true, force: true });
    });
    t.teardown(async () => {
      await devnet.stop();
      await rm(dir, { recursive: true, force: true });
    });
    await before(devnet);
    await devnet.start();
    const home = new Home(join(dir, 'people', 'everybody'));
    const nodes: PinnedNode[] = [];
    for (const { rpcUrl } of devnet.hospitals) nodes.push(await meetNode(home, new RpcClient(rpcUrl)));
    const admins = keys.map((key, i) => {
      const hospital = devnet.hospitals[i] as Hospital;
      return new Person(key.name, key, devnet, hospital, nodes[i] as PinnedNode);
    });
    return new Consortium(devnet, admins, nodes);
  }

  override async offer(writer: Person, patient: Person, path: string, policyRef: Uint8Array) {
    // What is written before the custodians have their key is kept otherwise than what is written after.
    await this.devnet.waitCustodyKey();
    return super.offer(writer, patient, path, policyRef);
  }

  /** Head of every node, once all have the same and nothing waits for a block. */
  settled(indices = this.devnet.hospitals.map((_, i) => i)): Promise<Head> {
    const nodes = indices.map((i) => this.admin(i).view.rpc);
    return until('all nodes at one state, with nothing pending', async () => {
      const heads = await Promise.all(nodes.map((rpc) => rpc.call('chain_getHeader', { height: 'latest' })));
      const pools = await Promise.all(nodes.map((rpc) => rpc.call('tx_poolStatus', {})));
      if (pools.some(({ transactions }) => transactions > 0)) return undefined;
      if (new Set(heads.map(({ hash }) => hash)).size > 1) return undefined;
      const { height, stateRoot } = (heads[0] as (typeof heads)[number]).header;
      return { height, stateRoot };
    });
  }

  /** Writes this person's key to its home, for the command line to use. Some 0.4 s. */
  async writeKey(person: Person, passphrase: Uint8Array): Promise<void> {
    const folder = await person.home.ensure('keys');
    const { address, publicKey, privateKey } = person.key;
    const identity = { kind: SM2_KEY_KIND, address, publicKey };
    await writeKeystore(join(folder, `${person.name}.json`), identity, privateKey, passphrase);
  }
}

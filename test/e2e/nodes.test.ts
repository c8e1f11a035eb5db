/** Four hospitals as four real processes, with their own disks, keys and sockets: agreement, kills, clear refusals. */
import '../untraced.ts';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bytesToHex0x, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import { createOpensslSigner } from '../../common/native/sm2-openssl.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';
import { genesisHash } from '../../common/protocol/genesis.ts';
import { enrolmentPossessionHash } from '../../common/protocol/statements.ts';
import type { Enrolment } from '../../common/protocol/transaction.ts';
import { GENESIS_FILE, parseGenesisFile } from '../../config/genesis-file.ts';
import { NODE_CONFIG_FILE } from '../../config/node-config.ts';
import { Devnet, type Hospital } from '../../scripts/devnet/devnet.ts';
import { signCall, type TestTransaction } from '../integration/node-consortium.ts';

const NODE_MAIN = join(import.meta.dirname, '..', '..', 'node', 'main.ts');

type Json = Readonly<Record<string, unknown>>;

/** A JSON-RPC call. @throws with the reason in the message */
async function call(url: string, method: string, params: Json): Promise<Json> {
  const response = await fetch(`${url}/rpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    signal: AbortSignal.timeout(20_000),
  });
  const answer = (await response.json()) as { result?: Json; error?: { message: string; data?: { reason?: string } } };
  if (answer.result === undefined) throw new Error(`${answer.error?.data?.reason}: ${answer.error?.message}`);
  return answer.result;
}

/** Looks again after a moment until the condition holds; a call that fails counts as "not yet". */
async function until(what: string, condition: () => Promise<boolean>, deadlineMs = 60_000): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (!(await condition().catch(() => false))) {
    if (performance.now() > endMs) throw new Error(`${what}: not within ${deadlineMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Some thirty seconds by themselves, most of it starting processes; a machine that is busy gets more. */
t.setTimeout(280_000);

const dir = await mkdtemp(join(tmpdir(), 'emrchain-nodes-'));
const admins: Sm2Signer[] = Array.from({ length: 4 }, () => createOpensslSigner(newPrivateKey()));
await Devnet.prepare(dir);
const devnet = await Devnet.create(
  dir,
  admins.map(({ publicKey }, n) => ({ publicKey, personTag: H('test-person', utf8(`${n}`)) })),
  0,
);
const { hospitals } = devnet;
t.teardown(async () => {
  await devnet.stop();
  await rm(dir, { recursive: true, force: true });
});
const chainId = genesisHash(
  parseGenesisFile(GENESIS_FILE, await readFile(join(hospitals[0]!.dir, GENESIS_FILE), 'utf8')),
);

/** A transaction that always succeeds: the administrator of hospital `index` enrols a patient. */
function enrol(index: number): TestTransaction {
  const patient = createOpensslSigner(newPrivateKey());
  const enrolment: Enrolment = {
    publicKey: patient.publicKey,
    orgId: hospitals[index]!.orgId,
    kind: 'patient',
    personTag: null,
    custodial: false,
  };
  const possession = patient.sign(enrolmentPossessionHash(chainId, enrolment));
  return signCall(chainId, admins[index]!, { kind: 'account.enrol', enrolment, possession, countersignature: null });
}

/** Submits at a hospital's own node and waits for the block. @returns how long that took, in ms */
async function commit(at: Hospital, tx: TestTransaction): Promise<number> {
  const startMs = performance.now();
  const result = await call(at.rpcUrl, 'tx_submit', {
    raw: bytesToHex0x(tx.bytes),
    mode: 'committed',
    timeoutMs: 15_000,
  });
  if (result['status'] !== 'committed') throw new Error(`not committed: ${JSON.stringify(result)}`);
  return performance.now() - startMs;
}

async function heightOf({ rpcUrl }: Hospital): Promise<number> {
  return (await call(rpcUrl, 'chain_getHeight', {}))['height'] as number;
}

/** Waits until all have the highest block that any of them has, and gives what each says of it. */
async function headers(): Promise<readonly Json[]> {
  const height = Math.max(...(await Promise.all(hospitals.map(heightOf))));
  return Promise.all(
    hospitals.map(async (hospital) => {
      await until(`${hospital.orgId} at ${height}`, async () => (await heightOf(hospital)) >= height);
      return call(hospital.rpcUrl, 'chain_getHeader', { height });
    }),
  );
}

async function agree(t: Test): Promise<void> {
  const [first, ...others] = await headers();
  t.match(first, { header: { stateRoot: /^0x[0-9a-f]{64}$/ } });
  for (const other of others) {
    t.same(
      [other['hash'], other['bytes']],
      [first!['hash'], first!['bytes']],
      'the same block, with the same state root',
    );
  }
}

const everywhere = async (t: Test, txs: readonly TestTransaction[]): Promise<void> => {
  for (const { rpcUrl } of hospitals) {
    for (const { hash } of txs) {
      const found = await call(rpcUrl, 'tx_get', { hash: bytesToHex0x(hash) });
      if (found['status'] !== 'committed') t.fail('a transaction was lost');
    }
  }
  t.pass(`${txs.length} transactions are in the chain of every node`);
};

async function startAll(): Promise<void> {
  for (const { orgId } of hospitals) devnet.startNode(orgId);
  await devnet.waitReady(hospitals.map(({ orgId }) => orgId));
}

interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

function start(args: readonly string[], env: NodeJS.ProcessEnv = {}): Started {
  const child = spawn(process.execPath, [NODE_MAIN, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, EMRCHAIN_PASSPHRASE_FILE: devnet.passphraseFile, ...env },
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const timer = setTimeout(() => child.kill('SIGKILL'), 240_000);
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (exitCode, signal) => {
      clearTimeout(timer);
      resolve({ exitCode, signal, stderr });
    });
  });
  return { child, ended };
}

/** Runs a node to its end, which must come by itself. */
const run = (args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ended> => start(args, env).ended;

const kept: TestTransaction[] = [];

await t.test('transactions given to any hospital are in the chain of all', async (t) => {
  await startAll();
  if (process.platform === 'linux') {
    for (const pid of devnet.pids().values()) {
      t.notMatch(await readFile(`/proc/${pid}/environ`, 'utf8'), /@tapjs/, 'a node runs as it does outside of tests');
    }
  }
  const took: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const txs = hospitals.map((_, n) => enrol(n));
    took.push(...(await Promise.all(txs.map((tx, n) => commit(hospitals[n]!, tx)))));
    kept.push(...txs);
  }
  took.sort((a, b) => a - b);
  t.comment(`committed within ${took[took.length >> 1]!.toFixed(0)} ms (median), ${took.at(-1)!.toFixed(0)} ms (most)`);
  await agree(t);
  await everywhere(t, kept);
});

await t.test('kill -9 of one: the others go on, and it comes back to where they are', async (t) => {
  const [, victim] = hospitals as [Hospital, Hospital];
  await devnet.killNode(victim.orgId);
  const meanwhile = [0, 2, 3, 0, 2, 3].map((n) => ({ at: hospitals[n]!, tx: enrol(n) }));
  for (const { at, tx } of meanwhile) await commit(at, tx);
  kept.push(...meanwhile.map(({ tx }) => tx));
  devnet.startNode(victim.orgId);
  await devnet.waitReady([victim.orgId]);
  const tx = enrol(1);
  await commit(victim, tx);
  kept.push(tx);
  await agree(t);
  await everywhere(t, kept);
});

/** A node that nobody else is there for: alive, not ready, and easy to stop. */
async function alone(t: Test, { dir: of, rpcUrl }: Hospital): Promise<void> {
  const startMs = performance.now();
  const { child, ended } = start(['--dir', of]);
  await until('healthy', async () => (await fetch(`${rpcUrl}/healthz`)).ok);
  t.comment(`answers ${(performance.now() - startMs).toFixed(0)} ms after its start`);
  const readiness = await fetch(`${rpcUrl}/readyz`);
  t.equal(readiness.status, 503);
  t.match(await readiness.json(), { ready: false, stalledReason: { code: 'STARTING' } });
  await t.rejects(commit(hospitals[0]!, enrol(0)), { message: /NOT_READY/ }, 'what it does not know it does not judge');
  const metrics = await (await fetch(`${rpcUrl}/metrics`)).text();
  t.match(metrics, /^emrchain_peers_connected 0$/m);
  const stopMs = performance.now();
  child.kill('SIGTERM');
  t.same(await ended, { exitCode: 0, signal: null, stderr: '' });
  t.ok(performance.now() - stopMs < 5_000, 'within five seconds');
}

await t.test('kill -9 of all in the middle of the work: what was committed is there again', async (t) => {
  const underWay = Array.from({ length: 60 }, (_, n) => ({ at: hospitals[n % 4]!, tx: enrol(n % 4) }));
  const acknowledged: TestTransaction[] = [];
  let killed: Promise<unknown> | null = null;
  const submitted = underWay.map(async ({ at, tx }) => {
    try {
      await commit(at, tx);
      acknowledged.push(tx);
      // Some answers are on their way, and some transactions in blocks that nobody has answered for.
      if (acknowledged.length >= 10) killed ??= Promise.all(hospitals.map(({ orgId }) => devnet.killNode(orgId)));
    } catch (error) {
      if (killed === null) throw error;
    }
  });
  await Promise.all(submitted);
  t.not(killed, null);
  t.comment(`${acknowledged.length} of ${underWay.length} were acknowledged before the kill`);
  await t.test('one of them alone', (t) => alone(t, hospitals[0]!));
  await startAll();
  kept.push(...acknowledged);
  await agree(t);
  await everywhere(t, kept);
  const tx = enrol(2);
  await commit(hospitals[2]!, tx);
  kept.push(tx);
  await agree(t);
});

/** Runs hospital a's node with one of its files changed, and puts the file back. */
async function runWith(file: string, change: (text: string) => string): Promise<Ended> {
  const [{ dir: of }] = hospitals as [Hospital];
  const path = join(of, file);
  const text = await readFile(path, 'utf8');
  const changed = change(text);
  if (changed === text) throw new Error('the change changes nothing');
  try {
    await writeFile(path, changed);
    return await run(['--dir', of]);
  } finally {
    await writeFile(path, text);
  }
}

function saysSo(t: Test, { exitCode, stderr }: Ended, code: number, message: RegExp): void {
  t.equal(exitCode, code);
  t.match(stderr, message);
}

/** Sets limits of a running process; part of util-linux. */
const canLimit = spawnSync('prlimit', ['--version']).status === 0;

await t.test(
  'a disk that fails stops its node at once, and costs nothing',
  { skip: canLimit ? false : 'this machine has no prlimit' },
  async (t) => {
    const [, , , victim] = hospitals as [Hospital, Hospital, Hospital, Hospital];
    await devnet.killNode(victim.orgId);
    const { child, ended } = start(['--dir', victim.dir]);
    await until('healthy', async () => (await fetch(`${victim.rpcUrl}/healthz`)).ok);
    // No file of this process may grow beyond this any more: what a full disk does, and nobody else's disk is.
    t.equal(spawnSync('prlimit', ['--pid', `${child.pid}`, '--fsize=4096:4096']).status, 0);
    for (let n = 0; child.exitCode === null && n < 100; n += 1) {
      const tx = enrol(n % 3);
      await commit(hospitals[n % 3]!, tx);
      kept.push(tx);
    }
    const { exitCode, signal, stderr } = await ended;
    t.match(stderr, /^error STORAGE_FAILED: .*Free or mend the disk/);
    t.equal(exitCode ?? signal, 70, 'ended by itself, and at once');
    devnet.startNode(victim.orgId);
    await devnet.waitReady([victim.orgId]);
    await agree(t);
    await everywhere(t, kept);
  },
);

const isUp = ({ rpcUrl }: Hospital): Promise<boolean> =>
  fetch(`${rpcUrl}/healthz`).then(
    () => true,
    () => false,
  );

await t.test('a node that cannot start says why, and starts when that is mended', async (t) => {
  const [a] = hospitals as [Hospital];
  saysSo(t, await run(['--dir', a.dir]), 1, /^error DATA_LOCKED: Another process uses the data in /);
  process.kill(devnet.pids().get(a.orgId)!, 'SIGTERM');
  await until('stopped', async () => !(await isUp(a)));

  saysSo(t, await run([]), 2, /^error USAGE: .*--dir DIR/);
  saysSo(t, await run(['--dir', join(dir, 'nowhere')]), 2, /^error CONFIG_MISSING: .*emrchain init/);
  const badSetting = (text: string): string => text.replace(/port: \d+/, 'port: 99999');
  saysSo(
    t,
    await runWith(NODE_CONFIG_FILE, badSetting),
    2,
    /^error CONFIG_INVALID: .*config\.yaml:\d+:\d+: rpc\.port: must be <= 65535/,
  );
  const badGenesis = (text: string): string => text.replace('role', 'rule').replace(/^network: .*$/m, 'network: ""');
  saysSo(t, await runWith(GENESIS_FILE, badGenesis), 2, /^error CONFIG_INVALID: .*genesis\.yaml:\d+:\d+: network: /);
  const otherChain = (text: string): string => text.replace(/^network: .*$/m, 'network: another');
  saysSo(t, await runWith(GENESIS_FILE, otherChain), 2, /^error DATA_WRONG_CHAIN: .*genesis/);
  const otherKey = (text: string): string => `${text}\nkeys: { validator: keys/custodian.json }\n`;
  saysSo(t, await runWith(NODE_CONFIG_FILE, otherKey), 2, /^error VALIDATOR_KEY_UNKNOWN: /);
  const otherPeer = (text: string): string => `${text}\nkeys: { peer: ../hospital-b/keys/peer.json }\n`;
  saysSo(t, await runWith(NODE_CONFIG_FILE, otherPeer), 2, /^error PEER_ID_MISMATCH: .*hospital-a/);

  const wrong = join(dir, 'wrong-passphrase');
  await writeFile(wrong, 'not the one', { mode: 0o600 });
  saysSo(
    t,
    await run(['--dir', a.dir], { EMRCHAIN_PASSPHRASE_FILE: wrong }),
    2,
    /^error KEYSTORE_UNLOCK_FAILED: .*validator\.json: The passphrase is wrong/,
  );
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(a.rpcPort, '127.0.0.1', resolve));
  saysSo(
    t,
    await run(['--dir', a.dir]),
    1,
    /^error RPC_LISTEN_FAILED: .*another node; stop it, or choose another rpc.port/,
  );
  await new Promise((resolve) => holder.close(resolve));

  devnet.startNode(a.orgId);
  await devnet.waitReady([a.orgId]);
  await agree(t);
  await everywhere(t, kept);
});

/**
 * `emrchain devnet`: brings up a consortium of hospitals on this machine, tells the story on it if asked to, and stays
 * up. The folder is a temporary one and goes away in the end, unless --dir names one to keep.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { EmrError } from '../../common/errors.ts';
import { Actor } from './actor.ts';
import { Devnet } from './devnet.ts';
import { Narrator } from './narrator.ts';
import { tellStory } from './story.ts';

const MAX_HOSPITALS = 7;
/** The story needs three hospitals that go on while one is dead. */
const STORY_HOSPITALS = 4;

interface Options {
  readonly dir: string | undefined;
  readonly hospitals: number;
  readonly rpcPort: number;
  readonly demo: boolean;
  readonly exit: boolean;
}

function wholeNumber(text: string, min: number, max: number, option: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) {
    throw new EmrError('USAGE', `${option} takes a whole number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      dir: { type: 'string' },
      hospitals: { type: 'string', default: '4' },
      'rpc-port': { type: 'string', default: '8545' },
      demo: { type: 'boolean', default: false },
      exit: { type: 'boolean', default: false },
    },
  });
  const hospitals = wholeNumber(values.hospitals, 1, MAX_HOSPITALS, '--hospitals');
  if (values.demo && hospitals < STORY_HOSPITALS) {
    throw new EmrError('USAGE', `--demo needs --hospitals ${STORY_HOSPITALS} or more`);
  }
  if (values.demo && values.dir !== undefined && Devnet.exists(resolve(values.dir))) {
    throw new EmrError(
      'USAGE',
      `${values.dir} holds a network already; --demo makes a new one, so choose another --dir`,
    );
  }
  return {
    dir: values.dir === undefined ? undefined : resolve(values.dir),
    hospitals,
    rpcPort: wholeNumber(values['rpc-port'], 0, 65_000, '--rpc-port'),
    demo: values.demo,
    exit: values.exit,
  };
}

async function openOrCreate(dir: string, options: Options): Promise<{ devnet: Devnet; admins: readonly Actor[] }> {
  if (Devnet.exists(dir)) return { devnet: await Devnet.open(dir), admins: [] };
  await Devnet.prepare(dir);
  const admins = await Promise.all(
    Array.from({ length: options.hospitals }, (_, i) => Actor.newcomer(dir, `admin-${String.fromCharCode(97 + i)}`)),
  );
  const keys = await Promise.all(admins.map((admin) => admin.adminKey()));
  return { devnet: await Devnet.create(dir, keys, options.rpcPort), admins };
}

/** Resolves when the operator asks to stop, or a process of the network ends by itself. */
function untilStopped(): Promise<void> {
  return new Promise((done) => {
    process.once('SIGINT', () => done());
    process.once('SIGTERM', () => done());
  });
}

function printAddresses(devnet: Devnet, narrator: Narrator): void {
  narrator.blank();
  for (const hospital of devnet.hospitals) {
    narrator.line(
      `${hospital.name.padEnd(16)} RPC ${hospital.rpcUrl}/rpc   explorer ${hospital.rpcUrl}/explorer   metrics ${hospital.rpcUrl}/metrics`,
    );
  }
  narrator.line(
    `Everything of this network lies in ${devnet.dir}; the passphrase of all its keys in ${devnet.passphraseFile}.`,
  );
}

async function main(): Promise<void> {
  const options = readOptions();
  const narrator = new Narrator();
  const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'emrchain-')));
  let devnet: Devnet | undefined;
  const stopped = untilStopped();
  try {
    const opened = await openOrCreate(dir, options);
    devnet = opened.devnet;
    narrator.line(`Starting ${devnet.hospitals.length} hospitals, each with a node and a custodian of record keys …`);
    await devnet.start();
    if (options.demo) {
      const told = tellStory(devnet, opened.admins, narrator);
      const outcome = await Promise.race([told.then((held) => ({ held })), stopped.then(() => null)]);
      if (outcome !== null && !outcome.held) process.exitCode = 1;
      if (outcome === null) return;
    }
    if (!options.exit) {
      printAddresses(devnet, narrator);
      narrator.line('Press Ctrl-C to stop.');
      await stopped;
    }
  } finally {
    await devnet?.stop();
    if (options.dir === undefined) await rm(dir, { recursive: true, force: true });
  }
}

main().catch((error: unknown) => {
  const failure = error instanceof EmrError ? error : undefined;
  process.stderr.write(
    `error ${failure?.code ?? 'INTERNAL'}: ${failure?.message ?? String((error as Error).stack ?? error)}\n`,
  );
  process.exitCode = failure?.code === 'USAGE' ? 2 : 1;
});

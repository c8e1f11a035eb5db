/**
 * The custodian process: `node node/custodian/main.ts --dir DIR`. Apart from the node on purpose: whoever breaks into
 * the node has no key of any record. Reads DIR/config.yaml (custodian.socket), DIR/genesis.yaml and
 * DIR/keys/custodian.json, and the sets that the operator confirmed in DIR/custody-confirmed; remembers in
 * DIR/custodian-height and DIR/custody/.
 */
import { readFile } from 'node:fs/promises';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { bytesToHex0x, equalBytes } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import { readConfirmedSets } from '../../common/native/custody-confirmed.ts';
import { openKeystore } from '../../common/native/keystore.ts';
import { choosePassphraseSource, readPassphrase } from '../../common/native/passphrase.ts';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { custodySetHash } from '../../common/protocol/custody.ts';
import { type Genesis, genesisHash } from '../../common/protocol/genesis.ts';
import type { TrustedSet } from '../../common/protocol/light.ts';
import type { OrgId } from '../../common/protocol/primitives.ts';
import { GENESIS_FILE, parseGenesisFile } from '../../config/genesis-file.ts';
import { NODE_CONFIG_FILE, parseNodeConfig } from '../../config/node-config.ts';
import { genesisBlock } from '../execution/genesis-block.ts';
import { Custodian } from './custodian.ts';
import type { SeenHeads } from './judge.ts';
import { openMemory } from './memory.ts';
import { Seal } from '../../common/native/custody-seal.ts';
import { SealedStore } from '../../common/native/custody-store.ts';
import { serveCustodian } from './socket.ts';

/** How long answers under way may take when the process is told to end. */
const STOP_MS = 1_000;

async function main(): Promise<void> {
  const dir = folderOf(process.argv.slice(2));
  const { socket, organisation, genesis } = await readSettings(dir);
  const secret = await openKey(join(dir, 'keys', 'custodian.json'));
  const sm2 = selectSm2Engine();
  if (sm2.fallbackReason !== undefined) {
    log('warn', { code: 'SM2_FALLBACK', reason: sm2.fallbackReason }, 'SM2 not by the fast engine');
  }
  const signer = sm2.createSigner(secret);
  const orgId = organisationOf(genesis, signer.publicKey, organisation);
  const chainId = genesisHash(genesis);
  const trusted = { chainId, fromHeight: 1, validators: genesis.validators };
  const memory = await openMemory(join(dir, 'custodian-height'));
  const founders = foundersOf(genesis);
  const custodian = new Custodian({
    orgId,
    trusted,
    privateKey: secret,
    signer,
    engine: sm2.engine,
    random: sm2.random,
    memory,
    genesis: memory.seenHeight === 0 ? genesisHead(genesis, trusted) : null,
    store: await SealedStore.open(join(dir, 'custody'), new Seal(chainId, secret, sm2.random)),
    confirmedSets: async () => new Set([...(await readConfirmedSets(dir)), ...founders]),
    nowMs: () => Date.now(),
  });
  const server = await serveCustodian(
    socket,
    async (demand) => {
      const answer = await custodian.answer(demand);
      log(
        'info',
        { result: answer.kind, code: answer.kind === 'refused' ? answer.code : undefined },
        'demand answered',
      );
      return answer;
    },
    (error) => {
      // A fault of ours with the key in memory: going on could be worse than stopping.
      log('fatal', { code: codeOf(error), error: error.message }, 'custodian stops');
      process.exit(70);
    },
  );
  log('info', { orgId, socket }, 'custodian ready');
  endOnSignal(server, secret);
}

/** Block 0 has no certificate; whoever has the genesis document can make it, and so knows it. */
function genesisHead(genesis: Genesis, trusted: TrustedSet): SeenHeads['genesis'] {
  const { header, hash, block } = genesisBlock(genesis);
  return { bytes: block.header, head: { header, hash, trusted } };
}

/** The set that the operator confirmed by running this genesis, if all of its validators have custodians. */
function foundersOf({ validators, organisations }: Genesis): readonly string[] {
  const receivers = validators.flatMap(({ orgId }) => {
    const custodianKey = organisations.find((one) => one.orgId === orgId)?.custodianKey ?? null;
    return custodianKey === null ? [] : [{ orgId, custodianKey }];
  });
  return receivers.length < validators.length ? [] : [bytesToHex0x(custodySetHash(receivers))];
}

function folderOf(args: readonly string[]): string {
  const usage = 'usage: node node/custodian/main.ts --dir DIR';
  try {
    const { dir } = parseArgs({ args: [...args], options: { dir: { type: 'string' } } }).values;
    if (dir !== undefined && dir !== '') return dir;
  } catch (cause) {
    throw new EmrError('USAGE', `${(cause as Error).message}; ${usage}`, {}, { cause });
  }
  throw new EmrError('USAGE', usage);
}

interface Settings {
  readonly socket: string;
  readonly organisation: OrgId | null;
  readonly genesis: Genesis;
}

async function readSettings(dir: string): Promise<Settings> {
  const config = parseNodeConfig(NODE_CONFIG_FILE, await readText(join(dir, NODE_CONFIG_FILE)), dir);
  if (config.custodian === null) {
    throw new EmrError(
      'CONFIG_INVALID',
      `${join(dir, NODE_CONFIG_FILE)}: custodian is null; set custodian.socket to run one`,
    );
  }
  const genesis = parseGenesisFile(GENESIS_FILE, await readText(join(dir, GENESIS_FILE)));
  return { socket: config.custodian.socket, organisation: config.organisation, genesis };
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new EmrError(
      'CONFIG_UNREADABLE',
      `cannot read ${path} (${code}); is --dir the folder of a hospital's node?`,
      { path },
      { cause },
    );
  }
}

async function openKey(path: string): Promise<Uint8Array> {
  const passphrase = await readPassphrase(choosePassphraseSource(undefined, process.env), {
    prompt: 'Passphrase of the custodian key',
  });
  try {
    return (await openKeystore(path, passphrase)).secret;
  } finally {
    passphrase.fill(0);
  }
}

/**
 * The organisation that the founders gave this key to, or, where a vote did, the one that the configuration names: records'
 * keys are wrapped for it. A name that is not the key's opens no wrap, and no client takes its answers.
 */
function organisationOf(genesis: Genesis, publicKey: Uint8Array, configured: OrgId | null): OrgId {
  const found = genesis.organisations.find((o) => o.custodianKey !== null && equalBytes(o.custodianKey, publicKey));
  if (found !== undefined) return found.orgId;
  if (configured !== null) return configured;
  throw new EmrError(
    'CUSTODIAN_KEY_UNKNOWN',
    'no organisation of the genesis has this custodian key; is this the right keys/custodian.json? For an organisation that came by vote, config.yaml has organisation: ID.',
  );
}

/** Lets the answers under way leave, then erases the key. */
function endOnSignal(server: Server, secret: Uint8Array): void {
  const end = (): void => {
    secret.fill(0);
    process.exit(0);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      server.close(end);
      setTimeout(end, STOP_MS).unref();
    });
  }
}

const codeOf = (error: unknown): string => (error instanceof EmrError ? error.code : 'INTERNAL');

/** JSON lines. Codes and counts only: never what a demand holds, whose record it is, or a key. */
function log(level: string, fields: Readonly<Record<string, unknown>>, message: string): void {
  process.stdout.write(`${JSON.stringify({ level, time: Date.now(), ...fields, msg: message })}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`error ${codeOf(error)}: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});

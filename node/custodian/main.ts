/**
 * The custodian process: `node node/custodian/main.ts --dir DIR`. Apart from the node on purpose: whoever breaks into
 * the node has no key of any record. Reads DIR/config.yaml (custodian.socket), DIR/genesis.yaml and
 * DIR/keys/custodian.json; remembers in DIR/custodian-height.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { equalBytes, parseUtf8, utf8 } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import { openKeystore } from '../../common/native/keystore.ts';
import { choosePassphraseSource, readPassphrase } from '../../common/native/passphrase.ts';
import { readSecretFile, writeSecretFile } from '../../common/native/secret-file.ts';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { genesisHash } from '../../common/protocol/genesis.ts';
import { GENESIS_FILE, parseGenesisFile } from '../../config/genesis-file.ts';
import { NODE_CONFIG_FILE, parseNodeConfig } from '../../config/node-config.ts';
import { Custodian, type CustodianMemory } from './custodian.ts';
import { serveCustodian } from './socket.ts';

const MAX_MEMORY_BYTES = 32;

async function openMemory(path: string): Promise<CustodianMemory> {
  const found = await readSecretFile(path, MAX_MEMORY_BYTES).catch((error: unknown) => {
    if (error instanceof EmrError && error.code === 'SECRET_FILE_NOT_FOUND') return utf8('0');
    throw error;
  });
  let seenHeight = Number(parseUtf8(found));
  if (!Number.isSafeInteger(seenHeight) || seenHeight < 0) {
    throw new EmrError(
      'CUSTODIAN_MEMORY',
      `${path} does not hold a height; restore it, or write the chain's current height into it`,
    );
  }
  let writing = Promise.resolve();
  return {
    get seenHeight() {
      return seenHeight;
    },
    remember(height) {
      if (height <= seenHeight) return writing;
      seenHeight = height;
      writing = writing.then(() => writeSecretFile(path, utf8(String(height)), true));
      return writing;
    },
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { dir: { type: 'string' } } });
  const dir = values.dir;
  if (dir === undefined) throw new EmrError('USAGE', 'usage: custodian --dir DIR');
  const config = parseNodeConfig(NODE_CONFIG_FILE, await readFile(join(dir, NODE_CONFIG_FILE), 'utf8'), dir);
  if (config.custodian === null) {
    throw new EmrError(
      'CONFIG_INVALID',
      `${join(dir, NODE_CONFIG_FILE)}: custodian is null; set custodian.socket to run one`,
    );
  }
  const genesis = parseGenesisFile(GENESIS_FILE, await readFile(join(dir, GENESIS_FILE), 'utf8'));
  const passphrase = await readPassphrase(choosePassphraseSource(undefined, process.env), {
    prompt: 'Passphrase of the custodian key: ',
  });
  const { secret } = await openKeystore(join(dir, 'keys', 'custodian.json'), passphrase);
  const sm2 = selectSm2Engine();
  if (sm2.fallbackReason !== undefined) log('warn', { reason: sm2.fallbackReason }, 'SM2 by the slow engine');
  const signer = sm2.createSigner(secret);
  const organisation = genesis.organisations.find(
    (o) => o.custodianKey !== null && equalBytes(o.custodianKey, signer.publicKey),
  );
  if (organisation === undefined) {
    throw new EmrError(
      'CUSTODIAN_KEY_UNKNOWN',
      'no organisation of the genesis has this custodian key; is this the right keys/custodian.json?',
    );
  }
  const custodian = new Custodian({
    orgId: organisation.orgId,
    trusted: { chainId: genesisHash(genesis), fromHeight: 1, validators: genesis.validators },
    privateKey: secret,
    signer,
    engine: sm2.engine,
    random: sm2.random,
    memory: await openMemory(join(dir, 'custodian-height')),
    nowMs: () => Date.now(),
  });
  const server = await serveCustodian(
    config.custodian.socket,
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
      log('fatal', { error: error.message }, 'custodian stops');
      process.exit(70);
    },
  );
  log('info', { orgId: organisation.orgId, socket: config.custodian.socket }, 'custodian ready');
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      secret.fill(0);
      server.close(() => process.exit(0));
      setTimeout(() => process.exit(0), 1_000).unref();
    });
  }
}

function log(level: string, fields: Readonly<Record<string, unknown>>, message: string): void {
  process.stdout.write(`${JSON.stringify({ level, time: Date.now(), ...fields, msg: message })}\n`);
}

main().catch((error: unknown) => {
  const failure = error instanceof EmrError ? error : new EmrError('INTERNAL', String(error), {}, { cause: error });
  process.stderr.write(`error ${failure.code}: ${failure.message}\n`);
  process.exit(1);
});

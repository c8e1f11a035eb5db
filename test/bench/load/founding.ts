/**
 * A network of processes that begins with a past: folders as `emrchain init` makes them, a genesis with the benchmark's
 * people, and one database, prepared once and copied for each node.
 */
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Level } from 'level';
import { H } from '../../../common/crypto/hash.ts';
import type { Sm2Signer } from '../../../common/crypto/sm2.ts';
import { openKeystore } from '../../../common/native/keystore.ts';
import { createOpensslSigner } from '../../../common/native/sm2-openssl.ts';
import type { ChainParams } from '../../../common/protocol/chain-params.ts';
import type { Genesis } from '../../../common/protocol/genesis.ts';
import { formatGenesisFile, GENESIS_FILE, parseGenesisFile } from '../../../config/genesis-file.ts';
import { BlobRecords } from '../../../node/replication/blob-records.ts';
import { createBlobIndex } from '../../../node/storage/blob-index.ts';
import { openLevelStore } from '../../../node/storage/level-store.ts';
import { Devnet } from '../../../scripts/devnet/devnet.ts';
import { PreparedChain } from './prepared-chain.ts';
import type { Town } from './town.ts';

/** Nothing but what is measured shall bound the load: one address sends all of it. */
const OPEN_DOORS = 'rpc:\n  requestsPerMinute: 10000000\n';
const QUIET = 'log:\n  level: warn\n';

export interface Founded<T> {
  readonly devnet: Devnet;
  readonly genesis: Genesis;
  /** What `prepare` gave. */
  readonly prepared: T;
}

/**
 * @param dir a folder that is not there yet
 * @param prepare writes the past; the chain is closed after it
 * @param custodians whether the organisations have custodians' keys; no custodian runs in either case
 */
export async function found<T>(
  dir: string,
  town: Town,
  params: Partial<ChainParams>,
  prepare: (chain: PreparedChain, genesis: Genesis) => Promise<T>,
  custodians = false,
): Promise<Founded<T>> {
  await Devnet.prepare(dir);
  const admins = town.orgs.map((orgId, index) => ({
    publicKey: town.admin(index).publicKey,
    personTag: H('bench-admin', new TextEncoder().encode(orgId)),
  }));
  const devnet = await Devnet.create(dir, admins, 0);
  const genesis = await rewriteGenesis(devnet, town, params, custodians);
  for (const { dir: folder } of devnet.hospitals) await rewriteConfig(join(folder, 'config.yaml'));

  const made = join(dir, 'made');
  const kv = await openLevelStore(made);
  const chain = await PreparedChain.open(kv, genesis, await validatorKeys(devnet, genesis));
  const prepared = await prepare(chain, genesis);
  await chain.close();
  // The ciphertext of these records is nowhere: nobody is to look for it.
  await new BlobRecords(createBlobIndex(kv)).commit(chain.executor.head.height, []);
  await kv.close();
  await settle(made);
  for (const { dir: folder } of devnet.hospitals) await cp(made, join(folder, 'data', 'db'), { recursive: true });
  return { devnet, genesis, prepared };
}

/**
 * Puts everything into its level: a database that has grown over months has nothing left to compact, and what this one was
 * filled with in a minute would be compacted while a load is measured.
 */
async function settle(dir: string): Promise<void> {
  const db = new Level<Uint8Array, Uint8Array>(dir, { keyEncoding: 'view', valueEncoding: 'view', compression: false });
  await (db as unknown as Compactable).compactRange(Uint8Array.of(0), Uint8Array.of(0xff));
  await db.close();
}

/** What the types of `level` leave out: in Node it is `classic-level`. */
interface Compactable {
  compactRange(start: Uint8Array, end: Uint8Array): Promise<void>;
}

/** The founders' document with the people of the town. */
async function rewriteGenesis(
  devnet: Devnet,
  town: Town,
  params: Partial<ChainParams>,
  custodians: boolean,
): Promise<Genesis> {
  const files = devnet.hospitals.map(({ dir }) => join(dir, GENESIS_FILE));
  const [first = ''] = files;
  const made = parseGenesisFile(first, await readFile(first, 'utf8'));
  const genesis: Genesis = {
    ...made,
    params: { ...made.params, ...params },
    organisations: custodians
      ? made.organisations
      : made.organisations.map((organisation) => ({ ...organisation, custodianKey: null })),
    accounts: town.accounts(),
  };
  const text = formatGenesisFile(genesis);
  for (const file of files) await writeFile(file, text, { mode: 0o600 });
  return parseGenesisFile(first, text);
}

async function rewriteConfig(file: string): Promise<void> {
  const text = await readFile(file, 'utf8');
  const edited = text.replace('rpc:\n', OPEN_DOORS).replace(/custodian:\n( {2}.*\n)*/u, QUIET);
  await writeFile(file, edited, { mode: 0o600 });
}

/** In the order of the genesis' set. */
async function validatorKeys(devnet: Devnet, genesis: Genesis): Promise<Sm2Signer[]> {
  const signers: Sm2Signer[] = [];
  for (const { orgId } of genesis.validators) {
    const { dir } = devnet.hospital(orgId);
    const passphrase = new Uint8Array(await readFile(devnet.passphraseFile));
    const { secret } = await openKeystore(join(dir, 'keys', 'validator.json'), passphrase);
    signers.push(createOpensslSigner(secret));
  }
  return signers;
}

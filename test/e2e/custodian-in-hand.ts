/**
 * The custodian of a hospital in the hands of whoever broke into it: its keys, its store, and the honest program, to be used
 * as far as that serves. What other programs in its place are made of; each of them speaks the real protocol over the
 * real socket.
 */
import '../untraced.ts';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { equalBytes } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { Seal } from '../../common/native/custody-seal.ts';
import { SealedStore } from '../../common/native/custody-store.ts';
import { openKeystore } from '../../common/native/keystore.ts';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { blockHash, blockHeader } from '../../common/protocol/block.ts';
import { genesisHash } from '../../common/protocol/genesis.ts';
import type { LightProof, VerifiedHeader } from '../../common/protocol/light.ts';
import type { CustodianAnswer, CustodianDemand } from '../../common/protocol/release.ts';
import { parseGenesisFile } from '../../config/genesis-file.ts';
import { parseNodeConfig } from '../../config/node-config.ts';
import { Custodian } from '../../node/custodian/custodian.ts';
import { openMemory } from '../../node/custodian/memory.ts';
import { serveCustodian } from '../../node/custodian/socket.ts';

export async function takeCustodian() {
  const dir = parseArgs({ options: { dir: { type: 'string' } } }).values.dir as string;
  const genesis = parseGenesisFile('genesis.yaml', await readFile(join(dir, 'genesis.yaml'), 'utf8'));
  const config = parseNodeConfig('config.yaml', await readFile(join(dir, 'config.yaml'), 'utf8'), dir);
  const passphrase = new Uint8Array(await readFile(process.env['EMRCHAIN_PASSPHRASE_FILE'] as string));
  const { secret } = await openKeystore(join(dir, 'keys', 'custodian.json'), passphrase);
  const { createSigner, engine, random } = selectSm2Engine();
  const signer = createSigner(secret);
  const chainId = genesisHash(genesis);
  const { orgId } = genesis.organisations.find(
    ({ custodianKey }) => custodianKey !== null && equalBytes(custodianKey, signer.publicKey),
  )!;
  const trusted = { chainId, fromHeight: 1, validators: genesis.validators };
  const store = await SealedStore.open(join(dir, 'custody'), new Seal(chainId, secret, random));
  const honest = new Custodian({
    orgId,
    trusted,
    privateKey: secret,
    signer,
    engine,
    random,
    memory: await openMemory(join(dir, 'custodian-height')),
    genesis: null,
    store,
    confirmedSets: () => Promise.resolve(new Set()),
    nowMs: () => Date.now(),
  });
  return {
    orgId,
    chainId,
    signer,
    random,
    store,
    honest,
    /** The head of a demand as it is shown: who cheats does not care whether it is certified. */
    believed({ head }: LightProof): VerifiedHeader {
      const header = decodeTrusted(blockHeader, head.header, 'block header');
      return { header, hash: blockHash(head.header), trusted };
    },
    /** @param what the program does, for its log */
    async serve(what: string, answer: (demand: CustodianDemand) => Promise<CustodianAnswer>): Promise<void> {
      await serveCustodian(config.custodian!.socket, answer, (error) => {
        throw error;
      });
      process.stdout.write(`a custodian that ${what} is ready\n`);
    },
  };
}

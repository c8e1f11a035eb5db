/**
 * A custodian that was broken into, in the place of the real one: `node lying-custodian.ts --dir DIR`. It judges what it is
 * shown as it should, and answers each grant with a share of another number, signed by its own key.
 */
import '../untraced.ts';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { encodePoint, GENERATOR } from '../../common/crypto/curve.ts';
import { openKeystore } from '../../common/native/keystore.ts';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { custodyShareHash } from '../../common/protocol/custody.ts';
import { genesisHash } from '../../common/protocol/genesis.ts';
import { parseGenesisFile } from '../../config/genesis-file.ts';
import { parseNodeConfig } from '../../config/node-config.ts';
import { Custodian } from '../../node/custodian/custodian.ts';
import { openMemory } from '../../node/custodian/memory.ts';
import { Seal } from '../../common/native/custody-seal.ts';
import { SealedStore } from '../../common/native/custody-store.ts';
import { serveCustodian } from '../../node/custodian/socket.ts';
import { equalBytes } from '../../common/bytes.ts';

const dir = parseArgs({ options: { dir: { type: 'string' } } }).values.dir as string;
const genesis = parseGenesisFile('genesis.yaml', await readFile(join(dir, 'genesis.yaml'), 'utf8'));
const { custodian: where } = parseNodeConfig('config.yaml', await readFile(join(dir, 'config.yaml'), 'utf8'), dir);
const passphrase = new Uint8Array(await readFile(process.env['EMRCHAIN_PASSPHRASE_FILE'] as string));
const { secret } = await openKeystore(join(dir, 'keys', 'custodian.json'), passphrase);
const { createSigner, engine, random } = selectSm2Engine();
const signer = createSigner(secret);
const chainId = genesisHash(genesis);
const { orgId } = genesis.organisations.find(
  (o) => o.custodianKey !== null && equalBytes(o.custodianKey, signer.publicKey),
)!;
const honest = new Custodian({
  orgId,
  trusted: { chainId, fromHeight: 1, validators: genesis.validators },
  privateKey: secret,
  signer,
  engine,
  random,
  memory: await openMemory(join(dir, 'custodian-height')),
  genesis: null,
  store: await SealedStore.open(join(dir, 'custody'), new Seal(chainId, secret, random)),
  confirmedSets: () => Promise.resolve(new Set()),
  nowMs: () => Date.now(),
});
await serveCustodian(
  where!.socket,
  async (demand) => {
    const answer = await honest.answer(demand);
    if (answer.kind !== 'share' || demand.kind !== 'share') return answer;
    const share = Uint8Array.from(answer.share);
    share.set(encodePoint(GENERATOR.multiply(3n)), 35);
    const signature = signer.sign(custodyShareHash(chainId, demand.grantId, orgId, share));
    return { ...answer, share, signature };
  },
  (error) => {
    throw error;
  },
);
process.stdout.write('a custodian that lies is ready\n');

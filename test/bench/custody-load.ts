/**
 * npm run bench -- custody-load: four validators as processes under the full custody mix: of ten transactions, six requests with
 * a proof of possession, three approvals, one record with a capsule. Throughput up to saturation, latency at 10 and 80 % of it.
 *
 *   node test/bench/custody-load.ts [--quick] [--rates N,…]
 */
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { authorizer, Home, meetNode, RpcClient } from '../../client/index.ts';
import { uploadBlob } from '../../client/blob-upload.ts';
import { genesisHash } from '../../common/protocol/genesis.ts';
import type { Devnet } from '../../scripts/devnet/devnet.ts';
import { makeCustodyKey } from './load/custody-key.ts';
import { found } from './load/founding.ts';
import { ciphertext, ciphertextNames, fullCustody, SEALED_POLICY } from './load/full-custody.ts';
import { type Loaded, LoadedNetwork } from './load/loaded-network.ts';
import { latencyTable, sweepTable } from './load/network-tables.ts';
import { prepareOneSignature } from './load/one-signature.ts';
import { say, sweep, told } from './load/sweep.ts';
import { Town } from './load/town.ts';
import { blank } from './load/transactions.ts';

const VALIDATORS = 4;
const SEED = 21;
const PARAMS = { maxOpenRequests: 10_000, replicas: 0 };
const WARM_UP_RATE = 100;

const { values } = parseArgs({ options: { quick: { type: 'boolean' }, rates: { type: 'string' } } });
const sizes =
  values.quick === true
    ? { patients: 2_000, supply: 8_000, stepSeconds: 3, latencySeconds: 4 }
    : { patients: 10_000, supply: 70_000, stepSeconds: 5, latencySeconds: 10 };
const rates = values.rates?.split(',').map(Number) ?? null;

/** Each hospital's node gets the ciphertext that records of that hospital name, as a client would bring it. */
async function storeCiphertext(devnet: Devnet, town: Town, sizeBytes: number): Promise<void> {
  const home = new Home(join(devnet.dir, 'people'));
  for (const [index, { rpcUrl }] of devnet.hospitals.entries()) {
    const node = await meetNode(home, new RpcClient(rpcUrl));
    const rpc = new RpcClient(rpcUrl, { authorize: authorizer(node, town.physician(index)) });
    await uploadBlob(rpc, ciphertext(), sizeBytes);
  }
}

const dir = await mkdtemp(join(tmpdir(), 'emrchain-bench-'));
const town = new Town(VALIDATORS, sizes.patients);
say(`preparing what ${sizes.supply} transactions decide on, and the custody key`);
const { devnet, genesis, prepared } = await found(
  join(dir, 'net'),
  town,
  PARAMS,
  async (chain, document) => {
    const custodyKey = await makeCustodyKey(chain, document);
    // Of what is prepared, six in ten are approvals; of this load, three.
    const decisions = await prepareOneSignature(chain, town, sizes.supply / 2, SEED);
    const origin = { chainId: chain.store.chainId, validUntilMs: chain.timestampMs + 300_000 };
    await chain.commit([blank(origin, town.admin(0), { kind: 'policy.create', document: SEALED_POLICY })]);
    return { custodyKey, decisions };
  },
  true,
);
process.once('exit', () => {
  devnet.killAll();
  rmSync(dir, { recursive: true, force: true });
});
try {
  const chainId = genesisHash(genesis);
  const network = new LoadedNetwork(devnet, chainId);
  await network.start();
  const stored = await ciphertextNames();
  await storeCiphertext(devnet, town, stored.sizeBytes);
  const { custodyKey, decisions } = prepared;
  const calls = fullCustody({ chainId, town, prepared: decisions, custodyKey, stored }, SEED);
  await network.run(calls, WARM_UP_RATE, sizes.stepSeconds);
  const steps = await sweep((rate) => network.run(calls, rate, sizes.stepSeconds), rates);
  const peak = Math.max(...steps.map((step) => step.committedPerSecond));
  const at = async (share: number): Promise<Loaded | null> =>
    told(await network.run(calls, peak * share, sizes.latencySeconds));
  const swept = { validators: VALIDATORS, mix: 'full custody mix', steps, low: await at(0.1), high: await at(0.8) };
  const { height, stateRoot } = await network.agree();
  say(`all ${VALIDATORS} nodes have block ${height} and the state ${stateRoot}`);
  process.stdout.write(JSON.stringify({ rows: [], ratios: [], tables: [sweepTable(swept), latencyTable([swept])] }));
} finally {
  await devnet.stop();
}

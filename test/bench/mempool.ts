/** npm run bench -- mempool: transactions on their way into one node's pool, and out of it into blocks. */
import { join } from 'node:path';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { systemClock } from '../../node/clock.ts';
import { Mempool } from '../../node/mempool/mempool.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { TransactionChecker } from '../../node/verification/transaction-checker.ts';
import { Verifier } from '../../node/verification/verifier.ts';
import { type Case, interleaved } from '../../scripts/bench/measure.ts';
import { oneSignature, type Planned, prepareOneSignature } from './load/one-signature.ts';
import { PreparedChain } from './load/prepared-chain.ts';
import { seated } from './load/seated.ts';
import { Town } from './load/town.ts';
import { signed, type SignedBytes } from './load/transactions.ts';
import { inWorkFolder } from './load/work-folder.ts';

const ROUNDS = 8;
const BATCH = 250;
const PATIENTS = 500;
const PEER = 'a peer';
const LIMITS = { maxTransactions: 50_000, maxBytes: 256 * 1024 * 1024 };

await inWorkFolder(async (dir) => {
  const town = new Town(4, PATIENTS);
  const net = seated(town);
  const kv = await openLevelStore(join(dir, 'db'));
  const chain = await PreparedChain.open(
    kv,
    net.genesis,
    net.hospitals.map(({ validator }) => validator),
  );
  const prepared = await prepareOneSignature(chain, town, BATCH * (ROUNDS + 2) * 4, 1);
  const calls = oneSignature(town, prepared, 1);
  const origin = { chainId: net.chainId, validUntilMs: Date.now() + 300_000 };
  const next = (): SignedBytes[] =>
    Array.from({ length: BATCH }, () => {
      const { by, call } = calls.next().value as Planned;
      return signed(origin, by, call);
    });

  const checker = new TransactionChecker(net.chainId, new Verifier(createWasmEngine()));
  const pool = (): Mempool =>
    new Mempool({
      clock: systemClock,
      limits: LIMITS,
      checker,
      simulate: (tx, nowMs) => chain.executor.simulate(tx, nowMs),
      checkEnvelope: (tx, nowMs) => chain.executor.checkEnvelope(tx, nowMs),
      locate: (hash) => chain.store.locateTx(hash),
      spread: () => {},
    });
  let mempool = pool();
  let batch: SignedBytes[] = [];
  const admit = async (txs: readonly SignedBytes[], from: string | null): Promise<void> => {
    const verdicts = await mempool.admit(txs, from);
    const refused = verdicts.find((verdict) => !verdict.ok);
    if (refused !== undefined && !refused.ok && refused.code !== 'ALREADY_PENDING') throw new Error(refused.code);
  };
  const admitting = (name: string, from: string | null, prepare: () => void | Promise<void>): Case => ({
    name,
    operations: BATCH,
    prepare,
    run: () => admit(batch, from),
  });
  const fresh = (): void => {
    mempool = pool();
    batch = next();
  };
  const { rows } = await interleaved(
    [
      admitting("a client's, never seen", null, fresh),
      admitting("a peer's, never seen", PEER, fresh),
      admitting('its signature verified before', PEER, async () => {
        fresh();
        await checker.checkMany(batch, 'pool');
      }),
      admitting('waiting in the pool already', PEER, async () => {
        fresh();
        await admit(batch, PEER);
      }),
      {
        name: `chosen for a block, of ${BATCH} that wait`,
        operations: BATCH,
        prepare: async () => {
          await admit(batch, PEER);
        },
        run: () => void mempool.candidates(BATCH, LIMITS.maxBytes),
      },
    ],
    ROUNDS,
  );
  await kv.close();
  process.stdout.write(JSON.stringify({ rows, ratios: [] }));
});

/** Verification in slices and on other threads: the same verdicts, whoever gives them, and nothing lost when a thread is. */
import t, { type Test } from 'tap';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import type { Sm2Engine, Sm2Verification } from '../../common/crypto/sm2.ts';
import { createOpensslSigner } from '../../common/native/sm2-openssl.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';
import { BATCH_BYTES, MAX_BATCH_ITEMS, readItems, writeItems } from '../../node/verification/shared-batch.ts';
import { PRIORITIES, type Priority, Verifier, type VerifierOptions } from '../../node/verification/verifier.ts';
import { VerificationWorkers } from '../../node/verification/workers.ts';
import { Prng } from '../sim/prng.ts';

const prng = new Prng(41);
const signers = Array.from({ length: 20 }, () => createOpensslSigner(newPrivateKey()));

/** A signature that is good, or has one of its parts changed or too short. */
function item(messageBytes = prng.between(1, 600)): Sm2Verification {
  const signer = prng.pick(signers);
  const message = Uint8Array.from({ length: messageBytes }, () => prng.between(0, 255));
  const whole = { publicKey: signer.publicKey, message, signature: signer.sign(message) };
  if (prng.chance(700)) return whole;
  const part = prng.pick(['publicKey', 'message', 'signature'] as const);
  if (prng.chance(200)) return { ...whole, [part]: whole[part].slice(1) };
  const changed = whole[part].slice();
  const at = prng.between(0, changed.length - 1);
  changed[at] = (changed[at] as number) ^ 1;
  return { ...whole, [part]: changed };
}

const engine = createWasmEngine();

function verifierOf(t: Test, options: VerifierOptions, by: Sm2Engine = engine): Verifier {
  const verifier = new Verifier(by, options);
  t.teardown(() => verifier.stop());
  return verifier;
}

/** Until so many of the signatures of batch after batch were verified by other threads. */
async function untilWorkersHelp(verifier: Verifier, least: number, check: (items: Sm2Verification[]) => Promise<void>) {
  for (let rounds = 0; verifier.counts().byWorkers < least; rounds += 1) {
    if (rounds === 400) throw new Error('no thread has ever taken a batch');
    await check(Array.from({ length: 150 }, () => item()));
  }
}

t.test('a batch in shared memory is read as it was written, as far as there is room', async (t) => {
  const memory = new Uint8Array(new SharedArrayBuffer(BATCH_BYTES));
  const items = Array.from({ length: 100 }, () => item()).filter(
    ({ publicKey, signature }) => publicKey.length === 64 && signature.length === 64,
  );
  t.equal(writeItems(memory, items), MAX_BATCH_ITEMS, 'no more than there are places for verdicts');
  t.same(
    readItems(memory, MAX_BATCH_ITEMS).map((each) => Object.values(each).map((bytes) => [...bytes])),
    items
      .slice(0, MAX_BATCH_ITEMS)
      .map(({ publicKey, signature, message }) => [[...publicKey], [...signature], [...message]]),
  );
  const large = Array.from({ length: 20 }, () => ({
    ...(items[0] as Sm2Verification),
    message: new Uint8Array(16_000),
  }));
  t.equal(writeItems(memory, large), 8, 'what does not fit stays');
  t.equal(writeItems(memory, [{ ...(items[0] as Sm2Verification), message: new Uint8Array(BATCH_BYTES) }]), 0);
  t.equal(writeItems(memory, [{ ...(items[0] as Sm2Verification), signature: new Uint8Array(63) }]), 0);
  t.equal(writeItems(memory, []), 0);
  const [first] = items;
  writeItems(memory, [first as Sm2Verification]);
  memory.fill(0xff, MAX_BATCH_ITEMS, MAX_BATCH_ITEMS + 4);
  t.throws(() => readItems(memory, 1), /not whole/);
});

for (const workers of [0, 1, 2]) {
  t.test(`verdicts with ${workers} other threads are those of the engine`, async (t) => {
    const verifier = verifierOf(t, { workers });
    const reference = createWasmEngine();
    const run = async (): Promise<void> => {
      const jobs = Array.from({ length: 40 }, () => Array.from({ length: prng.between(0, 30) }, () => item()));
      const under = jobs.map((items) => ({ items, work: verifier.verify(items, prng.pick<Priority>(PRIORITIES)) }));
      for (const { work } of under) if (prng.chance(300)) work.promote(prng.pick<Priority>(PRIORITIES));
      for (const { items, work } of under) t.same(await work.results, reference.verifyBatch(items));
    };
    if (workers === 0) await run();
    else await untilWorkersHelp(verifier, 500, async () => run());
    t.equal(verifier.counts().waiting, 0);
    if (workers === 0) t.equal(verifier.counts().byWorkers, 0);
  });
}

t.test('a few signatures start no thread, and votes never go to one', async (t) => {
  const verifier = verifierOf(t, { workers: 2 });
  for (let round = 0; round < 20; round += 1) await verifier.verify([item(), item(), item()], 'pool').results;
  const votes = Array.from({ length: 300 }, () => item());
  t.same(await verifier.verify(votes, 'consensus').results, engine.verifyBatch(votes));
  t.equal(verifier.counts().byWorkers, 0);
});

t.test('what a thread had when it was ended is verified here', async (t) => {
  const verifier = verifierOf(t, { workers: 1 });
  const check = async (items: Sm2Verification[]): Promise<void> =>
    void t.same(await verifier.verify(items, 'pool').results, engine.verifyBatch(items));
  await untilWorkersHelp(verifier, 100, check);
  const items = Array.from({ length: 500 }, () => item());
  const { results } = verifier.verify(items, 'pool');
  // The first batch is handed over in the next turn.
  await new Promise((resolve) => setImmediate(resolve));
  await verifier.stop();
  t.same(await results, engine.verifyBatch(items));
  await check(items);
});

t.test('a thread that would verify by another engine is not used', async (t) => {
  const reasons: string[] = [];
  const { promise: failed, resolve } = Promise.withResolvers<void>();
  const workers = new VerificationWorkers({
    engine: 'another',
    count: 1,
    changed: () => resolve(),
    failed: (reason) => reasons.push(reason),
  });
  t.teardown(() => workers.stop());
  workers.start();
  await failed;
  t.match(reasons, [/it verifies by wasm, and the node by another/]);
  t.equal(workers.isThere, false);
  t.equal(
    workers.take([item()], () => t.fail('nothing was taken')),
    0,
  );
});

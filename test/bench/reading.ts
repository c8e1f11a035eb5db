/**
 * From the deciding approval to the plaintext of a record of 1 MB: four nodes and their custodians as eight processes on
 * loopback, approver and reader in this one. Each round is another request; the reader's client trusts nothing that it
 * does not verify, and writes the file. Prints its report as JSON, for `npm run bench -- reading`.
 */

import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fetchRecord, findGrant, grantedKey, provenRecord } from '../../client/record-get.ts';
import { subjectOf } from '../../client/record-offer.ts';
import { awaitReplicas } from '../../client/record-add.ts';
import { Consortium, type Stage } from '../e2e/consortium.ts';
import { type Report, type Row, type Sample, spread } from '../../scripts/bench/measure.ts';

const RECORD_BYTES = 1024 * 1024;
const ROUNDS = 30;
/** The first rounds meet processes whose code is not optimised yet. */
const WARM_UP = 10;
const DEADLINE_MS = 600_000;

const WHOLE = 'approval to plaintext (150,000 wanted, wall)';
const PARTS = ['approval, until it is committed', "the record's key", 'ciphertext, decrypted and verified'] as const;

class Stopwatch {
  readonly #samples = new Map<string, Sample[]>();

  note(name: string, fromMs: number, cpu: NodeJS.CpuUsage): void {
    const { user, system } = process.cpuUsage(cpu);
    const samples = this.#samples.get(name) ?? [];
    samples.push({ cpuUs: user + system, wallUs: (performance.now() - fromMs) * 1000 });
    this.#samples.set(name, samples);
  }

  async time<T>(name: string, run: () => Promise<T>): Promise<T> {
    const [fromMs, cpu] = [performance.now(), process.cpuUsage()];
    const result = await run();
    this.note(name, fromMs, cpu);
    return result;
  }

  rows(): Row[] {
    return [...this.#samples].map(([name, all]) => {
      const samples = all.slice(WARM_UP);
      return {
        name,
        cpuUs: spread(samples.map(({ cpuUs }) => cpuUs)),
        wallUs: spread(samples.map(({ wallUs }) => wallUs)),
        rounds: samples.length,
        operations: 1,
      };
    });
  }
}

async function measured(stage: Stage): Promise<Report> {
  const consortium = await Consortium.open(stage, async () => {}, DEADLINE_MS);
  const [chen, mei, wang, policy] = await Promise.all([
    consortium.staff('chen', 0, ['physician']),
    consortium.patient('mei', 0),
    consortium.staff('wang', 1, ['physician']),
    consortium.policy({ kind: 'owner' }),
  ]);
  const { dir } = consortium.devnet;
  const original = randomBytes(RECORD_BYTES);
  await writeFile(join(dir, 'scan.bin'), original);
  const { offer, call } = await consortium.offer(chen, mei, join(dir, 'scan.bin'), policy);
  await chen.do(call, offer.sidecar);
  await awaitReplicas(chen.view, offer);
  const { recordId } = subjectOf(offer);
  const watch = new Stopwatch();
  for (let round = 0; round < WARM_UP + ROUNDS; round += 1) {
    const request = await wang.ask(recordId);
    await mei.caughtUp();
    const out = join(dir, `read-${round}.bin`);
    await watch.time(WHOLE, async () => {
      await watch.time(PARTS[0], () => mei.decide(request));
      const { proven, key } = await watch.time(PARTS[1], async () => {
        await wang.caughtUp();
        const own = await findGrant(wang.view, wang.home, wang.account, recordId, { hash: request, nowMs: Date.now() });
        const record = await provenRecord(wang.view, recordId);
        return { proven: record, key: (await grantedKey(wang.view, wang.key, own, record)).key };
      });
      await watch.time(PARTS[2], () => fetchRecord(wang.view, wang.home, proven, key, out));
    });
    if (!original.equals(await readFile(out))) throw new Error('what was read is not what was written');
  }
  return { rows: watch.rows(), ratios: [] };
}

const endings: (() => unknown)[] = [];
try {
  const report = await measured({ setTimeout: () => {}, teardown: (end) => void endings.push(end) });
  process.stdout.write(JSON.stringify(report));
} finally {
  for (const end of endings.toReversed()) await end();
}

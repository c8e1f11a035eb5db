/** A thread that verifies signatures, started by workers.ts: told how many lie in the shared memory, it answers with as many verdicts there. */
import { parentPort, workerData } from 'node:worker_threads';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { readItems, writeVerdicts } from './shared-batch.ts';
import type { FromWorker } from './workers.ts';

const memory = new Uint8Array(workerData as SharedArrayBuffer);
const { engine } = selectSm2Engine();
const tell = (message: FromWorker): void => parentPort?.postMessage(message);

parentPort?.on('message', (count: number) => {
  writeVerdicts(memory, engine.verifyBatch(readItems(memory, count)));
  tell({ kind: 'verified', count });
});
tell({ kind: 'ready', engine: engine.name });

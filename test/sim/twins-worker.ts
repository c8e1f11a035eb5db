/** A thread that runs a plan of twins, of the core with patches. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Patch, registerPatches } from '../../scripts/patching.ts';
import type { TwinsPlan } from './twins.ts';

const { patches, plan } = workerData as { readonly patches: readonly Patch[]; readonly plan: TwinsPlan };
if (patches.length > 0) registerPatches(patches);
const { runTwins } = await import('./twins.ts');
parentPort?.postMessage(runTwins(plan));

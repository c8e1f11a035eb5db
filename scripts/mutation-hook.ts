/** Loaded before a test by `node --import`: puts the patches in that scripts/mutate.ts names in the environment. */
import process from 'node:process';
import { type Patch, registerPatches } from './patching.ts';

registerPatches(JSON.parse(process.env['EMRCHAIN_MUTATION'] ?? '[]') as readonly Patch[]);

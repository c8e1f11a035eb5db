/**
 * Hospitals run as they do outside of tests. tap hooks every process that a test starts, and those below it: a thread more in
 * each node, which every import passes, a start that takes twice as long, 60 MB, and handlers of signals that a node has
 * none for. Import this before starting any.
 */
import { createRequire } from 'node:module';

interface Spawned {
  env: NodeJS.ProcessEnv;
}

/** tap adds its hooks through this package, to whatever environment a test gives; ours comes last, and takes them out. */
const require = createRequire(import.meta.url);
const { addListener } = require('process-on-spawn') as {
  addListener: (listener: (spawned: Spawned) => void) => void;
};

addListener((spawned) => {
  const { NODE_OPTIONS: options, ...others } = spawned.env;
  spawned.env = options?.includes('@tapjs/') === true ? others : spawned.env;
});

/**
 * Where the node's process starts: `node node/main.ts --dir DIR`. DIR holds config.yaml, genesis.yaml and keys/, as
 * `emrchain init` makes it. Logs go to standard output as JSON lines; why it could not start, or stopped by itself, goes to
 * standard error as well. docs/operations.md explains exit codes.
 *
 * Nothing here but what must come before the first of our modules is loaded.
 */
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

// Beside the installation, not in the shared folder for temporary files: whoever writes the cache writes our code.
enableCompileCache(join(import.meta.dirname, '..', 'node_modules', '.cache', 'emrchain'));
// Keys, ciphertext and the database are this user's alone.
process.umask(0o077);

const { runProcess } = await import('./process/lifecycle.ts');
await runProcess(process.argv.slice(2));

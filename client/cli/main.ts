/**
 * Where the command `emrchain` starts. Nothing here but the cache of compiled modules, which must be on before the first
 * of ours is loaded, and the process's streams and exit code.
 */
import { enableCompileCache } from 'node:module';
import { join } from 'node:path';

// Beside the installation, not in the shared folder for temporary files: whoever writes the cache writes our code.
enableCompileCache(join(import.meta.dirname, '..', '..', 'node_modules', '.cache', 'emrchain'));

// A reader that goes away (| head) is no failure of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

const { main } = await import('./command-line.ts');
const code = await main(process.argv.slice(2), { environment: process.env });
// A command that is a program of its own has set the code that it ended with.
if (code !== 0) process.exitCode = code;

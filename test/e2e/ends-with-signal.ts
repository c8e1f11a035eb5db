/** Import this where processes are started: they are ended on 'exit'. */
import { constants } from 'node:os';

// What ends by a signal emits no 'exit', and leaves processes behind.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]));
}

/**
 * A node whose clock a scenario sets: the file `clock-offset-ms` in its folder says by how much it is off. What stands for
 * a hospital's clock that drifts, or that somebody sets, is changed outside of the product: `Date` of this process.
 * Timers are not touched, as they are not by a clock that is set.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const { dir } = parseArgs({ options: { dir: { type: 'string' } } }).values;
const file = join(dir ?? '.', 'clock-offset-ms');
const LOOK_MS = 100;
let offsetMs = 0;

function look(): void {
  try {
    offsetMs = Number(readFileSync(file, 'utf8'));
  } catch {
    // No file: a clock that is right.
  }
}

const trueNow = Date.now;
Date.now = () => trueNow() + offsetMs;
look();
setInterval(look, LOOK_MS).unref();
await import('../../../node/main.ts');

// How `npm test` prints: a line for each test file, every skipped test with its reason, every failed assertion with its
// diagnostics, and the sums. Plain text without cursor movements, the same on a terminal and in a log. Raw TAP: --reporter=tap

import { Transform } from 'node:stream';

const POINT = /^( *)(not ok|ok) \d+ - (.*)$/;
const SKIP = /^(.*?) # SKIP ?(.*)$/i;
const TIME = / # time=([\d.]+)ms$/;

/** tap calls `new TapReporter()`, writes TAP to it and shows what comes out. */
export default class TapReporter extends Transform {
  #rest = '';
  /** The lines of the test file that is being read: tap buffers a file until it ends. */
  #file = [];

  constructor() {
    super({ decodeStrings: false, encoding: 'utf8' });
  }

  _transform(chunk, _encoding, done) {
    const lines = (this.#rest + String(chunk)).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
    done();
  }

  _flush(done) {
    if (this.#rest !== '') this.#line(this.#rest);
    this.#show();
    done();
  }

  #line(line) {
    if (line.startsWith('# {')) {
      const sum = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(line)?.[1] ?? 0);
      this.#show();
      this.push(`\n${sum('pass')} passed, ${sum('fail')} failed, ${sum('skip')} skipped\n`);
    } else if (line.startsWith('Bail out!')) {
      this.#show();
      this.push(`${line}\n`);
    } else {
      if (line.startsWith('# Subtest: ')) this.#show();
      this.#file.push(line);
    }
  }

  /** Prints what is known of the file that ended. */
  #show() {
    const lines = this.#file;
    this.#file = [];
    const verdict = lines.findLast((line) => /^(not )?ok /.test(line));
    if (verdict === undefined) return;
    const [, , word, title] = POINT.exec(verdict) ?? ['', '', verdict, ''];
    const seconds = Number(TIME.exec(title)?.[1] ?? 0) / 1000;
    // A point with a time is a group or a file; only points without one are assertions.
    const assertions = lines.filter((line) => /^ +(not )?ok /.test(line) && !TIME.test(line));
    const failed = assertions.some((line) => line.trimStart().startsWith('not ok'));
    const name = title.replace(TIME, '').replace(SKIP, '$1');
    this.push(
      `${word === 'ok' ? 'ok    ' : 'FAILED'} ${name} (${assertions.length} assertions, ${seconds.toFixed(1)} s)\n`,
    );
    for (const [at, line] of lines.entries()) {
      this.#skip(line);
      // What a group says when it fails repeats its assertions; alone it is all there is (a crash, a time-out).
      if (!failed || !TIME.test(line)) this.#failure(line, lines.slice(at + 1));
    }
  }

  #skip(line) {
    const skipped = SKIP.exec(POINT.exec(line)?.[3] ?? '');
    if (skipped !== null) this.push(`       skipped: ${skipped[1]} (${skipped[2]})\n`);
  }

  #failure(line, following) {
    const [, , word, title] = POINT.exec(line) ?? [];
    if (word !== 'not ok') return;
    this.push(`       not ok: ${title.replace(TIME, '')}\n`);
    if (following[0]?.trim() !== '---') return;
    const end = following.findIndex((next) => next.trim() === '...');
    for (const next of following.slice(1, end)) this.push(`       ${next}\n`);
  }
}

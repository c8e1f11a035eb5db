/**
 * What a command prints: results on stdout, in words or as one JSON value; progress, notes and errors on stderr.
 * Everything that may come from outside goes through `clean` on its way to a terminal.
 */
import { describeFailure } from '../errors.ts';
import { cleanLines } from '../text.ts';

export interface Streams {
  readonly out: NodeJS.WritableStream;
  readonly err: NodeJS.WritableStream;
}

/** What a command has found out: for programs, and the same for people. */
export interface Result {
  readonly json: unknown;
  readonly text: readonly string[];
}

export class Output {
  readonly json: boolean;
  readonly #streams: Streams;

  constructor(json: boolean, streams: Streams = { out: process.stdout, err: process.stderr }) {
    this.json = json;
    this.#streams = streams;
  }

  result({ json, text }: Result): void {
    this.#streams.out.write(
      this.json ? `${JSON.stringify(json)}\n` : text.map((line) => `${cleanLines(line)}\n`).join(''),
    );
  }

  /** A line for people while a command runs; silent with --json, so that stderr then holds errors alone. */
  note(line: string): void {
    if (!this.json) this.#streams.err.write(`${cleanLines(line)}\n`);
  }

  /** Whether a line may be written over: only at a terminal. */
  get live(): boolean {
    return !this.json && (this.#streams.err as NodeJS.WriteStream).isTTY === true;
  }

  /** Progress on one line of a terminal; nothing anywhere else. */
  progress(line: string): void {
    if (this.live) this.#streams.err.write(`\r\u001b[2K${cleanLines(line)}`);
  }

  /** Ends a line of progress. */
  progressDone(): void {
    if (this.live) this.#streams.err.write('\r\u001b[2K');
  }

  error(error: unknown): void {
    const failure = describeFailure(error);
    this.progressDone();
    this.#streams.err.write(
      this.json
        ? `${JSON.stringify({ error: failure })}\n`
        : `error ${failure.code}: ${cleanLines(failure.message)}\nwhat to do: ${cleanLines(failure.remedy)}\n`,
    );
  }
}

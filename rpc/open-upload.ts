/**
 * One upload that may take several requests: the store reads one stream, which waits where the body of a request broke
 * off and goes on with that of the next. Who may, and what HTTP says, is decided in uploads.ts.
 */
import type { Readable } from 'node:stream';
import type { Verdict } from '../common/errors.ts';
import type { StoredBlob } from './ports.ts';

/** The body of a request, until the stream has left it. */
interface Part {
  readonly body: Readable;
  readonly left: PromiseWithResolvers<void>;
}

export class OpenUpload {
  readonly lengthBytes: number;
  /** What the store makes of the whole; BLOB_ABORTED when it was given up before. Rejects for a fault of the store. */
  readonly stored: Promise<Verdict<StoredBlob>>;
  /** Resolves when `stored` is settled. */
  readonly settled: Promise<void>;
  /** Aborts when no byte is taken any more. */
  readonly #over = new AbortController();
  readonly #idle: NodeJS.Timeout;
  readonly #asked = Promise.withResolvers<null>();
  #next = Promise.withResolvers<Part>();
  /** That bytes are taken from now. */
  #part: Part | null = null;
  #receivedBytes = 0;
  #isSettled = false;
  #isGivenUp = false;

  /**
   * @param lengthBytes of the whole
   * @param idleMs without a byte for so long, the upload ends
   * @param put stores the stream, and undoes that when the signal aborts
   */
  constructor(
    lengthBytes: number,
    idleMs: number,
    put: (source: AsyncIterable<Uint8Array>, signal: AbortSignal) => Promise<Verdict<StoredBlob>>,
  ) {
    this.lengthBytes = lengthBytes;
    this.#idle = setTimeout(() => this.giveUp(), idleMs);
    this.stored = put(this.#bytes(), this.#over.signal);
    const settle = (): void => {
      this.#isSettled = true;
      this.#close();
    };
    this.settled = this.stored.then(settle, settle);
  }

  /** Bytes that have come: where the next request goes on. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get isSettled(): boolean {
    return this.#isSettled;
  }

  get isGivenUp(): boolean {
    return this.#isGivenUp;
  }

  /** @returns null once the store takes bytes, or the verdict that it gave without any */
  begun(): Promise<Verdict<StoredBlob> | null> {
    return Promise.race([this.#asked.promise, this.stored]);
  }

  /**
   * Ends the request that brings bytes now, and waits until none of it is taken any more: a client that comes anew has
   * lost that one, though it may look alive here for a while.
   */
  async interrupt(): Promise<void> {
    while (this.#part !== null) {
      const { body, left } = this.#part;
      body.destroy();
      await Promise.race([left.promise, this.settled]);
    }
  }

  /**
   * Takes the body of a request that goes on at `receivedBytes` and is no longer than what is missing. Only right after
   * `interrupt`, without a wait between.
   * @returns when nothing more is taken of it: its end, a broken connection, a newer request, the end of the upload
   */
  async append(body: Readable): Promise<void> {
    if (this.#over.signal.aborted || this.#receivedBytes === this.lengthBytes) return;
    const part = { body, left: Promise.withResolvers<void>() };
    this.#part = part;
    this.#next.resolve(part);
    await Promise.race([part.left.promise, this.settled]);
  }

  /** Ends the upload: nothing of it is kept, unless the store had all of it and is done. */
  giveUp(): void {
    this.#isGivenUp = true;
    this.#close();
  }

  #close(): void {
    clearTimeout(this.#idle);
    this.#over.abort();
    this.#part?.body.destroy();
    this.#part = null;
    this.#next.promise.catch(() => undefined);
    this.#next.reject(new Error('the upload has ended'));
  }

  async *#bytes(): AsyncGenerator<Uint8Array> {
    this.#asked.resolve(null);
    while (this.#receivedBytes < this.lengthBytes) {
      const { body, left } = await this.#next.promise;
      this.#next = Promise.withResolvers();
      try {
        for await (const chunk of body as AsyncIterable<Uint8Array>) {
          if (this.#over.signal.aborted) return;
          this.#receivedBytes += chunk.length;
          if (this.#receivedBytes < this.lengthBytes) this.#idle.refresh();
          else clearTimeout(this.#idle);
          yield chunk;
        }
      } catch {
        // It broke off: what came counts, and the next request brings the rest.
      } finally {
        this.#part = null;
        left.resolve();
      }
      if (this.#over.signal.aborted) return;
    }
  }
}

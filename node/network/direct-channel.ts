/**
 * One peer's long-lived outbound stream for consensus messages: ordered, unacknowledged, reopened when it breaks.
 *
 * The queue holds what the peer cannot take at the moment; when it is full the oldest goes, since a newer vote is
 * worth more than an older one and the core retransmits what still matters.
 */
import type { Connection, Stream } from '@libp2p/interface';
import { frames } from './frames.ts';

export const DIRECT_PROTOCOL = '/emrchain/direct/1';

/** A burst of votes for each of the 31 validators, several heights deep. */
const MAX_QUEUED_MESSAGES = 4096;
/** Four of the largest proposals. */
const MAX_QUEUED_BYTES = 24 * 1024 * 1024;
/** Messages that are sent in one go; a larger one goes by itself. */
const TOGETHER_BYTES = 64 * 1024;
/** A peer that does not answer the protocol negotiation for this long is tried again. */
const OPEN_TIMEOUT_MS = 5_000;
/** Between two attempts: a peer that refuses the protocol must not cost an attempt for each message. */
const REOPEN_MS = 250;
/** How long a stream that was replaced may take to deliver what it has already been given. */
const CLOSE_TIMEOUT_MS = 2_000;

export interface DirectChannelEvents {
  dropped(messages: number, bytes: number): void;
  sent(bytes: number): void;
}

export class DirectChannel {
  #connection: Connection | null = null;
  #stream: Stream | null = null;
  #opening = false;
  #reopenTimer: NodeJS.Timeout | null = null;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #flushing = false;
  readonly #events: DirectChannelEvents;

  constructor(events: DirectChannelEvents) {
    this.#events = events;
  }

  /** Uses this connection from now on; null when the peer is away. */
  setConnection(connection: Connection | null): void {
    if (connection === this.#connection) return;
    this.#connection = connection;
    const before = this.#stream;
    this.#stream = null;
    if (connection === null) {
      before?.abort(new Error('the peer is away'));
      this.#clear();
    } else {
      // Two connections at a time are normal while both sides dial: what the first was given still arrives.
      before?.close({ signal: AbortSignal.timeout(CLOSE_TIMEOUT_MS) }).catch((error: Error) => before.abort(error));
      this.#forgetReopening();
      this.#openIfNeeded();
    }
  }

  send(payload: Uint8Array): void {
    if (this.#connection === null) {
      this.#events.dropped(1, payload.length);
      return;
    }
    this.#queue.push(payload);
    this.#queuedBytes += payload.length;
    while (this.#queue.length > MAX_QUEUED_MESSAGES || this.#queuedBytes > MAX_QUEUED_BYTES) {
      const oldest = this.#queue.shift();
      if (oldest === undefined) break;
      this.#queuedBytes -= oldest.length;
      this.#events.dropped(1, oldest.length);
    }
    if (this.#stream === null) this.#openIfNeeded();
    else this.#flushSoon();
  }

  /** What one step of consensus says leaves together: each message by itself costs both sides some 50 µs. */
  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (this.#stream !== null) this.#flush(this.#stream);
    });
  }

  close(): void {
    this.setConnection(null);
    this.#forgetReopening();
  }

  #forgetReopening(): void {
    if (this.#reopenTimer !== null) clearTimeout(this.#reopenTimer);
    this.#reopenTimer = null;
  }

  #openIfNeeded(): void {
    const idle = this.#stream === null && !this.#opening && this.#reopenTimer === null;
    if (idle && this.#connection !== null && this.#queue.length > 0) void this.#open(this.#connection);
  }

  #clear(): void {
    if (this.#queue.length > 0) this.#events.dropped(this.#queue.length, this.#queuedBytes);
    this.#queue = [];
    this.#queuedBytes = 0;
  }

  async #open(connection: Connection): Promise<void> {
    this.#opening = true;
    try {
      const stream = await connection.newStream(DIRECT_PROTOCOL, { signal: AbortSignal.timeout(OPEN_TIMEOUT_MS) });
      this.#opening = false;
      if (connection !== this.#connection) {
        stream.abort(new Error('the connection changed'));
        this.#openIfNeeded();
        return;
      }
      this.#use(stream);
    } catch {
      // The peer went away or does not speak the protocol yet.
      this.#opening = false;
      this.#openLater();
    }
  }

  #use(stream: Stream): void {
    this.#stream = stream;
    stream.addEventListener('drain', () => this.#flush(stream));
    stream.addEventListener('close', () => {
      if (this.#stream !== stream) return;
      this.#stream = null;
      this.#openLater();
    });
    this.#flush(stream);
  }

  #openLater(): void {
    this.#reopenTimer ??= setTimeout(() => {
      this.#reopenTimer = null;
      this.#openIfNeeded();
    }, REOPEN_MS).unref();
  }

  /** At least one. */
  #takeSome(): Uint8Array[] {
    let bytes = 0;
    const further = this.#queue.findIndex(({ length }) => (bytes += length) > TOGETHER_BYTES);
    const taken = this.#queue.splice(0, further === -1 ? this.#queue.length : Math.max(1, further));
    for (const { length } of taken) this.#queuedBytes -= length;
    return taken;
  }

  #flush(stream: Stream): void {
    if (stream !== this.#stream) return;
    try {
      while (this.#queue.length > 0 && !stream.writableNeedsDrain) {
        const payloads = this.#takeSome();
        stream.send(frames(payloads));
        for (const { length } of payloads) this.#events.sent(length);
      }
    } catch (error) {
      this.#stream = null;
      stream.abort(error instanceof Error ? error : new Error(String(error)));
      this.#openLater();
    }
  }
}

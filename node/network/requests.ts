/**
 * Request and response on a stream of their own: one request frame, then answer frames whose first byte says what they
 * are. Bounded on both sides: frames, their size, idle time, and how many requests a peer may have running.
 */
import type { Connection, Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface';
import { concatBytes, parseUtf8, utf8 } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import { FrameDecoder } from '../frame-decoder.ts';
import { sendFrame } from './frames.ts';
import type { Member, RequestProtocol } from './types.ts';

export const requestProtocolId = (name: RequestProtocol): string => `/emrchain/${name}/1`;

const DATA = 0;
const END = 1;
const ERROR = 2;

/** The largest request: a list of transactions that wait too long. */
const MAX_REQUEST_BYTES = 512 * 1024;
/** How long a client may take to write its request, and a server to take the next frame. */
const SERVER_IDLE_MS = 20_000;
/** Requests of one peer that run at a time; a fetch of blocks of ciphertext uses some. */
const MAX_RUNNING_PER_PEER = 16;
/** And of all peers together: a block of ciphertext each, some 2 MiB. */
const MAX_RUNNING = 128;
/** A peer with fewer than these is served even so: a few members that take all they can get shut nobody out. */
const GUARANTEED_PER_PEER = 2;
const OPEN_TIMEOUT_MS = 5_000;
const MAX_CODE_BYTES = 48;

export type RequestHandler = (from: Member, payload: Uint8Array, signal: AbortSignal) => AsyncIterable<Uint8Array>;

export interface RequestOptions {
  readonly maxFrames: number;
  readonly maxFrameBytes: number;
  readonly idleTimeoutMs: number;
  readonly signal?: AbortSignal;
}

/** Aborts when nothing happened for `idleMs`; `alive()` starts the wait again. */
class IdleTimer {
  readonly #controller = new AbortController();
  #timer: NodeJS.Timeout;

  constructor(idleMs: number) {
    this.#timer = setTimeout(
      () => this.#controller.abort(new EmrError('PEER_TIMEOUT', 'the peer sent nothing for too long')),
      idleMs,
    );
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  alive(): void {
    this.#timer.refresh();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/** Frames that wait for a slow consumer before the peer is paused. */
const MAX_WAITING_FRAMES = 4;

/**
 * Frames of a stream. A consumer that is slow pauses the stream, and with it the peer: a stream's own iterator would
 * buffer without bound. The stream is reset when `signal` fires or a frame is out of bounds.
 */
async function* framesOf(stream: Stream, maxFrameBytes: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const decoder = new FrameDecoder(maxFrameBytes);
  const waiting: Uint8Array[] = [];
  let ended: { readonly error: Error | undefined } | null = null;
  let wake: () => void = () => undefined;
  const end = (error: Error | undefined): void => {
    ended ??= { error };
    wake();
  };
  const onMessage = (event: StreamMessageEvent): void => {
    try {
      for (const payload of decoder.push(event.data)) waiting.push(payload);
    } catch (error) {
      end(asError(error));
      stream.abort(asError(error));
    }
    if (waiting.length > MAX_WAITING_FRAMES && stream.readStatus === 'readable') stream.pause();
    wake();
  };
  const onClose = (event: StreamCloseEvent): void => end(event.error);
  const onEnd = (): void => end(undefined);
  const onAbort = (): void => {
    end(asError(signal.reason));
    stream.abort(asError(signal.reason));
  };
  stream.addEventListener('message', onMessage);
  stream.addEventListener('close', onClose);
  stream.addEventListener('end', onEnd);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    for (;;) {
      const next = waiting.shift();
      if (next !== undefined) {
        yield next;
      } else if (ended !== null) {
        const { error } = ended as { readonly error: Error | undefined };
        if (error !== undefined) throw error;
        return;
      } else if (stream.readStatus === 'paused') {
        stream.resume();
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    stream.removeEventListener('message', onMessage);
    stream.removeEventListener('close', onClose);
    stream.removeEventListener('end', onEnd);
    signal.removeEventListener('abort', onAbort);
  }
}

function asError(value: unknown): Error {
  return value instanceof Error ? value : new Error(String(value));
}

/** Client side. @throws EmrError PEER_UNAVAILABLE, PEER_TIMEOUT, PEER_PROTOCOL; PEER_REFUSED with the peer's code in its detail */
export async function* sendRequest(
  connection: Connection,
  protocol: RequestProtocol,
  payload: Uint8Array,
  options: RequestOptions,
): AsyncGenerator<Uint8Array> {
  const idle = new IdleTimer(options.idleTimeoutMs);
  const signal = options.signal ? AbortSignal.any([options.signal, idle.signal]) : idle.signal;
  let stream: Stream | undefined;
  let finished = false;
  try {
    stream = await connection.newStream(requestProtocolId(protocol), {
      signal: AbortSignal.any([signal, AbortSignal.timeout(OPEN_TIMEOUT_MS)]),
    });
    await sendFrame(stream, payload, signal);
    let frames = 0;
    for await (const answer of framesOf(stream, options.maxFrameBytes + 1, signal)) {
      idle.alive();
      if (answer[0] === END) {
        finished = true;
        return;
      }
      if (answer[0] === ERROR) throw remoteError(answer.subarray(1));
      if (answer[0] !== DATA) throw new EmrError('PEER_PROTOCOL', 'the peer sent a frame of no known kind');
      frames += 1;
      if (frames > options.maxFrames)
        throw new EmrError('PEER_PROTOCOL', `more than ${options.maxFrames} frames in one answer`);
      yield answer.subarray(1);
      // The consumer's own time between two frames is not the peer's silence.
      idle.alive();
    }
    if (signal.aborted) throw asError(signal.reason);
    throw new EmrError('PEER_UNAVAILABLE', 'the peer ended the answer before it was complete');
  } catch (error) {
    if (error instanceof EmrError) throw error;
    if (signal.aborted) throw asError(signal.reason);
    throw new EmrError('PEER_UNAVAILABLE', 'the peer cannot be reached', {}, { cause: error });
  } finally {
    idle.stop();
    if (finished) void stream?.close().catch(() => undefined);
    else stream?.abort(new Error('the request was given up'));
  }
}

/** The peer's own code is what it says and no more: as a code of ours it could pass for a failure of our disk. */
function remoteError(payload: Uint8Array): EmrError {
  const text = parseUtf8(payload.subarray(0, MAX_CODE_BYTES)) ?? '';
  const code = /^[A-Z][A-Z0-9_]{2,47}$/.test(text) ? text : 'UNREADABLE';
  return new EmrError('PEER_REFUSED', `the peer answered ${code}`, { code });
}

/** Server side, for all protocols together. */
export class RequestServer {
  readonly #running = new Map<string, number>();
  readonly #onFault: (error: Error) => void;
  #total = 0;

  /** @param onFault told of errors of our own handlers, which the peer sees as a reset stream only */
  constructor(onFault: (error: Error) => void) {
    this.#onFault = onFault;
  }

  /** Serves one stream. Never throws. */
  async serve(stream: Stream, from: Member, handler: RequestHandler): Promise<void> {
    const idle = new IdleTimer(SERVER_IDLE_MS);
    const gone = new AbortController();
    stream.addEventListener('close', () => gone.abort(new EmrError('PEER_UNAVAILABLE', 'the peer closed the stream')));
    const signal = AbortSignal.any([idle.signal, gone.signal]);
    const admitted = this.#admit(from.peerId);
    try {
      if (!admitted) {
        await sendFrame(stream, errorFrame('PEER_BUSY'), signal);
      } else {
        for await (const request of framesOf(stream, MAX_REQUEST_BYTES, signal)) {
          idle.alive();
          await this.#answer(stream, handler(from, request, signal), signal, idle);
          break;
        }
      }
      await stream.close({ signal });
    } catch (error) {
      // The peer's doing, or told to `onFault` where it happened: what a stream throws must never stop the node.
      stream.abort(asError(error));
    } finally {
      idle.stop();
      if (admitted) this.#release(from.peerId);
    }
  }

  #admit(peerId: string): boolean {
    const running = this.#running.get(peerId) ?? 0;
    if (running >= MAX_RUNNING_PER_PEER || (this.#total >= MAX_RUNNING && running >= GUARANTEED_PER_PEER)) return false;
    this.#running.set(peerId, running + 1);
    this.#total += 1;
    return true;
  }

  #release(peerId: string): void {
    this.#total -= 1;
    const left = (this.#running.get(peerId) ?? 1) - 1;
    if (left === 0) this.#running.delete(peerId);
    else this.#running.set(peerId, left);
  }

  async #answer(
    stream: Stream,
    answer: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
    idle: IdleTimer,
  ): Promise<void> {
    const frames = answer[Symbol.asyncIterator]();
    let ended = false;
    try {
      for (;;) {
        const step = await this.#next(frames, signal).catch((error: unknown) => {
          ended = true;
          throw error;
        });
        ended = step.done === true;
        if (step.done === true) break;
        await sendFrame(stream, concatBytes(Uint8Array.of(DATA), step.value), signal);
        idle.alive();
      }
    } catch (error) {
      if (signal.aborted || !(error instanceof EmrError)) throw error;
      await sendFrame(stream, errorFrame(error.code), signal);
      return;
    } finally {
      // Waited for, so that a peer that resets and asks again has no more of our work running than it may have.
      if (!ended) await frames.return?.();
    }
    await sendFrame(stream, Uint8Array.of(END), signal);
  }

  /** What our own handler throws, unless it only heard that the peer is gone, is an answer or a fault of ours. */
  async #next(frames: AsyncIterator<Uint8Array>, signal: AbortSignal): Promise<IteratorResult<Uint8Array>> {
    try {
      return await frames.next();
    } catch (error) {
      if (!signal.aborted && !(error instanceof EmrError)) this.#onFault(asError(error));
      throw error;
    }
  }
}

/** The code alone: a message may name folders and hosts, which are nobody else's business. */
function errorFrame(code: string): Uint8Array {
  return concatBytes(Uint8Array.of(ERROR), utf8(code).subarray(0, MAX_CODE_BYTES));
}

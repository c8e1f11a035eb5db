/** Frames on a libp2p stream, outgoing side: u32 big-endian length, then that many bytes (`frame-decoder.ts` reads them). */
import type { Stream } from '@libp2p/interface';
import { Uint8ArrayList } from 'uint8arraylist';
import { u32be } from '../../common/bytes.ts';

/** A frame in two parts, so that the payload is not copied. */
export const frame = (payload: Uint8Array): Uint8ArrayList => frames([payload]);

/** The same for several, one after the other. */
export function frames(payloads: readonly Uint8Array[]): Uint8ArrayList {
  return new Uint8ArrayList(...payloads.flatMap((payload) => [u32be(payload.length), payload]));
}

/** Sends and waits while the stream asks for a pause: back-pressure reaches the producer. */
export async function sendFrame(stream: Stream, payload: Uint8Array, signal: AbortSignal): Promise<void> {
  if (!stream.send(frame(payload))) await drained(stream, signal);
}

/**
 * The stream's own `onDrain` waits once in a stream's life: from the second pause on it answers at once, and the producer
 * fills memory with all that the peer has not taken yet.
 */
async function drained(stream: Stream, signal: AbortSignal): Promise<void> {
  if (!stream.writableNeedsDrain) return;
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const onDrain = (): void => resolve();
  const onClose = (): void => reject(new Error('the stream was closed'));
  const onAbort = (): void => reject(signal.reason as Error);
  stream.addEventListener('drain', onDrain);
  stream.addEventListener('close', onClose);
  signal.addEventListener('abort', onAbort);
  try {
    await promise;
  } finally {
    stream.removeEventListener('drain', onDrain);
    stream.removeEventListener('close', onClose);
    signal.removeEventListener('abort', onAbort);
  }
}

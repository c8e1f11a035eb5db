/** Frames on a libp2p stream, outgoing side: u32 big-endian length, then that many bytes (`frame-decoder.ts` reads them). */
import type { Stream } from '@libp2p/interface';
import { Uint8ArrayList } from 'uint8arraylist';
import { u32be } from '../../common/bytes.ts';

/** A frame in two parts, so that the payload is not copied. */
export function frame(payload: Uint8Array): Uint8ArrayList {
  return new Uint8ArrayList(u32be(payload.length), payload);
}

/** Sends and waits while the stream asks for a pause: back-pressure reaches the producer. */
export async function sendFrame(stream: Stream, payload: Uint8Array, signal: AbortSignal): Promise<void> {
  if (!stream.send(frame(payload))) await stream.onDrain({ signal });
}

/**
 * Length-prefixed frames on a libp2p stream: u32 big-endian length, then that many bytes. The length is checked before
 * anything is kept for it.
 */
import type { Stream } from '@libp2p/interface';
import { Uint8ArrayList } from 'uint8arraylist';
import { readU32be, u32be } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';

export const FRAME_HEADER_BYTES = 4;

/** Takes a stream apart into frames as bytes arrive. */
export class FrameDecoder {
  readonly #buffered = new Uint8ArrayList();
  readonly #maxFrameBytes: number;

  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** Bytes that wait for the rest of their frame: never more than one frame and one read. */
  get bufferedBytes(): number {
    return this.#buffered.byteLength;
  }

  /** @throws EmrError PEER_PROTOCOL when a frame announces more than the bound */
  *push(chunk: Uint8Array | Uint8ArrayList): Generator<Uint8Array> {
    this.#buffered.append(chunk);
    while (this.#buffered.byteLength >= FRAME_HEADER_BYTES) {
      const length = readU32be(this.#buffered.slice(0, FRAME_HEADER_BYTES), 0) ?? 0;
      if (length > this.#maxFrameBytes) {
        throw new EmrError(
          'PEER_PROTOCOL',
          `a frame of ${length} bytes was announced, ${this.#maxFrameBytes} are accepted`,
        );
      }
      if (this.#buffered.byteLength < FRAME_HEADER_BYTES + length) return;
      const frame = this.#buffered.slice(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + length);
      this.#buffered.consume(FRAME_HEADER_BYTES + length);
      yield frame;
    }
  }
}

/** A frame in two parts, so that the payload is not copied. */
export function frame(payload: Uint8Array): Uint8ArrayList {
  return new Uint8ArrayList(u32be(payload.length), payload);
}

/** Sends and waits while the stream asks for a pause: back-pressure reaches the producer. */
export async function sendFrame(stream: Stream, payload: Uint8Array, signal: AbortSignal): Promise<void> {
  if (!stream.send(frame(payload))) await stream.onDrain({ signal });
}

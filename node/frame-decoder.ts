/**
 * Takes a stream apart into length-prefixed frames: u32 big-endian length, then that many bytes. For libp2p streams and
 * for the custodian's socket, whose process must not load the network; so no package is imported here.
 */
import { readU32be } from '../common/bytes.ts';
import { EmrError } from '../common/errors.ts';

const FRAME_HEADER_BYTES = 4;
/** Room made when a frame begins. It doubles as bytes come: who announces much and sends little costs little. */
const FIRST_ROOM_BYTES = 16 * 1024;

/**
 * Takes a stream apart into frames as bytes arrive. Bytes are copied: a chunk is a view of the larger piece that the
 * connection decrypted, and a peer that sends one byte in each piece would have us keep all of them.
 */
export class FrameDecoder {
  readonly #header = new Uint8Array(FRAME_HEADER_BYTES);
  readonly #maxFrameBytes: number;
  readonly #code: string;
  #headerFilled = 0;
  #length = 0;
  #frame: Uint8Array = new Uint8Array(0);
  #filled = 0;

  /** @param code of the error when a frame announces more */
  constructor(maxFrameBytes: number, code = 'PEER_PROTOCOL') {
    this.#maxFrameBytes = maxFrameBytes;
    this.#code = code;
  }

  /** Memory held for a frame that has not ended: at most twice what has come of it, and the first room. */
  get heldBytes(): number {
    return this.#frame.length;
  }

  /** @throws EmrError with the code given, when a frame announces more than the bound */
  *push(chunk: Uint8Array | Iterable<Uint8Array>): Generator<Uint8Array> {
    for (const piece of chunk instanceof Uint8Array ? [chunk] : chunk) {
      let rest = piece;
      while (rest.length > 0) {
        rest = this.#headerFilled < FRAME_HEADER_BYTES ? this.#takeHeader(rest) : this.#takePayload(rest);
        if (this.#headerFilled < FRAME_HEADER_BYTES || this.#filled < this.#length) continue;
        const frame = this.#frame;
        this.#begin();
        yield frame;
      }
    }
  }

  #begin(): void {
    this.#headerFilled = 0;
    this.#length = 0;
    this.#filled = 0;
    this.#frame = new Uint8Array(0);
  }

  #takeHeader(bytes: Uint8Array): Uint8Array {
    const taken = bytes.subarray(0, FRAME_HEADER_BYTES - this.#headerFilled);
    this.#header.set(taken, this.#headerFilled);
    this.#headerFilled += taken.length;
    const length = this.#headerFilled < FRAME_HEADER_BYTES ? 0 : (readU32be(this.#header, 0) ?? 0);
    if (length > this.#maxFrameBytes) {
      throw new EmrError(this.#code, `a frame of ${length} bytes was announced, ${this.#maxFrameBytes} are accepted`);
    }
    this.#length = length;
    return bytes.subarray(taken.length);
  }

  #takePayload(bytes: Uint8Array): Uint8Array {
    const taken = bytes.subarray(0, this.#length - this.#filled);
    const wanted = this.#filled + taken.length;
    if (wanted > this.#frame.length) {
      // Never more than the frame's length: the array that comes out whole is the frame itself.
      const room = Math.min(this.#length, Math.max(wanted, 2 * this.#frame.length, FIRST_ROOM_BYTES));
      const larger = new Uint8Array(room);
      larger.set(this.#frame.subarray(0, this.#filled));
      this.#frame = larger;
    }
    this.#frame.set(taken, this.#filled);
    this.#filled = wanted;
    return bytes.subarray(taken.length);
  }
}

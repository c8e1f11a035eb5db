/**
 * The end of what a socket has brought, without the cost of an exception. noise cuts what comes into frames until it throws for
 * want of a length, once for each piece that is read; to note down where that was takes longer than to decrypt a vote. What
 * must not go in here: how frames are cut.
 */
import { LengthPrefixedDecoder } from '@libp2p/utils';

type Decode = LengthPrefixedDecoder['decode'];

/** Of its private fields, the one that reads a length. */
interface Lengths {
  lengthDecoder?: unknown;
}

/** What the package throws and catches itself. Made once: it says nothing, and nobody sees it. */
const NOTHING_LEFT = new RangeError('no length');

const eager = Object.getOwnPropertyDescriptor(LengthPrefixedDecoder.prototype, 'decode')?.value as Decode;

const known = new WeakSet<LengthPrefixedDecoder>();

function decode(this: LengthPrefixedDecoder, ...args: Parameters<Decode>): ReturnType<Decode> {
  if (!known.has(this)) {
    known.add(this);
    const fields = this as unknown as Lengths;
    const { lengthDecoder } = fields;
    if (typeof lengthDecoder === 'function') {
      const read = lengthDecoder as (data: { readonly byteLength: number }) => number;
      fields.lengthDecoder = (data: { readonly byteLength: number }): number => {
        if (data.byteLength === 0) throw NOTHING_LEFT;
        return read(data);
      };
    }
  }
  return eager.apply(this, args);
}

/** For all connections of this process; once is enough. */
export function spareExceptions(): void {
  LengthPrefixedDecoder.prototype.decode = decode;
}

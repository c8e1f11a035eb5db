/**
 * Window updates of yamux only when half of the window is used up, as the other implementations have it. The package
 * sends one for each frame that it receives: every message between nodes costs a second one back, encrypted, written,
 * read and decrypted. What must not go in here: anything else that one might want of yamux to be otherwise.
 */
import { YamuxStream } from '@chainsafe/libp2p-yamux/stream';

/** Of its private fields, those that say how much of the window is used up; both numbers, or nothing is spared. */
interface Windows {
  readonly recvWindow?: unknown;
  readonly recvWindowCapacity?: unknown;
}

/** `StreamState.Established`, which the package declares and does not export. */
const ESTABLISHED = 3;

const eager = Object.getOwnPropertyDescriptor(YamuxStream.prototype, 'sendWindowUpdate')?.value as (
  this: YamuxStream,
) => void;

function sendWindowUpdate(this: YamuxStream): void {
  if (!mayWait(this)) eager.call(this);
}

/** Before a stream is established, and while it is paused, an update says more than how much may be sent. */
function mayWait(stream: YamuxStream): boolean {
  const { recvWindow, recvWindowCapacity } = stream as unknown as Windows;
  if (stream.state !== ESTABLISHED || typeof recvWindow !== 'number' || typeof recvWindowCapacity !== 'number')
    return false;
  return recvWindow - recvWindowCapacity < recvWindow / 2;
}

/** For all streams of this process; once is enough. */
export function spareWindowUpdates(): void {
  YamuxStream.prototype.sendWindowUpdate = sendWindowUpdate;
}

/** Ids as people and nodes write them: 0x-hex of known length, read strictly. */
import { bytesToHex0x, parseHex0x } from '../common/bytes.ts';
import type { Hex } from '../rpc/methods.ts';
import { ClientError } from './errors.ts';
import { clean } from './text.ts';

export const hexOf = (bytes: Uint8Array): Hex => bytesToHex0x(bytes) as Hex;

/** Hex that a node or a file gave where its shape was checked before. @throws ClientError RESPONSE_INVALID */
export function fromHex(text: string, byteLength?: number): Uint8Array {
  const bytes = parseHex0x(text, byteLength);
  if (bytes === undefined) {
    throw new ClientError(
      'RESPONSE_INVALID',
      'The node answered with bytes that are no hex of the right length.',
      'Use another node (--rpc URL), and tell the operator of this one.',
    );
  }
  return bytes;
}

/** An id that a person typed; upper case is taken too. @throws ClientError ID_INVALID */
export function parseId(text: string, byteLength: number, what: string): Uint8Array {
  const lower = text.trim().toLowerCase();
  const bytes = parseHex0x(lower.startsWith('0x') ? lower : `0x${lower}`, byteLength);
  if (bytes === undefined) {
    throw new ClientError(
      'ID_INVALID',
      `"${clean(text)}" is not the id of a ${what}.`,
      `Write 0x and ${2 * byteLength} hex digits, as the listings show it.`,
    );
  }
  return bytes;
}

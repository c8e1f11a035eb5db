/** CIDs of ciphertext as text, without the IPFS libraries: 36 bytes and the multibase letter of base32. */
import { base32 } from 'multiformats/bases/base32';

export const cidText = (bytes: Uint8Array): string => base32.encode(bytes);

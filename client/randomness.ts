/** Fresh bytes from the operating system, as plain arrays. */
import { randomBytes } from 'node:crypto';

export const randomSecret = (lengthBytes: number): Uint8Array => new Uint8Array(randomBytes(lengthBytes));
export const randomNonce = (): Uint8Array => randomSecret(16);

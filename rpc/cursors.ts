/**
 * Cursors of pages: the last position that was looked at, sealed. It may be the key of something that is out of the
 * caller's scope, so it must not be readable; and it must not be usable for another question.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { RpcError } from './errors.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Seals with a key of this process: a cursor does not outlive the node's run. */
export class Cursors {
  readonly #key = randomBytes(32);

  /** @param question the method and its filters: the cursor is good for these only */
  seal(question: string, position: Uint8Array): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce, { authTagLength: TAG_BYTES });
    cipher.setAAD(Buffer.from(question));
    return Buffer.concat([nonce, cipher.update(position), cipher.final(), cipher.getAuthTag()]).toString('base64url');
  }

  /** @throws RpcError INVALID_PARAMS with reason BAD_CURSOR */
  open(question: string, cursor: string): Uint8Array {
    const sealed = Buffer.from(cursor, 'base64url');
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.#key, sealed.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(Buffer.from(question));
      decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
      return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]);
    } catch {
      throw new RpcError(
        'INVALID_PARAMS',
        'The cursor is not one that this node gave for this question since it started; begin with the first page.',
        'BAD_CURSOR',
      );
    }
  }
}

/**
 * An officer's share of a recovery key, as it lies offline: a keystore of its own under a passphrase of its own, with all that
 * the share belongs to, so that it is used without asking anybody what it is.
 */
import { equalBytes } from '../common/bytes.ts';
import { decode, encode } from '../common/codec.ts';
import { decodePoint, pointToRaw } from '../common/crypto/curve.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import { assert, EmrError } from '../common/errors.ts';
import { openKeystore, writeKeystore } from '../common/native/keystore.ts';
import { MAX_RECOVERY_MESSAGE_BYTES, type RecoveryShare, recoveryShare } from '../common/protocol/recovery-key.ts';
import { ClientError } from './errors.ts';

/** Of a keystore: its public key is X_i. */
const SHARE_KIND = 'recovery-share';

async function sealShare(path: string, share: RecoveryShare, passphrase: Uint8Array): Promise<void> {
  const X = decodePoint(share.share);
  assert(X !== undefined, 'a share has a public key');
  const publicKey = pointToRaw(X);
  const secret = encode(recoveryShare, share);
  try {
    await writeKeystore(path, { kind: SHARE_KIND, address: sm2Address(publicKey), publicKey }, secret, passphrase);
  } finally {
    secret.fill(0);
  }
}

/** Seals it, and reads back what is there: after an interrupted round, what that round has sealed. */
export async function keepShare(path: string, taken: RecoveryShare, passphrase: Uint8Array): Promise<RecoveryShare> {
  try {
    await sealShare(path, taken, passphrase);
  } catch (error) {
    if (!(error instanceof EmrError) || error.code !== 'SECRET_FILE_EXISTS') throw error;
    const before = await openShare(path, passphrase);
    if (equalBytes(before.x, taken.x)) return before;
    before.x.fill(0);
    throw error;
  } finally {
    taken.x.fill(0);
  }
  return openShare(path, passphrase);
}

/**
 * DANGER: the share itself; the caller erases `x`.
 * @throws ClientError RECOVERY_SHARE_INVALID, and EmrError of keystores
 */
export async function openShare(path: string, passphrase: Uint8Array): Promise<RecoveryShare> {
  const { kind, secret } = await openKeystore(path, passphrase);
  try {
    const share = kind === SHARE_KIND ? decode(recoveryShare, secret, MAX_RECOVERY_MESSAGE_BYTES) : undefined;
    if (share?.ok === true) return { ...share.value, x: Uint8Array.from(share.value.x) };
  } finally {
    secret.fill(0);
  }
  throw new ClientError(
    'RECOVERY_SHARE_INVALID',
    `${path} is no share of a recovery key.`,
    'Name the file that emrchain recovery finish has written.',
  );
}

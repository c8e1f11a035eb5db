/**
 * Backup of a custodian's share: read from its sealed store, split among three officers, opened by each with the own key, and
 * put back from the parts of two. Formats: common/protocol/custody-backup.ts.
 *
 * It runs where the custodian runs, with the custodian's passphrase; never in a node. DANGER: the share itself is in memory
 * only, and is written nowhere but into the sealed store; what is restored is what the chain proves to be in use.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { bytesToBigint, equalBytes } from '../common/bytes.ts';
import { decodeScalar, encodePoint, GENERATOR, isPublicKey } from '../common/crypto/curve.ts';
import type { Sm2Signer } from '../common/crypto/sm2.ts';
import { EmrError, type Verdict } from '../common/errors.ts';
import { readCustodianHeight } from '../common/native/custodian-height.ts';
import { Seal } from '../common/native/custody-seal.ts';
import { addKept, readKept } from '../common/native/custody-store.ts';
import { openKeystore, readKeystore } from '../common/native/keystore.ts';
import { readSecretFile, writeSecretFile } from '../common/native/secret-file.ts';
import { selectSm2Engine } from '../common/native/sm2-select.ts';
import type { CustodyEpochEntry } from '../common/protocol/custody.ts';
import {
  type BackedShare,
  BACKUP_PARTS,
  backUp,
  bringBack,
  type BackupPart,
  handBack,
  type HandedPart,
  MAX_BACKUP_PART_BYTES,
  readHanded,
  readPart,
} from '../common/protocol/custody-backup.ts';
import type { ChainView, ProvenEntry } from './chain-view.ts';
import { activeEpochAt } from './custody.ts';
import { ClientError } from './errors.ts';
import { parseId } from './hex.ts';
import type { UnlockedKey } from './keys.ts';

/** The custodian's own key and seal, for as long as `use` runs. */
async function withCustodian<T>(
  { dir, passphrase, chainId }: { readonly dir: string; readonly passphrase: Uint8Array; readonly chainId: Uint8Array },
  use: (own: { readonly secret: Uint8Array; readonly signer: Sm2Signer; readonly seal: Seal }) => Promise<T>,
): Promise<T> {
  const { secret } = await openKeystore(keyFile(dir), passphrase);
  try {
    const { createSigner, random } = selectSm2Engine();
    return await use({ secret, signer: createSigner(secret), seal: new Seal(chainId, secret, random) });
  } finally {
    secret.fill(0);
  }
}

const keyFile = (dir: string): string => join(dir, 'keys', 'custodian.json');
const heightFile = (dir: string): string => join(dir, 'custodian-height');
const storeOf = (dir: string): string => join(dir, 'custody');

/** @throws ClientError CUSTODY_NO_EPOCH, and those of proofs */
async function provenEpoch(view: ChainView): Promise<ProvenEntry<CustodyEpochEntry>> {
  const epoch = await activeEpochAt(view);
  if (epoch !== null) return epoch;
  throw new ClientError(
    'CUSTODY_NO_EPOCH',
    'The custodians have made no key yet, so that there is no share to keep.',
    'See how far they are: emrchain custody status.',
  );
}

/** The public key of an officer: itself in hex, or a key file, of which the public part is read. */
async function officerKey(text: string): Promise<Uint8Array> {
  if (!text.startsWith('0x')) return (await readKeystore(text)).publicKey;
  const key = parseId(text, 64, 'public key');
  if (isPublicKey(key)) return key;
  throw new ClientError(
    'OFFICER_KEY_INVALID',
    `${text} is no point of the curve.`,
    'Compare it with: emrchain keys show.',
  );
}

/** Three keys of three people, none of them the custodian's. @throws ClientError OFFICERS_INVALID, OFFICER_KEY_INVALID */
async function officerKeys(texts: readonly string[], custodianKey: Uint8Array): Promise<readonly Uint8Array[]> {
  const keys: Uint8Array[] = [];
  for (const text of texts) keys.push(await officerKey(text));
  const different = new Set([custodianKey, ...keys].map(bytesToBigint)).size;
  if (keys.length === BACKUP_PARTS && different === keys.length + 1) return keys;
  throw new ClientError(
    'OFFICERS_INVALID',
    `A backup has ${BACKUP_PARTS} officers with a key each, none of them the custodian's.`,
    'Give --officer three times: a public key, as emrchain keys show prints it, or a key file.',
  );
}

export interface BackupOptions {
  /** The hospital's folder. */
  readonly dir: string;
  /** Of keys/custodian.json. */
  readonly passphrase: Uint8Array;
  readonly officers: readonly string[];
  /** Folder for the parts, which is made where it is missing. */
  readonly out: string;
}

export interface MadeBackup {
  readonly kept: BackedShare;
  /** One file for each officer, in their order. */
  readonly files: readonly string[];
}

/**
 * Splits the share of the active epoch. The store is only read: the custodian may be running.
 * @throws ClientError CUSTODY_NO_EPOCH, CUSTODY_NO_SHARE, OFFICERS_INVALID, and EmrError of keystores, seals and files
 */
export async function backUpShare(view: ChainView, options: BackupOptions): Promise<MadeBackup> {
  const { value: epoch } = await provenEpoch(view);
  const { chainId } = view.node;
  const officers = await officerKeys(options.officers, (await readKeystore(keyFile(options.dir))).publicKey);
  return withCustodian({ ...options, chainId }, async ({ signer, seal }) => {
    const x = await readShare(options.dir, seal, epoch);
    try {
      const kept = { chainId, ...holderOf(epoch, x) };
      const files = backUp(kept, x, officers, signer, selectSm2Engine().random);
      return { kept, files: await writeParts(options.out, kept, files) };
    } finally {
      x.fill(0);
    }
  });
}

async function readShare(dir: string, seal: Seal, epoch: CustodyEpochEntry): Promise<Uint8Array> {
  try {
    return (await readKept(storeOf(dir), seal, 'share', epoch.sessionId)).content;
  } catch (error) {
    if (error instanceof EmrError && error.code === 'SECRET_FILE_NOT_FOUND') throw noShare(epoch.epoch, error);
    throw error;
  }
}

/** Whose share it is. */
function holderOf({ holders, ...epoch }: CustodyEpochEntry, x: Uint8Array): Omit<BackedShare, 'chainId'> {
  const scalar = decodeScalar(x);
  const own = scalar === undefined || scalar === 0n ? undefined : encodePoint(GENERATOR.multiply(scalar));
  const at = holders.findIndex(({ share }) => own !== undefined && equalBytes(share, own));
  const holder = holders[at];
  if (holder === undefined) throw noShare(epoch.epoch);
  const { sessionId, key } = epoch;
  return { sessionId, epoch: epoch.epoch, orgId: holder.orgId, index: at + 1, key, share: holder.share };
}

const noShare = (epoch: number, cause?: unknown): ClientError =>
  new ClientError(
    'CUSTODY_NO_SHARE',
    `This custodian has no share of epoch ${epoch}.`,
    'Bring it back (emrchain custody restore), or let the members vote for new ones (emrchain gov propose refresh-custody).',
    {},
    { cause },
  );

async function writeParts(out: string, kept: BackedShare, files: readonly Uint8Array[]): Promise<readonly string[]> {
  await mkdir(out, { recursive: true, mode: 0o700 });
  const paths = files.map((_, at) => join(out, `${kept.orgId}-epoch-${kept.epoch}-officer-${at + 1}.part`));
  for (const [at, file] of files.entries()) await writeSecretFile(paths[at] as string, file, false);
  return paths;
}

/** A file's verdict, told with its name. */
function required<T>(verdict: Verdict<T>, path: string): T {
  if (verdict.ok) return verdict.value;
  throw new EmrError(verdict.code, `${path}: ${verdict.message}.`, { path });
}

/**
 * What an officer does on a machine of his own, without any node: opens the part, and encrypts it to the custodian.
 * @throws EmrError CUSTODY_PART_…, and those of files
 */
export async function openPart(path: string, officer: UnlockedKey, out: string): Promise<BackupPart['about']> {
  const { engine, random } = selectSm2Engine();
  const part = required(readPart(await readSecretFile(path, MAX_BACKUP_PART_BYTES), engine), path);
  await writeSecretFile(out, required(handBack(part, officer, random), path), false);
  return part.about;
}

export interface RestoreOptions {
  readonly dir: string;
  readonly passphrase: Uint8Array;
  /** Files that two officers have opened. */
  readonly parts: readonly string[];
}

export interface RestoredShare {
  readonly kept: BackedShare;
  /** False where the store had this very share. */
  readonly isNew: boolean;
}

/**
 * Puts the share of the active epoch back, where the chain proves that it still is that.
 * @throws ClientError CUSTODY_EPOCH_SUPERSEDED, CUSTODIAN_ROLLBACK and others; EmrError CUSTODY_PART_…, CUSTODIAN_MEMORY, and those of keystores, seals and files
 */
export async function restoreShare(view: ChainView, options: RestoreOptions): Promise<RestoredShare> {
  const { chainId } = view.node;
  const parts: HandedPart[] = [];
  for (const path of options.parts) {
    const handed = await readSecretFile(path, MAX_BACKUP_PART_BYTES);
    parts.push(required(readHanded(handed, selectSm2Engine().engine), path));
  }
  const { value: epoch, at } = await provenEpoch(view);
  await requireNotBehind(options.dir, at.header.height);
  for (const { part } of parts) requireInUse(part.about, epoch, chainId);
  return withCustodian({ ...options, chainId }, async ({ secret, signer, seal }) => {
    const verdict = bringBack(parts, { publicKey: signer.publicKey, privateKey: secret });
    const x = required(verdict, options.parts.join(', '));
    try {
      const kept = { chainId, ...holderOf(epoch, x) };
      return { kept, isNew: await putBack(options.dir, seal, kept, x) };
    } finally {
      x.fill(0);
    }
  });
}

/**
 * What was active at a block that the custodian is past may not be any more: a node that is behind, or shows an old state,
 * would have a share put back that was handed on since.
 */
async function requireNotBehind(dir: string, height: number): Promise<void> {
  const seen = await readCustodianHeight(heightFile(dir));
  if (height >= seen) return;
  throw new ClientError(
    'CUSTODIAN_ROLLBACK',
    `The node shows the chain up to block ${height}; this custodian has seen block ${seen}.`,
    'Ask a node that has the whole chain: emrchain node status says whether this one has (--rpc URL names another).',
    { height, seen },
  );
}

/** A backup of shares that were handed on since must not come back: that they are gone is what handing on is for. */
function requireInUse(about: BackedShare, epoch: CustodyEpochEntry, chainId: Uint8Array): void {
  if (!equalBytes(about.chainId, chainId)) {
    throw new ClientError(
      'CHAIN_ID_MISMATCH',
      'The parts are of a custodian of another network.',
      "Ask a node of the custodian's own network (--rpc URL), or fetch the right parts.",
    );
  }
  if (about.epoch < epoch.epoch) {
    throw new ClientError(
      'CUSTODY_EPOCH_SUPERSEDED',
      `The parts are of epoch ${about.epoch}; the chain is at epoch ${epoch.epoch}, whose shares are others.`,
      'Take the parts of the newest backup. Without any, let the members vote for new shares: emrchain gov propose refresh-custody.',
    );
  }
  const holder = epoch.holders[about.index - 1];
  const isProven =
    about.epoch === epoch.epoch &&
    equalBytes(about.sessionId, epoch.sessionId) &&
    equalBytes(about.key, epoch.key) &&
    holder?.orgId === about.orgId &&
    equalBytes(holder.share, about.share);
  if (isProven) return;
  throw new ClientError(
    'CUSTODY_EPOCH_UNKNOWN',
    `The chain, as this node shows it, is at epoch ${epoch.epoch} and knows no such share of epoch ${about.epoch}.`,
    'Ask a node that has the whole chain: emrchain node status says whether this one has (--rpc URL names another).',
  );
}

/** @returns false where it is there already; a file that is another, or does not open, stays as it is */
async function putBack(dir: string, seal: Seal, { sessionId, epoch }: BackedShare, x: Uint8Array): Promise<boolean> {
  try {
    await addKept(storeOf(dir), seal, { kind: 'share', sessionId, epoch, content: x });
    return true;
  } catch (error) {
    if (!(error instanceof EmrError) || error.code !== 'SECRET_FILE_EXISTS') throw error;
    const before = await readKept(storeOf(dir), seal, 'share', sessionId);
    const isSame = equalBytes(before.content, x);
    before.content.fill(0);
    if (isSame) return false;
    throw new ClientError(
      'CUSTODY_SHARE_DIFFERS',
      `The custodian has another share of epoch ${epoch}.`,
      `Move the share file away from ${storeOf(dir)}, then run the command again.`,
      {},
      { cause: error },
    );
  }
}

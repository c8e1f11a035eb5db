/**
 * How officers make a recovery key: one folder goes from hand to hand, and each officer adds a file in each round. No node
 * takes part, and what is in the folder may be seen by anybody: secrets are in the officer's home, and at the end in one file
 * under a passphrase. What is said, and checked: common/protocol/recovery-ceremony.ts.
 *
 *   plan.json, announcement-1.json …, dealing-1.json …, holding-1.json …
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { bytesToHex, concatBytes, equalBytes } from '../common/bytes.ts';
import { type Codec, encode } from '../common/codec.ts';
import { isPublicKey } from '../common/crypto/curve.ts';
import { sm2Decrypt, sm2Encrypt } from '../common/crypto/sm2-encrypt.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import type { Verdict } from '../common/errors.ts';
import { newPrivateKey, selectSm2Engine } from '../common/native/sm2-select.ts';
import {
  announce,
  dealToOfficers,
  holdShare,
  officerIndex,
  registrationOf,
  takeShare,
} from '../common/protocol/recovery-ceremony.ts';
import {
  checkRecoveryPlan,
  MAX_RECOVERY_MESSAGE_BYTES,
  recoveryAnnouncement,
  recoveryDealing,
  recoveryHolding,
  type RecoveryKeyRegistration,
  type RecoveryPlan,
  recoveryPlan,
  recoverySessionId,
  type RecoveryShare,
} from '../common/protocol/recovery-key.ts';
import { codecField, readDocument, writeDocument } from './documents.ts';
import { ClientError, remedyOf } from './errors.ts';
import { hexOf, parseId } from './hex.ts';
import { type Home, readPrivateJson, writePrivateJson } from './home.ts';
import type { UnlockedKey } from './keys.ts';
import { randomNonce, randomSecret } from './randomness.ts';
import { keepShare } from './recovery-share.ts';
import { clean } from './text.ts';

const P_BYTES = 32;

const PLAN = { name: 'plan', format: 'emrchain-recovery-plan' } as const;
const ROUNDS = {
  announcement: { format: 'emrchain-recovery-announcement', codec: recoveryAnnouncement },
  dealing: { format: 'emrchain-recovery-dealing', codec: recoveryDealing },
  holding: { format: 'emrchain-recovery-holding', codec: recoveryHolding },
} as const;
type Round = keyof typeof ROUNDS;

function required<T>(verdict: Verdict<T>): T {
  if (verdict.ok) return verdict.value;
  throw new ClientError(
    verdict.code,
    `${verdict.message[0]?.toUpperCase() ?? ''}${verdict.message.slice(1)}.`,
    remedyOf(verdict.code),
  );
}

// ------------------------------------------------------------------------------------------------------------- plan

/** ORG:PUBLICKEY, or ORG:PUBLICKEY:ACCOUNT of an account that is older than its key. @throws ClientError OFFICER_KEY_INVALID */
function parseOfficer(text: string): RecoveryPlan['holders'][number] {
  const [orgId = '', keyText = '', accountText] = text.split(':');
  const publicKey = parseId(keyText, 64, 'public key');
  if (!isPublicKey(publicKey)) {
    throw new ClientError(
      'OFFICER_KEY_INVALID',
      `${clean(keyText)} is no point of the curve.`,
      'Compare it with: emrchain keys show.',
    );
  }
  return {
    orgId,
    publicKey,
    account: accountText === undefined ? sm2Address(publicKey) : parseId(accountText, 20, 'account'),
  };
}

/**
 * Begins a folder. Whether the officers are accounts of their organisations, the chain checks when it votes.
 * @throws ClientError OFFICER_KEY_INVALID, RECOVERY_KEY_SHAPE, RECOVERY_KEY_ONE_ORGANISATION, and EmrError of files
 */
export async function planRecoveryKey(
  dir: string,
  chainId: Uint8Array,
  threshold: number,
  officers: readonly string[],
): Promise<RecoveryPlan> {
  const plan = { chainId, nonce: randomNonce(), threshold, holders: officers.map(parseOfficer) };
  required(checkRecoveryPlan(plan));
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await writeDocument(join(dir, `${PLAN.name}.json`), PLAN.format, {
    says: {
      chain: hexOf(chainId),
      opens: `any ${threshold} of ${plan.holders.length}`,
      officers: plan.holders.map(({ account, orgId }, k) => `${k + 1}: ${hexOf(account)} of ${orgId}`),
    },
    plan: hexOf(encode(recoveryPlan, plan)),
  });
  return plan;
}

/** @throws ClientError DOCUMENT_MALFORMED, RECOVERY_KEY_SHAPE, RECOVERY_KEY_ONE_ORGANISATION */
export async function readPlan(dir: string): Promise<RecoveryPlan> {
  const path = join(dir, `${PLAN.name}.json`);
  const { content } = await readDocument(path, [PLAN.format]);
  const plan = codecField(path, content, 'plan', recoveryPlan, MAX_RECOVERY_MESSAGE_BYTES);
  required(checkRecoveryPlan(plan));
  return plan;
}

/** Index of this key's officer. @throws ClientError RECOVERY_NOT_OFFICER */
function indexOf(plan: RecoveryPlan, { publicKey, name }: UnlockedKey): number {
  const index = officerIndex(plan, publicKey);
  if (index > 0) return index;
  throw new ClientError(
    'RECOVERY_NOT_OFFICER',
    `The plan names no officer with the key "${name}".`,
    'Name another key (--as KEYNAME), or ask for a plan with this one: emrchain keys show.',
  );
}

// ----------------------------------------------------------------------------------------------------------- rounds

const fileOf = (dir: string, round: Round, index: number): string => join(dir, `${round}-${index}.json`);

async function say<T>(
  dir: string,
  round: Round,
  codec: Codec<T>,
  message: T & { readonly index: number },
): Promise<string> {
  const path = fileOf(dir, round, message.index);
  await writeDocument(path, ROUNDS[round].format, { message: hexOf(encode(codec, message)) });
  return path;
}

/** What the officers have said in a round; who has said nothing yet is left out. */
async function heard<T>(dir: string, plan: RecoveryPlan, round: Round, codec: Codec<T>): Promise<readonly T[]> {
  const messages: T[] = [];
  for (const index of plan.holders.keys()) {
    const path = fileOf(dir, round, index + 1);
    try {
      const { content } = await readDocument(path, [ROUNDS[round].format]);
      messages.push(codecField(path, content, 'message', codec, MAX_RECOVERY_MESSAGE_BYTES));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return messages;
}

const secretFile = (home: Home, plan: RecoveryPlan): string =>
  home.file('recovery', `${bytesToHex(recoverySessionId(plan))}.json`);

/**
 * First round. The secret that goes with it stays in the home, encrypted to the officer's own key, until `finish`; it is
 * there before anything is said, so that an interrupted round goes on with it.
 * @returns the file for the others
 * @throws ClientError RECOVERY_NOT_OFFICER, RECOVERY_SECRET_MISSING, and EmrError SECRET_FILE_EXISTS where this officer has
 *   announced already
 */
export async function announceInFolder(home: Home, dir: string, key: UnlockedKey): Promise<string> {
  const plan = await readPlan(dir);
  indexOf(plan, key);
  const p = (await hasSecret(home, plan)) ? await openSecret(home, plan, key) : await newSecret(home, plan, key);
  try {
    return await say(
      dir,
      'announcement',
      recoveryAnnouncement,
      announce(plan, p, key.signer, selectSm2Engine().random),
    );
  } finally {
    p.fill(0);
  }
}

const hasSecret = async (home: Home, plan: RecoveryPlan): Promise<boolean> =>
  (await readPrivateJson(secretFile(home, plan))) !== undefined;

async function newSecret(home: Home, plan: RecoveryPlan, { publicKey }: UnlockedKey): Promise<Uint8Array> {
  const p = newPrivateKey();
  const bound = concatBytes(p, recoverySessionId(plan));
  await home.ensure('recovery');
  await writePrivateJson(secretFile(home, plan), {
    version: 1,
    sealed: hexOf(sm2Encrypt(publicKey, bound, randomSecret)),
  });
  bound.fill(0);
  return p;
}

/** Second round. @throws ClientError RECOVERY_NOT_OFFICER, RECOVERY_FILE_MISSING, RECOVERY_FILE_FALSE */
export async function dealInFolder(dir: string, key: UnlockedKey): Promise<string> {
  const plan = await readPlan(dir);
  indexOf(plan, key);
  const { engine, random } = selectSm2Engine();
  const announcements = await heard(dir, plan, 'announcement', recoveryAnnouncement);
  return say(
    dir,
    'dealing',
    recoveryDealing,
    required(dealToOfficers(plan, announcements, key.signer, engine, random)),
  );
}

async function openSecret(home: Home, plan: RecoveryPlan, { privateKey, name }: UnlockedKey): Promise<Uint8Array> {
  const kept = (await readPrivateJson(secretFile(home, plan))) as { sealed?: unknown } | undefined;
  const sealed = kept?.sealed;
  const opened =
    typeof sealed === 'string' && sealed.length < 1024
      ? sm2Decrypt(privateKey, parseId(sealed, Math.max(0, sealed.length / 2 - 1), 'secret'))
      : undefined;
  if (opened?.ok === true) {
    const { value } = opened;
    if (value.length === P_BYTES + 32 && equalBytes(value.subarray(P_BYTES), recoverySessionId(plan)))
      return value.subarray(0, P_BYTES);
  }
  throw new ClientError(
    'RECOVERY_SECRET_MISSING',
    `This home has nothing of the announcement of "${name}" for this plan, or it was changed.`,
    'Use the home and the key that announced (--home DIR, --as KEYNAME), or let the officers begin anew with a new plan.',
  );
}

/**
 * Third round: takes the share, seals it, reads it back, and only then says that it is held.
 * @param sharePath the officer's own, on a medium that is kept offline
 * @throws ClientError RECOVERY_NOT_OFFICER, RECOVERY_FILE_MISSING, RECOVERY_FILE_FALSE, RECOVERY_DEALING_FALSE,
 *   RECOVERY_SECRET_MISSING, and EmrError of keystores and files
 */
export async function finishInFolder(
  home: Home,
  dir: string,
  key: UnlockedKey,
  { sharePath, passphrase }: { readonly sharePath: string; readonly passphrase: Uint8Array },
): Promise<{ readonly file: string; readonly share: Omit<RecoveryShare, 'x'> }> {
  const plan = await readPlan(dir);
  indexOf(plan, key);
  const { engine, random } = selectSm2Engine();
  const announcements = await heard(dir, plan, 'announcement', recoveryAnnouncement);
  const dealings = await heard(dir, plan, 'dealing', recoveryDealing);
  const p = await openSecret(home, plan, key);
  try {
    const taken = required(takeShare(plan, { publicKey: key.publicKey, p }, announcements, dealings, engine));
    const share = await keepShare(sharePath, taken.share, passphrase);
    const holding = holdShare(plan, share, taken.key, key.signer, random);
    share.x.fill(0);
    const file = await say(dir, 'holding', recoveryHolding, holding);
    await rm(secretFile(home, plan), { force: true });
    return { file, share };
  } finally {
    p.fill(0);
  }
}

/** What the members vote on. @throws ClientError RECOVERY_FILE_MISSING, RECOVERY_FILE_FALSE, RECOVERY_KEYS_DIFFER, and others */
export async function registrationInFolder(dir: string, chainId: Uint8Array): Promise<RecoveryKeyRegistration> {
  const plan = await readPlan(dir);
  if (!equalBytes(plan.chainId, chainId)) {
    throw new ClientError('CHAIN_ID_MISMATCH', `${dir} is for another chain.`, 'Check --rpc URL.');
  }
  const holdings = await heard(dir, plan, 'holding', recoveryHolding);
  return required(registrationOf(plan, holdings, selectSm2Engine().engine));
}

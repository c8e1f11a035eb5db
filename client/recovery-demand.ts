/**
 * The way of last resort to a record's key: a granted request goes to officers as a file with its proofs, and what enough of
 * them give back opens the record (common/protocol/recovery-demand.ts). Only the requester's side asks a node.
 */
import { open } from 'node:fs/promises';
import { equalBytes } from '../common/bytes.ts';
import { type Codec, decode, encode } from '../common/codec.ts';
import { certificate, MAX_CERTIFICATE_BYTES } from '../common/protocol/block.ts';
import { genesis } from '../common/protocol/genesis.ts';
import { type Handover, type TrustedSet, verifyHandover } from '../common/protocol/light.ts';
import {
  MAX_RECOVERY_DEMAND_BYTES,
  MAX_RECOVERY_HANDOVERS,
  MAX_RECOVERY_PART_BYTES,
  openRecoveryPart,
  proveDemand,
  type ProvenDemand,
  recoveryDemand,
  type RecoveryDemand,
  type RecoveryPart,
  recoveryPart,
} from '../common/protocol/recovery-demand.ts';
import { recoveryKeyEntry, type RecoveryShare } from '../common/protocol/recovery-key.ts';
import { writeSecretFile } from '../common/native/secret-file.ts';
import { selectSm2Engine } from '../common/native/sm2-select.ts';
import { stateKey } from '../common/protocol/state-entries.ts';
import type { Verdict } from '../common/errors.ts';
import { type ChainView, readHandover, requireProven } from './chain-view.ts';
import { labelOf, sidecarOf } from './custody.ts';
import { ClientError, remedyOf } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import type { UnlockedKey } from './keys.ts';
import type { OwnGrant, ProvenRecord } from './record-get.ts';
import type { Release } from './release.ts';
import { openRequestKey } from './request-keys.ts';
import { type OfferedShare, openWithShares, recoveryKey, type RejectedShare } from './threshold.ts';

const refused = (verdict: { readonly code: string; readonly message: string }, what: string): ClientError =>
  new ClientError(verdict.code, `${what}: ${verdict.message}.`, remedyOf(verdict.code));

function required<T>(verdict: Verdict<T>, what: string): T {
  if (verdict.ok) return verdict.value;
  throw refused(verdict, what);
}

/** An untrusted file that is no secret. @throws ClientError RECOVERY_FILE_UNREADABLE */
async function readAs<T>(path: string, codec: Codec<T>, maxBytes: number): Promise<T> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const decoded = size > maxBytes ? undefined : decode(codec, await file.readFile(), maxBytes);
    if (decoded?.ok === true) return decoded.value;
  } finally {
    await file.close();
  }
  throw new ClientError(
    'RECOVERY_FILE_UNREADABLE',
    `${path} is not the file that is wanted here.`,
    'Officers take what emrchain recovery export has written; record get takes what they have written.',
  );
}

// ----------------------------------------------------------------------------------------------- requester: export

/** Proofs of entries, each with the certified header that it is under; a chain that goes on has several. */
class Evidence {
  readonly #view: ChainView;
  readonly #heights: number[] = [];
  readonly heads: RecoveryDemand['heads'][number][] = [];

  constructor(view: ChainView) {
    this.#view = view;
  }

  async show(key: Uint8Array, what: string): Promise<RecoveryDemand['request']> {
    const { proof, atHeight, value } = await this.#view.rpc.call('state_get', { key: hexOf(key), prove: true });
    if (proof === null || value === null)
      throw new ClientError('NOT_FOUND', `The chain does not have ${what}.`, 'Check the id, and that it is yours.');
    return { head: await this.#head(atHeight), proof: fromHex(proof) };
  }

  async #head(height: number): Promise<number> {
    const known = this.#heights.indexOf(height);
    if (known !== -1) return known;
    const commit = await this.#view.rpc.call('chain_getCommit', { height });
    const bytes = commit.certificateBytes ?? '0x';
    this.heads.push({
      header: fromHex(commit.headerBytes),
      certificate: requireProven(decode(certificate, fromHex(bytes), MAX_CERTIFICATE_BYTES), 'the block'),
    });
    this.#heights.push(height);
    return this.#heights.length - 1;
  }
}

/** All changes of the validator set since the genesis. */
async function handoversOf(view: ChainView): Promise<readonly Handover[]> {
  const { chainId, validators } = view.node;
  const found: Handover[] = [];
  let trusted: TrustedSet = { chainId, fromHeight: 0, validators };
  for (let more = true; more && found.length < MAX_RECOVERY_HANDOVERS;) {
    const bundle = await view.rpc.call('light_getBundle', { fromHeight: Math.max(1, trusted.fromHeight) });
    for (const step of bundle.handovers.map(readHandover)) {
      trusted = requireProven(verifyHandover(trusted, step, view.engine), 'a change of validators');
      found.push(step);
    }
    more = bundle.more && bundle.handovers.length > 0;
  }
  return found.slice(0, MAX_RECOVERY_HANDOVERS);
}

/**
 * Writes what officers judge a granted request by. As they will: what they would refuse is told here.
 * @param nowMs milliseconds since 1970
 * @throws ClientError NOT_FOUND, RECOVERY_NOT_SEALED, those of `proveDemand` and of calls, EmrError of files
 */
export async function exportDemand(
  view: ChainView,
  { grant }: Pick<OwnGrant, 'grant'>,
  { record, version }: ProvenRecord,
  out: string,
  nowMs: number,
): Promise<ProvenDemand> {
  const { capsule } = version.content;
  const sealed = capsule.kind === 'threshold' ? capsule.recovery : null;
  if (sealed === null) {
    throw new ClientError(
      'RECOVERY_NOT_SEALED',
      'This version is sealed under no recovery key: its policy allows none, or there was none.',
      remedyOf('RECOVERY_NOT_SEALED'),
    );
  }
  const evidence = new Evidence(view);
  const entries = {
    request: await evidence.show(stateKey.request(grant.hash), 'the request'),
    requester: await evidence.show(stateKey.account(grant.request.requester), 'your account'),
    requesterOrg: await evidence.show(stateKey.organisation(grant.requesterOrg), 'your organisation'),
    recordVersion: await evidence.show(stateKey.recordVersion(record.id, version.version), 'the record'),
    recoveryKey: await evidence.show(stateKey.recoveryKey(sealed.key), 'the recovery key'),
  };
  const demand: RecoveryDemand = {
    format: 'emr-recovery-demand-1',
    genesis: encode(genesis, view.node.genesis),
    grantId: grant.hash,
    handovers: [...(await handoversOf(view))],
    heads: evidence.heads,
    ...entries,
  };
  const proven = required(proveDemand(demand, view.node.chainId, nowMs, view.engine), 'Officers would refuse this');
  await writeSecretFile(out, encode(recoveryDemand, demand), false);
  return proven;
}

// ------------------------------------------------------------------------------------------------- officer: open-part

/**
 * What a file shows, judged by the officer's share and clock. No node is asked.
 * @throws ClientError RECOVERY_FILE_UNREADABLE, and those of `proveDemand`
 */
export async function readDemand(
  path: string,
  share: Pick<RecoveryShare, 'chainId'>,
  nowMs: number,
): Promise<ProvenDemand> {
  const demand = await readAs(path, recoveryDemand, MAX_RECOVERY_DEMAND_BYTES);
  return required(proveDemand(demand, share.chainId, nowMs, selectSm2Engine().engine), path);
}

/** Writes the officer's part. @throws ClientError RECOVERY_OTHER_KEY, EmrError of files */
export async function writePart(proven: ProvenDemand, share: RecoveryShare, out: string): Promise<void> {
  const part = required(openRecoveryPart(proven, share, selectSm2Engine().random), 'The part was not made');
  await writeSecretFile(out, part, false);
}

// ------------------------------------------------------------------------------------------------- requester: combine

/** Files of officers, of this grant and key. @throws ClientError RECOVERY_FILE_UNREADABLE, RECOVERY_PART_OTHER */
async function partsOf(
  paths: readonly string[],
  about: Pick<RecoveryPart, 'chainId' | 'grantId' | 'key'>,
): Promise<OfferedShare[]> {
  const offered: OfferedShare[] = [];
  for (const path of paths) {
    const part = await readAs(path, recoveryPart, MAX_RECOVERY_PART_BYTES);
    const isOfThis =
      equalBytes(part.chainId, about.chainId) &&
      equalBytes(part.grantId, about.grantId) &&
      equalBytes(part.key, about.key);
    if (!isOfThis) {
      throw new ClientError(
        'RECOVERY_PART_OTHER',
        `${path} is for another grant, or of another recovery key.`,
        'Take what the officers made of the file of this request; --grant names the request.',
      );
    }
    offered.push({ holder: hexOf(part.account), share: part.share });
  }
  return offered;
}

/**
 * The record's key by the parts of officers.
 * @throws ClientError RECOVERY_NOT_SEALED, RECOVERY_TOO_FEW with who gave what, SEALED_WRONG_KEY, RECOVERY_PART_OTHER,
 *   RECOVERY_FILE_UNREADABLE, WRAP_ERASED, those of proofs and calls
 */
export async function recoveredKey(
  view: ChainView,
  key: UnlockedKey,
  { grant, stored }: OwnGrant,
  { record, version }: ProvenRecord,
  paths: readonly string[],
): Promise<Release> {
  const { content } = version;
  const sidecar = await sidecarOf(view, version);
  const capsule = content.capsule.kind === 'threshold' ? content.capsule.recovery : null;
  const c = sidecar.kind === 'sealed' ? sidecar.recoveryC : null;
  if (capsule === null || c === null) {
    throw refused({ code: 'RECOVERY_NOT_SEALED', message: 'it is sealed under no recovery key' }, 'This version');
  }
  const { chainId } = view.node;
  const { value: entry } = await view.entry(stateKey.recoveryKey(capsule.key), recoveryKeyEntry, 'the recovery key');
  const offered = await partsOf(paths, { chainId, grantId: grant.hash, key: capsule.key });
  const sealed = {
    chainId,
    grantId: grant.hash,
    requesterKey: grant.request.requesterKey,
    sealedUnder: recoveryKey(entry),
    capsule,
    c,
    label: labelOf(chainId, { ...version, owner: record.owner }, content),
  };
  const requestKey = openRequestKey(stored, key.privateKey);
  try {
    const opening = required(openWithShares(sealed, offered, requestKey), 'The sealed key does not open');
    const complaints = opening.rejected.map(complaintOf);
    if (opening.kind === 'opened') {
      return { key: opening.key, from: `officers ${opening.by.join(', ')}`, complaints, evidence: [] };
    }
    if (opening.kind === 'tooFew') throw tooFew(opening.by, entry.threshold, complaints);
    throw new ClientError(
      'SEALED_WRONG_KEY',
      `The officers' parts are proven, and what was sealed is not the key of this record: its writer sealed something else.`,
      'Tell the writing hospital.',
    );
  } finally {
    requestKey.fill(0);
  }
}

const complaintOf = ({ holder, message }: RejectedShare): string =>
  `the part of officer ${holder} is wrong: ${message}`;

const tooFew = (by: readonly string[], threshold: number, complaints: readonly string[]): ClientError =>
  new ClientError(
    'RECOVERY_TOO_FEW',
    `${by.length} good parts of the ${threshold} that it takes${complaints.map((one) => `; ${one}`).join('')}.`,
    'Take the file of the request to further officers: emrchain recovery status names all of them.',
    { given: by.length, needed: threshold },
  );

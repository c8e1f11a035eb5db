/**
 * From a grant to the record's key: every holder is asked through the node, every answer is tried, and an answer that is
 * signed and wrong names its custodian. What the owner delivered on the chain is the way that needs no custodian.
 */
import { equalBytes } from '../common/bytes.ts';
import {
  deliveryEntry,
  type RecordEntry,
  type RecordVersionEntry,
  type RequestEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import { decodeSidecar, sidecarHash } from '../common/protocol/transaction.ts';
import type { ChainView } from './chain-view.ts';
import { ClientError } from './errors.ts';
import { fromHex } from './hex.ts';
import { type Asked, askHolders, type Attempt, isDelivery, nameOf, openFor, tryReply } from './release-replies.ts';
import { openByShares } from './release-shares.ts';
import type { ShareEvidence } from './share-evidence.ts';

export interface Release {
  /** 32 bytes. Erased by the caller. */
  readonly key: Uint8Array;
  readonly from: string;
  /** Custodians whose signed answer was not this record's key, and others that answered wrongly. */
  readonly complaints: readonly string[];
  /** False shares that custodians signed: each convicts its custodian. */
  readonly evidence: readonly ShareEvidence[];
}

/**
 * @param requestKey private key of the request, 32 bytes
 * @throws ClientError KEY_NOT_RELEASED with what each holder said, SEALED_WRONG_KEY; those of calls
 */
export async function obtainKey(
  view: ChainView,
  grant: RequestEntry,
  proven: { readonly record: RecordEntry; readonly version: RecordVersionEntry },
  requestKey: Uint8Array,
): Promise<Release> {
  const attempt: Attempt = { view, grant, ...proven, requestKey, complaints: [], evidence: [] };
  const { complaints, evidence } = attempt;
  const isShared = proven.version.content.capsule.kind === 'threshold';
  const found = isShared ? await openByShares(attempt) : await openByWraps(attempt);
  if (found.key !== undefined) return { key: found.key, from: found.from, complaints, evidence };
  const delivered = found.hadDelivery ? undefined : await tryDelivery(attempt);
  if (delivered !== undefined) return { key: delivered, from: 'the owner', complaints, evidence };
  throw found.error();
}

async function openByWraps(attempt: Attempt): Promise<Asked> {
  const replies = await askHolders(attempt);
  for (const reply of replies) {
    const key = await tryReply(attempt, reply);
    if (key !== undefined) return { key, from: nameOf(reply) };
  }
  return {
    hadDelivery: replies.some(isDelivery),
    error: () =>
      new ClientError(
        'KEY_NOT_RELEASED',
        `Nobody released the key of this record: ${saidBy(attempt)}.`,
        "Try again when the writing hospital's custodian is up, or ask the patient: emrchain access deliver REQUEST.",
      ),
  };
}

const saidBy = ({ complaints }: Attempt): string =>
  complaints.length === 0 ? 'nobody answered' : complaints.join('; ');

/** The owner's delivery, from the block that the proven state names. */
async function tryDelivery(attempt: Attempt): Promise<Uint8Array | undefined> {
  const { view, grant, complaints } = attempt;
  try {
    const delivery = await view.find(stateKey.delivery(grant.hash), deliveryEntry, 'the delivery');
    if (delivery === undefined) return undefined;
    const { height, txIndex, sidecarHash: expected } = delivery.value;
    const block = await view.rpc.call('chain_getBlock', { height });
    const hash = block.txs[txIndex]?.hash;
    const sidecarHex = hash === undefined ? null : (await view.rpc.call('tx_get', { hash })).sidecar;
    if (sidecarHex === null) return undefined;
    const bytes = fromHex(sidecarHex);
    const sidecar = decodeSidecar(bytes);
    if (!sidecar.ok || sidecar.value.kind !== 'delivery' || !equalBytes(sidecarHash(bytes), expected)) {
      complaints.push('the node showed another delivery than the chain names');
      return undefined;
    }
    const opened = openFor(attempt, sidecar.value.ciphertext);
    if (opened.ok) return opened.value;
    complaints.push(`the owner's delivery: ${opened.message}`);
  } catch (error) {
    // No delivery: its absence is nobody's matter, and the node refuses the question.
    if (!(error instanceof ClientError) || !['OUT_OF_SCOPE', 'NOT_FOUND'].includes(error.code)) throw error;
  }
  return undefined;
}

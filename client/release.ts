/**
 * From a grant to the record's key: every holder is asked through the node, every answer is tried, and an answer that is
 * signed and wrong names its custodian. What the owner delivered on the chain is the way that needs no custodian.
 */
import { equalBytes } from '../common/bytes.ts';
import type { Verdict } from '../common/errors.ts';
import { organisationEntry, deliveryEntry, stateKey } from '../common/protocol/state-entries.ts';
import type { RecordVersionEntry, RequestEntry } from '../common/protocol/state-entries.ts';
import { decodeSidecar, sidecarHash } from '../common/protocol/transaction.ts';
import { releaseSigningHash } from '../common/protocol/signing.ts';
import type { ResultOf } from '../rpc/methods.ts';
import type { ChainView } from './chain-view.ts';
import { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import { openWrap } from './record-offer.ts';
import { clean } from './text.ts';

const RELEASE_WAIT_MS = 10_000;
const RELEASE_SLACK_MS = 10_000;

type Reply = ResultOf<'custody_getShare'>['replies'][number];

export interface Release {
  /** 32 bytes. Erased by the caller. */
  readonly key: Uint8Array;
  readonly from: string;
  /** Custodians whose signed answer was not this record's key, and others that answered wrongly. */
  readonly complaints: readonly string[];
}

interface Attempt {
  readonly view: ChainView;
  readonly grant: RequestEntry;
  readonly version: RecordVersionEntry;
  readonly requestKey: Uint8Array;
  readonly complaints: string[];
}

/**
 * @param requestKey private key of the request, 32 bytes
 * @throws ClientError KEY_NOT_RELEASED with what each holder said; those of calls
 */
export async function obtainKey(
  view: ChainView,
  grant: RequestEntry,
  version: RecordVersionEntry,
  requestKey: Uint8Array,
): Promise<Release> {
  const attempt: Attempt = { view, grant, version, requestKey, complaints: [] };
  const { replies } = await view.rpc.call(
    'custody_getShare',
    { grantId: hexOf(grant.hash), timeoutMs: RELEASE_WAIT_MS },
    { timeoutMs: RELEASE_WAIT_MS + RELEASE_SLACK_MS },
  );
  for (const reply of replies) {
    const key = await tryReply(attempt, reply);
    if (key !== undefined) return { key, from: nameOf(reply), complaints: attempt.complaints };
  }
  if (!replies.some(({ from, wrapped }) => from === 'owner' && wrapped !== null)) {
    const key = await tryDelivery(attempt);
    if (key !== undefined) return { key, from: 'the owner', complaints: attempt.complaints };
  }
  const said = attempt.complaints.length === 0 ? 'nobody answered' : attempt.complaints.join('; ');
  throw new ClientError(
    'KEY_NOT_RELEASED',
    `Nobody released the key of this record: ${said}.`,
    "Try again when the writing hospital's custodian is up, or ask the patient: emrchain access deliver REQUEST.",
  );
}

const nameOf = (reply: Reply): string =>
  reply.from === 'owner' ? 'the owner' : `the custodian of ${clean(reply.orgId ?? 'nobody')}`;

function open({ requestKey, version }: Attempt, wrapped: Uint8Array): Verdict<Uint8Array> {
  return openWrap(requestKey, wrapped, version, version.content.keyCheck);
}

async function tryReply(attempt: Attempt, reply: Reply): Promise<Uint8Array | undefined> {
  const { complaints } = attempt;
  if (reply.wrapped === null) {
    complaints.push(`${nameOf(reply)} refused: ${clean(reply.code ?? 'no reason')}, ${clean(reply.message ?? '')}`);
    return undefined;
  }
  const wrapped = fromHex(reply.wrapped);
  if (reply.from === 'custodian') {
    const doubt = await custodianDoubt(attempt, reply, wrapped);
    if (doubt !== undefined) {
      complaints.push(doubt);
      return undefined;
    }
  }
  const opened = open(attempt, wrapped);
  if (opened.ok) return opened.value;
  complaints.push(
    reply.from === 'custodian'
      ? `${nameOf(reply)} SIGNED A WRONG ANSWER (${opened.message}): keep it as evidence`
      : `${nameOf(reply)}: ${opened.message}`,
  );
  return undefined;
}

/** Why an answer is not the custodian's own; undefined if it is. */
async function custodianDoubt(
  { view, grant }: Attempt,
  reply: Reply,
  wrapped: Uint8Array,
): Promise<string | undefined> {
  const { orgId, signature, custodianKey } = reply;
  if (orgId === null || signature === null || custodianKey === null) return 'an answer without a custodian';
  const named = await view.find(stateKey.organisation(orgId), organisationEntry, 'the organisation');
  const key = named?.value.custodianKey ?? null;
  if (key === null || !equalBytes(key, fromHex(custodianKey, 64))) {
    return `an answer in the name of ${clean(orgId)} is not signed by its custodian key`;
  }
  const message = releaseSigningHash(view.node.chainId, grant.hash, orgId, wrapped);
  return view.engine.verify(key, message, fromHex(signature, 64))
    ? undefined
    : `an answer in the name of ${clean(orgId)} has a signature that does not verify`;
}

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
    const opened = open(attempt, sidecar.value.ciphertext);
    if (opened.ok) return opened.value;
    complaints.push(`the owner's delivery: ${opened.message}`);
  } catch (error) {
    // No delivery: its absence is nobody's matter, and the node refuses the question.
    if (!(error instanceof ClientError) || !['OUT_OF_SCOPE', 'NOT_FOUND'].includes(error.code)) throw error;
  }
  return undefined;
}

/**
 * What holders of key material answer, through a node that may have changed it: asking, reading one answer, and whether it is
 * its custodian's own. What opens a record from them is in release.ts and release-shares.ts.
 */
import { equalBytes } from '../common/bytes.ts';
import type { Verdict } from '../common/errors.ts';
import { releaseSigningHash } from '../common/protocol/signing.ts';
import {
  organisationEntry,
  type RecordEntry,
  type RecordVersionEntry,
  type RequestEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import type { ResultOf } from '../rpc/methods.ts';
import type { ChainView } from './chain-view.ts';
import type { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import { openWrap } from './record-offer.ts';
import type { ShareEvidence } from './share-evidence.ts';
import { clean } from './text.ts';

const RELEASE_WAIT_MS = 10_000;
const RELEASE_SLACK_MS = 10_000;

export type Reply = ResultOf<'custody_getShare'>['replies'][number];

/** One attempt to obtain a key: what is proven of the grant and the record, and who has to be complained about. */
export interface Attempt {
  readonly view: ChainView;
  readonly grant: RequestEntry;
  readonly record: RecordEntry;
  readonly version: RecordVersionEntry;
  /** Private key of the request, 32 bytes. */
  readonly requestKey: Uint8Array;
  readonly complaints: string[];
  /** What convicts custodians, as it was received. */
  readonly evidence: ShareEvidence[];
}

/** What asking the holders came to. `error` is thrown unless the owner's delivery opens the record. */
export type Asked =
  | { readonly key: Uint8Array; readonly from: string }
  | { readonly key?: undefined; readonly hadDelivery: boolean; error(): ClientError };

/** What the node passed on; asked anew each time. */
export async function askHolders({ view, grant }: Attempt): Promise<readonly Reply[]> {
  const { replies } = await view.rpc.call(
    'custody_getShare',
    { grantId: hexOf(grant.hash), timeoutMs: RELEASE_WAIT_MS },
    { timeoutMs: RELEASE_WAIT_MS + RELEASE_SLACK_MS },
  );
  return replies;
}

export const isDelivery = ({ from, wrapped }: Reply): boolean => from === 'owner' && wrapped !== null;

export const nameOf = (reply: Reply): string =>
  reply.from === 'owner' ? 'the owner' : `the custodian of ${clean(reply.orgId ?? 'nobody')}`;

export const refusalText = (reply: Reply): string =>
  `${nameOf(reply)} refused: ${clean(reply.code ?? 'no reason')}, ${clean(reply.message ?? '')}`;

export function openFor({ requestKey, version }: Attempt, wrapped: Uint8Array): Verdict<Uint8Array> {
  return openWrap(requestKey, wrapped, version, version.content.keyCheck);
}

/** The key that one holder gave alone; complains where it did not. */
export async function tryReply(attempt: Attempt, reply: Reply): Promise<Uint8Array | undefined> {
  const { complaints } = attempt;
  if (reply.wrapped === null) {
    complaints.push(refusalText(reply));
    return undefined;
  }
  const wrapped = fromHex(reply.wrapped);
  if (reply.from === 'custodian') {
    const { view, grant } = attempt;
    const doubt = await signatureDoubt(view, reply, (orgId) =>
      releaseSigningHash(view.node.chainId, grant.hash, orgId, wrapped),
    );
    if (doubt !== undefined) {
      complaints.push(doubt);
      return undefined;
    }
  }
  const opened = openFor(attempt, wrapped);
  if (opened.ok) return opened.value;
  complaints.push(
    reply.from === 'custodian'
      ? `${nameOf(reply)} SIGNED A WRONG ANSWER (${opened.message}): keep it as evidence`
      : `${nameOf(reply)}: ${opened.message}`,
  );
  return undefined;
}

/** Proven; null where the organisation has none. */
export async function custodianKeyOf(view: ChainView, orgId: string): Promise<Uint8Array | null> {
  const named = await view.find(stateKey.organisation(orgId), organisationEntry, 'the organisation');
  return named?.value.custodianKey ?? null;
}

interface SignedAnswer {
  readonly orgId: string | null;
  readonly signature: string | null;
  readonly custodianKey: string | null;
}

/**
 * Why an answer is not the custodian's own; undefined if it is.
 * @param messageOf what the custodian of this organisation signs, 32 bytes
 */
export async function signatureDoubt(
  view: ChainView,
  { orgId, signature, custodianKey }: SignedAnswer,
  messageOf: (orgId: string) => Uint8Array,
): Promise<string | undefined> {
  if (orgId === null || signature === null || custodianKey === null) return 'an answer without a custodian';
  const key = await custodianKeyOf(view, orgId);
  if (key === null || !equalBytes(key, fromHex(custodianKey, 64))) {
    return `an answer in the name of ${clean(orgId)} is not signed by its custodian key`;
  }
  return view.engine.verify(key, messageOf(orgId), fromHex(signature, 64))
    ? undefined
    : `an answer in the name of ${clean(orgId)} has a signature that does not verify`;
}

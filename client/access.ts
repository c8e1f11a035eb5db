/**
 * Asking for access and deciding on it. Whoever decides signs the hash of the whole request: it is read from the proven
 * state, its hash is computed here from its fields, and a hash that a node merely names is never signed.
 */
import { equalBytes } from '../common/bytes.ts';
import { publicKeyOf } from '../common/crypto/sm2.ts';
import { newPrivateKey, selectSm2Engine } from '../common/native/sm2-select.ts';
import { custodyDemandEntry } from '../common/protocol/custody.ts';
import type { PolicyRule, Purpose } from '../common/protocol/policy.ts';
import { type PolicyEntry, requestEntry, type RequestEntry, stateKey } from '../common/protocol/state-entries.ts';
import { type AccessRequest, encodeSidecar, requestHashOf, sidecarHash } from '../common/protocol/transaction.ts';
import { sm2Encrypt } from '../common/crypto/sm2-encrypt.ts';
import { wrapPlaintext } from '../common/protocol/record.ts';
import type { ChainView, ProvenEntry } from './chain-view.ts';
import { activeEpoch } from './custody.ts';
import { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import type { Home } from './home.ts';
import type { UnlockedKey } from './keys.ts';
import { policyAtVersion, provenPolicy } from './policies.ts';
import { randomNonce, randomSecret } from './randomness.ts';
import { forgetRequestKey, storeRequestKey } from './request-keys.ts';
import { execute, type Committed, type SubmitOptions } from './transactions.ts';

const LIAR = 'Use another node (--rpc URL), and tell its operator.';

/** A request as the chain has it, its hash recomputed. @throws ClientError REQUEST_UNKNOWN, PROOF_INVALID */
export async function provenRequest(view: ChainView, hash: Uint8Array): Promise<ProvenEntry<RequestEntry>> {
  const found = await view.find(stateKey.request(hash), requestEntry, 'the request');
  if (found === undefined) {
    throw new ClientError('REQUEST_UNKNOWN', 'There is no such request.', 'emrchain access list shows them.');
  }
  const { value } = found;
  if (!equalBytes(requestHashOf(view.node.chainId, value.request), hash) || !equalBytes(value.hash, hash)) {
    throw new ClientError('PROOF_INVALID', 'The request is not the one that its hash names.', LIAR);
  }
  return found;
}

/** The policy of a request, at the version that it names. Null where this account may not see it. */
export function policyOfRequest(view: ChainView, request: RequestEntry): Promise<PolicyEntry | null> {
  return policyAtVersion(view, request.policyRef, request.request.policyVersion);
}

/** Rules that allow the purpose, those first under which one of the roles may ask. */
function rulesFor(rules: readonly PolicyRule[], purpose: Purpose, roles: ReadonlySet<string>): readonly number[] {
  const allowing = rules.flatMap((rule, index) => (rule.purposes.includes(purpose) ? [index] : []));
  const fits = (index: number): boolean => rules[index]?.requesters.some(({ role }) => roles.has(role)) === true;
  return [...allowing.filter(fits), ...allowing.filter((index) => !fits(index))];
}

export interface Asking {
  readonly recordId: Uint8Array;
  readonly purpose: Purpose;
  readonly durationMs: number;
  /** The first rule that fits when absent. */
  readonly ruleIndex?: number;
  /** The latest when absent. */
  readonly version?: number;
}

async function chooseRule(view: ChainView, key: UnlockedKey, policy: PolicyEntry, asking: Asking): Promise<number> {
  if (asking.ruleIndex !== undefined) return asking.ruleIndex;
  const { roles } = await view.rpc.call('acl_getRoles', { account: hexOf(key.account) });
  const held = new Set<string>(['patient', ...roles.filter(({ current }) => current).map(({ role }) => role)]);
  const [first] = rulesFor(policy.document.rules, asking.purpose, held);
  if (first === undefined) {
    throw new ClientError(
      'PURPOSE_NOT_ALLOWED',
      `No rule of the record's policy allows ${asking.purpose}.`,
      `emrchain policy show ${hexOf(policy.ref)} says which purposes each rule allows.`,
    );
  }
  return first;
}

/**
 * Asks for access with a fresh key, which is stored in the home before anything leaves.
 * @returns the request's hash, which becomes the grant's id
 */
export async function requestAccess(
  view: ChainView,
  home: Home,
  key: UnlockedKey,
  asking: Asking,
  options: SubmitOptions = {},
): Promise<{ readonly hash: Uint8Array; readonly request: AccessRequest; readonly committed: Committed }> {
  const { record } = await view.rpc.call('emr_getRecord', { recordId: hexOf(asking.recordId) });
  const policy = await provenPolicy(view, fromHex(record.policyRef, 32));
  const ruleIndex = await chooseRule(view, key, policy, asking);
  const requestKey = newPrivateKey();
  const request: AccessRequest = {
    recordId: asking.recordId,
    version: asking.version ?? record.latestVersion,
    requester: key.account,
    requesterKey: publicKeyOf(requestKey),
    purpose: asking.purpose,
    ruleIndex,
    policyVersion: policy.version,
    notAfterMs: (options.nowMs ?? Date.now)() + asking.durationMs,
    nonce: randomNonce(),
  };
  const { chainId } = view.node;
  const hash = requestHashOf(chainId, request);
  const possession = selectSm2Engine().createSigner(requestKey).sign(hash);
  await storeRequestKey(home, chainId, request, requestKey, key.privateKey);
  requestKey.fill(0);
  try {
    const sender = { account: key.account, signer: key.signer };
    const committed = await execute(view, sender, { kind: 'access.request', request, possession }, options);
    return { hash, request, committed };
  } catch (error) {
    // Refused for good: the key opens nothing. After a timeout it may still be committed, and the key is kept.
    if (error instanceof ClientError && error.detail['rpcCode'] === -32003) await forgetRequestKey(home, hash);
    throw error;
  }
}

export type Decision =
  | { readonly kind: 'approve' }
  | { readonly kind: 'deny'; readonly reason: string }
  | { readonly kind: 'cancel' }
  | { readonly kind: 'revoke'; readonly reason: string };

/** Signs a decision on a request that `provenRequest` gave. */
export function decide(
  view: ChainView,
  key: UnlockedKey,
  request: RequestEntry,
  decision: Decision,
  options: SubmitOptions = {},
): Promise<Committed> {
  const requestHash = requestHashOf(view.node.chainId, request.request);
  const sender = { account: key.account, signer: key.signer };
  switch (decision.kind) {
    case 'approve':
    case 'cancel':
      return execute(view, sender, { kind: `access.${decision.kind}`, requestHash }, options);
    case 'deny':
    case 'revoke':
      return execute(view, sender, { kind: `access.${decision.kind}`, requestHash, reason: decision.reason }, options);
  }
}

/**
 * Gives the record's key to a granted request on the chain, encrypted to its fresh key: for owners whose hospital's
 * custodian does not, or cannot.
 * @param recordKey 32 bytes; erased by the caller
 */
export async function deliver(
  view: ChainView,
  key: UnlockedKey,
  request: RequestEntry,
  recordKey: Uint8Array,
  options: SubmitOptions = {},
): Promise<Committed> {
  const { recordId, version, requesterKey } = request.request;
  const plain = wrapPlaintext(recordKey, recordId, version);
  const sidecar = encodeSidecar({ kind: 'delivery', ciphertext: sm2Encrypt(requesterKey, plain, randomSecret) });
  plain.fill(0);
  const requestHash = requestHashOf(view.node.chainId, request.request);
  const call = { kind: 'access.deliver' as const, requestHash, sidecarHash: sidecarHash(sidecar) };
  return execute(view, { account: key.account, signer: key.signer }, call, { ...options, sidecar });
}

/**
 * Calls on the custodians to post their shares on the chain, where they do not answer: who has none in the end is seen to
 * have refused. Only where the record's key is shared; only the requester may.
 */
export function demandShares(
  view: ChainView,
  key: UnlockedKey,
  request: RequestEntry,
  options: SubmitOptions = {},
): Promise<Committed> {
  const requestHash = requestHashOf(view.node.chainId, request.request);
  return execute(view, { account: key.account, signer: key.signer }, { kind: 'access.demand', requestHash }, options);
}

/** What the chain holds of a demand for shares: who has posted one, and who of the holders has not. */
export interface Demanded {
  readonly epoch: number;
  readonly untilMs: number;
  readonly posted: readonly string[];
  readonly missing: readonly string[];
  readonly needed: number;
}

/** Proven; null where nobody demanded, or where the shares are of an epoch that is over. */
export async function demandedShares(view: ChainView, requestHash: Uint8Array): Promise<Demanded | null> {
  const [demand, epoch] = await Promise.all([
    view.find(stateKey.custodyDemand(requestHash), custodyDemandEntry, 'the demand for shares'),
    activeEpoch(view),
  ]);
  if (demand === undefined || epoch === null || demand.value.epoch !== epoch.epoch) return null;
  const posted = demand.value.shares.map(({ orgId }) => orgId);
  const missing = epoch.holders.flatMap(({ orgId }) => (posted.includes(orgId) ? [] : [orgId]));
  return { epoch: epoch.epoch, untilMs: demand.value.untilMs, posted, missing, needed: epoch.threshold };
}

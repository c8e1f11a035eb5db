/**
 * Whether a revocation has reached a quorum: "revoked" is said once so many validators have signed that they executed it that
 * those who have not cannot release a key. Signatures are counted, not what a node says of them.
 */
import { equalBytes } from '../common/bytes.ts';
import { decode } from '../common/codec.ts';
import { MAX_STATUS_BYTES, status, statusSigningHash } from '../common/protocol/status.ts';
import { quorumSize } from '../common/protocol/validator-set.ts';
import { provenRequest } from './access.ts';
import type { ChainView } from './chain-view.ts';
import { fromHex, hexOf } from './hex.ts';

export interface Revocation {
  readonly final: boolean;
  /** Organisations whose validators have signed a receipt that verifies. */
  readonly executedBy: readonly string[];
  readonly quorum: number;
}

/** @throws ClientError REQUEST_UNKNOWN, PROOF_INVALID, those of calls */
export async function revocationStatus(view: ChainView, hash: Uint8Array): Promise<Revocation> {
  const [{ value: request }, { receipts }] = await Promise.all([
    provenRequest(view, hash),
    view.rpc.call('acl_getRevocationStatus', { requestHash: hexOf(hash) }),
  ]);
  const { validators, engine } = view;
  const quorum = quorumSize(validators.length);
  if (request.status !== 'revoked') return { final: false, executedBy: [], quorum };
  const executedBy = new Set<string>();
  for (const { address, status: body, signature } of receipts) {
    const signer = validators.find((member) => equalBytes(member.address, fromHex(address, 20)));
    const said = decode(status, fromHex(body), MAX_STATUS_BYTES);
    if (signer === undefined || !said.ok || said.value.height < request.statusHeight) continue;
    const message = statusSigningHash(view.node.chainId, said.value);
    if (engine.verify(signer.publicKey, message, fromHex(signature, 64))) executedBy.add(signer.orgId);
  }
  return { final: executedBy.size >= quorum, executedBy: [...executedBy], quorum };
}

/** The client as a library. The command line is built on nothing else. */
export {
  type Asking,
  decide,
  type Decision,
  deliver,
  type Demanded,
  demandedShares,
  demandShares,
  provenRequest,
  requestAccess,
} from './access.ts';
export { downloadBlob } from './blob-download.ts';
export type { Progress } from './blob-http.ts';
export { uploadBlob } from './blob-upload.ts';
export { ChainChecker, verifyBundle } from './chain-bundle.ts';
export { ChainView, type ProvenEntry } from './chain-view.ts';
export { activeEpoch, sealingKeys, sidecarOf } from './custody.ts';
export { ClientError, describeFailure, type Failure, remedyOf } from './errors.ts';
export { Home, openHome } from './home.ts';
export * from './keys.ts';
export { type FirstContact, meetNode, type PinnedNode, pinNode } from './network.ts';
export { provenPolicy } from './policies.ts';
export { parsePolicyFile } from './policy-file.ts';
export { authorizer, createReaderToken } from './reader-token.ts';
export {
  awaitReplicas,
  type NewRecord,
  prepareOffer,
  type Replica,
  submitOffer,
  verifiedReplicas,
} from './record-add.ts';
export { fetchRecord, findGrant, grantedKey, ownKey, provenRecord } from './record-get.ts';
export {
  checkOffer,
  type Consent,
  consentTo,
  readConsent,
  readOffer,
  type RecordOffer,
  writeConsent,
  writeOffer,
} from './record-offer.ts';
export { obtainKey, type Release } from './release.ts';
export { type Revocation, revocationStatus } from './revocation.ts';
export { DEFAULT_RPC_URL, RpcClient } from './rpc-client.ts';
export { callOf, countersigned, possessed, readStatement, type Statement, writeStatement } from './statements.ts';
export { tokenOf } from './tokens.ts';
export { type Committed, execute, type Sender, signTransaction, submit } from './transactions.ts';

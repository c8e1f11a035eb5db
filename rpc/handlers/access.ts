/** acl_* and gov_*. */
import { equalBytes, readU32be, readU64be } from '../../common/bytes.ts';
import { type Address, type Hash, MAX_OBSERVERS } from '../../common/protocol/primitives.ts';
import {
  accountEntry,
  auditEntry,
  candidateEntry,
  decisionEntry,
  deliveryEntry,
  diallingEntry,
  grantEntry,
  observerEntry,
  organisationEntry,
  proposalEntry,
  requestByRecordEntry,
  type RequestEntry,
  requestEntry,
  roleEntry,
  stateKey,
  statePrefix,
  validatorsEntry,
  voteEntry,
} from '../../common/protocol/state-entries.ts';
import { decisionOf, quorumSize, type ValidatorSet } from '../../common/protocol/validator-set.ts';
import { notFound, outOfScope, RpcError } from '../errors.ts';
import { requestFactsOf } from '../facts.ts';
import { toHex, toJson } from '../json.ts';
import type { ParamsOf, ResultOf } from '../methods.ts';
import { DEFAULT_PAGE } from '../methods/shapes.ts';
import { page, whileStable } from '../pages.ts';
import type { Hex } from '../schema.ts';
import { bytesOf, type Call, type Handlers, type MethodsOf, type Service } from '../service.ts';
import { atOf, get, getProven, list } from '../state-reads.ts';
import {
  accountView,
  decisionView,
  organisationView,
  proposalView,
  requestView,
  roleView,
  validatorsView,
  voteView,
} from '../views.ts';

/** More than one account or request can have; the vm bounds them lower. */
const ALL_ENTRIES = 256;

/** @throws RpcError NOT_FOUND, FORBIDDEN */
async function requireRequest(service: Service, requestHash: Hash, call: Call): Promise<void> {
  const facts = await service.facts.request(requestHash);
  if (facts === null) throw notFound('There is no request with this hash.');
  await call.scope.requireRequest(facts);
}

async function requireAccount(service: Service, id: Address, call: Call): Promise<void> {
  const facts = await service.facts.account(id);
  if (facts === null) throw notFound('There is no account with this id.');
  if (!call.scope.account(id, facts)) throw outOfScope('This account');
}

export function aclHandlers(service: Service): Handlers<MethodsOf<'acl'>> {
  const { reads, ports } = service;
  return {
    async acl_getRevocationStatus({ requestHash }, call) {
      const hash = bytesOf(requestHash);
      await requireRequest(service, hash, call);
      const { at, results } = await reads.read(
        get(requestEntry, stateKey.request(hash)),
        get(validatorsEntry, stateKey.validators()),
      );
      const [entry, set] = results;
      if (entry === null || set === null) throw notFound('There is no request with this hash.');
      const revokedHeight = entry.status === 'revoked' ? entry.statusHeight : null;
      const executed = ports.consensus
        .validators()
        .filter(
          ({ executedHeight }) => revokedHeight !== null && executedHeight !== null && executedHeight >= revokedHeight,
        )
        .filter(({ address }) => set.some((member) => equalBytes(member.address, address)));
      const executedBy = set
        .filter((member) => executed.some(({ address }) => equalBytes(address, member.address)))
        .map(({ orgId }) => orgId);
      const receipts = executed.flatMap(({ address, signedStatus }) =>
        signedStatus === null
          ? []
          : [
              {
                address: toHex(address),
                status: toHex(signedStatus.body),
                signature: toHex(signedStatus.signature),
              },
            ],
      );
      const quorum = quorumSize(set.length);
      const final = executedBy.length >= quorum;
      return {
        requestHash,
        status: entry.status,
        revokedHeight,
        executedBy,
        receipts,
        quorum,
        final,
        ...atOf(at),
      };
    },
    async acl_getAccount({ account, prove = false }, call) {
      const id = bytesOf(account);
      await requireAccount(service, id, call);
      const { at, results } = await reads.read(getProven(accountEntry, stateKey.account(id), prove));
      const { value, proof } = results[0];
      if (value === null) throw notFound('There is no account with this id.');
      // The proof holds the whole entry, the person tag too.
      if (prove && value.personTag !== null && call.scope.personTag(value) === null)
        throw outOfScope('The proof of this account');
      return { account: accountView(value, call.scope), proof: proof && toHex(proof), ...atOf(at) };
    },
    acl_listAccounts: ({ orgId, limit, cursor }, call) =>
      page(service, call, {
        question: `acl_listAccounts ${orgId ?? ''}`,
        prefix: statePrefix.accounts(),
        codec: accountEntry,
        limit,
        cursor,
        whole: call.scope.all && orgId === undefined,
        item: ({ value }) =>
          (orgId === undefined || value.orgId === orgId) && call.scope.account(value.id, value)
            ? accountView(value, call.scope)
            : null,
      }),
    async acl_getRoles({ account }, call) {
      const id = bytesOf(account);
      await requireAccount(service, id, call);
      const { at, results } = await reads.read(list(roleEntry, statePrefix.rolesOf(id), { limit: ALL_ENTRIES }));
      const now = ports.chain.head().timestampMs;
      return { account, roles: results[0].entries.map(({ value }) => roleView(value, now)), ...atOf(at) };
    },
    acl_getRequest: ({ requestHash, prove = false }, call) => explainedRequest(service, requestHash, prove, call),
    acl_listRequests: (params, call) => listRequests(service, params, call),
    async acl_getApprovals({ requestHash }, call) {
      const hash = bytesOf(requestHash);
      await requireRequest(service, hash, call);
      const { at, results } = await reads.read(
        list(decisionEntry, statePrefix.decisions(hash), { limit: ALL_ENTRIES }),
      );
      return { requestHash, decisions: results[0].entries.map(({ value }) => decisionView(value)), ...atOf(at) };
    },
    acl_getGrants: (params, call) => listGrants(service, params, call),
    acl_checkAccess: (params, call) => checkAccess(service, params, call),
    acl_getAuditTrail: (params, call) => auditTrail(service, params, call),
  };
}

async function explainedRequest(
  service: Service,
  requestHash: Hex,
  prove: boolean,
  call: Call,
): Promise<ResultOf<'acl_getRequest'>> {
  const hash = bytesOf(requestHash);
  await requireRequest(service, hash, call);
  return whileStable(async () => {
    const { at, explanation } = await service.ports.access.explainRequest(hash);
    const stored = await service.reads.read(
      getProven(requestEntry, stateKey.request(hash), prove),
      get(deliveryEntry, stateKey.delivery(hash)),
    );
    if (!equalBytes(at.hash, stored.at.hash)) return undefined;
    if (explanation === null) throw notFound('There is no request with this hash.');
    const [{ proof }, delivery] = stored.results;
    const { request, status, tree, idle, missing, decisions } = explanation;
    return {
      request: requestView(request),
      body: toJson(request.request),
      explanation: { status, tree: toJson(tree), idle: idle.map(toHex), missing },
      decisions: decisions.map(decisionView),
      delivered: delivery !== null,
      proof: proof && toHex(proof),
      ...atOf(at),
    };
  });
}

async function listRequests(
  service: Service,
  params: ParamsOf<'acl_listRequests'>,
  call: Call,
): Promise<ResultOf<'acl_listRequests'>> {
  const { recordId, requester, status, limit, cursor } = params;
  const question = `acl_listRequests ${recordId ?? ''} ${requester ?? ''} ${status ?? ''}`;
  const item = async (entry: RequestEntry) => {
    if (requester !== undefined && toHex(entry.request.requester) !== requester) return null;
    if (status !== undefined && entry.status !== status) return null;
    return (await call.scope.request(requestFactsOf(entry))) ? requestView(entry) : null;
  };
  const unfiltered = call.scope.all && requester === undefined && status === undefined;
  if (recordId === undefined) {
    return page(service, call, {
      question,
      prefix: statePrefix.requests(),
      codec: requestEntry,
      limit,
      cursor,
      whole: unfiltered,
      item: ({ value }) => item(value),
    });
  }
  return page(service, call, {
    question,
    prefix: statePrefix.requestsOfRecord(bytesOf(recordId)),
    codec: requestByRecordEntry,
    limit,
    cursor,
    whole: unfiltered,
    async item({ value }) {
      const { results } = await service.reads.read(get(requestEntry, stateKey.request(value.hash)));
      return results[0] && item(results[0]);
    },
  });
}

/** Keys of grants: namespace, record (32), requester (20), request (32). */
const GRANT_REQUEST_OFFSET = 1 + 32 + 20;
const GRANTS_NAMESPACE = 1;

function listGrants(
  service: Service,
  params: ParamsOf<'acl_getGrants'>,
  call: Call,
): Promise<ResultOf<'acl_getGrants'>> {
  const { recordId, requester, limit, cursor } = params;
  const record = recordId && bytesOf(recordId);
  const prefix = record
    ? requester
      ? statePrefix.grantsOf(record, bytesOf(requester))
      : statePrefix.grantsOfRecord(record)
    : statePrefix.grantsOfRecord(new Uint8Array(0)).slice(0, GRANTS_NAMESPACE);
  return page(service, call, {
    question: `acl_getGrants ${recordId ?? ''} ${requester ?? ''}`,
    prefix,
    codec: grantEntry,
    limit,
    cursor,
    whole: call.scope.all && (record !== undefined || requester === undefined),
    async item({ key }) {
      const { results } = await service.reads.read(
        get(requestEntry, stateKey.request(key.slice(GRANT_REQUEST_OFFSET))),
      );
      const [entry] = results;
      if (entry === null || entry.status !== 'granted') return null;
      if (requester !== undefined && toHex(entry.request.requester) !== requester) return null;
      return (await call.scope.request(requestFactsOf(entry))) ? requestView(entry) : null;
    },
  });
}

async function checkAccess(
  service: Service,
  params: ParamsOf<'acl_checkAccess'>,
  call: Call,
): Promise<ResultOf<'acl_checkAccess'>> {
  const { subject, recordId, purpose, height, prove = false } = params;
  const [account, id] = [bytesOf(subject), bytesOf(recordId)];
  const record = await service.facts.record(id);
  const visible = call.scope.isSelf(account) || (record !== null && (await call.scope.record(id, record)) === 'full');
  if (!visible && !call.scope.all) throw outOfScope('What this account may do with this record');
  return whileStable(async () => {
    const { at, decision } = await service.ports.access.checkAccess({ subject: account, recordId: id, purpose });
    if (typeof height === 'number' && height !== at.height) {
      throw new RpcError('PRUNED', `Access is judged at the last block, ${at.height}.`, 'STATE_NOT_KEPT');
    }
    const { requestHash, reason, message, notAfterMs } = decision;
    const proof = prove && requestHash ? await provenAt(service, requestHash, at.hash) : null;
    if (proof === undefined) return undefined;
    return {
      decision: decision.decision,
      reason,
      message,
      requestHash: requestHash && toHex(requestHash),
      notAfterMs,
      proof: proof && toHex(proof),
      ...atOf(at),
    };
  });
}

/** Undefined where the state is at another block by now. */
async function provenAt(service: Service, requestHash: Hash, blockHash: Hash): Promise<Uint8Array | null | undefined> {
  const { at, results } = await service.reads.read(getProven(requestEntry, stateKey.request(requestHash), true));
  return equalBytes(at.hash, blockHash) ? results[0].proof : undefined;
}

/** Keys of audit entries: namespace, record (32), height (8), sequence (4). */
const AUDIT_HEIGHT_OFFSET = 1 + 32;
const AUDIT_SEQUENCE_OFFSET = AUDIT_HEIGHT_OFFSET + 8;

async function auditTrail(
  service: Service,
  { recordId, prove = false, limit = DEFAULT_PAGE, cursor }: ParamsOf<'acl_getAuditTrail'>,
  call: Call,
): Promise<ResultOf<'acl_getAuditTrail'>> {
  const { reads, cursors, facts } = service;
  const id = bytesOf(recordId);
  const record = await facts.record(id);
  if (record === null) throw notFound('There is no record with this id.');
  const { scope } = call;
  if (!scope.all && !scope.isSelf(record.owner) && !scope.worksFor(record.orgId))
    throw outOfScope('The audit trail of this record');
  if (prove) scope.requireAll('The proof of a range also shows keys beside it.', 'PROOF_SHOWS_OTHERS');

  const question = `acl_getAuditTrail ${recordId}`;
  const after = cursor === undefined ? null : cursors.open(question, cursor);
  const { at, results } = await reads.read(list(auditEntry, statePrefix.audit(id), { limit, after, prove }));
  const { entries, more, proof } = results[0];
  const items = entries.map(({ key, value: { timestampMs, txHash, event } }) => ({
    height: readU64be(key, AUDIT_HEIGHT_OFFSET) ?? 0,
    sequence: readU32be(key, AUDIT_SEQUENCE_OFFSET) ?? 0,
    timestampMs,
    txHash: txHash && toHex(txHash),
    event: toJson(event),
  }));
  const last = entries[entries.length - 1];
  const nextCursor = more && last ? cursors.seal(question, last.key) : null;
  return { items, nextCursor, proof: proof && toHex(proof), ...atOf(at) };
}

/** The set that certifies the next height. */
async function validatorsNow({ ports }: Service): Promise<ValidatorSet> {
  return (await ports.chain.validatorsAt(ports.chain.head().height + 1)) ?? [];
}

export function govHandlers(service: Service): Handlers<MethodsOf<'gov'>> {
  const { reads } = service;
  return {
    async gov_listProposals({ status, limit, cursor }, call) {
      const set = await validatorsNow(service);
      return page(service, call, {
        question: `gov_listProposals ${status ?? ''}`,
        prefix: statePrefix.proposals(),
        codec: proposalEntry,
        limit,
        cursor,
        whole: status === undefined,
        item: ({ value }) => (status === undefined || value.status === status ? proposalView(value, set) : null),
      });
    },
    async gov_getProposal({ proposalId }) {
      const id = bytesOf(proposalId);
      const { at, results } = await reads.read(
        get(proposalEntry, stateKey.proposal(id)),
        list(voteEntry, statePrefix.votes(id), { limit: ALL_ENTRIES }),
      );
      const [entry, votes] = results;
      if (entry === null) throw notFound('There is no proposal with this id.');
      const set = await validatorsNow(service);
      return {
        proposal: proposalView(entry, set),
        votes: votes.entries.map(({ value }) => voteView(value)),
        ...atOf(at),
      };
    },
    async gov_getMembers() {
      const { at, results } = await reads.read(
        list(organisationEntry, statePrefix.organisations(), { limit: ALL_ENTRIES }),
        get(validatorsEntry, stateKey.validators()),
        list(observerEntry, statePrefix.observers(), { limit: MAX_OBSERVERS }),
        list(diallingEntry, statePrefix.dialling(), { limit: ALL_ENTRIES }),
        list(candidateEntry, statePrefix.candidates(), { limit: MAX_OBSERVERS }),
      );
      const [organisations, validators, observers, dialling, candidates] = results;
      const set = validators ?? [];
      const addressesOf = new Map(dialling.entries.map(({ key, value }) => [toHex(key.subarray(1)), value.addresses]));
      return {
        organisations: organisations.entries.map(({ value }) => organisationView(value)),
        validators: validatorsView(set),
        observers: observers.entries.map(({ value }) => {
          const view = toJson(value);
          return { ...view, addresses: addressesOf.get(view.address) ?? [] };
        }),
        candidates: candidates.entries.map(({ key, value }) => ({ address: toHex(key.subarray(1)), ...toJson(value) })),
        decides: decisionOf(set.length),
        ...atOf(at),
      };
    },
  };
}

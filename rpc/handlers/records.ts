/** state_*, emr_*, custody_*, blob_*. */
import { equalBytes } from '../../common/bytes.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import { recordIdOf } from '../../common/protocol/record.ts';
import { keyShownBy } from '../../common/protocol/state-proof.ts';
import {
  accountEntry,
  type AmendmentEntry,
  amendmentEntry,
  deliveryEntry,
  openAmendmentEntry,
  policyEntry,
  recordByOwnerEntry,
  type RecordEntry,
  recordEntry,
  type RecordVersionEntry,
  recordVersionEntry,
  requestEntry,
  stateKey,
  statePrefix,
} from '../../common/protocol/state-entries.ts';
import { decodeSidecar, type DecodedTransaction, type Sidecar } from '../../common/protocol/transaction.ts';
import { assert, unreachable } from '../../common/errors.ts';
import type { BlockView } from '../blocks.ts';
import { notFound, outOfScope, RpcError } from '../errors.ts';
import { toHex } from '../json.ts';
import type { ParamsOf, ResultOf } from '../methods.ts';
import { DEFAULT_RELEASE_WAIT_MS } from '../methods/records.ts';
import { page } from '../pages.ts';
import type { BlobStat, ReleaseReply } from '../ports.ts';
import { bytesOf, type Call, type Handlers, type MethodsOf, type Service } from '../service.ts';
import { mayRead, requireKey, requireRange } from '../state-scope.ts';
import { atOf, get, getProven, list } from '../state-reads.ts';
import { amendmentView, policyView, recordVersionView, recordView } from '../views.ts';

export function stateHandlers({ ports, facts }: Service): Handlers<MethodsOf<'state'>> {
  return {
    async state_get({ key, prove = false }, { scope }) {
      const wanted = bytesOf(key);
      await requireKey(wanted, scope, facts);
      const { at, answers } = await ports.state.read([{ kind: 'get', key: wanted, prove }]);
      const [answer] = answers;
      assert(answer?.kind === 'get', 'the state answers what it was asked');
      const { value, proof } = answer;
      const shown = value === null && proof !== null ? keyShownBy(proof) : null;
      if (shown !== null && !(await mayRead(shown, scope, facts)))
        throw new RpcError('FORBIDDEN', PROOF_SHOWS_OTHERS, 'PROOF_SHOWS_OTHERS');
      return { key, value: value && toHex(value), proof: proof && toHex(proof), ...atOf(at) };
    },
    async state_getRange({ gte, lt, limit = 100, prove = false }, { scope }) {
      const range = { gte: bytesOf(gte), lt: bytesOf(lt) };
      if (gte >= lt) throw new RpcError('INVALID_PARAMS', 'params.gte must be before params.lt.', 'EMPTY_RANGE');
      await requireRange(range.gte, range.lt, scope, facts);
      if (prove) scope.requireAll(PROOF_SHOWS_OTHERS, 'PROOF_SHOWS_OTHERS');
      const { at, answers } = await ports.state.read([{ kind: 'range', ...range, limit, prove }]);
      const [answer] = answers;
      assert(answer?.kind === 'range', 'the state answers what it was asked');
      return {
        entries: answer.entries.map(({ key, value }) => ({ key: toHex(key), value: toHex(value) })),
        more: answer.more,
        proof: answer.proof && toHex(answer.proof),
        provenLt: answer.provenLt && toHex(answer.provenLt),
        ...atOf(at),
      };
    },
  };
}

const PROOF_SHOWS_OTHERS =
  'A proof of absence or of a range also shows keys beside it, which are not in the scope of this account.';

export function emrHandlers(service: Service): Handlers<MethodsOf<'emr'>> {
  const { reads, facts } = service;

  /** @throws RpcError NOT_FOUND, FORBIDDEN */
  async function viewOf(recordId: Hash, call: Call): Promise<'full' | 'request'> {
    const known = await facts.record(recordId);
    if (known === null) throw notFound('There is no record with this id.');
    const view = await call.scope.record(recordId, known);
    if (view === 'none') throw outOfScope('This record');
    return view;
  }

  async function requireFull(recordId: Hash, call: Call): Promise<void> {
    if ((await viewOf(recordId, call)) !== 'full')
      throw outOfScope('More of this record than a request for access needs');
  }

  /** Versions never change: the one that the entry names may be read later. */
  async function latestOf(entry: RecordEntry): Promise<RecordVersionEntry> {
    const { results } = await reads.read(
      get(recordVersionEntry, stateKey.recordVersion(entry.id, entry.latestVersion)),
    );
    const [latest] = results;
    assert(latest !== null, 'a record has its latest version');
    return latest;
  }

  /** Amendments are never deleted: one that the list names may be read later. */
  async function amendmentOf(id: Hash): Promise<AmendmentEntry | null> {
    const { results } = await reads.read(get(amendmentEntry, stateKey.amendment(id)));
    return results[0];
  }

  return {
    async emr_getRecord({ recordId, prove = false }, call) {
      const id = bytesOf(recordId);
      const view = await viewOf(id, call);
      // The entry says whose record it is: its proof is for whom the whole of it is.
      if (prove && view !== 'full') throw outOfScope('The proof of this record');
      const { at, results } = await reads.read(getProven(recordEntry, stateKey.record(id), prove));
      const { value, proof } = results[0];
      if (value === null) throw notFound('There is no record with this id.');
      const latest = await latestOf(value);
      return { record: recordView(value, latest, view), proof: proof && toHex(proof), ...atOf(at) };
    },
    emr_listRecords: (params, call) => listRecords(service, params, call, latestOf),
    async emr_listVersions({ recordId, limit, cursor }, call) {
      const id = bytesOf(recordId);
      await requireFull(id, call);
      return page(service, call, {
        question: `emr_listVersions ${recordId}`,
        prefix: statePrefix.recordVersions(id),
        codec: recordVersionEntry,
        limit,
        cursor,
        whole: true,
        item: ({ value }) => recordVersionView(value),
      });
    },
    async emr_getWraps({ recordId, version }, call) {
      const id = bytesOf(recordId);
      if ((await viewOf(id, call)) !== 'full') throw outOfScope('The key of this record');
      const { at, results } = await reads.read(
        get(recordVersionEntry, stateKey.recordVersion(id, version)),
        get(recordEntry, stateKey.record(id)),
      );
      const [entry, record] = results;
      if (entry === null || record === null) throw notFound('The record has no such version.');
      const { scope } = call;
      const isTheirs = scope.all || scope.isSelf(record.owner) || scope.worksFor(record.orgId);
      // Who has a grant needs C to open what the shares give, and the rest to check that C is the record's.
      if (!isTheirs && entry.content.capsule.kind !== 'threshold') throw outOfScope('The key of this record');
      const block = await service.blocks.load(await service.blocks.resolve({ height: entry.height }));
      const index = block.decoded.findIndex((tx) => writes(tx, id, version));
      const sidecar = sidecarAt(block, index);
      return { ...sealingOf(sidecar), erased: sidecar === null, ...atOf(at) };
    },
    async emr_getPolicy({ policyRef, prove = false }) {
      const { at, results } = await reads.read(getProven(policyEntry, stateKey.policy(bytesOf(policyRef)), prove));
      const { value, proof } = results[0];
      if (value === null) throw notFound('There is no policy with this reference.');
      return { policy: policyView(value), proof: proof && toHex(proof), ...atOf(at) };
    },
    emr_listPolicies: ({ limit, cursor }, call) =>
      page(service, call, {
        question: 'emr_listPolicies',
        prefix: statePrefix.policies(),
        codec: policyEntry,
        limit,
        cursor,
        whole: true,
        item: ({ value }) => policyView(value),
      }),
    emr_listPolicyVersions: ({ policyRef, limit, cursor }, call) =>
      page(service, call, {
        question: `emr_listPolicyVersions ${policyRef}`,
        prefix: statePrefix.policyVersions(bytesOf(policyRef)),
        codec: policyEntry,
        limit,
        cursor,
        whole: true,
        item: ({ value }) => policyView(value),
      }),
    async emr_listAmendments({ policyRef }) {
      const { at, results } = await reads.read(
        list(openAmendmentEntry, statePrefix.openAmendments(bytesOf(policyRef)), { limit: MAX_LISTED_AMENDMENTS }),
      );
      const found = await Promise.all(results[0].entries.map(({ value }) => amendmentOf(value.id)));
      return { amendments: found.flatMap((entry) => (entry === null ? [] : [amendmentView(entry)])), ...atOf(at) };
    },
    async emr_getAmendment({ amendmentId }) {
      const { at, results } = await reads.read(get(amendmentEntry, stateKey.amendment(bytesOf(amendmentId))));
      const [entry] = results;
      if (entry === null) throw notFound('There is no amendment with this id.');
      return { amendment: amendmentView(entry), ...atOf(at) };
    },
  };
}

/** Organisations that may have an amendment of one policy open, as many as vote on anything. */
const MAX_LISTED_AMENDMENTS = 100;

type LatestOf = (entry: RecordEntry) => Promise<RecordVersionEntry>;

async function listRecords(
  service: Service,
  params: ParamsOf<'emr_listRecords'>,
  call: Call,
  latestOf: LatestOf,
): Promise<ResultOf<'emr_listRecords'>> {
  const { limit, cursor, orgId } = params;
  const { scope } = call;
  const own = scope.caller.account;
  const owner = params.owner ?? (own?.kind === 'patient' && !scope.all ? toHex(own.id) : undefined);
  const question = `emr_listRecords ${owner ?? ''} ${orgId ?? ''}`;

  const item = async (entry: RecordEntry) => {
    if (orgId !== undefined && entry.orgId !== orgId) return null;
    // Only what is the caller's in full: that staff could ask for it does not make it theirs to find.
    const mine = scope.all || scope.isSelf(entry.owner) || scope.worksFor(entry.orgId);
    return mine ? recordView(entry, await latestOf(entry), 'full') : null;
  };
  if (owner === undefined) {
    return page(service, call, {
      question,
      prefix: statePrefix.records(),
      codec: recordEntry,
      limit,
      cursor,
      whole: scope.all && orgId === undefined,
      item: ({ value }) => item(value),
    });
  }
  return page(service, call, {
    question,
    prefix: statePrefix.recordsOfOwner(bytesOf(owner)),
    codec: recordByOwnerEntry,
    limit,
    cursor,
    whole: (scope.all || scope.isSelf(bytesOf(owner))) && orgId === undefined,
    async item({ value }) {
      const { results } = await service.reads.read(get(recordEntry, stateKey.record(value.id)));
      return results[0] && item(results[0]);
    },
  });
}

/** Whether the transaction wrote this version of the record. */
function writes({ body }: DecodedTransaction, recordId: Hash, version: number): boolean {
  const { call, account } = body;
  if (call.kind === 'record.addVersion') return call.version === version && equalBytes(call.recordId, recordId);
  if (call.kind !== 'record.create') return false;
  return equalBytes(recordIdOf(account, call.owner, call.nonce, call.sectionClass), recordId);
}

/** Null where it was erased. */
function sidecarAt(block: BlockView, index: number): Sidecar | null {
  const bytes = block.sidecars[index];
  if (bytes === undefined || bytes === null) return null;
  const verdict = decodeSidecar(bytes);
  assert(verdict.ok, 'a committed sidecar decodes');
  return verdict.value;
}

function sealingOf(sidecar: Sidecar | null): Pick<ResultOf<'emr_getWraps'>, 'wraps' | 'c' | 'recoveryC'> {
  if (sidecar === null || sidecar.kind === 'delivery') return { wraps: [], c: null, recoveryC: null };
  const wraps = sidecar.wraps.map(({ to, ciphertext }) => ({
    to: to.kind,
    orgId: to.kind === 'custodian' ? to.orgId : null,
    ciphertext: toHex(ciphertext),
  }));
  if (sidecar.kind === 'wraps') return { wraps, c: null, recoveryC: null };
  return { wraps, c: toHex(sidecar.c), recoveryC: sidecar.recoveryC && toHex(sidecar.recoveryC) };
}

type Reply = ResultOf<'custody_getShare'>['replies'][number];

const NOTHING_SAID = { wrapped: null, share: null, signature: null, custodianKey: null, code: null, message: null };

/** Validators there can be, and the owner: no holder answers twice. */
const MAX_REPLIES = 64;

export function custodyHandlers(service: Service): Handlers<'custody_getShare'> {
  const { reads, ports } = service;
  return {
    async custody_getShare({ grantId, timeoutMs = DEFAULT_RELEASE_WAIT_MS }, call) {
      const hash = bytesOf(grantId);
      const { at, results } = await reads.read(
        get(requestEntry, stateKey.request(hash)),
        get(deliveryEntry, stateKey.delivery(hash)),
      );
      const [entry, delivery] = results;
      if (entry === null) throw notFound('There is no such grant.');
      // Nobody else, whatever reads are open: a release is an act, and audited as one.
      if (!call.scope.isSelf(entry.request.requester)) throw outOfScope('The key of this grant');
      if (entry.status !== 'granted') {
        throw new RpcError('FORBIDDEN', `The request is ${entry.status}: no key is released for it.`, 'NOT_GRANTED');
      }
      const delivered = delivery && (await deliveredReply(service, delivery.height, delivery.txIndex));
      const { replies, complete } = await collect(
        (signal) => ports.custody.release(hash, signal),
        call.signal,
        timeoutMs,
      );
      return { replies: delivered ? [delivered, ...replies] : replies, complete, ...atOf(at) };
    },
  };
}

async function deliveredReply(service: Service, height: number, txIndex: number): Promise<Reply | null> {
  const sidecar = sidecarAt(await service.blocks.load(await service.blocks.resolve({ height })), txIndex);
  if (sidecar?.kind !== 'delivery') return null;
  const wrapped = toHex(sidecar.ciphertext);
  return { ...NOTHING_SAID, from: 'owner', orgId: null, wrapped };
}

/** Gathers what comes until all have answered, the time is over, or the caller is gone. */
async function collect(
  release: (signal: AbortSignal) => AsyncIterable<ReleaseReply>,
  caller: AbortSignal,
  timeoutMs: number,
): Promise<{ replies: readonly Reply[]; complete: boolean }> {
  const stop = new AbortController();
  const stopped = new Promise<'stopped'>((resolve) => stop.signal.addEventListener('abort', () => resolve('stopped')));
  const onGone = (): void => stop.abort();
  const timer = setTimeout(onGone, timeoutMs);
  caller.addEventListener('abort', onGone);
  const iterator = release(stop.signal)[Symbol.asyncIterator]();
  const replies: Reply[] = [];
  try {
    while (replies.length < MAX_REPLIES) {
      // Raced, so that a holder who hears no signal keeps nobody waiting; what it fails with later is nobody's concern.
      const next = iterator.next();
      next.catch(() => {});
      const answer = await Promise.race([next, stopped]);
      if (answer === 'stopped' || stop.signal.aborted) return { replies, complete: false };
      if (answer.done === true) return { replies, complete: true };
      replies.push(replyView(answer.value));
    }
    return { replies, complete: true };
  } catch (error) {
    if (stop.signal.aborted) return { replies, complete: false };
    throw error;
  } finally {
    clearTimeout(timer);
    caller.removeEventListener('abort', onGone);
    stop.abort();
  }
}

function replyView(reply: ReleaseReply): Reply {
  const { orgId } = reply;
  const base = { ...NOTHING_SAID, from: 'custodian' as const, orgId };
  if (reply.kind === 'refused') return { ...base, code: reply.code, message: reply.message };
  const signed = { ...base, signature: toHex(reply.signature), custodianKey: toHex(reply.custodianKey) };
  switch (reply.kind) {
    case 'wrap':
      return { ...signed, wrapped: toHex(reply.wrapped) };
    case 'share':
      return { ...signed, share: toHex(reply.share) };
    case 'falseShare':
      return { ...signed, share: toHex(reply.share), code: reply.code, message: reply.message };
    default:
      return unreachable(reply);
  }
}

/** A ciphertext is in scope with the record that names it; while no record does, for the uploader's organisation. */
export async function requireBlob(service: Service, call: Pick<Call, 'scope'>, stat: BlobStat): Promise<void> {
  const { scope } = call;
  if (scope.all) return;
  for (const { recordId } of stat.records) {
    const known = await service.facts.record(recordId);
    if (known !== null && (await scope.record(recordId, known)) === 'full') return;
  }
  if (stat.records.length === 0 && stat.uploadedBy !== null) {
    const { results } = await service.reads.read(get(accountEntry, stateKey.account(stat.uploadedBy)));
    if (results[0] !== null && scope.worksFor(results[0].orgId)) return;
  }
  throw outOfScope('This ciphertext');
}

export function blobHandlers(service: Service): Handlers<MethodsOf<'blob'>> {
  return {
    async blob_getReceipts({ cid }, call) {
      const stat = await service.ports.blobs.stat(cid);
      if (stat === null) throw notFound('No ciphertext with this CID is stored or named by a record.');
      await requireBlob(service, call, stat);
      const receipts = await service.ports.blobs.receipts(cid);
      return {
        cid,
        sizeBytes: stat.sizeBytes,
        local: stat.local,
        receipts: receipts.map(({ orgId, holder, signature, atMs }) => ({
          orgId,
          holder: toHex(holder),
          signature: toHex(signature),
          atMs,
        })),
      };
    },
  };
}

/** A grant as this node's own state has it, and why there is nothing to release. */
import { type Codec, decodeTrusted } from '../../common/codec.ts';
import { InvariantError } from '../../common/errors.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import {
  type AccountEntry,
  accountEntry,
  type RecordVersionEntry,
  recordVersionEntry,
  type RequestEntry,
  requestEntry,
  stateKey,
} from '../../common/protocol/state-entries.ts';
import type { StateAnswer, StatePort } from '../../rpc/ports.ts';

export interface Grant {
  readonly request: RequestEntry;
  readonly record: RecordVersionEntry;
  readonly requester: AccountEntry;
}

export interface Refused {
  readonly code: string;
  readonly message: string;
}

/** The grant and the record version that it is for, or why there is nothing to release. */
export async function findGrant(state: StatePort, grantId: Hash): Promise<Grant | Refused> {
  const request = await findRequest(state, grantId);
  if (request === null) return { code: 'GRANT_NOT_FOUND', message: 'there is no such request' };
  const refused = refusalOf(request.status);
  if (refused !== null) return refused;
  const { recordId, version, requester } = request.request;
  const { answers } = await state.read([
    { kind: 'get', key: stateKey.recordVersion(recordId, version) },
    { kind: 'get', key: stateKey.account(requester) },
  ]);
  const record = valueOf(recordVersionEntry, answers[0], 'record version');
  const account = valueOf(accountEntry, answers[1], 'requester');
  if (record === null || account === null) throw new InvariantError('a request of nobody, or for no record version');
  return { request, record, requester: account };
}

/** Whether a block to come may hold the grant: the request is pending, or not known here yet. */
export async function mayBeGranted(state: StatePort, grantId: Hash): Promise<boolean> {
  const request = await findRequest(state, grantId);
  return request === null || request.status === 'pending';
}

async function findRequest(state: StatePort, grantId: Hash): Promise<RequestEntry | null> {
  const { answers } = await state.read([{ kind: 'get', key: stateKey.request(grantId) }]);
  return valueOf(requestEntry, answers[0], 'request');
}

function refusalOf(status: RequestEntry['status']): Refused | null {
  switch (status) {
    case 'granted':
      return null;
    case 'revoked':
      return { code: 'GRANT_REVOKED', message: 'the grant was revoked' };
    case 'ended':
      return { code: 'GRANT_EXPIRED', message: 'the grant has ended' };
    default:
      return { code: 'REQUEST_NOT_GRANTED', message: `the request is ${status}` };
  }
}

export function valueOf<T>(codec: Codec<T>, answer: StateAnswer | undefined, what: string): T | null {
  if (answer?.kind !== 'get') throw new InvariantError(`no answer about the ${what}`);
  return answer.value === null ? null : decodeTrusted(codec, answer.value, what);
}

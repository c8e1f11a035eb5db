/**
 * What never changes about a record, a request or an account once it is in the state: whose it is. Scope decisions rest
 * on these facts alone, so they can be kept without asking which height they are from.
 */
import type { Codec } from '../common/codec.ts';
import type { Address, Hash, OrgId } from '../common/protocol/primitives.ts';
import {
  accountEntry,
  type AccountEntry,
  recordEntry,
  requestEntry,
  type RequestEntry,
  stateKey,
} from '../common/protocol/state-entries.ts';
import { toHex } from './json.ts';
import { Lru } from './lru.ts';
import { get, type StateReads } from './state-reads.ts';

export interface RecordFacts {
  readonly owner: Address;
  readonly writer: Address;
  readonly orgId: OrgId;
}

export interface RequestFacts {
  readonly recordId: Hash;
  readonly requester: Address;
  readonly requesterOrg: OrgId;
  readonly owner: Address;
  readonly recordOrg: OrgId;
  readonly policyRef: Hash;
  readonly policyVersion: number;
  readonly ruleIndex: number;
}

export interface AccountFacts {
  readonly orgId: OrgId;
  readonly kind: AccountEntry['kind'];
}

/** Some 300 bytes each. */
const CACHED_FACTS = 20_000;

export const requestFactsOf = (entry: RequestEntry): RequestFacts => ({
  recordId: entry.request.recordId,
  requester: entry.request.requester,
  requesterOrg: entry.requesterOrg,
  owner: entry.owner,
  recordOrg: entry.recordOrg,
  policyRef: entry.policyRef,
  policyVersion: entry.request.policyVersion,
  ruleIndex: entry.request.ruleIndex,
});

export class Facts {
  readonly #reads: StateReads;
  readonly #records = new Lru<RecordFacts>(CACHED_FACTS);
  readonly #requests = new Lru<RequestFacts>(CACHED_FACTS);
  readonly #accounts = new Lru<AccountFacts>(CACHED_FACTS);

  constructor(reads: StateReads) {
    this.#reads = reads;
  }

  /** Null when there is no such record: then it may come later, and nothing is kept. */
  record(id: Hash): Promise<RecordFacts | null> {
    return this.#fact(this.#records, id, recordEntry, stateKey.record(id), ({ owner, writer, orgId }) => ({
      owner,
      writer,
      orgId,
    }));
  }

  request(hash: Hash): Promise<RequestFacts | null> {
    return this.#fact(this.#requests, hash, requestEntry, stateKey.request(hash), requestFactsOf);
  }

  account(id: Address): Promise<AccountFacts | null> {
    return this.#fact(this.#accounts, id, accountEntry, stateKey.account(id), ({ orgId, kind }) => ({ orgId, kind }));
  }

  async #fact<E, F>(
    cache: Lru<F>,
    id: Uint8Array,
    codec: Codec<E>,
    key: Uint8Array,
    factsOf: (entry: E) => F,
  ): Promise<F | null> {
    const name = toHex(id);
    const known = cache.get(name);
    if (known !== undefined) return known;
    const { results } = await this.#reads.read(get(codec, key));
    const [entry] = results;
    if (entry === null) return null;
    const facts = factsOf(entry);
    cache.set(name, facts);
    return facts;
  }
}

/**
 * Who calls: from a token to an account of the current state. A token is judged by its signature and binding once, and
 * by the state again after every block: a suspended account or a rotated key reads nothing from the next block on.
 *
 * What a caller may see is decided in scope.ts.
 */
import { equalBytes } from '../common/bytes.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import { accept, reject, type Verdict } from '../common/errors.ts';
import { MAX_RPC_TOKEN_LIFETIME_MS, parseRpcToken, type RpcToken } from '../common/protocol/rpc-token.ts';
import { rpcAuthSigningHash } from '../common/protocol/signing.ts';
import {
  accountEntry,
  type AccountEntry,
  keyEntry,
  organisationEntry,
  roleEntry,
  type RoleEntry,
  stateKey,
  statePrefix,
} from '../common/protocol/state-entries.ts';
import { toHex } from './json.ts';
import { Lru } from './lru.ts';
import type { RpcPorts } from './ports.ts';
import { get, list, type StateReads } from './state-reads.ts';

export interface Caller {
  readonly account: AccountEntry | null;
  /** Roles of the account that have not expired by the head's block time. */
  readonly roles: readonly RoleEntry[];
  /** May read ledger metadata at all: an account, or anybody where the operator opened reads. */
  readonly reads: boolean;
  /** Nothing is out of scope. */
  readonly seesAll: boolean;
  /** When the token ends; null without one. */
  readonly notAfterMs: number | null;
}

/** A token whose signature and binding hold. */
export interface Session {
  readonly token: RpcToken;
}

/** Tokens live 15 minutes at the most: this many readers' tokens are verified once and not again. */
const CACHED_SESSIONS = 4_096;
/** Accounts looked up since the last block. */
const CACHED_CALLERS = 4_096;
/** More roles than an account can hold. */
const MAX_ROLES = 256;

export class Authenticator {
  readonly #ports: RpcPorts;
  readonly #reads: StateReads;
  readonly #openReads: boolean;
  readonly #sessions = new Lru<Session>(CACHED_SESSIONS);
  #callers = new Lru<Verdict<Caller>>(CACHED_CALLERS);
  #callersAt = '';

  constructor(ports: RpcPorts, reads: StateReads, openReads: boolean) {
    this.#ports = ports;
    this.#reads = reads;
    this.#openReads = openReads;
  }

  /** Whoever comes without a token. */
  anonymous(): Caller {
    return { account: null, roles: [], reads: this.#openReads, seesAll: this.#openReads, notAfterMs: null };
  }

  /**
   * Checks an untrusted token: form, network, chain, node, origin, time, signature.
   * @param origins under which the request may have been dialled
   * @returns TOKEN_MALFORMED, TOKEN_WRONG_NETWORK, TOKEN_WRONG_NODE, TOKEN_WRONG_ORIGIN, TOKEN_EXPIRED, TOKEN_TOO_LONG,
   *   TOKEN_BAD_SIGNATURE
   */
  session(text: string, origins: readonly string[]): Verdict<Session> {
    const known = this.#sessions.get(text);
    if (known !== undefined) return this.#bound(known, origins);
    const parsed = parseRpcToken(text);
    if (!parsed.ok) return reject('TOKEN_MALFORMED', `The token cannot be read: ${parsed.message}.`);
    const token = parsed.value;
    const { node, chain, sm2 } = this.#ports;
    if (token.network !== chain.genesis().network || !equalBytes(token.chainId, chain.chainId())) {
      return reject('TOKEN_WRONG_NETWORK', 'The token is for another network.');
    }
    if (!equalBytes(token.nodeId, node.info().nodeId)) {
      return reject('TOKEN_WRONG_NODE', 'The token is for another node.');
    }
    const bound = this.#bound({ token }, origins);
    if (!bound.ok) return bound;
    if (token.notAfterMs > node.nowMs() + MAX_RPC_TOKEN_LIFETIME_MS) {
      return reject('TOKEN_TOO_LONG', 'The token ends more than 15 minutes from now; check the clocks.');
    }
    if (!sm2.verify(token.publicKey, rpcAuthSigningHash(token), token.signature)) {
      return reject('TOKEN_BAD_SIGNATURE', "The token's signature does not verify.");
    }
    this.#sessions.set(text, { token });
    return bound;
  }

  /** What may differ from use to use: the origin that was dialled, and the time. */
  #bound(session: Session, origins: readonly string[]): Verdict<Session> {
    const { token } = session;
    if (!origins.includes(token.origin)) {
      return reject('TOKEN_WRONG_ORIGIN', `The token is for ${token.origin}, which is not how this node was reached.`);
    }
    if (this.#ports.node.nowMs() >= token.notAfterMs)
      return reject('TOKEN_EXPIRED', 'The token has ended; make a new one.');
    return accept(session);
  }

  /** The account behind a session as of the last block. ACCOUNT_UNKNOWN, KEY_NOT_CURRENT, ACCOUNT_SUSPENDED, ORG_SUSPENDED, TOKEN_EXPIRED. */
  async caller(session: Session): Promise<Verdict<Caller>> {
    const { publicKey, notAfterMs } = session.token;
    if (this.#ports.node.nowMs() >= notAfterMs) return reject('TOKEN_EXPIRED', 'The token has ended; make a new one.');
    const head = toHex(this.#ports.chain.head().hash);
    if (head !== this.#callersAt) {
      this.#callers = new Lru(CACHED_CALLERS);
      this.#callersAt = head;
    }
    const cacheKey = toHex(publicKey);
    const cached = this.#callers.get(cacheKey);
    const verdict = cached ?? (await this.#look(publicKey));
    // Only if no block came in between: what was read must not outlive the state that it was read from.
    if (cached === undefined && this.#callersAt === toHex(this.#ports.chain.head().hash)) {
      this.#callers.set(cacheKey, verdict);
    }
    return verdict.ok ? accept({ ...verdict.value, notAfterMs }) : verdict;
  }

  async #look(publicKey: Uint8Array): Promise<Verdict<Caller>> {
    const owned = await this.#reads.read(get(keyEntry, stateKey.key(sm2Address(publicKey))));
    const id = owned.results[0]?.account;
    if (id === null || id === undefined) return reject('ACCOUNT_UNKNOWN', 'The key belongs to no account.');
    const { results } = await this.#reads.read(
      get(accountEntry, stateKey.account(id)),
      list(roleEntry, statePrefix.rolesOf(id), { limit: MAX_ROLES }),
    );
    const [account, roles] = results;
    if (account === null) return reject('ACCOUNT_UNKNOWN', 'The key belongs to no account.');
    if (!equalBytes(account.publicKey, publicKey)) {
      return reject('KEY_NOT_CURRENT', "The token is not signed by the account's current key.");
    }
    if (account.status !== 'active') return reject('ACCOUNT_SUSPENDED', 'The account is suspended.');
    const org = await this.#reads.read(get(organisationEntry, stateKey.organisation(account.orgId)));
    if (org.results[0]?.status !== 'active')
      return reject('ORG_SUSPENDED', 'The organisation of the account is suspended.');

    const now = this.#ports.chain.head().timestampMs;
    const current = roles.entries.map(({ value }) => value).filter(({ expiresAtMs }) => now < expiresAtMs);
    // An administrator can make anybody of the own organisation a regulator: only one whom the founders agreed on in the
    // genesis, which no administrator granted, sees the other organisations too.
    const regulator = current.some(({ role, grantedBy }) => role === 'regulator' && grantedBy === null);
    return accept({ account, roles: current, reads: true, seesAll: this.#openReads || regulator, notAfterMs: null });
  }
}

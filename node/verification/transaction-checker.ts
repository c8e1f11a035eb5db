/**
 * Turns untrusted transactions into checked ones: strict decoding, the sidecar's hash, and every signature that the
 * transaction owes. Each transaction is verified once, whether it comes by gossip, from a client or inside a block:
 * one cache, by the hash of its full signed bytes.
 */
import { equalBytes } from '../../common/bytes.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import type { Sm2Verification } from '../../common/crypto/sm2.ts';
import type { Block } from '../../common/protocol/block.ts';
import { type Hash, MAX_SIDECAR_BYTES } from '../../common/protocol/primitives.ts';
import {
  type DecodedTransaction,
  decodeSidecar,
  decodeTransaction,
  type Sidecar,
  sidecarHash,
  sidecarHashOf,
  txHash,
  txHashes,
} from '../../common/protocol/transaction.ts';
import { obligations } from '../../vm/index.ts';
import type { CheckedTransaction, Obligation } from '../../vm/types.ts';
import { hashKey } from './hash-key.ts';
import type { Priority, Verification, Verifier } from './verifier.ts';

export interface RawTransaction {
  readonly bytes: Uint8Array;
  /** The erasable bytes; null where there are none. */
  readonly sidecar: Uint8Array | null;
}

/** With its identity, which is made once. */
export interface NamedTransaction extends RawTransaction {
  readonly hash: Hash;
  /** `hashKey` of the hash. */
  readonly key: string;
  /** Where somebody has decoded it already. */
  readonly decoded?: DecodedTransaction;
}

export function named(raw: RawTransaction | NamedTransaction): NamedTransaction {
  if ('key' in raw) return raw;
  return naming(raw, txHash(raw.bytes));
}

const naming = ({ bytes, sidecar }: RawTransaction, hash: Hash): NamedTransaction => ({
  bytes,
  sidecar,
  hash,
  key: hashKey(hash),
});

/** `named` of each: those of a block are hashed together. */
function allNamed(raws: readonly (RawTransaction | NamedTransaction)[]): readonly NamedTransaction[] {
  const unnamed = raws.filter((raw) => !('key' in raw));
  const hashes = txHashes(unnamed.map(({ bytes }) => bytes));
  let next = 0;
  return raws.map((raw) => ('key' in raw ? raw : naming(raw, hashes[next++] as Hash)));
}

/**
 * Entries of one of the cache's two generations. A decoded transaction takes some 3 KB, so both take about 100 MB when
 * full; together they hold more than the default pool.
 */
const GENERATION_LIMIT = 16_384;

/** While one batch is waited for, another can begin with the same transactions; then they are verified once more. */
const MAX_WAITS = 2;

interface Pending {
  readonly decoded: DecodedTransaction;
  readonly sidecar: Sidecar | null;
  readonly owed: readonly Obligation[];
}

export class TransactionChecker {
  readonly #chainId: Hash;
  readonly #verifier: Verifier;
  #young = new Map<string, DecodedTransaction>();
  #old = new Map<string, DecodedTransaction>();
  /** Transactions whose signatures are being verified: a block that brings one waits for it. */
  readonly #underWay = new Map<string, { readonly done: Promise<void>; readonly work: Verification }>();

  constructor(chainId: Hash, verifier: Verifier) {
    this.#chainId = chainId;
    this.#verifier = verifier;
  }

  /**
   * The verdicts in the order of the transactions: TOO_LARGE, MALFORMED, NOT_CANONICAL, SIDECAR_*, or the code of the
   * first obligation that fails.
   */
  async checkMany(
    raws: readonly (RawTransaction | NamedTransaction)[],
    priority: Priority,
  ): Promise<Verdict<CheckedTransaction>[]> {
    const txs = allNamed(raws);
    const verdicts: (Verdict<CheckedTransaction> | undefined)[] = txs.map(() => undefined);
    const keys = txs.map(({ key }) => key);
    for (let round = 0; round < MAX_WAITS; round += 1) {
      const others = this.#others(keys, priority);
      if (others.size === 0) break;
      await Promise.all(others);
    }
    const pending: (Pending & { readonly at: number })[] = [];
    txs.forEach((tx, at) => {
      const prepared = this.#prepare(tx);
      if (prepared.ok && 'owed' in prepared.value) pending.push({ ...prepared.value, at });
      else verdicts[at] = prepared as Verdict<CheckedTransaction>;
    });
    if (pending.length > 0) await this.#discharge(pending, verdicts, priority);
    return verdicts as Verdict<CheckedTransaction>[];
  }

  async check(tx: RawTransaction | NamedTransaction, priority: Priority): Promise<Verdict<CheckedTransaction>> {
    const [verdict] = await this.checkMany([tx], priority);
    return verdict as Verdict<CheckedTransaction>;
  }

  /** All transactions of a proposed block; the first that fails refuses it. */
  async checkProposed(block: Block): Promise<Verdict<readonly CheckedTransaction[]>> {
    const raws = block.txs.map((bytes, index) => ({ bytes, sidecar: block.sidecars[index] ?? null }));
    const verdicts = await this.checkMany(raws, 'block');
    return all(verdicts);
  }

  /**
   * Transactions of a block with a certificate: a quorum has verified their signatures already, so that a node that
   * catches up need not spend on them what blocks it at full load. Sidecars may have been erased.
   */
  decodeCertified(block: Block): Verdict<readonly CheckedTransaction[]> {
    const hashes = txHashes(block.txs);
    const verdicts = block.txs.map((bytes, index): Verdict<CheckedTransaction> => {
      const hash = hashes[index] as Hash;
      const known = this.#known(hashKey(hash));
      const decoded = known === undefined ? decodeTransaction(bytes, hash) : accept(known);
      if (!decoded.ok) return decoded;
      const sidecar = openSidecar(decoded.value, block.sidecars[index] ?? null, true);
      return sidecar.ok ? accept({ tx: decoded.value, sidecar: sidecar.value }) : sidecar;
    });
    return all(verdicts);
  }

  /** What a block has is not asked for again: it need not fill memory until two generations are over. */
  forget(keys: Iterable<string>): void {
    for (const key of keys) {
      this.#young.delete(key);
      this.#old.delete(key);
    }
  }

  /** A batch that is being verified elsewhere ends in the cache: wait for it rather than verify twice. */
  #others(keys: readonly string[], priority: Priority): ReadonlySet<Promise<void>> {
    const others = new Set<Promise<void>>();
    for (const key of this.#underWay.size === 0 ? [] : keys) {
      const other = this.#underWay.get(key);
      if (other === undefined) continue;
      other.work.promote(priority);
      others.add(other.done);
    }
    return others;
  }

  #prepare(tx: NamedTransaction): Verdict<Pending | CheckedTransaction> {
    const known = this.#known(tx.key);
    const there = known ?? tx.decoded;
    const decoded = there === undefined ? decodeTransaction(tx.bytes, tx.hash) : accept(there);
    if (!decoded.ok) return decoded;
    const sidecar = openSidecar(decoded.value, tx.sidecar, false);
    if (!sidecar.ok) return sidecar;
    if (known !== undefined) return accept({ tx: known, sidecar: sidecar.value });
    const owed = obligations(this.#chainId, decoded.value);
    return accept({ decoded: decoded.value, sidecar: sidecar.value, owed });
  }

  async #discharge(
    pending: readonly (Pending & { readonly at: number })[],
    verdicts: (Verdict<CheckedTransaction> | undefined)[],
    priority: Priority,
  ): Promise<void> {
    const items: Sm2Verification[] = pending.flatMap((p) => p.owed);
    const work = this.#verifier.verify(items, priority);
    const { promise: done, resolve } = Promise.withResolvers<void>();
    const keys = pending.map((p) => hashKey(p.decoded.hash));
    for (const key of keys) this.#underWay.set(key, { done, work });
    try {
      const results = await work.results;
      let next = 0;
      for (const { decoded, sidecar, owed, at } of pending) {
        const failed = owed.find((_, index) => results[next + index] !== true);
        next += owed.length;
        if (failed === undefined) {
          this.#remember(decoded);
          verdicts[at] = accept({ tx: decoded, sidecar });
        } else {
          verdicts[at] = reject(failed.code, 'a signature of the transaction does not verify');
        }
      }
    } finally {
      for (const key of keys) this.#underWay.delete(key);
      resolve();
    }
  }

  #known(key: string): DecodedTransaction | undefined {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const old = this.#old.get(key);
    if (old !== undefined) this.#remember(old);
    return old;
  }

  #remember(tx: DecodedTransaction): void {
    if (this.#young.size >= GENERATION_LIMIT) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(hashKey(tx.hash), tx);
  }
}

function all(verdicts: readonly Verdict<CheckedTransaction>[]): Verdict<readonly CheckedTransaction[]> {
  const checked: CheckedTransaction[] = [];
  for (const [index, verdict] of verdicts.entries()) {
    if (!verdict.ok) return reject(verdict.code, `transaction ${index}: ${verdict.message}`);
    checked.push(verdict.value);
  }
  return accept(checked);
}

/** Which call must have which sidecar is execution's to say; here only that the bytes are what the call commits to. */
function openSidecar(tx: DecodedTransaction, bytes: Uint8Array | null, mayBeErased: boolean): Verdict<Sidecar | null> {
  const expected = sidecarHashOf(tx.body.call);
  if (bytes === null) {
    return expected === null || mayBeErased
      ? accept(null)
      : reject('SIDECAR_MISSING', 'the call commits to a sidecar that did not come with it');
  }
  if (expected === null) return reject('SIDECAR_UNEXPECTED', 'this call has no sidecar');
  if (bytes.length > MAX_SIDECAR_BYTES) return reject('TOO_LARGE', `a sidecar of more than ${MAX_SIDECAR_BYTES} bytes`);
  if (!equalBytes(sidecarHash(bytes), expected)) {
    return reject('SIDECAR_MISMATCH', 'the sidecar is not the one that the call commits to');
  }
  return decodeSidecar(bytes);
}

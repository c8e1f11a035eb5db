/**
 * Proofs that a validator signed two votes that conflict, kept until somebody has brought them onto the chain. Beyond
 * the height that they are of, and after the validator has left the set, so its key goes with them.
 */
import { bytesToHex } from '../../common/bytes.ts';
import type { Validator } from '../../common/protocol/validator-set.ts';
import type { Equivocation } from '../../consensus/messages.ts';

export interface Evidence {
  readonly equivocation: Equivocation;
  /** Who signed both, as the set of that height has it: the index in `equivocation` means nothing later. */
  readonly validator: Validator;
}

/** One proof of a validator is enough to act on; some more tell how often. Some 500 bytes each. */
const MAX_EVIDENCE_PER_VALIDATOR = 4;
/** Validators of whom proofs are kept; the oldest goes: twice the largest set, for sets change. */
const MAX_ACCUSED = 64;

export class EvidenceBox {
  /** By the address of the validator in hex. */
  readonly #kept = new Map<string, Evidence[]>();
  readonly #listeners = new Set<(evidence: Evidence) => void>();

  /** Called with each proof that is new and kept. */
  onEvidence(listener: (evidence: Evidence) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  add(evidence: Evidence): void {
    const key = bytesToHex(evidence.validator.address);
    const kept = this.#kept.get(key) ?? [];
    if (kept.length >= MAX_EVIDENCE_PER_VALIDATOR || kept.some((known) => isSame(known, evidence))) return;
    if (!this.#kept.has(key) && this.#kept.size >= MAX_ACCUSED) {
      const oldest = this.#kept.keys().next();
      if (!oldest.done) this.#kept.delete(oldest.value);
    }
    this.#kept.set(key, [...kept, evidence]);
    for (const listener of this.#listeners) listener(evidence);
  }

  /** Oldest first for each validator. */
  pending(): readonly Evidence[] {
    return [...this.#kept.values()].flat();
  }

  /** The chain has it, or will never take it. */
  settle(evidence: Evidence): void {
    const key = bytesToHex(evidence.validator.address);
    const left = (this.#kept.get(key) ?? []).filter((known) => !isSame(known, evidence));
    if (left.length === 0) this.#kept.delete(key);
    else this.#kept.set(key, left);
  }
}

/** The first proof for a height, view and kind of vote stands for all others. */
function isSame({ equivocation: a }: Evidence, { equivocation: b }: Evidence): boolean {
  return a.height === b.height && a.view === b.view && a.vote === b.vote;
}

/**
 * How far members are believed that execute a transaction before they pass it on. A node that is busy takes their word
 * for it; whoever's transactions fail again and again is not believed until enough of what it sends is committed.
 */

/** Failures in a row after which a member is not believed: honest ones fail where two transactions exclude each other. */
const MAX_DEBT = 512;
/** A transaction that fails weighs as much as so many that are committed. */
const FAILURE_WEIGHT = 8;
/** Members whose transactions have failed: more than there can be at a time. */
const MAX_DEBTORS = 256;

export class Vouchers {
  /** By peer id; 0 is left out. */
  readonly #debts = new Map<string, number>();

  believes(peerId: string): boolean {
    return (this.#debts.get(peerId) ?? 0) < MAX_DEBT;
  }

  failed(peerId: string): void {
    const debt = this.#debts.get(peerId) ?? 0;
    if (debt === 0 && this.#debts.size >= MAX_DEBTORS) {
      const oldest = this.#debts.keys().next();
      if (!oldest.done) this.#debts.delete(oldest.value);
    }
    this.#debts.set(peerId, Math.min(MAX_DEBT, debt + FAILURE_WEIGHT));
  }

  committed(peerId: string): void {
    const debt = this.#debts.get(peerId);
    if (debt === undefined) return;
    if (debt <= 1) this.#debts.delete(peerId);
    else this.#debts.set(peerId, debt - 1);
  }
}

/** The index of every key that was ever used: one key serves one purpose, once, and never comes back. */
import { accept, type Verdict } from '../common/errors.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import type { Address, PublicKey } from '../common/protocol/primitives.ts';
import { type KeyEntry, keyEntry, stateKey } from '../common/protocol/state-entries.ts';
import { refuse } from './codes.ts';
import type { Overlay } from './overlay.ts';

/** The key's address, if nobody has used it yet. That it is a point of the curve follows from the possession proof. */
export function unusedKey(state: Overlay, key: PublicKey): Verdict<Address> {
  const address = sm2Address(key);
  return state.get(keyEntry, stateKey.key(address)) === undefined ? accept(address) : refuse('KEY_ALREADY_USED');
}

export function claimKey(state: Overlay, address: Address, use: KeyEntry['use'], account: Address | null): void {
  state.put(keyEntry, stateKey.key(address), { account, use });
}

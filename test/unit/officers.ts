/** Officers who make a recovery key among themselves, with real crypto: what the tests of it begin with. */
import { createNobleSigner, generatePrivateKey, type RandomBytes } from '../../common/crypto/sm2.ts';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { systemRandom } from '../../common/native/sm2-openssl.ts';
import {
  announce,
  dealToOfficers,
  holdShare,
  registrationOf,
  takeShare,
} from '../../common/protocol/recovery-ceremony.ts';
import type { RecoveryKeyRegistration, RecoveryPlan, RecoveryShare } from '../../common/protocol/recovery-key.ts';
import type { Verdict } from '../../common/errors.ts';

export const { engine } = selectSm2Engine();

export interface Officer {
  readonly account: Uint8Array;
  readonly orgId: string;
  readonly publicKey: Uint8Array;
  readonly privateKey: Uint8Array;
}

export function must<T>(verdict: Verdict<T>): T {
  if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.message}`);
  return verdict.value;
}

export const signerOf = ({ privateKey }: Officer, random: RandomBytes = systemRandom) =>
  createNobleSigner(privateKey, random);

export const planFor = (chainId: Uint8Array, threshold: number, officers: readonly Officer[]): RecoveryPlan => ({
  chainId,
  nonce: systemRandom(16),
  threshold,
  holders: officers.map(({ account, orgId, publicKey }) => ({ account, orgId, publicKey })),
});

/** All three rounds, as honest officers make them. */
export function makeKey(
  plan: RecoveryPlan,
  officers: readonly Officer[],
  random: RandomBytes = systemRandom,
): { readonly shares: readonly RecoveryShare[]; readonly registration: RecoveryKeyRegistration } {
  const signers = officers.map((officer) => signerOf(officer, random));
  const secrets = signers.map(() => generatePrivateKey(random));
  const announcements = signers.map((signer, k) => announce(plan, secrets[k]!, signer, random));
  const dealings = signers.map((signer) => must(dealToOfficers(plan, announcements, signer, engine, random)));
  const taken = officers.map(({ publicKey }, k) =>
    must(takeShare(plan, { publicKey, p: secrets[k]! }, announcements, dealings, engine)),
  );
  const holdings = taken.map(({ share, key }, k) => holdShare(plan, share, key, signers[k]!, random));
  return {
    shares: taken.map(({ share }) => share),
    registration: must(registrationOf(plan, holdings, engine)),
  };
}

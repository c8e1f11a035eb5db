/** What officers of a hospital keep of its custodian's share, and hand back. */
import { bytesToBigint } from '../../common/bytes.ts';
import { encodePoint, GENERATOR } from '../../common/crypto/curve.ts';
import { createNobleSigner } from '../../common/crypto/sm2.ts';
import { backUp, handBack, readHanded, readPart } from '../../common/protocol/custody-backup.ts';
import { engine, type FunctionTarget, verdict } from './parts.ts';

/** The same in every run. */
const random = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (7 * i + 11) & 0xff);
const party = (n: number) => {
  const privateKey = new Uint8Array(32).fill(n);
  return { privateKey, signer: createNobleSigner(privateKey, random) };
};
const officers = [party(2), party(3), party(4)];
const x = new Uint8Array(32).fill(5);
const share = encodePoint(GENERATOR.multiply(bytesToBigint(x)));
const parts = backUp(
  { chainId: random(32), sessionId: random(32), epoch: 1, orgId: 'hospital-a', index: 1, key: share, share },
  x,
  officers.map(({ signer }) => signer.publicKey),
  party(1).signer,
  random,
);
const handed = parts.flatMap((bytes, k) => {
  const part = readPart(bytes, engine);
  const { privateKey, signer } = officers[k] as (typeof officers)[number];
  const back = part.ok ? handBack(part.value, { privateKey, publicKey: signer.publicKey }, random) : part;
  return back.ok ? [back.value] : [];
});

export const custodyTargets: readonly FunctionTarget[] = [
  {
    name: "officer's part of a backup",
    covers: ['backupPart'],
    form: 'cbor',
    costUs: 2_000,
    sample: (prng) => prng.pick(parts),
    decode: (bytes) => verdict(readPart(bytes, engine)),
  },
  {
    name: 'part that an officer handed back',
    covers: ['handedPart'],
    form: 'cbor',
    costUs: 2_000,
    sample: (prng) => prng.pick(handed),
    decode: (bytes) => verdict(readHanded(bytes, engine)),
  },
];

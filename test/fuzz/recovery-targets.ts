/** What officers of a recovery key make and are shown: every check of it takes what anybody may have written. */
import { decode, encode } from '../../common/codec.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { blockHeader } from '../../common/protocol/block.ts';
import { genesis } from '../../common/protocol/genesis.ts';
import { MAX_TX_BYTES } from '../../common/protocol/primitives.ts';
import { proveDemand, recoveryDemand } from '../../common/protocol/recovery-demand.ts';
import { checkRecoveryKey, recoveryKeyRegistration } from '../../common/protocol/recovery-key.ts';
import { makeKey } from '../unit/officers.ts';
import { chain } from './sample-chain.ts';
import { engine, type FunctionTarget, must, net, verdict } from './parts.ts';

let draws = 0;
/** The same in every run. */
const random = (length: number): Uint8Array => {
  draws += 1;
  return Uint8Array.from({ length }, (_, i) => (7 * i + 13 * draws + 11) & 0xff);
};
const officers = ['hospital-a', 'hospital-b', 'hospital-c'].map((orgId, k) => {
  const privateKey = new Uint8Array(32).fill(k + 1);
  const publicKey = publicKeyOf(privateKey);
  return { account: sm2Address(publicKey), orgId, publicKey, privateKey };
});
const holders = officers.map(({ account, orgId, publicKey }) => ({ account, orgId, publicKey }));
const plan = { chainId: net.chainId, nonce: random(16), threshold: 2, holders };
const { registration } = makeKey(plan, officers, random);
const head = chain.committed.at(-1) as (typeof chain.committed)[number];
const document = encode(genesis, net.genesis);

export const recoveryTargets: readonly FunctionTarget[] = [
  {
    name: 'registration of a recovery key',
    covers: [],
    form: 'cbor',
    costUs: 3_000,
    sample: () => encode(recoveryKeyRegistration, registration),
    decode(bytes) {
      const decoded = decode(recoveryKeyRegistration, bytes, MAX_TX_BYTES);
      return decoded.ok ? verdict(checkRecoveryKey(net.chainId, decoded.value)) : decoded;
    },
  },
  {
    name: 'demand to officers of a recovery key',
    covers: [],
    form: 'cbor',
    costUs: 3_000,
    sample: (prng) =>
      encode(recoveryDemand, {
        ...must(recoveryDemand, prng),
        genesis: document,
        handovers: [],
        heads: [{ header: encode(blockHeader, head.header), certificate: head.certificate! }],
      }),
    decode(bytes) {
      const decoded = decode(recoveryDemand, bytes, 1024 * 1024);
      // Its proofs are invented: what counts is that each of them ends in a verdict.
      if (decoded.ok) proveDemand(decoded.value, net.chainId, head.header.timestampMs, engine);
      return verdict(decoded, (demand) => encode(recoveryDemand, demand));
    },
  },
];

/**
 * The custody key of a prepared chain: all custodians' part in one process, by the chain's own rules. The shares are thrown
 * away: what is measured seals keys, and nobody opens them.
 */
import { decodeTrusted } from '../../../common/codec.ts';
import { decodePoint, encodePoint, GENERATOR } from '../../../common/crypto/curve.ts';
import {
  deal,
  type EncryptionKey,
  openDealing,
  proveEncryptionKey,
  type Session,
  storedDealing,
} from '../../../common/crypto/custody/dealing.ts';
import { proveShare, secretShare } from '../../../common/crypto/custody/shared-key.ts';
import { hedgedScalar } from '../../../common/crypto/sm2.ts';
import { systemRandom } from '../../../common/native/sm2-openssl.ts';
import {
  custodyDealingEntry,
  custodyEpochEntry,
  type CustodySessionEntry,
  custodySessionEntry,
} from '../../../common/protocol/custody.ts';
import type { Genesis } from '../../../common/protocol/genesis.ts';
import { stateKey } from '../../../common/protocol/state-entries.ts';
import type { Call } from '../../../common/protocol/transaction.ts';
import type { PreparedChain } from './prepared-chain.ts';
import { blank } from './transactions.ts';

const BLANK = new Uint8Array(64);

function read<T>(chain: PreparedChain, codec: Parameters<typeof decodeTrusted<T>>[0], key: Uint8Array): T {
  const bytes = chain.executor.state.reader.get(key);
  if (bytes === undefined) throw new Error('the custody session is not where it should be');
  return decodeTrusted(codec, bytes, 'custody');
}

const sessionOf = (chain: PreparedChain): CustodySessionEntry =>
  read(chain, custodySessionEntry, stateKey.custodySession());

/** Completes the session that the genesis has opened. @returns the key, 33 bytes */
export async function makeCustodyKey(chain: PreparedChain, genesis: Genesis): Promise<Uint8Array> {
  const { id, receivers, threshold } = sessionOf(chain);
  const formula: Session = { id, n: receivers.length, t: threshold };
  const origin = { chainId: chain.store.chainId, validUntilMs: chain.timestampMs + 300_000 };
  const say = (calls: readonly Call[]): Promise<void> =>
    chain.commit(
      calls.map((call, index) => {
        const node = genesis.validators.find(({ orgId }) => orgId === receivers[index]?.orgId);
        if (node === undefined) throw new Error('a receiver without a node');
        return blank(origin, node, call);
      }),
    );
  const secrets = receivers.map(() => hedgedScalar('bench-custody', systemRandom));
  const keys: EncryptionKey[] = secrets.map((p, k) => ({ index: k + 1, P: GENERATOR.multiply(p) }));
  await say(
    keys.map((key, k) => ({
      kind: 'node.custodyAnnounce',
      sessionId: id,
      orgId: receivers[k]?.orgId ?? '',
      key: encodePoint(key.P),
      proof: proveEncryptionKey(formula, key, secrets[k] as bigint, systemRandom),
      custodianKey: receivers[k]?.custodianKey ?? BLANK,
      signature: BLANK,
    })),
  );
  await say(
    keys.map(({ index }) => ({
      kind: 'node.custodyDeal',
      sessionId: id,
      dealing: deal(formula, index, null, keys, systemRandom),
    })),
  );
  await say(confirmations(chain, formula, keys, secrets));
  return read(chain, custodyEpochEntry, stateKey.custodyEpoch()).key;
}

function confirmations(
  chain: PreparedChain,
  formula: Session,
  keys: readonly EncryptionKey[],
  secrets: readonly bigint[],
): Call[] {
  const { dealt, result } = sessionOf(chain);
  const point = (bytes: Uint8Array | undefined) => {
    const decoded = bytes && decodePoint(bytes);
    if (decoded === undefined) throw new Error('not a point');
    return decoded;
  };
  const dealings = dealt.map((dealer) =>
    storedDealing(formula, read(chain, custodyDealingEntry, stateKey.custodyDealing(formula.id, dealer)).dealing),
  );
  return keys.map((key, k) => {
    const parts = dealings.map((dealing) => {
      const opened = openDealing(formula, dealing, key, secrets[k] as bigint);
      if (!opened.ok) throw new Error(opened.code);
      return opened.value;
    });
    const share = point(result?.shares[k]);
    const x = secretShare(dealt, parts, 'sum', share);
    const proof = proveShare(formula, key.index, point(result?.key), share, x, systemRandom);
    return { kind: 'node.custodyConfirm', sessionId: formula.id, proof };
  });
}

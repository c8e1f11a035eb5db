/** Transactions and what travels with them. */
import { encode } from '../../common/codec.ts';
import {
  decodeSidecar,
  decodeTransaction,
  encodeSidecar,
  sidecar,
  signedTransaction,
  transactionBody,
} from '../../common/protocol/transaction.ts';
import { decodeFrame, encodeFrame } from '../../node/mempool/transaction-frame.ts';
import type { Prng } from '../sim/prng.ts';
import { inventBytes } from './generate.ts';
import { draw, type FunctionTarget, verdict } from './parts.ts';

const someTransaction = (random: Prng): Uint8Array =>
  encode(signedTransaction, {
    body: inventBytes(transactionBody, random),
    publicKey: draw(64, random),
    signature: draw(64, random),
  });

export const transactionTargets: readonly FunctionTarget[] = [
  {
    name: 'transaction',
    covers: ['decodeTransaction'],
    form: 'cbor',
    sample: someTransaction,
    decode(bytes) {
      const tx = decodeTransaction(bytes);
      return tx.ok ? { ok: true, again: encode(signedTransaction, tx.value.signed) } : tx;
    },
  },
  {
    name: 'sidecar',
    covers: ['decodeSidecar'],
    form: 'cbor',
    sample: (random) => inventBytes(sidecar, random),
    decode: (bytes) => verdict(decodeSidecar(bytes), encodeSidecar),
  },
  {
    name: 'transaction frame',
    covers: ['decodeFrame', 'frame'],
    form: 'cbor',
    sample: (random) =>
      encodeFrame({
        unreached: random.chance(500) ? [] : [draw(20, random)],
        transactions: Array.from({ length: random.between(1, 3) }, () => ({
          bytes: someTransaction(random),
          sidecar: random.chance(300) ? draw(30, random) : null,
        })),
      }),
    decode: (bytes) => verdict(decodeFrame(bytes), encodeFrame),
  },
];

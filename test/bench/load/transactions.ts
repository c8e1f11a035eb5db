/** Transactions of a benchmark: signed ones that are sent, and blank ones that the preparation writes into the past. */
import { u32be } from '../../../common/bytes.ts';
import { encode } from '../../../common/codec.ts';
import { H } from '../../../common/crypto/hash.ts';
import { txSigningHash } from '../../../common/protocol/signing.ts';
import {
  type Call,
  encodeSidecar,
  type Sidecar,
  signedTransaction,
  transactionBody,
  txHash,
} from '../../../common/protocol/transaction.ts';
import type { CheckedTransaction } from '../../../vm/types.ts';
import type { BenchKey } from './bench-key.ts';

/** Where a transaction comes from: chain, key and how long it holds. */
export interface Origin {
  readonly chainId: Uint8Array;
  readonly validUntilMs: number;
}

export interface SignedBytes {
  readonly bytes: Uint8Array;
  readonly hash: Uint8Array;
  readonly sidecar: Uint8Array | null;
}

const BLANK = new Uint8Array(64);
let nonces = 0;

/** 16 bytes that no other transaction of this process has. */
export function freshNonce(): Uint8Array {
  nonces += 1;
  return H('bench-nonce-16', u32be(nonces), u32be(process.pid)).slice(0, 16);
}

/** Who sends, as far as the bytes say. */
export type Sender = Pick<BenchKey, 'address' | 'publicKey'>;

function bodyOf({ chainId, validUntilMs }: Origin, by: Sender, call: Call) {
  return { version: 1, chainId, account: by.address, nonce: freshNonce(), validUntilMs, call };
}

export function signed(origin: Origin, by: BenchKey, call: Call, sidecar: Sidecar | null = null): SignedBytes {
  const body = encode(transactionBody, bodyOf(origin, by, call));
  const signature = by.sign(txSigningHash(origin.chainId, body));
  const bytes = encode(signedTransaction, { body, publicKey: by.publicKey, signature });
  return { bytes, hash: txHash(bytes), sidecar: sidecar && encodeSidecar(sidecar) };
}

/** With a blank signature, for execution without consensus: nobody verifies it, since nobody has to be convinced. */
export function blank(origin: Origin, by: Sender, call: Call, sidecar: Sidecar | null = null): CheckedTransaction {
  const body = bodyOf(origin, by, call);
  const wire = { body: encode(transactionBody, body), publicKey: by.publicKey, signature: BLANK };
  const bytes = encode(signedTransaction, wire);
  return { tx: { bytes, hash: txHash(bytes), signed: wire, body }, sidecar };
}

/** npm run bench -- codec: encoding and decoding what blocks are made of. */
import * as dagCbor from '@ipld/dag-cbor';
import { decodeTrusted, encode } from '../../common/codec.ts';
import { block } from '../../common/protocol/block.ts';
import { encodeReceipt, receipt } from '../../common/protocol/receipt.ts';
import { recordVersionEntry } from '../../common/protocol/state-entries.ts';
import { type Call, decodeTransaction, signedTransaction, txHash } from '../../common/protocol/transaction.ts';
import { obligations } from '../../vm/index.ts';
import { type Case, interleaved } from '../../scripts/bench/measure.ts';
import { benchKey } from './load/bench-key.ts';
import { PHYSICIANS, Town } from './load/town.ts';
import { type SignedBytes, signed } from './load/transactions.ts';

const ROUNDS = 20;
const TXS = 500;

const chainId = new Uint8Array(32).fill(9);
const nowMs = 1_800_000_000_000;
const town = new Town(4, 100);
const origin = { chainId, validUntilMs: nowMs };

const made = (call: (index: number) => Call): SignedBytes[] =>
  Array.from({ length: TXS }, (_, index) => signed(origin, town.physician(index % PHYSICIANS), call(index)));

const approvals = made(() => ({ kind: 'access.approve', requestHash: new Uint8Array(32).fill(3) }));
const requests = made((index) => {
  const request = town.request(index % 100, index, 'three', benchKey('request', index).publicKey, nowMs);
  return { kind: 'access.request', request, possession: new Uint8Array(64).fill(5) };
});
const records = made((index) => town.record(index % 100).call);

function each(name: string, items: readonly SignedBytes[], run: (item: SignedBytes) => unknown): Case {
  return {
    name,
    operations: items.length,
    run: () => {
      for (const item of items) run(item);
    },
  };
}

function decoded({ bytes }: SignedBytes) {
  const verdict = decodeTransaction(bytes);
  if (!verdict.ok) throw new Error(verdict.code);
  return verdict.value;
}

const wire = approvals.map((tx) => decoded(tx).signed);
const whole = {
  header: new Uint8Array(300),
  txs: approvals.map(({ bytes }) => bytes),
  sidecars: approvals.map(() => null),
};
const body = encode(block, whole);
const address = town.patient(0).address;
const event = {
  type: 'access.approve',
  actor: address,
  subject: address,
  orgId: 'hospital-a',
  recordId: new Uint8Array(32),
  requestHash: new Uint8Array(32),
  objectId: new Uint8Array(32),
  detail: 'TREAT',
};
const oneReceipt = { index: 7, txHash: new Uint8Array(32), events: [event] };
const receiptBytes = encodeReceipt(oneReceipt);
const { call } = town.record(0);
const version = {
  recordId: new Uint8Array(32),
  version: 1,
  writer: address,
  orgId: 'hospital-a',
  content: call.content,
  height: 5,
  createdMs: nowMs,
};
const versionBytes = encode(recordVersionEntry, version);

const many = (name: string, run: () => unknown): Case => ({
  name,
  operations: TXS,
  run: () => {
    for (let n = 0; n < TXS; n += 1) run();
  },
});

const { rows } = await interleaved(
  [
    each('an approval: decoded, checked, hashed', approvals, decoded),
    each('an approval: by dag-cbor alone, neither checked nor hashed', approvals, ({ bytes }) =>
      dagCbor.decode(dagCbor.decode<[Uint8Array]>(bytes)[0]),
    ),
    each('a request: decoded, hashed', requests, decoded),
    each('a record: decoded, hashed', records, decoded),
    each('an approval: hashed', approvals, ({ bytes }) => txHash(bytes)),
    each('an approval: decoded, and what it owes', approvals, (tx) => obligations(chainId, decoded(tx))),
    { name: 'an approval: encoded', operations: TXS, run: () => wire.forEach((tx) => encode(signedTransaction, tx)) },
    { name: 'a block of 500 approvals: encoded', operations: 1, run: () => void encode(block, whole) },
    {
      name: 'a block of 500 approvals: decoded, not its transactions',
      operations: 1,
      run: () => void decodeTrusted(block, body, 'block'),
    },
    many('a receipt: encoded', () => encodeReceipt(oneReceipt)),
    many('a receipt: decoded', () => decodeTrusted(receipt, receiptBytes, 'receipt')),
    many("a record's entry: encoded", () => encode(recordVersionEntry, version)),
    many("a record's entry: decoded", () => decodeTrusted(recordVersionEntry, versionBytes, 'version')),
  ],
  ROUNDS,
);
process.stdout.write(JSON.stringify({ rows, ratios: [] }));

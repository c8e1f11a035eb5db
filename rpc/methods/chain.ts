/** chain_*: blocks, headers, certificates, results. */
import type { ChainParams } from '../../common/protocol/chain-params.ts';
import type { Genesis } from '../../common/protocol/genesis.ts';
import type { JsonOf } from '../json.ts';
import * as s from '../schema.ts';
import {
  at,
  certificate,
  hash,
  header,
  height,
  heightOrLatest,
  MAX_PAGE,
  method,
  prove,
  receipt,
  stateProof,
  timeMs,
  txSummary,
  validator,
} from './shapes.ts';

/** Handovers of one answer: some 10 KB each at most, twice that in hex. */
export const MAX_BUNDLE_HANDOVERS = 16;

/** Canonical bytes. */
const certifiedHeader = { header: s.hexUpTo(512), certificate: s.hexUpTo(8192) };

/** By height, or by hash, which then decides. */
const which = { height: s.optional(heightOrLatest), hash: s.optional(hash) };

export const chainMethods = {
  chain_getGenesis: method({
    summary: 'The genesis document; its hash is the chain id.',
    access: 'public',
    params: {},
    result: s.object({
      chainId: hash,
      /** Canonical bytes, for checking the chain id. */
      bytes: s.hexUpTo(1024 * 1024),
      genesis: s.structure<JsonOf<Genesis>>('Genesis', ['network', 'params', 'validators']),
    }),
  }),
  chain_getHeight: method({
    summary: 'The last durable block.',
    access: 'public',
    params: {},
    result: s.object({ height, hash, timestampMs: timeMs, lowestHeight: height, ...at }),
  }),
  chain_getBlock: method({
    summary: 'A block: header, who certified it, and its transactions as far as they are in scope.',
    access: 'public',
    params: which,
    result: s.object({
      hash,
      header,
      txs: s.list(txSummary),
      certificate: s.nullable(certificate),
      sizeBytes: s.integer(),
      ...at,
    }),
  }),
  chain_getHeader: method({
    summary: 'A header and its canonical bytes.',
    access: 'public',
    params: which,
    result: s.object({ hash, header, bytes: s.hexUpTo(512), ...at }),
  }),
  chain_getHeaders: method({
    summary: 'Consecutive headers in ascending order, from `fromHeight` on.',
    access: 'public',
    params: { fromHeight: height, limit: s.optional(s.integer(1, MAX_PAGE)) },
    result: s.object({ headers: s.list(s.object({ hash, header }), MAX_PAGE), ...at }),
  }),
  chain_getCommit: method({
    summary:
      'A header with the certificate that makes it final and the set that certifies it: all that an offline check needs.',
    access: 'public',
    params: which,
    result: s.object({
      hash,
      header,
      headerBytes: s.hexUpTo(512),
      /** Null for the genesis block, which is known by its hash. */
      certificate: s.nullable(certificate),
      certificateBytes: s.nullable(s.hexUpTo(8192)),
      validators: s.list(validator),
      ...at,
    }),
  }),
  light_getBundle: method({
    summary:
      'Certified headers that hand over to another validator set, from a height on, and the certified head: all that follows from a set which is trusted at that height.',
    access: 'public',
    params: { fromHeight: height },
    result: s.object({
      handovers: s.list(s.object({ ...certifiedHeader, nextValidators: s.hexUpTo(16 * 1024) }), MAX_BUNDLE_HANDOVERS),
      /** There are more before the head: ask again from after the last one. */
      more: s.bool,
      /** Null while there is the genesis block alone. */
      head: s.nullable(s.object(certifiedHeader)),
      ...at,
    }),
  }),
  chain_getBlockResults: method({
    summary: 'Receipts of a block, with the events in the scope of the caller.',
    access: 'member',
    params: which,
    result: s.object({ height, hash, receipts: s.list(receipt), ...at }),
  }),
  chain_getParams: method({
    summary: 'The parameters of consensus and execution now in force.',
    access: 'member',
    params: { prove },
    result: s.object({
      params: s.structure<JsonOf<ChainParams>>('ChainParams', ['maxBlockBytes', 'viewTimeoutMs']),
      proof: stateProof,
      ...at,
    }),
  }),
};

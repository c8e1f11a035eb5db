/**
 * Checking a chain without believing a node: headers that follow one another, each certified by a quorum of the set that
 * the genesis, or a certified handover, names. From a node, or from a file that was written earlier, offline.
 */
import { equalBytes } from '../common/bytes.ts';
import { decode, encode } from '../common/codec.ts';
import { readFile } from 'node:fs/promises';
import type { Sm2Engine } from '../common/crypto/sm2.ts';
import { certificate, MAX_CERTIFICATE_BYTES } from '../common/protocol/block.ts';
import { genesis, genesisHash, MAX_GENESIS_BYTES } from '../common/protocol/genesis.ts';
import { type TrustedSet, verifyHeader, type VerifiedHeader } from '../common/protocol/light.ts';
import { validatorSet, sortedValidatorSet, validatorSetHash } from '../common/protocol/validator-set.ts';
import { parseHex0x } from '../common/bytes.ts';
import type { ResultOf } from '../rpc/methods.ts';
import { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';

/** One certified header as the file has it; hex. */
interface BundleBlock {
  readonly header: string;
  readonly certificate: string;
  /** The set for the next height, where it is another. */
  readonly nextValidators?: string;
}

const FORMAT = 'emrchain-headers';
/** Some 1 KiB a block: a file of a million blocks is read in pieces by whoever has one. */
export const MAX_BUNDLE_BYTES = 256 * 1024 * 1024;
const MAX_SET_BYTES = 16 * 1024;

const invalid = (height: number | string, why: string): ClientError =>
  new ClientError(
    'CHAIN_INVALID',
    `Block ${height} does not hold: ${why}.`,
    'Do not rely on this chain; ask another member for theirs.',
  );

/** Verifies blocks in order, one after the other. */
export class ChainChecker {
  readonly #engine: Sm2Engine;
  #trusted: TrustedSet;
  #last: VerifiedHeader | undefined;
  #count = 0;

  constructor(trusted: TrustedSet, engine: Sm2Engine) {
    this.#trusted = trusted;
    this.#engine = engine;
  }

  get last(): VerifiedHeader | undefined {
    return this.#last;
  }

  get count(): number {
    return this.#count;
  }

  /**
   * @param header canonical bytes; `proof` canonical bytes of its certificate
   * @param nextValidators canonical bytes of the next set; needed where the header hands over to another
   * @throws ClientError CHAIN_INVALID
   */
  add(header: Uint8Array, proof: Uint8Array, nextValidators?: Uint8Array): VerifiedHeader {
    const at = this.#last === undefined ? 'first' : this.#last.header.height + 1;
    const decoded = decode(certificate, proof, MAX_CERTIFICATE_BYTES);
    if (!decoded.ok) throw invalid(at, decoded.message);
    const verdict = verifyHeader(this.#trusted, { header, certificate: decoded.value }, this.#engine);
    if (!verdict.ok) throw invalid(at, verdict.message);
    const verified = verdict.value;
    const before = this.#last;
    if (before !== undefined) {
      if (verified.header.height !== before.header.height + 1) throw invalid(at, 'a height is missing');
      if (!equalBytes(verified.header.parentHash, before.hash))
        throw invalid(at, 'it does not follow the block before');
      if (verified.header.timestampMs <= before.header.timestampMs) throw invalid(at, 'its time is not later');
    }
    if (!equalBytes(verified.header.nextValidatorsHash, verified.header.validatorsHash)) {
      this.#handOver(verified, nextValidators);
    }
    this.#last = verified;
    this.#count += 1;
    return verified;
  }

  #handOver({ header }: VerifiedHeader, bytes: Uint8Array | undefined): void {
    const next = bytes === undefined ? undefined : decode(validatorSet, bytes, MAX_SET_BYTES);
    if (next?.ok !== true || !equalBytes(validatorSetHash(next.value), header.nextValidatorsHash)) {
      throw invalid(header.height, 'the next validator set is missing or another');
    }
    this.#trusted = { chainId: header.chainId, fromHeight: header.height + 1, validators: next.value };
  }
}

/** A commit of a node as a block of a bundle. */
export function bundleBlock(
  commit: ResultOf<'chain_getCommit'>,
  next: ResultOf<'chain_getCommit'> | undefined,
): BundleBlock {
  if (commit.certificateBytes === null) throw invalid(commit.header.height, 'it has no certificate');
  const handsOver = commit.header.nextValidatorsHash !== commit.header.validatorsHash && next !== undefined;
  const set = handsOver
    ? next.validators.map(({ address, orgId, publicKey, peerId }) => ({
        address: fromHex(address, 20),
        orgId,
        publicKey: fromHex(publicKey, 64),
        peerId,
      }))
    : undefined;
  return {
    header: commit.headerBytes,
    certificate: commit.certificateBytes,
    ...(set === undefined ? {} : { nextValidators: hexOf(encode(validatorSet, set)) }),
  };
}

/** Text of a bundle file. */
export function formatBundle(genesisBytes: Uint8Array, blocks: readonly BundleBlock[]): string {
  return `${JSON.stringify({ format: FORMAT, version: 1, genesis: hexOf(genesisBytes), blocks })}\n`;
}

const hexField = (value: unknown): Uint8Array => {
  const bytes = typeof value === 'string' ? parseHex0x(value) : undefined;
  if (bytes === undefined)
    throw new ClientError('DOCUMENT_MALFORMED', 'The file is no bundle of headers.', 'Ask for it again.');
  return bytes;
};

export interface BundleReport {
  readonly chainId: Uint8Array;
  readonly network: string;
  readonly count: number;
  readonly from: number;
  readonly to: number;
  readonly head: VerifiedHeader;
}

/**
 * Verifies a bundle file offline.
 * @param chainId what the reader expects; undefined: the file's own, which the reader must compare
 * @throws ClientError CHAIN_INVALID, CHAIN_ID_MISMATCH, DOCUMENT_MALFORMED
 */
export async function verifyBundle(
  path: string,
  chainId: Uint8Array | undefined,
  engine: Sm2Engine,
): Promise<BundleReport> {
  const text = await readFile(path, 'utf8');
  if (text.length > MAX_BUNDLE_BYTES)
    throw new ClientError('DOCUMENT_MALFORMED', 'The file is too large.', 'Split it.');
  let bundle: Record<string, unknown>;
  try {
    bundle = JSON.parse(text) as Record<string, unknown>;
  } catch {
    bundle = {};
  }
  const { format, genesis: genesisHex, blocks } = bundle;
  if (format !== FORMAT || !Array.isArray(blocks) || blocks.length === 0) hexField(undefined);
  const document = decode(genesis, hexField(genesisHex), MAX_GENESIS_BYTES);
  if (!document.ok)
    throw new ClientError('DOCUMENT_MALFORMED', `The genesis is ${document.message}.`, 'Ask for the file again.');
  const id = genesisHash(document.value);
  if (chainId !== undefined && !equalBytes(id, chainId)) {
    throw new ClientError(
      'CHAIN_ID_MISMATCH',
      `The file is of the chain ${hexOf(id)}.`,
      'Ask for the file of your chain.',
    );
  }
  const trusted = { chainId: id, fromHeight: 0, validators: sortedValidatorSet(document.value.validators) };
  const checker = new ChainChecker(trusted, engine);
  let from = 0;
  for (const block of blocks as readonly Record<string, unknown>[]) {
    const next = block['nextValidators'];
    const verified = checker.add(
      hexField(block['header']),
      hexField(block['certificate']),
      next === undefined ? undefined : hexField(next),
    );
    if (checker.count === 1) from = verified.header.height;
  }
  const head = checker.last;
  if (head === undefined) throw new ClientError('DOCUMENT_MALFORMED', 'The file holds no block.', 'Ask for it again.');
  return { chainId: id, network: document.value.network, count: checker.count, from, to: head.header.height, head };
}

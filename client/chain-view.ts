/**
 * What the chain says, checked here: a state entry counts once its proof leads to a header that a quorum of the
 * validators certified, from the genesis that this home has pinned. Figures that a node merely tells do not pass here.
 */
import { bytesToHex, equalBytes } from '../common/bytes.ts';
import { type Codec, decode } from '../common/codec.ts';
import type { Sm2Engine } from '../common/crypto/sm2.ts';
import { merkleVerify } from '../common/crypto/merkle.ts';
import { type BlockHeader, certificate, MAX_CERTIFICATE_BYTES } from '../common/protocol/block.ts';
import {
  type Handover,
  type TrustedSet,
  verifyHandover,
  verifyHeader,
  type VerifiedHeader,
  verifyStateEntry,
} from '../common/protocol/light.ts';
import { receipt, type Receipt } from '../common/protocol/receipt.ts';
import { STATE_VALUE_MAX_BYTES } from '../common/protocol/state-entries.ts';
import { validatorSet, type ValidatorSet } from '../common/protocol/validator-set.ts';
import type { Verdict } from '../common/errors.ts';
import { selectSm2Engine } from '../common/native/sm2-select.ts';
import type { ResultOf } from '../rpc/methods.ts';
import { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import type { PinnedNode } from './network.ts';
import type { RpcClient } from './rpc-client.ts';

/** Headers kept while a command runs: each read of the state stands at one of a few. */
const MAX_CACHED_HEADERS = 64;
/** Answers with handovers that are followed at a time: 1,024 changes of the validator set. */
const MAX_BUNDLES = 64;
const MAX_SET_BYTES = 16 * 1024;
const MAX_RECEIPT_BYTES = 1024 * 1024;

const LIAR = 'Use another node (--rpc URL), and tell its operator: this one shows what its chain does not hold.';

/** Turns a failed check of what a node showed into the error that says so. */
export function requireProven<T>(verdict: Verdict<T>, what: string): T {
  if (verdict.ok) return verdict.value;
  throw new ClientError('PROOF_INVALID', `The proof of ${what} does not hold: ${verdict.message}.`, LIAR, {
    verdict: verdict.code,
  });
}

export interface ProvenEntry<T> {
  readonly value: T;
  readonly at: VerifiedHeader;
}

export class ChainView {
  readonly rpc: RpcClient;
  readonly node: PinnedNode;
  readonly #engine: Sm2Engine;
  readonly #headers = new Map<number, VerifiedHeader>();
  /** From the genesis on, in ascending order: a header is checked against the set of its height. */
  readonly #sets: TrustedSet[];

  constructor(rpc: RpcClient, node: PinnedNode, engine: Sm2Engine = selectSm2Engine().engine) {
    this.rpc = rpc;
    this.node = node;
    this.#engine = engine;
    this.#sets = [{ chainId: node.chainId, fromHeight: 0, validators: node.validators }];
  }

  get engine(): Sm2Engine {
    return this.#engine;
  }

  /** The set that is trusted by now: that of the genesis, or the last one that was handed over to. */
  get validators(): ValidatorSet {
    return this.#newest.validators;
  }

  get #newest(): TrustedSet {
    return this.#sets.at(-1) as TrustedSet;
  }

  #setAt(height: number): TrustedSet {
    return this.#sets.findLast(({ fromHeight }) => fromHeight <= height) ?? (this.#sets[0] as TrustedSet);
  }

  /** The header of a height, certified. @throws ClientError PROOF_INVALID, CHAIN_AT_GENESIS, and those of calls */
  async header(height: number): Promise<VerifiedHeader> {
    const known = this.#headers.get(height);
    if (known !== undefined) return known;
    if (height === 0) {
      throw new ClientError(
        'CHAIN_AT_GENESIS',
        'The chain has no block yet, so that nothing of its state can be proven.',
        'Try again after the first transaction.',
      );
    }
    const commit = await this.rpc.call('chain_getCommit', { height });
    const verified = await this.#verifyCommit(height, commit);
    if (this.#headers.size >= MAX_CACHED_HEADERS) this.#headers.clear();
    this.#headers.set(height, verified);
    return verified;
  }

  async #verifyCommit(height: number, commit: ResultOf<'chain_getCommit'>): Promise<VerifiedHeader> {
    const proof = certified(commit);
    let verdict = verifyHeader(this.#setAt(height), proof, this.#engine);
    if (!verdict.ok && verdict.code === 'WRONG_VALIDATOR_SET') {
      await this.#followHandovers(height);
      verdict = verifyHeader(this.#setAt(height), proof, this.#engine);
    }
    const verified = requireProven(verdict, `block ${height}`);
    if (verified.header.height !== height) {
      throw new ClientError('PROOF_INVALID', `The node showed another block than ${height}.`, LIAR);
    }
    return verified;
  }

  /** Takes over each set that a certified header hands over to, from what is trusted up to `height`. */
  async #followHandovers(height: number): Promise<void> {
    for (let asked = 0; asked < MAX_BUNDLES; asked += 1) {
      const { handovers, more } = await this.rpc.call('light_getBundle', {
        fromHeight: Math.max(1, this.#newest.fromHeight),
      });
      for (const step of handovers) {
        const set = requireProven(
          verifyHandover(this.#newest, readHandover(step), this.#engine),
          'a change of validators',
        );
        if (set.fromHeight > height) return;
        this.#sets.push(set);
      }
      if (!more || handovers.length === 0) return;
    }
  }

  /**
   * One entry of the state, proven.
   * @param what names it in errors: "the record"
   * @returns undefined where the node says that there is none: absence is not proven to those who see a part only
   * @throws ClientError PROOF_INVALID, CHAIN_AT_GENESIS, and those of calls
   */
  async find<T>(key: Uint8Array, codec: Codec<T>, what: string): Promise<ProvenEntry<T> | undefined> {
    const answer = await this.#read(key);
    if (answer === undefined || answer.value === null) return undefined;
    return (await this.#proven(answer, key, codec, what)) ?? undefined;
  }

  async #proven<T>(
    { proof, atHeight }: ResultOf<'state_get'>,
    key: Uint8Array,
    codec: Codec<T>,
    what: string,
  ): Promise<ProvenEntry<T> | null> {
    if (proof === null) throw new ClientError('PROOF_MISSING', `The node gave no proof of ${what}.`, LIAR);
    const at = await this.header(atHeight);
    const value = requireProven(verifyStateEntry(at, key, fromHex(proof)), what);
    return value === null ? null : { value: requireProven(decode(codec, value, STATE_VALUE_MAX_BYTES), what), at };
  }

  async #read(key: Uint8Array): Promise<ResultOf<'state_get'> | undefined> {
    try {
      return await this.rpc.call('state_get', { key: hexOf(key), prove: true });
    } catch (error) {
      // A proof of absence shows keys of others: nodes give it to those only who see everything.
      if (error instanceof ClientError && error.code === 'PROOF_SHOWS_OTHERS') return undefined;
      throw error;
    }
  }

  /**
   * As `find`, where absence must be proven as well.
   * @throws ClientError PROOF_MISSING where the node shows neither; PROOF_SHOWS_OTHERS where it may not
   */
  async presence<T>(key: Uint8Array, codec: Codec<T>, what: string): Promise<ProvenEntry<T> | null> {
    return this.#proven(await this.rpc.call('state_get', { key: hexOf(key), prove: true }), key, codec, what);
  }

  /** As `find`; absence is an error. @throws ClientError NOT_FOUND too */
  async entry<T>(key: Uint8Array, codec: Codec<T>, what: string): Promise<ProvenEntry<T>> {
    const found = await this.find(key, codec, what);
    if (found === undefined) {
      throw new ClientError('NOT_FOUND', `The chain does not have ${what}.`, 'Check the id.');
    }
    return found;
  }

  /**
   * What a committed transaction did, proven.
   * @param hash hash of the signed bytes `raw`
   */
  async provenReceipt(
    hash: Uint8Array,
    raw: Uint8Array,
  ): Promise<{ readonly header: BlockHeader; readonly receipt: Receipt; readonly index: number }> {
    const answer = await this.rpc.call('tx_getProof', { hash: hexOf(hash) });
    const { header } = await this.header(answer.height);
    const { txProof, receiptProof } = answer;
    const path = (of: readonly string[]): Uint8Array[] => of.map((step) => fromHex(step, 32));
    const inBlock = merkleVerify(header.txRoot, raw, txProof.index, txProof.total, path(txProof.path));
    const receiptBytes = fromHex(answer.receiptBytes);
    const didIt = merkleVerify(
      header.receiptsRoot,
      receiptBytes,
      receiptProof.index,
      receiptProof.total,
      path(receiptProof.path),
    );
    const decoded = decode(receipt, receiptBytes, MAX_RECEIPT_BYTES);
    const fits =
      decoded.ok &&
      decoded.value.index === txProof.index &&
      decoded.value.txHash !== null &&
      equalBytes(decoded.value.txHash, hash);
    if (!inBlock || !didIt || !fits) {
      throw new ClientError('PROOF_INVALID', 'The proof of the transaction does not hold.', LIAR, {
        hash: bytesToHex(hash),
      });
    }
    return { header, receipt: decoded.value, index: txProof.index };
  }
}

function certified(commit: ResultOf<'chain_getCommit'>) {
  const bytes = commit.certificateBytes;
  if (bytes === null) throw new ClientError('PROOF_MISSING', 'The node has no certificate of the block.', LIAR);
  return {
    header: fromHex(commit.headerBytes),
    certificate: requireProven(decode(certificate, fromHex(bytes), MAX_CERTIFICATE_BYTES), 'the block'),
  };
}

export function readHandover(step: ResultOf<'light_getBundle'>['handovers'][number]): Handover {
  const what = 'a change of validators';
  return {
    at: {
      header: fromHex(step.header),
      certificate: requireProven(decode(certificate, fromHex(step.certificate), MAX_CERTIFICATE_BYTES), what),
    },
    nextValidators: [...requireProven(decode(validatorSet, fromHex(step.nextValidators), MAX_SET_BYTES), what)],
  };
}

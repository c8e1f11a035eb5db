/**
 * The questions that a newcomer asks of one peer, and what must be true of the answers. A verdict that is not ok is about
 * the peer, whose answer proves something else than what was asked; what it cannot answer throws.
 */
import { compareBytes, concatBytes, equalBytes } from '../../common/bytes.ts';
import { decode } from '../../common/codec.ts';
import { accept, EmrError, reject, type Verdict } from '../../common/errors.ts';
import { txRootOf } from '../../common/protocol/block.ts';
import { MAX_HANDOVERS } from '../../common/protocol/light.ts';
import { MAX_BLOCK_TXS } from '../../common/protocol/primitives.ts';
import { receiptsRootOf } from '../../common/protocol/receipt.ts';
import { paramsEntry, STATE_VALUE_MAX_BYTES, stateKey } from '../../common/protocol/state-entries.ts';
import { verifyRange } from '../../common/protocol/state-proof.ts';
import type { StateEntry } from '../../common/protocol/state-tree.ts';
import { proposedBlock } from '../../consensus/messages.ts';
import { decodeCertifiedBlock, MAX_CERTIFIED_BLOCK_BYTES } from '../host/wire.ts';
import type { Network } from '../network/types.ts';
import type { TransactionChecker } from '../verification/transaction-checker.ts';
import { endsWithin } from './key-range.ts';
import { headerOf, MAX_RECEIPTS_BYTES, type RestoreTarget } from './restore-store.ts';
import { isSnapshotHeight } from './snapshot-heights.ts';
import type { TrustChain } from './trust-chain.ts';
import {
  decodeEntries,
  decodeHandover,
  decodeOffers,
  encodeSnapshotRequest,
  type KeyRange,
  MAX_ENTRIES_BYTES,
  MAX_HANDOVER_BYTES,
  MAX_OFFERS_BYTES,
  type Offer,
  type SnapshotRequest,
} from './wire.ts';

const REQUEST_IDLE_MS = 5_000;
/** An honest answer that is cut short has more than this: a peer that doles out entries one by one is left. */
const MIN_CUT_ENTRIES = 256;
const MIN_CUT_BYTES = 64 * 1024;

export interface SnapshotPeersPorts {
  readonly network: Pick<Network, 'request'>;
  readonly checker: Pick<TransactionChecker, 'decodeCertified'>;
  readonly trust: TrustChain;
  readonly signal: AbortSignal;
}

/** What was proven of a range: all entries of it. */
export interface ProvenEntries {
  readonly entries: readonly StateEntry[];
  /** Where it ends: where the question ended, or earlier. */
  readonly lt: Uint8Array | null;
}

export class SnapshotPeers {
  readonly #ports: SnapshotPeersPorts;

  constructor(ports: SnapshotPeersPorts) {
    this.#ports = ports;
  }

  async offers(peerId: string): Promise<Verdict<readonly Offer[]>> {
    const frame = await this.#one(peerId, { kind: 'offers' }, MAX_OFFERS_BYTES);
    return decodeOffers(frame);
  }

  /** The block of a snapshot, with all that proves it, from one peer. */
  async target(peerId: string, { height, blockHash }: Offer): Promise<Verdict<RestoreTarget>> {
    const followed = await this.#followHandovers(peerId, height);
    if (!followed.ok) return followed;
    const frames: Uint8Array[] = [];
    let receiptBytes = 0;
    for await (const frame of this.#request(
      peerId,
      { kind: 'block', height },
      MAX_CERTIFIED_BLOCK_BYTES,
      MAX_BLOCK_TXS + 2,
    )) {
      if (frames.length > 0) receiptBytes += frame.length;
      if (receiptBytes > MAX_RECEIPTS_BYTES) return reject('TOO_LARGE', 'the receipts are too large');
      frames.push(frame);
    }
    const [first, ...receipts] = frames;
    const certified = first === undefined ? reject('MALFORMED', 'no block') : decodeCertifiedBlock(first);
    if (!certified.ok) return certified;
    const { block, certificate } = certified.value;
    const opened = proposedBlock(block);
    if (!opened.ok) return opened;
    const { header, hash } = opened.value;
    if (header.height !== height || !equalBytes(hash, blockHash)) return reject('OTHER_BLOCK', 'not the block offered');
    const proven = this.#ports.trust.verify({ header: block.header, certificate }, height);
    if (!proven.ok) return proven;
    const hasBody = block.sidecars.length === block.txs.length && equalBytes(txRootOf(block.txs), header.txRoot);
    if (!hasBody) return reject('WRONG_BODY', 'the transactions are not those of the header');
    const txs = this.#ports.checker.decodeCertified(block);
    if (!txs.ok) return txs;
    if (!equalBytes(receiptsRootOf(receipts), header.receiptsRoot)) {
      return reject('WRONG_RECEIPTS', 'the receipts are not those of the header');
    }
    const target = { certified: certified.value, receipts, handovers: this.#ports.trust.before(height) };
    return this.#checkAligned(peerId, target);
  }

  /** Entries from the beginning of a range, as many as the peer puts into one answer. */
  async entries(peerId: string, target: RestoreTarget, range: KeyRange): Promise<Verdict<ProvenEntries>> {
    const { height, stateRoot } = headerOf(target);
    const answer = decodeEntries(await this.#one(peerId, { kind: 'entries', height, range }, MAX_ENTRIES_BYTES));
    if (!answer.ok) return answer;
    const { lt, proof } = answer.value;
    if (!endsWithin(range, lt)) return reject('STATE_RANGE_INVALID', 'the answer is about another range');
    const proven = verifyRange(stateRoot, { gte: range.gte, lt }, proof);
    if (!proven.ok) return proven;
    const isCut = lt === null ? range.lt !== null : range.lt === null || compareBytes(lt, range.lt) < 0;
    if (isCut && proven.value.length < MIN_CUT_ENTRIES && proof.length < MIN_CUT_BYTES) {
      return reject('SHORT_ANSWER', 'the answer was cut short without need');
    }
    return accept({ entries: proven.value, lt });
  }

  /** The parameters, proven, say whether this is a height that a newcomer can begin at. */
  async #checkAligned(peerId: string, target: RestoreTarget): Promise<Verdict<RestoreTarget>> {
    const key = stateKey.params();
    const range = { gte: key, lt: concatBytes(key, Uint8Array.of(0)) };
    const found = await this.entries(peerId, target, range);
    if (!found.ok) return found;
    const [entry] = found.value.entries;
    const params =
      entry === undefined
        ? reject('MALFORMED', 'no parameters')
        : decode(paramsEntry, entry.value, STATE_VALUE_MAX_BYTES);
    if (!params.ok) return params;
    return isSnapshotHeight(headerOf(target).height, params.value.leaderDemotionBlocks)
      ? accept(target)
      : reject('NO_SNAPSHOT_HEIGHT', 'nobody can begin at this height');
  }

  /** What is proven stays, whatever this peer does next. */
  async #followHandovers(peerId: string, height: number): Promise<Verdict> {
    const { trust } = this.#ports;
    for (let full = true; full && trust.next <= height;) {
      let frames = 0;
      const request = { kind: 'handovers', from: trust.next } as const;
      for await (const frame of this.#request(peerId, request, MAX_HANDOVER_BYTES, MAX_HANDOVERS)) {
        frames += 1;
        const step = decodeHandover(frame);
        const extended = step.ok ? trust.extend(step.value) : step;
        if (!extended.ok) return extended;
      }
      full = frames === MAX_HANDOVERS;
    }
    return accept(undefined);
  }

  async #one(peerId: string, request: SnapshotRequest, maxFrameBytes: number): Promise<Uint8Array> {
    let answer: Uint8Array | undefined;
    // To the end of the answer, so that the stream closes in order and is not reset.
    for await (const frame of this.#request(peerId, request, maxFrameBytes, 1)) answer = frame;
    if (answer === undefined) throw new EmrError('PEER_PROTOCOL', 'the answer is empty');
    return answer;
  }

  #request(
    peerId: string,
    request: SnapshotRequest,
    maxFrameBytes: number,
    maxFrames: number,
  ): AsyncIterable<Uint8Array> {
    const { network, signal } = this.#ports;
    const options = { maxFrames, maxFrameBytes, idleTimeoutMs: REQUEST_IDLE_MS, signal };
    return network.request(peerId, 'snapshot', encodeSnapshotRequest(request), options);
  }
}

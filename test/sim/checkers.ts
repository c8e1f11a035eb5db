/**
 * What must hold whatever the network, the disks and up to f validators do. Outside the core and on purpose without its
 * code: they see only what honest nodes sign, what is on their disks, and what they commit.
 */
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { verifyCertificate } from '../../common/protocol/block.ts';
import type { SignedMessage } from '../../consensus/messages.ts';
import type { SafetyRecord } from '../../consensus/safety-record.ts';
import { executeBlock, MAX_DRIFT_MS, setAfter, type StoredBlock, toyGenesis, txKey } from './toy-chain.ts';
import type { ToyConsortium } from './toy-crypto.ts';
import { type Electorate, VoteChecker } from './vote-checker.ts';

/** A property did not hold. */
export class Violation extends Error {}

/** No honest view comes near this in minutes of virtual time with capped timers: more means that somebody was followed. */
const MAX_SANE_VIEW = 2_000;

export interface DurableState {
  readonly record: SafetyRecord | null;
  readonly bodies: ReadonlyMap<string, unknown>;
}

export class Checkers {
  readonly #consortium: ToyConsortium;
  readonly #signed = new Map<string, string>();
  readonly #votes = new VoteChecker();
  /** The one chain: index i is height i + 1. */
  readonly chain: StoredBlock[] = [];
  readonly #txHeights = new Map<string, number>();
  /** How far each process's chain was durable when it said so, by place. */
  readonly #durableHeights = new Map<number, number>();
  evidence = 0;
  /** The furthest that the clock of a node was ever ahead of true time. */
  #mostAheadMs = 0;

  constructor(consortium: ToyConsortium) {
    this.#consortium = consortium;
  }

  /** An honest node signed and is about to send. `disk` is what would survive if it lost power now. */
  signed(node: number, { body }: SignedMessage, disk: DurableState, electorate: Electorate): void {
    if (body.kind === 'status' || body.kind === 'echo') return;
    if (body.view > MAX_SANE_VIEW) throw new Violation(`node ${node} followed somebody to view ${body.view}`);
    if (body.kind === 'newView') return;
    const content =
      body.kind === 'viewChange'
        ? `${body.prepared?.view ?? '-'}/${body.prepared === null ? '' : bytesToHex(body.prepared.digest)}`
        : bytesToHex(body.kind === 'prePrepare' ? body.block.hash : body.digest);
    const key = `${node}/${body.height}/${body.view}/${body.kind}`;
    const before = this.#signed.get(key);
    if (before !== undefined && before !== content) throw new Violation(`double vote: ${key}`);
    this.#signed.set(key, content);
    if (body.kind === 'prepare' || body.kind === 'commit') {
      const { kind, height, view } = body;
      const problem = this.#votes.note({ member: node, kind, height, view, digest: content }, electorate);
      if (problem !== null) throw new Violation(problem);
    }
    const { record } = disk;
    if (record === null || record.height !== body.height) throw new Violation(`nothing durable covers ${key}`);
    if (body.kind === 'commit') {
      if (record.prepared === null || !equalBytes(record.prepared.digest, body.digest))
        throw new Violation(`${key}: no durable certificate`);
      if (!disk.bodies.has(content)) throw new Violation(`${key}: no durable body`);
    }
  }

  /** The clock of a node is this far ahead of true time. */
  clockAt(aheadMs: number): void {
    this.#mostAheadMs = Math.max(this.#mostAheadMs, aheadMs);
  }

  /** An honest node starts, with `height` blocks on its disk: none that it had committed is gone. */
  started(place: number, height: number): void {
    const before = this.#durableHeights.get(place) ?? 0;
    if (height < before) throw new Violation(`node ${place} lost committed blocks: ${before}, now ${height}`);
  }

  /** Somebody put an older folder in place of the one that was there. */
  putBack(place: number, height: number): void {
    this.#durableHeights.set(place, height);
  }

  /** An honest node made a block durable as final. */
  committed(place: number, stored: StoredBlock, nowMs = Number.POSITIVE_INFINITY): void {
    const { block, certificate } = stored;
    const { height } = block.header;
    this.#durableHeights.set(place, height);
    const parent = this.chain[height - 2]?.block ?? toyGenesis(this.#consortium);
    const { validators } = setAfter(this.#consortium, parent);
    const verdict = verifyCertificate(block.header, block.hash, certificate, validators, this.#consortium.engine);
    if (!verdict.ok) throw new Violation(`height ${height} at node ${place}: ${verdict.code}`);
    const known = this.chain[height - 1];
    if (known !== undefined) {
      if (!equalBytes(known.block.hash, block.hash)) throw new Violation(`disagreement at height ${height}`);
      if (!block.block.txs.every((tx, i) => equalBytes(tx, known.block.block.txs[i] as Uint8Array))) {
        throw new Violation(`different bodies at height ${height}`);
      }
      return;
    }
    if (block.header.timestampMs > nowMs + this.#mostAheadMs + MAX_DRIFT_MS)
      throw new Violation(`height ${height} is from the future`);
    if (height !== this.chain.length + 1) throw new Violation(`height ${height} before its parent`);
    const executed = executeBlock(this.#consortium, parent, block, null);
    if (!executed.ok) throw new Violation(`height ${height} cannot be executed: ${executed.code}`);
    for (const tx of block.block.txs) {
      const key = txKey(tx);
      if (this.#txHeights.has(key))
        throw new Violation(`a transaction twice: heights ${this.#txHeights.get(key)} and ${height}`);
      this.#txHeights.set(key, height);
    }
    this.chain.push(stored);
  }

  isCommitted(tx: Uint8Array): boolean {
    return this.#txHeights.has(txKey(tx));
  }
}

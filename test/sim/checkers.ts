/**
 * What must hold whatever the network, the disks and up to f validators do. Outside the core and on purpose without its
 * code: they see only what honest nodes sign, what is on their disks, and what they commit.
 */
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { verifyCertificate } from '../../common/protocol/block.ts';
import type { SignedMessage } from '../../consensus/messages.ts';
import type { SafetyRecord } from '../../consensus/safety-record.ts';
import { executeBlock, type StoredBlock, toyGenesis, txKey } from './toy-chain.ts';
import type { ToyConsortium } from './toy-crypto.ts';

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
  /** The one chain: index i is height i + 1. */
  readonly chain: StoredBlock[] = [];
  readonly #txHeights = new Map<string, number>();
  evidence = 0;

  constructor(consortium: ToyConsortium) {
    this.#consortium = consortium;
  }

  /** An honest node signed and is about to send. `disk` is what would survive if it lost power now. */
  signed(node: number, { body }: SignedMessage, disk: DurableState): void {
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
    const { record } = disk;
    if (record === null || record.height !== body.height) throw new Violation(`nothing durable covers ${key}`);
    if (body.kind === 'commit') {
      if (record.prepared === null || !equalBytes(record.prepared.digest, body.digest))
        throw new Violation(`${key}: no durable certificate`);
      if (!disk.bodies.has(content)) throw new Violation(`${key}: no durable body`);
    }
  }

  /** An honest node made a block durable as final. */
  committed(node: number, stored: StoredBlock): void {
    const { block, certificate } = stored;
    const { height } = block.header;
    const { validators, engine } = this.#consortium;
    const verdict = verifyCertificate(block.header, block.hash, certificate, validators, engine);
    if (!verdict.ok) throw new Violation(`height ${height} at node ${node}: ${verdict.code}`);
    const known = this.chain[height - 1];
    if (known !== undefined) {
      if (!equalBytes(known.block.hash, block.hash)) throw new Violation(`disagreement at height ${height}`);
      if (!block.block.txs.every((tx, i) => equalBytes(tx, known.block.block.txs[i] as Uint8Array))) {
        throw new Violation(`different bodies at height ${height}`);
      }
      return;
    }
    if (height !== this.chain.length + 1) throw new Violation(`height ${height} before its parent`);
    const parent = this.chain[height - 2]?.block ?? toyGenesis(this.#consortium);
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

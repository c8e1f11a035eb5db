/**
 * What the consensus core promised, durable before anything that it signs leaves: the last safety record, and the bodies
 * of the blocks that it names. One small synced batch for each vote.
 */
import { bytesToHex } from '../../common/bytes.ts';
import { decodeTrusted, encode } from '../../common/codec.ts';
import { assert } from '../../common/errors.ts';
import { block as blockCodec } from '../../common/protocol/block.ts';
import { proposedBlock, type ProposedBlock } from '../../consensus/messages.ts';
import { bodiesOf, checkSuccession, type SafetyRecord, safetyRecord } from '../../consensus/safety-record.ts';
import type { KeyValueStore, Write } from './key-value-store.ts';
import { storageKey, storageRange } from './keyspace.ts';

/** Bodies on disk at a time: a record names two; a few more only if an earlier version left some behind. */
const MAX_STORED_BODIES = 64;

export class SafetyStore {
  readonly #kv: KeyValueStore;
  #record: SafetyRecord | null;
  /** Hashes (hex) of the bodies on disk. */
  readonly #stored: Map<string, ProposedBlock>;

  /** Use `openSafetyStore`. */
  constructor(kv: KeyValueStore, record: SafetyRecord | null, stored: Map<string, ProposedBlock>) {
    this.#kv = kv;
    this.#record = record;
    this.#stored = stored;
  }

  /** The last durable record: what may be signed. */
  get record(): SafetyRecord | null {
    return this.#record;
  }

  /** The bodies that the record names. */
  bodies(): readonly ProposedBlock[] {
    return this.#record === null ? [] : bodiesOf(this.#record).flatMap((hash) => this.body(hash) ?? []);
  }

  /** Body of a block that this node voted for at the height being decided. */
  body(hash: Uint8Array): ProposedBlock | undefined {
    return this.#stored.get(bytesToHex(hash));
  }

  /**
   * Replaces the record, durably. A record that takes a promise back is a bug of the core: the node stops.
   * @throws EmrError STORAGE_FAILED; InvariantError
   */
  async persist(record: SafetyRecord, block: ProposedBlock | null): Promise<void> {
    const succession = checkSuccession(this.#record, record);
    assert(succession.ok, `safety record refused: ${succession.ok ? '' : `${succession.code}, ${succession.message}`}`);
    const writes: Write[] = [{ type: 'put', key: storageKey.safetyRecord(), value: encode(safetyRecord, record) }];
    if (block !== null) {
      writes.push({ type: 'put', key: storageKey.votedBlock(block.hash), value: encode(blockCodec, block.block) });
    }
    const kept = new Set(bodiesOf(record).map(bytesToHex));
    if (block !== null) kept.add(bytesToHex(block.hash));
    const dropped = [...this.#stored].filter(([name]) => !kept.has(name));
    for (const [, body] of dropped) writes.push({ type: 'del', key: storageKey.votedBlock(body.hash) });
    await this.#kv.write(writes, { sync: true });
    this.#record = record;
    if (block !== null) this.#stored.set(bytesToHex(block.hash), block);
    for (const [name] of dropped) this.#stored.delete(name);
  }
}

/** Reads back what was promised before the last stop or crash. */
export async function openSafetyStore(kv: KeyValueStore): Promise<SafetyStore> {
  const stored = kv.getSync(storageKey.safetyRecord());
  const record = stored === undefined ? null : decodeTrusted(safetyRecord, stored, 'safety record');
  const bodies = new Map<string, ProposedBlock>();
  for (const { value } of await kv.scan({ ...storageRange.votedBlocks(), limit: MAX_STORED_BODIES })) {
    const opened = proposedBlock(decodeTrusted(blockCodec, value, 'voted block'));
    assert(opened.ok, 'stored voted block: its header cannot be decoded');
    bodies.set(bytesToHex(opened.value.hash), opened.value);
  }
  const store = new SafetyStore(kv, record, bodies);
  const missing = record === null ? [] : bodiesOf(record).filter((hash) => store.body(hash) === undefined);
  assert(missing.length === 0, 'the body of a block that this node voted for is missing: the database lost it');
  return store;
}

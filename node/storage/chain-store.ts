/**
 * The chain on disk: what a committed block leaves behind, in one atomic synced batch. Its state is among it with every few
 * blocks only, and in memory until then; what a crash takes of it is computed again. Reads of headers and indexes are
 * synchronous (they are small and warm), bodies are not. Rules of execution and of consensus do not go in here; this file
 * trusts its caller and the disk, and checks at opening that what the disk has is whole.
 */
import { bytesToHex, equalBytes, readU64be, u64be } from '../../common/bytes.ts';
import { boundedBytes, decodeTrusted, encode, list, struct, uint } from '../../common/codec.ts';
import { assert, EmrError, InvariantError } from '../../common/errors.ts';
import {
  type Block,
  blockHash,
  type BlockHeader,
  blockHeader,
  type Certificate,
  certificate as certificateCodec,
} from '../../common/protocol/block.ts';
import { type Genesis, genesis as genesisCodec, genesisHash } from '../../common/protocol/genesis.ts';
import {
  type Hash,
  type Height,
  MAX_BLOCK_TXS,
  MAX_TX_BYTES,
  MAX_VALIDATORS,
} from '../../common/protocol/primitives.ts';
import { type Receipt, receipt as receiptCodec } from '../../common/protocol/receipt.ts';
import { type ValidatorSet, validatorSet } from '../../common/protocol/validator-set.ts';
import type { Handover } from '../../common/protocol/light.ts';
import type { LeaderHistory } from '../../consensus/types.ts';
import type { KeyValueStore, Write } from './key-value-store.ts';
import { DATA_FORMAT, heightOf, sidecarIndexOf, storageKey, storageRange } from './keyspace.ts';
import { RecentStates, type StateChange } from './recent-states.ts';
import { StateReaders } from './state-readers.ts';

const body = list(boundedBytes(1, MAX_TX_BYTES), MAX_BLOCK_TXS);
/** Receipts are stored as they were hashed. One of 1,000 events is the largest: some 200 bytes for each. */
const encodedReceipts = list(boundedBytes(1, 512 * 1024), MAX_BLOCK_TXS + 1);
/** Who was passed over as leader lately, as the next height's order of leaders needs it. */
const leaderHistory = list(struct({ validator: uint(MAX_VALIDATORS - 1), height: uint() }), MAX_VALIDATORS);
const txLocation = struct({ height: uint(), index: uint(MAX_BLOCK_TXS) });
/** State nodes of the genesis and of the few blocks after it, when a node goes on with a snapshot. */
const MAX_EARLY_NODES = 1_000_000;

/** A committed block with everything that it leaves behind. */
export interface CommittedBlock {
  readonly hash: Hash;
  readonly header: BlockHeader;
  readonly block: Block;
  /** Null for block 0 alone. */
  readonly certificate: Certificate | null;
  /** Encoded, in order. */
  readonly receipts: readonly Uint8Array[];
  /** In order of execution. */
  readonly txHashes: readonly Hash[];
  /** The set that certifies the next height. */
  readonly nextValidators: ValidatorSet;
  /** For the next height. It is a function of the headers so far, kept so that a restart need not read them. */
  readonly leaders: LeaderHistory;
  readonly state: StateChange;
  /** Whether the state goes to disk with the block; else it does with one of the next. */
  readonly keepsState?: boolean;
}

/** A block that a node begins its chain with. */
export interface RestoredBlock {
  /** Its state's nodes are in the database, but for the root that names them. */
  readonly committed: CommittedBlock;
  /** The set that certified it. */
  readonly validators: ValidatorSet;
  /** From the genesis to that set. */
  readonly handovers: readonly Handover[];
}

export interface HeaderAt {
  readonly header: BlockHeader;
  readonly hash: Hash;
}

export class ChainStore {
  readonly chainId: Hash;
  readonly genesis: Genesis;
  /** Who reads old states. */
  readonly readers = new StateReaders();
  readonly #kv: KeyValueStore;
  readonly #recent: RecentStates;
  #head: HeaderAt;
  /** Batches with states one after the other: a state relies on those before it. */
  #turn: Promise<unknown> = Promise.resolve();

  /** Use `openChainStore`. */
  constructor(kv: KeyValueStore, genesis: Genesis, chainId: Hash, head: HeaderAt, stateEvery: number) {
    this.#kv = kv;
    this.genesis = genesis;
    this.chainId = chainId;
    this.#head = head;
    this.#recent = new RecentStates(this.readers, stateHeadOf(kv), stateEvery);
  }

  /** The last durable block. */
  get head(): HeaderAt {
    return this.#head;
  }

  /** Lowest height whose block is kept; a node that began with a snapshot has none from before it, but for block 0. */
  get lowestBlock(): Height {
    return lowestBlockOf(this.#kv);
  }

  headerAt(height: Height): HeaderAt | null {
    return readHeader(this.#kv, height);
  }

  certificateAt(height: Height): Certificate | null {
    const bytes = this.#kv.getSync(storageKey.certificate(height));
    return bytes === undefined ? null : decodeTrusted(certificateCodec, bytes, 'certificate');
  }

  /** Whole block; a sidecar that was erased is null. */
  async blockAt(height: Height): Promise<Block | null> {
    const header = this.#kv.getSync(storageKey.header(height));
    const stored = await this.#kv.get(storageKey.body(height));
    if (header === undefined || stored === undefined) return null;
    const txs = decodeTrusted(body, stored, 'block body');
    const sidecars: (Uint8Array | null)[] = new Array<Uint8Array | null>(txs.length).fill(null);
    for (const { key, value } of await this.#kv.scan({ ...storageRange.sidecarsOf(height), limit: txs.length })) {
      sidecars[sidecarIndexOf(key)] = value;
    }
    return { header, txs, sidecars };
  }

  async receiptsAt(height: Height): Promise<readonly Receipt[] | null> {
    const encoded = await this.encodedReceiptsAt(height);
    return encoded === null ? null : encoded.map((bytes) => decodeTrusted(receiptCodec, bytes, 'receipt'));
  }

  /** The bytes whose Merkle root is in the header. */
  async encodedReceiptsAt(height: Height): Promise<readonly Uint8Array[] | null> {
    const stored = await this.#kv.get(storageKey.receipts(height));
    return stored === undefined ? null : decodeTrusted(encodedReceipts, stored, 'receipts');
  }

  /** The set with this hash, if a block up to the head named it. */
  validatorSet(setHash: Hash): ValidatorSet | null {
    const bytes = this.#kv.getSync(storageKey.validatorSet(setHash));
    return bytes === undefined ? null : decodeTrusted(validatorSet, bytes, 'validator set');
  }

  /** Height of the last block whose state is on disk: the head, or one of the few before it. */
  get stateHeight(): Height {
    return this.#recent.stored;
  }

  get stateHead(): HeaderAt {
    const found = this.headerAt(this.stateHeight);
    assert(found !== null, 'the block of the stored state is missing');
    return found;
  }

  /** For the height after `stateHeight`. */
  leaderHistory(): LeaderHistory {
    const bytes = this.#kv.getSync(storageKey.meta('leaders'));
    assert(bytes !== undefined, 'the database has no leader history');
    const skipped = decodeTrusted(leaderHistory, bytes, 'leader history');
    return { skippedAt: new Map(skipped.map(({ validator, height }) => [validator, height])) };
  }

  heightOf(hash: Hash): Height | null {
    const stored = this.#kv.getSync(storageKey.heightByHash(hash));
    return stored === undefined ? null : (readU64be(stored, 0) ?? null);
  }

  locateTx(txHash: Hash): { readonly height: Height; readonly index: number } | null {
    const stored = this.#kv.getSync(storageKey.txIndex(txHash));
    return stored === undefined ? null : decodeTrusted(txLocation, stored, 'transaction index');
  }

  /** Bytes of a state node by its name, 10 bytes. */
  stateNode(name: Uint8Array): Uint8Array | undefined {
    return this.#recent.node(name) ?? this.#kv.getSync(storageKey.stateNode(name));
  }

  /** Encoded root of the state after a block; null where it is not on disk, not yet or not any more. */
  stateRootAt(height: Height): Uint8Array | null {
    return this.#kv.getSync(storageKey.stateRoot(height)) ?? null;
  }

  /**
   * Everything of these blocks, each on top of the one before, in one synced batch: after a crash all of it is there, or
   * nothing. Several blocks at a time come from sync alone. One batch, and not one for each with a single sync at the end:
   * LevelDB begins a new log where the old one is full, and does not sync the old one's tail with it.
   * @throws EmrError STORAGE_FAILED: then the node must stop
   */
  commitBlocks(blocks: readonly CommittedBlock[]): Promise<void> {
    return this.#inTurn(async () => {
      let head = this.#head;
      const writes: Write[] = [];
      for (const committed of blocks) {
        const { header, hash } = committed;
        assert(header.height === head.header.height + 1, 'a block is committed on top of the head');
        assert(equalBytes(header.parentHash, head.hash), 'a block is committed on its parent');
        assert(committed.certificate !== null, 'a block is committed with its certificate');
        for (const write of blockWrites(committed)) writes.push(write);
        this.#recent.add(header.height, committed.state);
        if (committed.keepsState === true || this.#recent.isDue)
          this.#stateTo(writes, header.height, committed.leaders);
        head = { header, hash };
      }
      await this.#kv.write(writes, { sync: true });
      this.#recent.written();
      this.#head = head;
    });
  }

  /** A block of this store was executed again: its state is in memory as if it had just been committed. */
  recall(height: Height, state: StateChange): void {
    this.#recent.add(height, state);
  }

  /**
   * Puts the state of the head on disk, so that whoever opens the store next need not execute anything.
   * @param of the head, with the leader history for the height after it; another one is left alone
   */
  storeState({ height, leaders }: { readonly height: Height; readonly leaders: LeaderHistory }): Promise<void> {
    return this.#inTurn(async () => {
      if (height !== this.#head.header.height || height === this.#recent.stored) return;
      const writes: Write[] = [];
      this.#stateTo(writes, height, leaders);
      await this.#kv.write(writes, { sync: true });
      this.#recent.written();
    });
  }

  #stateTo(writes: Write[], height: Height, leaders: LeaderHistory): void {
    this.#recent.writesTo(writes);
    assert(this.#recent.stored === height, 'the last state is that of the block');
    for (const write of stateHeadWrites(height, leaders)) writes.push(write);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work, work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async commitBlock(committed: CommittedBlock): Promise<void> {
    await this.commitBlocks([committed]);
  }

  /** Headers that hand over to another set, from a height on: there before the lowest block, too. */
  async handoversFrom(height: Height, limit: number): Promise<Handover[]> {
    const found = await this.#kv.scan({ ...storageRange.handoversFrom(height), limit });
    return found.map(({ key }) => {
      const at = heightOf(key);
      const header = this.#kv.getSync(storageKey.header(at));
      const proof = this.certificateAt(at);
      assert(header !== undefined && proof !== null, `the handover at ${at} is not whole`);
      const { nextValidatorsHash } = decodeTrusted(blockHeader, header, 'block header');
      const nextValidators = this.validatorSet(nextValidatorsHash);
      assert(nextValidators !== null, `the set after the handover at ${at} is missing`);
      return { at: { header, certificate: proof }, nextValidators: [...nextValidators] };
    });
  }

  /**
   * Makes a block the head whose state was put together here node by node: the node begins its chain with it. One synced
   * batch. Blocks from before it that are there stay where they are, and count no more.
   */
  async adopt(restored: RestoredBlock): Promise<void> {
    const { committed, validators, handovers } = restored;
    const { header, hash } = committed;
    const { height } = header;
    assert(height > this.#head.header.height, 'a node goes forward to a snapshot');
    const writes = [...blockWrites(committed), ...wholeStateWrites(committed)];
    writes.push({
      type: 'put',
      key: storageKey.validatorSet(header.validatorsHash),
      value: encode(validatorSet, [...validators]),
    });
    for (const { at, nextValidators } of handovers) writes.push(...handoverWrites(at, nextValidators));
    for (const name of ['lowestBlock', 'prunedBelow'] as const) {
      writes.push({ type: 'put', key: storageKey.meta(name), value: u64be(height) });
    }
    for (const part of ['target', 'progress'] as const) writes.push({ type: 'del', key: storageKey.restore(part) });
    for (let below = 0; below <= this.#head.header.height; below += 1) {
      writes.push(
        { type: 'del', key: storageKey.stateRoot(below) },
        { type: 'del', key: storageKey.stateStale(below) },
      );
    }
    await this.#inTurn(async () => {
      await this.#kv.write(writes, { sync: true });
      this.#head = { header, hash };
      this.#recent.restart(height);
    });
  }

  /** Names of all state nodes of versions before a height, 10 bytes each. For a chain of a few blocks. */
  async stateNodesBefore(height: Height): Promise<Uint8Array[]> {
    const found = await this.#kv.scan({ ...storageRange.stateNodesBefore(height), limit: MAX_EARLY_NODES });
    return found.map(({ key }) => key.slice(1));
  }

  /** Forgets the erasable bytes of one transaction, for good; synced. False where there are none. */
  async eraseSidecar(height: Height, txIndex: number): Promise<boolean> {
    const key = storageKey.sidecar(height, txIndex);
    if (this.#kv.getSync(key) === undefined) return false;
    await this.#kv.write([{ type: 'del', key }], { sync: true });
    return true;
  }
}

function readHeader(kv: KeyValueStore, height: Height): HeaderAt | null {
  const bytes = kv.getSync(storageKey.header(height));
  if (bytes === undefined) return null;
  return { header: decodeTrusted(blockHeader, bytes, 'block header'), hash: blockHash(bytes) };
}

function blockWrites(committed: CommittedBlock): Write[] {
  const { header, hash, block, certificate } = committed;
  const { height } = header;
  const writes: Write[] = [];
  const put = (key: Uint8Array, value: Uint8Array): number => writes.push({ type: 'put', key, value });
  put(storageKey.header(height), block.header);
  put(storageKey.body(height), encode(body, block.txs));
  block.sidecars.forEach((sidecar, index) => {
    if (sidecar !== null) put(storageKey.sidecar(height, index), sidecar);
  });
  if (certificate !== null) put(storageKey.certificate(height), encode(certificateCodec, certificate));
  put(storageKey.receipts(height), encode(encodedReceipts, committed.receipts));
  put(storageKey.heightByHash(hash), u64be(height));
  committed.txHashes.forEach((txHash, index) => put(storageKey.txIndex(txHash), encode(txLocation, { height, index })));
  const isNewSet = height === 0 || !equalBytes(header.validatorsHash, header.nextValidatorsHash);
  if (isNewSet && height > 0) put(storageKey.handover(height), new Uint8Array(0));
  if (isNewSet) put(storageKey.validatorSet(header.nextValidatorsHash), encode(validatorSet, committed.nextValidators));
  put(storageKey.meta('head'), u64be(height));
  return writes;
}

/** The state of a block that is the first of a chain here. */
function wholeStateWrites({ header: { height }, leaders, state }: CommittedBlock): Write[] {
  const recent = new RecentStates(new StateReaders(), height - 1, 1);
  recent.add(height, state);
  const writes: Write[] = [];
  recent.writesTo(writes);
  return [...writes, ...stateHeadWrites(height, leaders)];
}

function stateHeadWrites(height: Height, { skippedAt }: LeaderHistory): Write[] {
  const skipped = [...skippedAt].map(([validator, at]) => ({ validator, height: at }));
  return [
    { type: 'put', key: storageKey.meta('leaders'), value: encode(leaderHistory, skipped) },
    { type: 'put', key: storageKey.meta('stateHead'), value: u64be(height) },
  ];
}

/** A header that hands over, kept without its block. */
function handoverWrites(at: Handover['at'], nextValidators: ValidatorSet): Write[] {
  const header = decodeTrusted(blockHeader, at.header, 'block header');
  return [
    { type: 'put', key: storageKey.header(header.height), value: at.header },
    { type: 'put', key: storageKey.certificate(header.height), value: encode(certificateCodec, at.certificate) },
    { type: 'put', key: storageKey.handover(header.height), value: new Uint8Array(0) },
    {
      type: 'put',
      key: storageKey.validatorSet(header.nextValidatorsHash),
      value: encode(validatorSet, [...nextValidators]),
    },
  ];
}

function lowestBlockOf(kv: KeyValueStore): Height {
  const stored = kv.getSync(storageKey.meta('lowestBlock'));
  return stored === undefined ? 0 : (readU64be(stored, 0) ?? 0);
}

function stateHeadOf(kv: KeyValueStore): Height {
  const stored = kv.getSync(storageKey.meta('stateHead'));
  return stored === undefined ? 0 : (readU64be(stored, 0) ?? 0);
}

/** Headers below the head that opening reads, to see that they chain: more than a log tail that a bad disk loses. */
const CHECKED_HEADERS = 64;

/**
 * Opens the chain in a database, or begins it there.
 * @param makeGenesis makes block 0 with its state; called only when the database is empty
 * @param stateEvery the state goes to disk after so many blocks at most
 * @throws EmrError DATA_WRONG_CHAIN, DATA_NEWER_FORMAT, DATA_CORRUPT, STORAGE_FAILED
 */
export async function openChainStore(
  kv: KeyValueStore,
  genesis: Genesis,
  makeGenesis: () => CommittedBlock,
  stateEvery = 1,
): Promise<ChainStore> {
  const chainId = genesisHash(genesis);
  const format = kv.getSync(storageKey.meta('format'));
  if (format === undefined) {
    const first = await begin(kv, genesis, chainId, makeGenesis());
    return new ChainStore(kv, genesis, chainId, first, stateEvery);
  }
  const version = readU64be(format, 0);
  if (version !== DATA_FORMAT && version !== STATE_WITH_EACH_BLOCK) {
    throw new EmrError(
      'DATA_NEWER_FORMAT',
      `The data directory has format ${version}; this node reads format ${DATA_FORMAT}. Start the newer version that wrote it, or give this one an empty directory.`,
      { found: version ?? null, supported: DATA_FORMAT },
    );
  }
  const stored = kv.getSync(storageKey.meta('chainId'));
  if (stored === undefined || !equalBytes(stored, chainId)) {
    throw new EmrError(
      'DATA_WRONG_CHAIN',
      `The data directory belongs to chain ${stored === undefined ? 'unknown' : bytesToHex(stored)}, and the genesis file is that of ${bytesToHex(chainId)}. Use the right genesis file, or an empty data directory.`,
      { found: stored === undefined ? null : bytesToHex(stored), expected: bytesToHex(chainId) },
    );
  }
  if (version === STATE_WITH_EACH_BLOCK) await migrate(kv);
  return new ChainStore(kv, genesis, chainId, wholeHead(kv), stateEvery);
}

/** Format 2 had the state of each block on disk. */
const STATE_WITH_EACH_BLOCK = 2;

async function migrate(kv: KeyValueStore): Promise<void> {
  const head = kv.getSync(storageKey.meta('head'));
  if (head === undefined) return;
  const writes: Write[] = [
    { type: 'put', key: storageKey.meta('stateHead'), value: head },
    { type: 'put', key: storageKey.meta('format'), value: u64be(DATA_FORMAT) },
  ];
  await kv.write(writes, { sync: true });
}

async function begin(kv: KeyValueStore, genesis: Genesis, chainId: Hash, first: CommittedBlock): Promise<HeaderAt> {
  assert(first.header.height === 0 && equalBytes(first.header.chainId, chainId), 'a chain begins with its own block 0');
  const writes: Write[] = [
    ...blockWrites(first),
    ...wholeStateWrites(first),
    { type: 'put', key: storageKey.meta('genesis'), value: encode(genesisCodec, genesis) },
    { type: 'put', key: storageKey.meta('chainId'), value: chainId },
    { type: 'put', key: storageKey.meta('format'), value: u64be(DATA_FORMAT) },
  ];
  await kv.write(writes, { sync: true });
  return { header: first.header, hash: first.hash };
}

/** A damaged log can lose whole batches from the middle: the head's ancestors must be there and chain. */
function wholeHead(kv: KeyValueStore): HeaderAt {
  try {
    const pointer = kv.getSync(storageKey.meta('head'));
    const height = pointer === undefined ? undefined : readU64be(pointer, 0);
    assert(height !== undefined, 'the database has no head');
    const head = readHeader(kv, height);
    assert(head !== null && head.header.height === height, `block ${height}, the head, is missing`);
    let child = head;
    const lowest = Math.max(lowestBlockOf(kv), height - CHECKED_HEADERS);
    for (let at = height - 1; at >= lowest; at -= 1) {
      const parent = readHeader(kv, at);
      assert(parent !== null, `block ${at} is missing`);
      assert(equalBytes(parent.hash, child.header.parentHash), `block ${at} is not the parent of the next`);
      child = parent;
    }
    assert(
      height === 0 || kv.getSync(storageKey.certificate(height)) !== undefined,
      `block ${height} has no certificate`,
    );
    const stateHead = stateHeadOf(kv);
    const ofState = stateHead <= height ? readHeader(kv, stateHead) : null;
    assert(ofState !== null, `the last state is that of block ${stateHead}, which is missing`);
    assert(kv.getSync(storageKey.stateRoot(stateHead)) !== undefined, `block ${stateHead} has no state`);
    return head;
  } catch (cause) {
    if (!(cause instanceof InvariantError)) throw cause;
    throw new EmrError(
      'DATA_CORRUPT',
      `The data directory is damaged: ${cause.message}. Check the disk, move the directory away, and start again: the node fetches the chain anew from its peers.`,
      {},
      { cause },
    );
  }
}

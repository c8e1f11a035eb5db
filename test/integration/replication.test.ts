/**
 * Ciphertext among four hospitals: real networks on loopback, real stores on disk, real validator keys, and a chain in
 * memory that commits what it is told to, lies included.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as dagPb from '@ipld/dag-pb';
import { CID } from 'multiformats/cid';
import t, { type Test } from 'tap';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { replicaReceiptSigningHash } from '../../common/protocol/signing.ts';
import { EmrError } from '../../common/errors.ts';
import type { BlobStore } from '../../node/ipfs/blob-store.ts';
import { openEmbeddedStore } from '../../node/ipfs/open.ts';
import { Libp2pNetwork } from '../../node/network/libp2p-network.ts';
import { generatePeerKey } from '../../node/network/peer-key.ts';
import type { Member } from '../../node/network/types.ts';
import { askForBlock, receiptFrame, tellHeld } from '../../node/replication/blob-protocol.ts';
import { BlobService } from '../../node/replication/blob-service.ts';
import { replicaOrder } from '../../node/replication/placement.ts';
import { createBlobIndex } from '../../node/storage/blob-index.ts';
import type { KeyValueStore } from '../../node/storage/key-value-store.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import type { ReplicaReceipt, StoredBlob } from '../../rpc/ports.ts';
import { MemoryChain, Story } from './memory-chain.ts';
import { consortium, type Hospital, signerFor } from './node-consortium.ts';

const MIB = 1024 * 1024;
const DEADLINE_MS = 30_000;
const engine = createWasmEngine();
const never = new AbortController().signal;
t.setTimeout(120_000);

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

interface Open {
  readonly kv: KeyValueStore;
  readonly store: BlobStore;
  readonly network: Libp2pNetwork;
  readonly service: BlobService;
}

/** What a hospital's node keeps over its restarts. */
class Node {
  readonly hospital: Hospital;
  readonly dir: string;
  readonly key: { readonly secret: Uint8Array; readonly peerId: string };
  readonly faults: Error[] = [];
  freeBytes = Number.MAX_SAFE_INTEGER;
  /** How far its clock is ahead. */
  aheadMs = 0;
  limits = { maxFileBytes: 8 * MIB, maxStagedBytes: 16 * MIB, stagedMs: 3_600_000 };
  open: Open | null = null;

  constructor(hospital: Hospital, dir: string, key: Node['key']) {
    this.hospital = hospital;
    this.dir = dir;
    this.key = key;
  }

  get orgId(): string {
    return this.hospital.orgId;
  }

  get member(): Member {
    const { address } = this.hospital.validator;
    return { peerId: this.key.peerId, orgId: this.orgId, role: 'validator', address };
  }

  get service(): BlobService {
    return this.#opened.service;
  }

  get store(): BlobStore {
    return this.#opened.store;
  }

  get network(): Libp2pNetwork {
    return this.#opened.network;
  }

  get #opened(): Open {
    if (this.open === null) throw new Error(`${this.orgId} is down`);
    return this.open;
  }

  async stop(): Promise<void> {
    const { open } = this;
    this.open = null;
    if (open === null) return;
    await open.service.stop();
    await open.network.stop();
    await open.store.close();
    await open.kv.close();
  }
}

class Consortium {
  readonly nodes: readonly Node[];
  readonly chain: MemoryChain;
  readonly #stories = new Map<string, Story>();

  constructor(nodes: readonly Node[], chain: MemoryChain) {
    this.nodes = nodes;
    this.chain = chain;
  }

  async start(node: Node): Promise<void> {
    const { chain } = this;
    const kv = await openLevelStore(join(node.dir, 'db'));
    const index = createBlobIndex(kv);
    const nowMs = (): number => Date.now() + node.aheadMs;
    const store = await openEmbeddedStore({ dir: join(node.dir, 'blobs'), index, nowMs });
    const network = await this.#connect(node);
    const service = new BlobService({
      chainId: chain.chainId(),
      orgId: node.orgId,
      signer: node.hospital.validator,
      engine,
      store,
      index,
      network,
      chain,
      state: chain,
      limits: node.limits,
      hasRoom: (bytes) => Promise.resolve(bytes < node.freeBytes),
      nowMs,
      log: () => {},
      onFault: (error) => node.faults.push(error),
    });
    node.open = { kv, store, network, service };
    service.start();
  }

  async #connect(node: Node): Promise<Libp2pNetwork> {
    const network = new Libp2pNetwork({
      peerSecret: node.key.secret,
      chainId: this.chain.chainId(),
      listen: ['/ip4/127.0.0.1/tcp/0'],
      addresses: this.nodes.flatMap((other) => other.open?.network.listenAddresses() ?? []),
      onFault: (error) => node.faults.push(error),
    });
    await network.start();
    network.setMembers(this.nodes.map(({ member }) => member));
    return network;
  }

  async connected(nodes: readonly Node[] = this.nodes): Promise<void> {
    await until(
      () => nodes.every((n) => n.network.peers().filter((p) => p.connected).length >= nodes.length - 1),
      'all are connected',
    );
  }

  /** The patient and policy of a hospital, made when first needed. */
  story({ hospital }: Node): Story {
    const known = this.#stories.get(hospital.orgId);
    if (known !== undefined) return known;
    const writer = { orgId: hospital.orgId, signer: hospital.admin };
    const made = new Story(this.chain, writer, signerFor(`patient/${hospital.orgId}`));
    this.#stories.set(hospital.orgId, made);
    return made;
  }

  /** The others in the order in which they are to hold a blob. */
  order(cid: Uint8Array, writer: Node): Node[] {
    const orgs = this.nodes.map(({ orgId }) => orgId);
    return replicaOrder(cid, writer.orgId, orgs).map((org) => this.nodes.find((n) => n.orgId === org) as Node);
  }
}

async function setUp(t: Test, params: { readonly replicas: number }): Promise<Consortium> {
  const net = consortium({ params, timeMs: Date.now() - 600_000 });
  const chain = new MemoryChain(
    net.genesis,
    net.hospitals.map((h) => h.validator),
  );
  const dir = t.testdir(Object.fromEntries(net.hospitals.map((_, i) => [`${i}`, {}])));
  const keys = await Promise.all(net.hospitals.map(() => generatePeerKey()));
  const nodes = net.hospitals.map((h, i) => new Node(h, join(dir, `${i}`), keys[i] as Node['key']));
  const made = new Consortium(nodes, chain);
  t.teardown(() => Promise.all(nodes.map((n) => n.stop())));
  for (const node of nodes) await made.start(node);
  await made.connected();
  return made;
}

let seed = 0;
/** Bytes that nothing else has. */
function ciphertext(length: number): Uint8Array {
  seed += 1;
  const bytes = new Uint8Array(length);
  let state = seed * 2_654_435_761;
  for (let i = 0; i < length; i += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

async function* inPieces(bytes: Uint8Array, pieceBytes = 100_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield await Promise.resolve(bytes.slice(at, at + pieceBytes));
}

interface Blob {
  readonly cid: Uint8Array;
  readonly text: string;
  readonly sizeBytes: number;
  readonly dataDigest: Uint8Array;
}

const uploadOf = ({ hospital }: Node, declaredBytes: number | null) => ({
  account: hospital.admin.address,
  orgId: hospital.orgId,
  declaredBytes,
});

async function upload(node: Node, bytes: Uint8Array): Promise<Blob> {
  const put = await node.service.put(inPieces(bytes), uploadOf(node, bytes.length), never);
  if (!put.ok) throw new Error(`${put.code}: ${put.message}`);
  const { cid, sizeBytes, dataDigest }: StoredBlob = put.value;
  return { cid: CID.parse(cid).bytes, text: cid, sizeBytes, dataDigest };
}

/** Uploads, submits and commits, as the RPC does it. */
async function write(net: Consortium, node: Node, bytes: Uint8Array): Promise<Blob> {
  const blob = await upload(node, bytes);
  const tx = net.story(node).record(blob);
  const admitted = await node.service.admits(tx.call, node.orgId);
  if (!admitted.ok) throw new Error(`${admitted.code}: ${admitted.message}`);
  net.chain.commit([tx]);
  return blob;
}

async function readAll(node: Node, blob: Blob): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const range = { start: 0, end: blob.sizeBytes };
  for await (const chunk of node.service.read(blob.text, range, never)) chunks.push(chunk);
  return new Uint8Array(Buffer.concat(chunks));
}

const holders = async (node: Node, blob: Blob): Promise<string[]> =>
  (await node.service.receipts(blob.text)).map(({ orgId }) => orgId).sort();
const stateAt = async (node: Node, blob: Blob): Promise<string> =>
  (await node.store.stat(CID.decode(blob.cid)))?.state ?? 'absent';
const codeOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return 'none';
  } catch (error) {
    const { code, detail } = error as EmrError;
    return typeof detail?.['code'] === 'string' ? detail['code'] : code;
  }
};
/** Names of the block files of a store. */
async function blockFiles(node: Node): Promise<string[]> {
  const files = await readdir(join(node.dir, 'blobs', 'blocks'), { recursive: true, withFileTypes: true });
  return files.filter((f) => f.isFile()).map((f) => join(f.parentPath, f.name));
}

function verifies(net: Consortium, blob: Blob, { orgId, holder, signature }: ReplicaReceipt): boolean {
  const validator = net.chain.genesis().validators.find((v) => v.orgId === orgId);
  if (validator === undefined || !equalBytes(validator.address, holder)) return false;
  const message = replicaReceiptSigningHash(net.chain.chainId(), blob.cid, blob.dataDigest, holder);
  return engine.verify(validator.publicKey, message, signature);
}

t.test('what is committed is held by its writer and by as many others as the chain asks for', async (t) => {
  const net = await setUp(t, { replicas: 2 });
  const [writer] = net.nodes as [Node];
  const bytes = ciphertext(3 * MIB + 17);
  const blob = await write(net, writer, bytes);
  const [first, second, third] = net.order(blob.cid, writer) as [Node, Node, Node];
  const expected = [writer.orgId, first.orgId, second.orgId].sort();
  for (const node of net.nodes) {
    await until(async () => (await holders(node, blob)).length === 3, `${node.orgId} knows the three`);
    t.same(await holders(node, blob), expected, 'the same three, in the order that everybody computes');
    const receipts = await node.service.receipts(blob.text);
    t.ok(
      receipts.every((receipt) => verifies(net, blob, receipt)),
      'each receipt verifies',
    );
  }
  for (const node of [writer, first, second]) t.equal(await stateAt(node, blob), 'pinned', 'held for good');
  t.equal(await stateAt(third, blob), 'absent', 'and by nobody else');
  t.match(await third.service.stat(blob.text), { local: false, sizeBytes: bytes.length, uploadedBy: null });

  await t.test('the writer is down: another reads from the replicas', async (t) => {
    await writer.stop();
    t.ok(equalBytes(await readAll(third, blob), bytes));
    t.equal(await stateAt(third, blob), 'staged', 'a reader promises nothing');
    const part: Uint8Array[] = [];
    for await (const chunk of third.service.read(blob.text, { start: MIB - 5, end: MIB + 5 }, never)) part.push(chunk);
    t.same(new Uint8Array(Buffer.concat(part)), bytes.slice(MIB - 5, MIB + 5), 'a range');
    await net.start(writer);
    await net.connected();
  });

  await t.test('a damaged block is noticed, fetched and goes unnoticed by the reader', async (t) => {
    const before = await blockFiles(first);
    for (const file of before.slice(0, 2)) await rm(file);
    t.ok(equalBytes(await readAll(first, blob), bytes));
    t.equal((await blockFiles(first)).length, before.length, 'whole again');
  });

  await t.test('the same ciphertext in a second record, by somebody else', async (t) => {
    const copier = second;
    net.chain.commit([net.story(copier).record(blob)]);
    await until(async () => (await third.service.stat(blob.text))?.records.length === 2, 'both are known');
    const stat = await third.service.stat(blob.text);
    const ids = stat?.records.map(({ recordId }) => bytesToHex(recordId)) ?? [];
    t.equal(new Set(ids).size, 2, 'neither takes the place of the other');
    t.same(await holders(writer, blob), expected, 'and the receipts stay');
  });
  t.same(
    net.nodes.flatMap((n) => n.faults),
    [],
  );
});

t.test('a replica that is down: the next steps in, and who comes back learns what happened', async (t) => {
  const net = await setUp(t, { replicas: 1 });
  const [writer] = net.nodes as [Node];
  net.story(writer);

  await t.test('back in time, it catches up by itself', async (t) => {
    const bytes = ciphertext(20_000);
    const blob = await upload(writer, bytes);
    const [first] = net.order(blob.cid, writer) as [Node];
    await first.stop();
    net.chain.commit([net.story(writer).record(blob)]);
    await until(async () => (await holders(writer, blob)).length === 1, 'the writer holds it');
    await net.start(first);
    await until(async () => (await holders(writer, blob)).length === 2, 'two hold it');
    await until(async () => (await stateAt(first, blob)) === 'pinned', 'the one that was down');
    t.same(await holders(writer, blob), [writer.orgId, first.orgId].sort());
    await net.connected();
  });

  await t.test('away for longer, the next one has stepped in', async (t) => {
    const bytes = ciphertext(2 * MIB);
    const blob = await upload(writer, bytes);
    const [first, standby, last] = net.order(blob.cid, writer) as [Node, Node, Node];
    await Promise.all([first.stop(), last.stop()]);
    // Committed a while ago, as far as its time says: nobody has to wait here for those who do not come.
    net.chain.commit([net.story(writer).record(blob)], net.chain.head().timestampMs + 1);
    await until(async () => (await holders(writer, blob)).length === 2, 'the standby');
    t.same(await holders(writer, blob), [writer.orgId, standby.orgId].sort());
    last.aheadMs = 24 * 3_600_000;
    await net.start(last);
    await until(async () => (await holders(last, blob)).length === 2, 'who comes back hears of both');
    t.equal(await stateAt(last, blob), 'absent', 'and copies nothing');
    await net.start(first);
    await until(async () => (await holders(first, blob)).length >= 2, 'so does the first in order');
  });

  await t.test('the writer was away when the replica was made', async (t) => {
    const bytes = ciphertext(5_000);
    const blob = await upload(writer, bytes);
    const [first] = net.order(blob.cid, writer) as [Node];
    await first.stop();
    net.chain.commit([net.story(writer).record(blob)]);
    await until(async () => (await stateAt(writer, blob)) === 'pinned', 'the writer holds it');
    await writer.stop();
    await net.start(writer);
    t.same(await holders(writer, blob), [writer.orgId], 'what it knew it still knows');
    await net.start(first);
    await until(async () => (await holders(writer, blob)).length === 2, 'and learns the rest');
  });
  t.same(
    net.nodes.flatMap((n) => n.faults),
    [],
  );
});

t.test('records that lie about ciphertext harm nobody', async (t) => {
  const net = await setUp(t, { replicas: 2 });
  const [writer, liar] = net.nodes as [Node, Node];
  const others = net.nodes.slice(1);

  await t.test('a CID that expands beyond what was declared', async (t) => {
    const blob = await upload(writer, ciphertext(3 * MIB));
    net.chain.commit([net.story(writer).record({ ...blob, sizeBytes: 4_096 })]);
    const lie = { ...blob, sizeBytes: 4_096 };
    for (const node of others) {
      t.equal(await codeOf(readAll(node, lie)), 'DAG_EXCEEDS_DECLARED', 'refused to readers');
    }
    // What comes after it in the same queues shows that it was dealt with.
    const next = await write(net, writer, ciphertext(1_000));
    await until(async () => (await holders(writer, next)).length === 3, 'the next one is replicated');
    for (const node of net.order(next.cid, writer).slice(2)) t.equal(await stateAt(node, next), 'absent');
    for (const node of others) {
      t.equal(await stateAt(node, blob), 'absent', 'nothing stays');
      t.equal(node.store.usage().openBytes, 0);
      const files = await blockFiles(node);
      t.ok(files.length <= 1, 'not even a block');
    }
    for (const node of net.nodes) t.same(await holders(node, blob), [], 'nobody signed for it');
    t.equal(await stateAt(writer, blob), 'staged', 'the upload itself is none of its business');
  });

  await t.test('a digest that is not that of the bytes', async (t) => {
    const bytes = ciphertext(30_000);
    const blob = await upload(writer, bytes);
    // Somebody sees the upload named in a transaction on its way, and is quicker with a lie.
    const lie = { ...blob, dataDigest: new Uint8Array(32).fill(6) };
    net.chain.commit([net.story(liar).record(lie)]);
    const replicas = net.order(blob.cid, liar).slice(0, 2);
    await until(async () => {
      const states = await Promise.all([...replicas, liar].map((n) => n.service.stat(blob.text)));
      return states.every((s) => s !== null);
    }, 'the lie is known everywhere');
    t.ok(equalBytes(await readAll(writer, blob), bytes), 'the upload is still there');
    net.chain.commit([net.story(writer).record(blob)]);
    for (const node of net.nodes) {
      await until(async () => (await holders(node, blob)).length === 3, 'the true record is replicated');
    }
    const receipts = await writer.service.receipts(blob.text);
    t.ok(receipts.every((receipt) => verifies(net, blob, receipt)));
    t.notOk(
      receipts.some((receipt) => verifies(net, { ...blob, dataDigest: lie.dataDigest }, receipt)),
      'none for the lie',
    );
    const stat = await writer.service.stat(blob.text);
    t.equal(stat?.records.length, 1, 'and the lie opens nothing to anybody');
  });

  await t.test('a lie about what has long been kept', async (t) => {
    const bytes = ciphertext(40_000);
    const blob = await write(net, writer, bytes);
    await until(async () => (await holders(writer, blob)).length === 3, 'replicated');
    const story = net.story(liar);
    net.chain.commit([
      story.record({ ...blob, dataDigest: new Uint8Array(32).fill(1) }),
      story.record({ ...blob, sizeBytes: 50_000, dataDigest: new Uint8Array(32).fill(2) }),
      story.record({ ...blob, sizeBytes: 1, dataDigest: new Uint8Array(32).fill(3) }),
    ]);
    // Sizes differ from what the same digest was named with: one of the two lies, and it is the later one.
    net.chain.commit([story.record({ ...blob, sizeBytes: 1 })]);
    const next = await write(net, liar, ciphertext(1_000));
    await until(async () => (await holders(liar, next)).length === 3, 'the next one is replicated');
    for (const node of [writer, ...net.order(blob.cid, writer).slice(0, 2)]) {
      t.equal(await stateAt(node, blob), 'pinned', 'still kept');
      t.ok(equalBytes(await readAll(node, blob), bytes));
    }
  });

  await t.test('what the writing node is told before anything is committed', async (t) => {
    const bytes = ciphertext(9_000);
    const blob = await upload(writer, bytes);
    const story = net.story(writer);
    const admit = async (change: Partial<Blob>, node = writer, hospital = writer.orgId): Promise<string> => {
      const verdict = await node.service.admits(story.record({ ...blob, ...change }).call, hospital);
      return verdict.ok ? 'ok' : verdict.code;
    };
    t.equal(await admit({}), 'ok');
    t.equal(await admit({ cid: Uint8Array.from([1, 0x70, 0x12, 32, ...new Uint8Array(32)]) }), 'BLOB_UNKNOWN');
    t.equal(await admit({ cid: new Uint8Array(36).fill(255) }), 'BLOB_UNKNOWN', 'not even a CID');
    t.equal(await admit({ sizeBytes: 9_001 }), 'BLOB_SIZE_MISMATCH');
    t.equal(await admit({ dataDigest: new Uint8Array(32) }), 'BLOB_DIGEST_MISMATCH');
    t.equal(await admit({}, liar, writer.orgId), 'WRONG_HOSPITAL');
    t.equal(await admit({}, liar, liar.orgId), 'BLOB_UNKNOWN');
  });

  await t.test('blocks are served for records only', async (t) => {
    const blob = await upload(writer, ciphertext(2 * MIB));
    const ask = (cid: Uint8Array): Promise<string> =>
      codeOf(askForBlock(liar.network, writer.key.peerId, cid, AbortSignal.timeout(DEADLINE_MS)));
    const root = (await writer.store.getBlock(CID.decode(blob.cid))) as Uint8Array;
    const [leaf] = dagPb.decode(root).Links;
    t.equal(await ask(blob.cid), 'BLOCK_NOT_FOUND', 'not the root of an upload');
    t.equal(await ask((leaf as { Hash: CID }).Hash.bytes), 'BLOCK_NOT_FOUND', 'nor its leaves');
    t.equal(await ask(new Uint8Array(36)), 'BLOCK_NOT_FOUND', 'nor what is no CID');
    net.chain.commit([net.story(writer).record(blob)]);
    t.equal(await ask(blob.cid), 'none', 'once a record names it');
    t.equal(await ask((leaf as { Hash: CID }).Hash.bytes), 'none');
  });
  t.same(
    net.nodes.flatMap((n) => n.faults),
    [],
  );
});

t.test('members that lie about what they hold', async (t) => {
  const net = await setUp(t, { replicas: 1 });
  const [writer] = net.nodes as [Node];
  const bytes = ciphertext(3 * MIB);
  const blob = await upload(writer, bytes);
  const [honest, hostile, reader] = net.order(blob.cid, writer) as [Node, Node, Node];
  const chainId = net.chain.chainId();
  const sign = (by: Node, name: Blob, holder = by.hospital.validator.address): Uint8Array =>
    by.hospital.validator.sign(replicaReceiptSigningHash(chainId, name.cid, name.dataDigest, holder));
  const receiptOf = (by: Node, change: Partial<ReplicaReceipt> = {}): ReplicaReceipt => ({
    orgId: by.orgId,
    holder: by.hospital.validator.address,
    signature: sign(by, blob),
    atMs: Date.now(),
    ...change,
  });

  // From here on the hostile node speaks for itself.
  let served = 0;
  await hostile.open?.service.stop();
  hostile.network.onRequest('blob', async function* (_from, payload) {
    served += 1;
    const text = Buffer.from(payload).toString('latin1');
    if (text.includes('receipts')) {
      const stranger = signerFor('stranger');
      yield encode(receiptFrame, [
        receiptOf(reader, { signature: new Uint8Array(64).fill(1) }),
        receiptOf(reader, { holder: stranger.address, signature: stranger.sign(chainId) }),
        receiptOf(honest, { orgId: reader.orgId }),
      ]);
    } else if (text.includes('held')) yield new Uint8Array(0);
    // What a peer says of itself must not be taken for what happened here.
    else if (served % 2 === 0) throw new EmrError('STORAGE_FAILED', 'as if it were your disk');
    else yield ciphertext(MIB);
  });
  net.chain.commit([net.story(writer).record(blob)]);
  await until(async () => (await holders(writer, blob)).length === 2, 'the honest replica');

  await t.test('receipts that are not theirs to give', async (t) => {
    const tell = (receipt: ReplicaReceipt, name = blob): Promise<string> =>
      codeOf(tellHeld(hostile.network, reader.key.peerId, name, receipt, AbortSignal.timeout(DEADLINE_MS)));
    const stranger = signerFor('stranger');
    const strangers = stranger.sign(replicaReceiptSigningHash(chainId, blob.cid, blob.dataDigest, stranger.address));
    const other = { ...blob, dataDigest: new Uint8Array(32) };
    const unnamed = { ...blob, cid: Uint8Array.from([1, 0x55, 0x12, 32, ...new Uint8Array(32)]) };
    t.equal(await tell(receiptOf(honest)), 'RECEIPT_INVALID', "another organisation's");
    t.equal(await tell(receiptOf(hostile, { signature: new Uint8Array(64).fill(2) })), 'RECEIPT_INVALID', 'forged');
    t.equal(
      await tell(receiptOf(hostile, { signature: sign(hostile, other) })),
      'RECEIPT_INVALID',
      'for another digest',
    );
    t.equal(
      await tell(receiptOf(hostile, { holder: stranger.address, signature: strangers })),
      'RECEIPT_UNKNOWN',
      'by no validator',
    );
    t.equal(
      await tell(receiptOf(hostile, { holder: honest.hospital.validator.address })),
      'RECEIPT_UNKNOWN',
      "with another's address",
    );
    t.equal(await tell(receiptOf(hostile), other), 'RECEIPT_UNKNOWN', 'for a digest that no record names');
    t.equal(await tell(receiptOf(hostile), unnamed), 'RECEIPT_UNKNOWN', 'for what no record names');
    for (const node of [writer, honest, reader]) {
      t.notOk(
        (await holders(node, blob)).some((org) => org === hostile.orgId || org === reader.orgId),
        'none was kept',
      );
    }
  });

  await t.test('a receipt that is its own, and blocks that are none', async (t) => {
    const asked = served;
    await tellHeld(hostile.network, reader.key.peerId, blob, receiptOf(hostile), AbortSignal.timeout(DEADLINE_MS));
    t.ok((await holders(reader, blob)).includes(hostile.orgId), 'it can be believed, until it is tried');
    await writer.stop();
    t.ok(equalBytes(await readAll(reader, blob), bytes), 'then the next holder is asked');
    t.ok(served > asked, 'it was tried');
  });

  await t.test('nobody has it', async (t) => {
    await honest.stop();
    const gone = { ...blob, cid: Uint8Array.from([1, 0x55, 0x12, 32, ...new Uint8Array(32).fill(3)]) };
    const text = CID.decode(gone.cid).toString();
    net.chain.commit([net.story(writer).record({ ...gone, sizeBytes: 1_000 })]);
    const why = await codeOf(readAll(reader, { ...gone, text }));
    t.ok(['BLOCK_HASH_MISMATCH', 'BLOB_UNAVAILABLE', 'PEER_REFUSED'].includes(why), why);
    const unnamed = CID.decode(Uint8Array.from([1, 0x55, 0x12, 32, ...new Uint8Array(32).fill(4)])).toString();
    t.equal(await codeOf(readAll(reader, { ...gone, text: unnamed })), 'BLOB_UNKNOWN');
    t.equal(await reader.service.stat(unnamed), null);
    t.equal(await codeOf(readAll(reader, { ...gone, text: 'no CID' })), 'BLOB_UNAVAILABLE');
  });
  t.same(
    net.nodes.flatMap((n) => n.faults),
    [],
  );
});

t.test('uploads: bounded, counted, and gone when nothing comes of them', async (t) => {
  const net = await setUp(t, { replicas: 1 });
  const [node, other] = net.nodes as [Node, Node];
  const put = async (source: AsyncIterable<Uint8Array>, declared: number | null, signal = never): Promise<string> => {
    const verdict = await node.service.put(source, uploadOf(node, declared), signal);
    return verdict.ok ? 'ok' : verdict.code;
  };
  const nothing = async (t: Test, what: string): Promise<void> => {
    t.same(node.store.usage(), { blobCount: 0, stagedBytes: 0, pinnedBytes: 0, openBytes: 0 }, what);
    t.same(await blockFiles(node), [], 'nor any block');
  };

  await t.test('verdicts, and nothing left', async (t) => {
    const bytes = ciphertext(2 * MIB + 5);
    t.equal(await put(inPieces(bytes), 9 * MIB), 'BLOB_TOO_LARGE', 'as declared');
    t.equal(await put(inPieces(ciphertext(8 * MIB + 1), MIB), null), 'BLOB_TOO_LARGE', 'as it came');
    t.equal(await put(inPieces(bytes), bytes.length - 1), 'BLOB_SIZE_MISMATCH', 'more than declared');
    t.equal(await put(inPieces(bytes), bytes.length + 1), 'BLOB_SIZE_MISMATCH', 'less than declared');
    node.freeBytes = MIB;
    t.equal(await put(inPieces(bytes), bytes.length), 'DISK_FULL');
    node.freeBytes = Number.MAX_SAFE_INTEGER;
    const foreign = await node.service.put(inPieces(bytes), uploadOf(other, bytes.length), never);
    t.match(foreign, { ok: false, code: 'WRONG_HOSPITAL' }, 'each hospital stores its own');
    await nothing(t, 'nothing of any of them is kept');
  });

  await t.test('an upload that is given up, or breaks', async (t) => {
    const gone = new AbortController();
    async function* stalls(): AsyncGenerator<Uint8Array> {
      yield ciphertext(MIB + 1);
      gone.abort();
      await new Promise(() => {});
    }
    t.equal(await put(stalls(), 4 * MIB, gone.signal), 'BLOB_ABORTED');
    const broken = new AbortController();
    async function* breaks(): AsyncGenerator<Uint8Array> {
      yield await Promise.resolve(ciphertext(MIB + 1));
      broken.abort();
      throw new Error('the socket was closed');
    }
    t.equal(await put(breaks(), 4 * MIB, broken.signal), 'BLOB_ABORTED');
    async function* resets(): AsyncGenerator<Uint8Array> {
      yield await Promise.resolve(ciphertext(MIB + 1));
      throw new Error('ECONNRESET');
    }
    t.equal(await put(resets(), 4 * MIB), 'BLOB_ABORTED', 'before anybody says that the client is gone');
    await until(async () => (await blockFiles(node)).length === 0, 'what came is removed');
    await nothing(t, 'nothing of it is kept');
  });

  await t.test('uploads that wait leave room for copies', async (t) => {
    const gone = new AbortController();
    const waiting = async function* (): AsyncGenerator<Uint8Array> {
      yield await new Promise<Uint8Array>(() => {});
    };
    const running = Array.from({ length: 12 }, () => put(waiting(), 1, gone.signal));
    t.equal(await put(inPieces(ciphertext(1)), 1), 'BLOB_QUOTA', 'no more than twelve at a time');
    gone.abort();
    t.same(new Set(await Promise.all(running)), new Set(['BLOB_ABORTED']));
    await nothing(t, 'nothing of them is kept');
  });

  await t.test('a quota of what waits for its record', async (t) => {
    t.equal(await put(inPieces(ciphertext(8 * MIB)), 8 * MIB), 'ok');
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const slow = ciphertext(6 * MIB);
    async function* slowly(): AsyncGenerator<Uint8Array> {
      yield slow.slice(0, MIB);
      await held;
      yield slow.slice(MIB);
    }
    const running = put(slowly(), slow.length);
    t.equal(await put(inPieces(ciphertext(3 * MIB)), 3 * MIB), 'BLOB_QUOTA', 'what was promised to others counts');
    t.equal(
      await put(inPieces(ciphertext(4 * MIB), MIB), null),
      'BLOB_QUOTA',
      'whoever does not say is stopped on the way',
    );
    t.equal(await put(inPieces(ciphertext(MIB)), MIB), 'ok', 'what fits is taken');
    release();
    t.equal(await running, 'ok', 'and the promise was kept');
  });

  await t.test('what no record names is collected; what one is about to name is not', async (t) => {
    const kept = await upload(node, ciphertext(10_000));
    const admitted = await node.service.admits(net.story(node).record(kept).call, node.orgId);
    t.equal(admitted.ok, true);
    node.aheadMs = node.limits.stagedMs - 60_000;
    t.equal((await node.service.admits(net.story(node).record(kept).call, node.orgId)).ok, true);
    node.aheadMs = node.limits.stagedMs + 60_000;
    const later = await upload(node, ciphertext(11_000));
    node.aheadMs += 61_000;
    await until(() => node.store.usage().blobCount < 5, 'some are gone');
    await until(async () => (await blockFiles(node)).length <= 2, 'and their blocks');
    t.equal(await stateAt(node, later), 'staged', 'a new one stays');
    t.equal(await stateAt(node, kept), 'staged', 'and so does the one whose record is on its way');
    net.chain.commit([net.story(node).record(kept)], net.chain.head().timestampMs + 1);
    await until(async () => (await stateAt(node, kept)) === 'pinned', 'which then comes');
    node.aheadMs += 10 * node.limits.stagedMs;
    await until(async () => (await stateAt(node, later)) === 'absent', 'the other one ends some day');
    t.equal(await node.service.stat(later.text), null, 'and is not remembered');
    t.equal(await stateAt(node, kept), 'pinned');
  });

  await t.test('the same bytes again, with a wrong size', async (t) => {
    const bytes = ciphertext(12_345);
    const blob = await write(net, node, bytes);
    await until(async () => (await stateAt(node, blob)) === 'pinned', 'kept');
    t.equal(await put(inPieces(bytes), bytes.length + 1), 'BLOB_SIZE_MISMATCH');
    t.ok(equalBytes(await readAll(node, blob), bytes), 'does not take away what is kept');
    const again = await node.service.put(
      inPieces(bytes),
      { ...uploadOf(node, null), account: new Uint8Array(20) },
      never,
    );
    t.match(again, { ok: true, value: { cid: blob.text } });
    t.equal((await node.service.stat(blob.text))?.records.length, 1);
  });

  await t.test('copies for readers give way to uploads', async (t) => {
    const remote = await write(net, other, ciphertext(7 * MIB));
    const third = net.order(remote.cid, other)[2] as Node;
    const [first] = net.order(remote.cid, other) as [Node];
    await until(async () => (await holders(third, remote)).includes(first.orgId), 'replicated');
    await readAll(third, remote);
    t.equal(await stateAt(third, remote), 'staged');
    const own = ciphertext(8 * MIB);
    t.match(await third.service.put(inPieces(own), uploadOf(third, own.length), never), { ok: true });
    const more = ciphertext(7 * MIB);
    t.match(await third.service.put(inPieces(more), uploadOf(third, more.length), never), { ok: true }, 'room is made');
    t.equal(await stateAt(third, remote), 'absent');
    t.ok((await readAll(third, remote)).length === remote.sizeBytes, 'and it can be read again');
  });
  t.same(
    net.nodes.flatMap((n) => n.faults),
    [],
  );
});

/**
 * A small chain in memory behind the ports of rpc/: blocks, receipts, state with proofs and explanations are made by the
 * real state machine, tree and codecs. What stands in for the node is little: a pool that simulates, ciphertext in a map,
 * validators that are all well.
 */
import { CID } from 'multiformats/cid';
import { Readable } from 'node:stream';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { createNobleSigner, publicKeyOf } from '../../common/crypto/sm2.ts';
import { H } from '../../common/crypto/hash.ts';
import { accept, assert, EmrError, reject } from '../../common/errors.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { createOpensslSigner } from '../../common/native/sm2-openssl.ts';
import { computeCid } from '../../common/native/unixfs-cid.ts';
import { blockHash, type BlockHeader, type Certificate, encodeHeader, txRootOf } from '../../common/protocol/block.ts';
import { genesisHeader } from '../../common/protocol/genesis.ts';
import { type Receipt, encodeReceipt, receiptsRootOf } from '../../common/protocol/receipt.ts';
import { formatRpcToken } from '../../common/protocol/rpc-token.ts';
import { rpcAuthSigningHash, voteSigningHash } from '../../common/protocol/signing.ts';
import { recordVersionEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { decode, encode } from '../../common/codec.ts';
import { status, statusSigningHash } from '../../common/protocol/status.ts';
import { decodeSidecar, decodeTransaction, encodeSidecar } from '../../common/protocol/transaction.ts';
import { quorumSize, validatorSetHash } from '../../common/protocol/validator-set.ts';
import { CustodyNotes } from '../../node/custody/custody-notes.ts';
import type {
  RpcConfig,
  RpcPorts,
  ReleaseReply,
  StateAnswer,
  StoredBlock,
  TransactionStatus,
} from '../../rpc/index.ts';
import { createRpcServer, DEFAULT_RPC_CONFIG, DEFAULT_RPC_LIMITS } from '../../rpc/index.ts';
import type { MethodName, ParamsOf, ResultOf } from '../../rpc/methods.ts';
import { buildBlock, checkAccess, explainRequest, genesisWrites, simulate } from '../../vm/index.ts';
import type { CheckedTransaction } from '../../vm/index.ts';
import {
  applyWrites,
  EMPTY,
  get,
  iterate,
  nodeKey,
  type NodeReader,
  proveKey,
  proveRange,
  type TreeRoot,
} from '../../vm/state-tree/index.ts';
import { type Actor, type Outcome, World } from '../unit/vm-world.ts';

interface CommittedBlock extends StoredBlock {
  readonly receipts: readonly Receipt[];
  readonly certificate: Certificate | null;
}

/** Private keys of the world are the same in every run, and it keeps only people's. */
function signerOf(publicKey: Uint8Array) {
  for (let index = 1; index < 2_000; index += 1) {
    const privateKey = H('test-key', Uint8Array.of(index >> 8, index & 0xff));
    if (equalBytes(publicKeyOf(privateKey), publicKey)) return createOpensslSigner(privateKey);
  }
  throw new Error('not a key of the test world');
}

/** A world whose blocks are kept: headers with real roots, certificates with real signatures. */
export class ChainWorld extends World {
  readonly blocks: CommittedBlock[] = [];
  readonly #nodes = new Map<string, Uint8Array>();
  readonly #validators: { readonly address: Uint8Array; sign(message: Uint8Array): Uint8Array }[];
  readonly reader: NodeReader = { getNode: (ref) => this.#nodes.get(bytesToHex(nodeKey(ref))) };
  root: TreeRoot = EMPTY;
  onBlock: (block: CommittedBlock) => void = () => {};

  constructor(...args: ConstructorParameters<typeof World>) {
    super(...args);
    this.#validators = this.genesis.validators.map(({ publicKey }) => signerOf(publicKey));
    const stateRoot = this.#apply(genesisWrites(this.genesis), 0);
    this.blocks.push({
      ...genesisHeader(this.genesis, stateRoot),
      txs: [],
      sidecars: [],
      receipts: [],
      certificate: null,
    });
  }

  get head(): CommittedBlock {
    return this.blocks[this.blocks.length - 1]!;
  }

  #apply(writes: Parameters<typeof applyWrites>[2], height: number): Uint8Array {
    const applied = applyWrites(this.reader, this.root, writes, height);
    for (const { key, bytes } of applied.newNodes) this.#nodes.set(bytesToHex(key), bytes);
    this.root = applied.root;
    return applied.rootHash;
  }

  /** As the world does it, and keeps the block. */
  override commit(...txs: readonly CheckedTransaction[]): Outcome {
    const built = buildBlock(this.state, this.block, txs);
    const [refused] = built.rejected;
    if (refused !== undefined) return { ok: false, code: refused.code, message: refused.message, events: [] };
    const { height } = this;
    this.state.apply(built.writes);
    this.#seal(this.#apply(built.writes, height), built.included, built.receipts);
    this.height += 1;
    this.now += 1;
    return { ok: true, code: null, message: '', events: built.receipts.flatMap(({ events }) => events) };
  }

  #seal(stateRoot: Uint8Array, included: readonly CheckedTransaction[], receipts: readonly Receipt[]): void {
    const setHash = validatorSetHash(this.genesis.validators);
    const txs = included.map(({ tx }) => tx.bytes);
    const header: BlockHeader = {
      chainId: this.chainId,
      height: this.height,
      view: 0,
      parentHash: this.head.hash,
      timestampMs: this.now,
      proposer: this.#validators[this.height % this.#validators.length]!.address,
      txRoot: txRootOf(txs),
      receiptsRoot: receiptsRootOf(receipts.map(encodeReceipt)),
      stateRoot,
      validatorsHash: setHash,
      nextValidatorsHash: setHash,
    };
    const hash = blockHash(encodeHeader(header));
    const message = voteSigningHash(this.chainId, 'commit', this.height, 0, hash);
    const signers = this.#validators
      .map((signer, validator) => ({ validator, signer }))
      .filter(({ validator }) => validator !== this.height % 4);
    const signatures = signers
      .slice(0, quorumSize(4))
      .map(({ validator, signer }) => ({ validator, signature: signer.sign(message) }));
    const sidecars = included.map(({ sidecar }) => sidecar && encodeSidecar(sidecar));
    const block = {
      header,
      hash,
      txs,
      sidecars,
      receipts,
      certificate: { height: this.height, view: 0, blockHash: hash, signatures },
    };
    this.blocks.push(block);
    this.onBlock(block);
  }
}

type Listener<T> = (value: T) => void;

class Announcer<T> {
  readonly #listeners = new Set<Listener<T>>();
  readonly subscribe = (listener: Listener<T>): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };
  announce(value: T): void {
    for (const listener of [...this.#listeners]) listener(value);
  }
}

/** What a test may turn. */
export interface Knobs {
  clockMs: number | null;
  lowestHeight: number;
  stalledReason: ReturnType<RpcPorts['node']['status']>['stalledReason'];
  syncing: boolean;
  connectedPeers: number;
  /** Height that each validator says it has executed; null: the head. */
  executed: (number | null)[];
  /** Height that each one has signed, where the node claims another in its name. */
  signed: (number | null)[];
  release: (signal: AbortSignal) => AsyncIterable<ReleaseReply>;
  blobQuotaBytes: number;
  /** Every read of the state waits for it. */
  beforeRead: () => Promise<void>;
  metricsText: () => Promise<string>;
  /** Each call as the metrics are told of it. */
  onCall: (call: { readonly method: string; readonly code: number }) => void;
}

export interface TestNode {
  readonly world: ChainWorld;
  readonly ports: RpcPorts;
  readonly knobs: Knobs;
  readonly blobs: Map<string, { readonly bytes: Uint8Array; readonly uploadedBy: Uint8Array | null }>;
  readonly calls: { method: string; status: string; code: number }[];
  readonly failures: unknown[];
  /** Commits what the pool holds, or an empty block. */
  mine(): void;
}

async function* noReplies(): AsyncGenerator<ReleaseReply> {}

export function testNode(world: ChainWorld): TestNode {
  const knobs: Knobs = {
    clockMs: null,
    lowestHeight: 0,
    stalledReason: null,
    syncing: false,
    connectedPeers: 3,
    executed: [null, null, null, null],
    signed: [null, null, null, null],
    release: noReplies,
    blobQuotaBytes: 64 * 1024 * 1024,
    beforeRead: () => Promise.resolve(),
    metricsText: () => Promise.resolve('emrchain_height 1\n'),
    onCall: () => {},
  };
  const committed = new Announcer<Parameters<Parameters<RpcPorts['chain']['onCommitted']>[0]>[0]>();
  const dropped = new Announcer<Parameters<Parameters<RpcPorts['transactions']['onDropped']>[0]>[0]>();
  const located = new Map<string, { height: number; index: number }>();
  const pool = new Map<string, CheckedTransaction>();
  const gone = new Map<string, TransactionStatus>();
  const blobs: TestNode['blobs'] = new Map();
  const calls: TestNode['calls'] = [];
  const failures: unknown[] = [];

  const note = (block: CommittedBlock): readonly Uint8Array[] =>
    block.txs.map((bytes, index) => {
      const tx = decodeTransaction(bytes);
      assert(tx.ok, 'a committed transaction decodes');
      located.set(bytesToHex(tx.value.hash), { height: block.header.height, index });
      pool.delete(bytesToHex(tx.value.hash));
      return tx.value.hash;
    });
  world.blocks.forEach(note);
  world.onBlock = (block) => {
    const txHashes = note(block);
    committed.announce({
      height: block.header.height,
      hash: block.hash,
      timestampMs: block.header.timestampMs,
      txHashes,
    });
  };

  const nowMs = (): number => knobs.clockMs ?? world.now;
  const position = () => ({ height: world.head.header.height, hash: world.head.hash });
  const kept = (height: number): CommittedBlock | null =>
    height < knobs.lowestHeight ? null : (world.blocks[height] ?? null);
  const members = world.genesis.validators;

  function checked(bytes: Uint8Array, sidecarBytes: Uint8Array | null) {
    const tx = decodeTransaction(bytes);
    if (!tx.ok) return tx;
    if (sidecarBytes === null) return accept({ tx: tx.value, sidecar: null });
    const sidecar = decodeSidecar(sidecarBytes);
    return sidecar.ok ? accept({ tx: tx.value, sidecar: sidecar.value }) : sidecar;
  }

  function answer(query: Parameters<RpcPorts['state']['read']>[0][number]): StateAnswer {
    const { reader, root } = world;
    if (query.kind === 'get') {
      const proof = query.prove === true ? proveKey(reader, root, query.key) : null;
      return { kind: 'get', value: get(reader, root, query.key) ?? null, proof };
    }
    const { gte, lt, limit } = query;
    if (query.prove === true) {
      const proven = proveRange(reader, root, { gte, lt }, limit);
      const entries = [...iterate(reader, root, { gte, lt: proven.lt, limit })];
      return {
        kind: 'range',
        entries,
        more: proven.lt === null || !equalBytes(proven.lt, lt),
        proof: proven.proof,
        provenLt: proven.lt,
      };
    }
    const entries = [...iterate(reader, root, { gte, lt, limit: limit + 1, reverse: query.reverse ?? false })];
    return {
      kind: 'range',
      entries: entries.slice(0, limit),
      more: entries.length > limit,
      proof: null,
      provenLt: null,
    };
  }

  function recordOf(cid: string) {
    for (const { key, value } of world.state.range({
      gte: Uint8Array.of(0x31),
      lt: Uint8Array.of(0x32),
      limit: 1_000,
    })) {
      const version = decode(recordVersionEntry, value, 65_536);
      assert(
        version.ok && equalBytes(key, stateKey.recordVersion(version.value.recordId, version.value.version)),
        'a version',
      );
      if (CID.decode(version.value.content.cid).toString() !== cid) continue;
      return { recordId: version.value.recordId, version: version.value.version };
    }
    return null;
  }

  const ports: RpcPorts = {
    node: {
      nowMs,
      info: () => ({
        version: '0.1.0-test',
        orgId: members[0]!.orgId,
        role: 'validator',
        nodeId: members[0]!.address,
        peerId: members[0]!.peerId,
        listenAddresses: ['/ip4/127.0.0.1/tcp/7600'],
        startedMs: world.genesis.timeMs,
      }),
      status: () => ({
        syncing: knobs.syncing,
        highestKnownHeight: position().height + (knobs.syncing ? 5 : 0),
        stalledReason: knobs.stalledReason,
        warnings: [],
      }),
    },
    log: {
      info: () => {},
      warn: () => {},
      error: (fields) => {
        failures.push(fields['err']);
      },
    },
    chain: {
      genesis: () => world.genesis,
      chainId: () => world.chainId,
      head: () => ({ ...position(), timestampMs: world.head.header.timestampMs }),
      lowestHeight: () => knobs.lowestHeight,
      header: (height) => Promise.resolve(kept(height)),
      block: (height) => Promise.resolve(kept(height)),
      certificate: (height) => Promise.resolve(kept(height)?.certificate ?? null),
      receipts: (height) => Promise.resolve(kept(height)?.receipts ?? null),
      heightOfBlock: (hash) =>
        Promise.resolve(world.blocks.find((block) => equalBytes(block.hash, hash))?.header.height ?? null),
      locateTransaction: (hash) => Promise.resolve(located.get(bytesToHex(hash)) ?? null),
      validatorsAt: () => Promise.resolve(members),
      handovers: () => Promise.resolve([]),
      onCommitted: committed.subscribe,
    },
    state: {
      async read(queries) {
        await knobs.beforeRead();
        return { at: position(), answers: queries.map(answer) };
      },
    },
    access: {
      explainRequest: (hash) =>
        Promise.resolve({
          at: position(),
          explanation: explainRequest(world.state, hash, Math.max(nowMs(), world.head.header.timestampMs)),
        }),
      checkAccess: (question) =>
        Promise.resolve({ at: position(), decision: checkAccess(world.state, { ...question, atMs: nowMs() }) }),
    },
    transactions: {
      submit(bytes, sidecar) {
        const tx = checked(bytes, sidecar);
        if (!tx.ok) return Promise.resolve(tx);
        const name = bytesToHex(tx.value.tx.hash);
        if (pool.has(name)) return Promise.resolve(reject('ALREADY_PENDING', 'the pool has this transaction'));
        if (located.has(name)) return Promise.resolve(reject('ALREADY_COMMITTED', 'a block has this transaction'));
        if (pool.size >= 10) return Promise.resolve(reject('POOL_FULL', 'the pool holds as much as it may'));
        const verdict = simulate(world.state, world.block, tx.value);
        if (!verdict.ok) return Promise.resolve(verdict);
        pool.set(name, tx.value);
        return Promise.resolve(accept({ hash: tx.value.tx.hash }));
      },
      simulate(bytes, sidecar) {
        const tx = checked(bytes, sidecar);
        return Promise.resolve({ at: position(), verdict: tx.ok ? simulate(world.state, world.block, tx.value) : tx });
      },
      status(hash) {
        const name = bytesToHex(hash);
        const place = located.get(name);
        if (place !== undefined) return Promise.resolve({ kind: 'committed', ...place });
        return Promise.resolve(pool.has(name) ? { kind: 'pending' } : (gone.get(name) ?? { kind: 'unknown' }));
      },
      pending({ limit, after }) {
        const all = [...pool.values()];
        const from = after === null ? 0 : all.findIndex(({ tx }) => equalBytes(tx.hash, after)) + 1;
        return all.slice(from, from + limit).map(({ tx }) => ({
          hash: tx.hash,
          account: tx.body.account,
          callKind: tx.body.call.kind,
          sizeBytes: tx.bytes.length,
          receivedMs: nowMs(),
        }));
      },
      poolStatus: () => ({
        transactions: pool.size,
        bytes: 0,
        maxTransactions: 10,
        maxBytes: 1_000_000,
        rejected: new Map([['BAD_SIGNATURE', 2]]),
      }),
      onDropped: dropped.subscribe,
    },
    consensus: {
      state: () => ({
        height: position().height + 1,
        view: 0,
        leader: members[(position().height + 1) % 4]!.address,
        phase: 'idle',
      }),
      validators: () =>
        members.map(({ address, publicKey }, index) => {
          const executedHeight = knobs.executed[index] ?? position().height;
          const height = knobs.signed[index] ?? executedHeight;
          const said = { height, hash: world.head.hash, view: 0, incarnation: new Uint8Array(16), asking: false };
          const signature = signerOf(publicKey).sign(statusSigningHash(world.chainId, said));
          return {
            address,
            connected: index <= knobs.connectedPeers,
            lastSignedHeight: position().height,
            lastSeenMs: nowMs(),
            executedHeight,
            signedStatus: { body: encode(status, said), signature },
          };
        }),
    },
    network: {
      peers: () =>
        members.slice(1).map(({ peerId, orgId, address }, index) => ({
          peerId,
          orgId,
          role: 'validator',
          address,
          connected: index < knobs.connectedPeers,
          direction: index < knobs.connectedPeers ? 'outbound' : null,
          addresses: [`/ip4/127.0.0.1/tcp/${7601 + index}`],
          bytesIn: 1_234_567,
          bytesOut: 7_654_321,
        })),
    },
    blobs: {
      async put(source, upload, signal) {
        if ((upload.declaredBytes ?? 0) > knobs.blobQuotaBytes) return reject('BLOB_QUOTA', 'no room for that much');
        const chunks: Uint8Array[] = [];
        let sizeBytes = 0;
        try {
          for await (const chunk of source) {
            sizeBytes += chunk.length;
            if (sizeBytes > knobs.blobQuotaBytes) return reject('BLOB_QUOTA', 'the organisation has no room left');
            chunks.push(chunk);
          }
        } catch {
          return reject('BLOB_ABORTED', 'the upload ended early');
        }
        if (signal.aborted) return reject('BLOB_ABORTED', 'the upload ended early');
        if (upload.declaredBytes !== null && upload.declaredBytes !== sizeBytes)
          return reject('BLOB_SIZE_MISMATCH', 'not as long as declared');
        const bytes = new Uint8Array(Buffer.concat(chunks));
        const { cid, dataDigest } = await computeCid(Readable.from(chunks));
        blobs.set(cid.toString(), { bytes, uploadedBy: upload.account });
        return accept({ cid: cid.toString(), sizeBytes, dataDigest });
      },
      stat(cid) {
        const record = recordOf(cid);
        const blob = blobs.get(cid);
        if (blob === undefined && record === null) return Promise.resolve(null);
        const sizeBytes = blob?.bytes.length ?? 4096;
        const records = record === null ? [] : [record];
        return Promise.resolve({ sizeBytes, local: blob !== undefined, records, uploadedBy: blob?.uploadedBy ?? null });
      },
      async *read(cid, { start, end }, signal) {
        const blob = blobs.get(cid);
        if (blob === undefined) throw new EmrError('BLOB_UNAVAILABLE', 'no member that has it answers');
        for (let at = start; at < end && !signal.aborted; at += 65_536)
          yield blob.bytes.subarray(at, Math.min(end, at + 65_536));
      },
      receipts: (cid) =>
        Promise.resolve(
          blobs.has(cid)
            ? [{ orgId: members[1]!.orgId, holder: members[1]!.address, signature: new Uint8Array(64), atMs: nowMs() }]
            : [],
        ),
    },
    custody: {
      release: (_grant, signal) => knobs.release(signal),
      status: () => new CustodyNotes().status,
    },
    metrics: {
      text: () => knobs.metricsText(),
      rpcCall: ({ method, status, code }) => {
        calls.push({ method, status, code });
        knobs.onCall({ method, code });
      },
      rpcConnections: () => {},
    },
    sm2: createWasmEngine(),
  };

  function mine(): void {
    const txs = [...pool.values()];
    const built = buildBlock(world.state, world.block, txs);
    for (const { tx, code, message } of built.rejected) {
      const { hash } = tx.tx;
      pool.delete(bytesToHex(hash));
      gone.set(bytesToHex(hash), { kind: 'dropped', code, message });
      dropped.announce({ hash, code, message });
    }
    world.commit(...built.included);
  }
  return { world, ports, knobs, blobs, calls, failures, mine };
}

export type TestConfig = Partial<Omit<RpcConfig, 'limits'>> & { readonly limits?: Partial<RpcConfig['limits']> };

export function testServer(node: TestNode, config: TestConfig = {}) {
  return createRpcServer(
    {
      ...DEFAULT_RPC_CONFIG,
      port: 0,
      ...config,
      limits: { ...DEFAULT_RPC_LIMITS, requestsPerMinute: 1_000_000, ...config.limits },
    },
    node.ports,
  );
}

type Server = ReturnType<typeof testServer>;

let tokens = 0;

/** A reader's token of this actor, as a client composes it. */
export function tokenOf(
  node: TestNode,
  actor: Pick<Actor, 'privateKey'>,
  more: Partial<Parameters<typeof formatRpcToken>[0]> = {},
): string {
  const signer = createNobleSigner(actor.privateKey, (bytes) =>
    H('test-random', Uint8Array.of((tokens += 1) >> 8, tokens)).slice(0, bytes),
  );
  const statement = {
    network: node.world.genesis.network,
    chainId: node.world.chainId,
    nodeId: node.ports.node.info().nodeId,
    origin: 'http://localhost',
    nonce: H('test-nonce', Uint8Array.of(tokens >> 8, tokens)).slice(0, 16),
    notAfterMs: node.ports.node.nowMs() + 10 * 60_000,
    ...more,
  };
  return formatRpcToken({
    publicKey: signer.publicKey,
    signature: signer.sign(rpcAuthSigningHash(statement)),
    ...statement,
  });
}

export interface Failure {
  readonly code: number;
  readonly message: string;
  readonly data: { readonly reason: string; readonly retryable: boolean; readonly requestId: string };
}

/** One call over HTTP without a socket. `error` is null when it succeeded. */
export async function call<M extends MethodName>(
  server: Server,
  method: M,
  params: ParamsOf<M>,
  token?: string,
): Promise<{ result: ResultOf<M>; error: null } | { result: null; error: Failure }> {
  const response = await server.app.inject({
    method: 'POST',
    url: '/rpc',
    headers: {
      'content-type': 'application/json',
      host: 'localhost',
      ...(token === undefined ? {} : { authorization: `EMR ${token}` }),
    },
    payload: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  const body = response.json<{ id: unknown; result?: ResultOf<M>; error?: Failure }>();
  assert(
    body.id === 1 && response.statusCode === 200,
    `a call is answered: ${response.statusCode} ${response.body.slice(0, 200)}`,
  );
  return body.error === undefined
    ? { result: body.result as ResultOf<M>, error: null }
    : { result: null, error: body.error };
}

/** The result of a call that must succeed. */
export async function ok<M extends MethodName>(
  server: Server,
  method: M,
  params: ParamsOf<M>,
  token?: string,
): Promise<ResultOf<M>> {
  const { result, error } = await call(server, method, params, token);
  assert(error === null, `${method}: ${error?.data.reason} ${error?.message}`);
  return result;
}

/** The reason of a call that must fail. */
export async function refused<M extends MethodName>(
  server: Server,
  method: M,
  params: ParamsOf<M>,
  token?: string,
): Promise<string> {
  const { error } = await call(server, method, params, token);
  assert(error !== null, `${method} must fail`);
  return error.data.reason;
}

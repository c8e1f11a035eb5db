/**
 * Everything of one node in one process: opens what the configuration names, puts the parts together, starts them so
 * that health is answered early and readiness only when it is true, and stops them in the opposite order.
 */
import { join } from 'node:path';
import { EmrError } from '../../common/errors.ts';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { genesisHash } from '../../common/protocol/genesis.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import type { ChainPort, MetricsPort, StatePort } from '../../rpc/index.ts';
import { createRpcServer, type RpcServer } from '../../rpc/index.ts';
import { OwnCustodian } from '../custody/own-custodian.ts';
import { ReleaseService } from '../custody/release-service.ts';
import type { Log } from '../log.ts';
import type { NodeMetrics } from '../metrics/metrics.ts';
import { Libp2pNetwork } from '../network/libp2p-network.ts';
import { createNode, type EmrNode } from '../node.ts';
import { BlobService } from '../replication/blob-service.ts';
import { createChainPort, createRpcPorts, createStatePort, hostViewOf } from '../rpc-ports/index.ts';
import { createBlobIndex } from '../storage/blob-index.ts';
import type { KeyValueStore } from '../storage/key-value-store.ts';
import { openLevelStore } from '../storage/level-store.ts';
import { openCiphertext } from './ciphertext.ts';
import { driveCustody } from './custody.ts';
import { freeBytes, prepareDataFolder } from './data-folder.ts';
import { type NodeKeys, organisationOf } from './keys.ts';
import { rpcConfigOf } from './rpc-config.ts';
import type { Settings } from './settings.ts';
import { watchedStore } from './watched-store.ts';

const MIB = 1024 * 1024;

export interface RunOptions {
  readonly settings: Settings;
  readonly keys: NodeKeys;
  readonly version: string;
  readonly startedMs: number;
  readonly log: Log;
  /** What the node must not go on with. Called at any time, perhaps more than once. */
  readonly onFatal: (error: unknown) => void;
}

export interface RunningNode {
  /** Keeps the latest state that a newcomer can begin with. @returns its height; null if there is none */
  keepSnapshot(): Promise<Height | null>;
  /** Ends sockets, transfers, peers and disk, in this order. */
  stop(): Promise<void>;
}

/** @throws EmrError whatever keeps the node from starting; what was begun is left as it is, since the process ends */
export async function runNode(options: RunOptions): Promise<RunningNode> {
  const { settings, log, onFatal } = options;
  const { storage } = settings.config;
  const { openToOthers } = await prepareDataFolder(storage.dir);
  if (openToOthers) log.warn({ dir: storage.dir }, 'others on this machine may look into the data folder: chmod 700');
  const kv = watchedStore(await openLevelStore(join(storage.dir, 'db')), onFatal);
  const rpcConfig = await rpcConfigOf(settings.config);

  const node = await openNode(options, kv);
  const { orgId, isMember } = organisationOf(
    { address: node.signer.address, peerId: node.network.peerId },
    node.membership.members,
    settings.config.organisation,
  );
  if (!isMember)
    log.warn({ orgId }, 'not a member by the chain as far as this node has it: waits for a vote, or for blocks');
  const host = hostViewOf(node);
  const chain = createChainPort({ store: node.store, executor: node.executor, host });
  const state = createStatePort(node.executor, node.history);
  const ciphertext = await openBlobs(options, { node, kv, orgId, chain, state });
  const { network } = node;
  const own = new OwnCustodian({ orgId, socket: settings.config.custodian?.socket ?? null, chain, state });
  const custody = driveCustody(node, { orgId, own, log, failed: onFatal });
  const rpc = createRpcServer(
    rpcConfig,
    createRpcPorts({
      identity: { version: options.version, orgId, address: node.signer.address, startedMs: options.startedMs },
      clock: node.clock,
      chain,
      state,
      executor: node.executor,
      mempool: node.mempool,
      store: node.store,
      network,
      host,
      blobs: ciphertext.service,
      custody: new ReleaseService({
        orgId,
        own,
        chain,
        state,
        network,
        engine: node.verifier.engine,
        status: () => node.custody.status,
      }),
      metrics: metricsPort(node.metrics),
      sm2: node.verifier.engine,
      log,
    }),
  );
  await listen(rpc, settings);
  await node.start();
  custody.start();
  ciphertext.service.start();
  return {
    keepSnapshot: () => node.snapshots.createLatest(),
    async stop() {
      await rpc.stop();
      await ciphertext.stop();
      await custody.stop();
      await node.stop();
    },
  };
}

async function openNode({ settings, keys, log, onFatal }: RunOptions, kv: KeyValueStore): Promise<EmrNode> {
  const { config, genesis } = settings;
  const sm2 = selectSm2Engine();
  if (sm2.fallbackReason !== undefined) {
    log.warn({ code: 'SM2_FALLBACK', reason: sm2.fallbackReason }, 'SM2 not by the fast engine: this node is slow');
  }
  const { validatorSecret, peerSecret } = keys;
  const signer = sm2.createSigner(validatorSecret);
  validatorSecret.fill(0);
  const network = new Libp2pNetwork({
    peerSecret,
    chainId: genesisHash(genesis),
    listen: config.network.listen,
    addresses: config.network.peers,
    onFault: onFatal,
  });
  const { maxTransactions, maxMiB } = config.mempool;
  return createNode({
    genesis,
    kv,
    signer,
    engine: sm2.engine,
    network,
    mempool: { maxTransactions, maxBytes: maxMiB * MIB },
    bootstrap: config.network.peers.map(peerIdOf).filter((peerId) => peerId !== network.peerId),
    disk: { freeBytes: () => freeBytes(config.storage.dir), minFreeBytes: config.storage.minFreeMiB * MIB },
    keepStates: config.storage.archive ? null : config.storage.keepStates,
    snapshots: config.snapshots,
    verificationWorkers: 'auto',
    log,
    onFatal,
  });
}

/** Of an address that the configuration has checked. */
const peerIdOf = (address: string): string => address.slice(address.lastIndexOf('/') + 1);

interface Opened {
  readonly node: EmrNode;
  readonly kv: KeyValueStore;
  readonly orgId: string;
  readonly chain: ChainPort;
  readonly state: StatePort;
}

async function openBlobs({ settings, log, onFatal }: RunOptions, { node, kv, orgId, chain, state }: Opened) {
  const { uploads, storage } = settings.config;
  const minFreeBytes = storage.minFreeMiB * MIB;
  const hasRoom = async (bytes: number): Promise<boolean> => (await freeBytes(storage.dir)) - bytes > minFreeBytes;
  const index = createBlobIndex(kv);
  const store = await openCiphertext(settings.config, index, log);
  const service = new BlobService({
    chainId: node.chainId,
    orgId,
    signer: node.signer,
    engine: node.verifier.engine,
    store,
    index,
    network: node.network,
    chain,
    state,
    limits: {
      maxFileBytes: uploads.maxFileMiB * MIB,
      maxStagedBytes: uploads.maxStagedMiB * MIB,
      stagedMs: uploads.stagedMinutes * 60_000,
    },
    hasRoom,
    nowMs: () => node.clock.nowMs(),
    log: (level, fields, message) => log[level](fields, message),
    onFault: onFatal,
  });
  return {
    service,
    async stop() {
      await service.stop();
      await store.close();
    },
  };
}

function metricsPort(metrics: NodeMetrics): MetricsPort {
  return {
    text: () => metrics.registry.metrics(),
    rpcCall: (call) => metrics.rpcCall(call),
    rpcConnections: (open) => metrics.rpcConnections(open),
  };
}

async function listen(rpc: RpcServer, { config: { rpc: where } }: Settings): Promise<void> {
  try {
    await rpc.start();
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? '';
    const remedy =
      code === 'EADDRINUSE'
        ? 'something else uses this port, perhaps another node; stop it, or choose another rpc.port'
        : 'check rpc.host, rpc.port and rpc.tls in the configuration';
    const message = `The RPC cannot listen on ${where.host}, port ${where.port} (${code === '' ? String(cause) : code}): ${remedy}.`;
    throw new EmrError('RPC_LISTEN_FAILED', message, { host: where.host, port: where.port }, { cause });
  }
}

/**
 * How libp2p is put together here: TCP, noise, yamux, gossipsub; every limit set, every default that reaches beyond the
 * members left out. There is no discovery, relay or DHT: members are few, known, and dialled at configured addresses.
 * What must not go in here: who is a member, and what messages mean.
 */
import { createHash } from 'node:crypto';
import { type GossipSub, gossipsub } from '@chainsafe/libp2p-gossipsub';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { identify } from '@libp2p/identify';
import type { Libp2p } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { createLibp2p } from 'libp2p';
import { spareExceptions } from './noise-frames.ts';
import { parsePeerKey } from './peer-key.ts';
import { spareWindowUpdates } from './yamux-windows.ts';

/** A batch of transactions; larger batches are the sender's bug. */
export const MAX_GOSSIP_BYTES = 1024 * 1024;
/** Streams that a peer may have open on one connection: requests, direct, gossip, identify. */
export const MAX_STREAMS_PER_CONNECTION = 64;
/** What a peer may send on a stream that we do not read; libp2p resets a stream at 4 MiB. */
const MAX_STREAM_WINDOW_BYTES = 1024 * 1024;
/** 131 members with four connections each, and strangers, who are cut after the handshake. */
const MAX_CONNECTIONS = 640;
/** Handshakes under way at a time, and new ones each second from one address: strangers cost a handshake at most. */
const MAX_PENDING_INBOUND = 32;
const MAX_INBOUND_PER_SECOND = 20;
const HANDSHAKE_TIMEOUT_MS = 10_000;

export type MembersOnlyNode = Libp2p<{ pubsub: GossipSub }>;

export interface MembersOnlyNodeOptions {
  readonly peerSecret: Uint8Array;
  readonly listen: readonly string[];
  /** The gossip topics; no others are taken from peers. */
  readonly topics: readonly string[];
  /** Asked once noise has proven the peer's id, and before it is dialled. */
  readonly refuses: (peerId: string, direction: 'inbound' | 'outbound') => boolean;
}

/** Not started yet: handlers come first, so that a peer that is quicker than we are finds them. */
export function createMembersOnlyNode(options: MembersOnlyNodeOptions): Promise<MembersOnlyNode> {
  const { refuses } = options;
  spareWindowUpdates();
  spareExceptions();
  return createLibp2p({
    start: false,
    privateKey: parsePeerKey(options.peerSecret).key,
    addresses: { listen: [...options.listen] },
    transports: [tcp({ backlog: 64 })],
    connectionEncrypters: [noise()],
    streamMuxers: [
      yamux({
        maxInboundStreams: MAX_STREAMS_PER_CONNECTION,
        maxOutboundStreams: 2 * MAX_STREAMS_PER_CONNECTION,
        streamOptions: { maxStreamWindowSize: MAX_STREAM_WINDOW_BYTES },
      }),
    ],
    connectionManager: {
      maxConnections: MAX_CONNECTIONS,
      maxIncomingPendingConnections: MAX_PENDING_INBOUND,
      inboundConnectionThreshold: MAX_INBOUND_PER_SECOND,
      inboundUpgradeTimeout: HANDSHAKE_TIMEOUT_MS,
      reconnectRetries: 0,
    },
    connectionMonitor: { enabled: true },
    connectionGater: {
      denyDialMultiaddr: () => false,
      denyDialPeer: (id) => refuses(id.toString(), 'outbound'),
      denyInboundEncryptedConnection: (id) => refuses(id.toString(), 'inbound'),
      denyOutboundEncryptedConnection: (id) => refuses(id.toString(), 'outbound'),
    },
    services: {
      identify: identify({ runOnConnectionOpen: true }),
      pubsub: gossipsub({
        globalSignaturePolicy: 'StrictNoSign',
        msgIdFn: (message) => createHash('sha256').update(message.topic).update(message.data).digest(),
        allowedTopics: [...options.topics],
        allowPublishToZeroTopicPeers: true,
        ignoreDuplicatePublishError: true,
        emitSelf: false,
        doPX: false,
        floodPublish: true,
        // Whoever publishes has, as a rule, sent it to all: telling the others not to pass it on costs more than it spares.
        idontwantMinDataSize: MAX_GOSSIP_BYTES + 1,
        batchPublish: true,
        maxInboundDataLength: 2 * MAX_GOSSIP_BYTES,
        maxOutboundBufferSize: 16 * MAX_GOSSIP_BYTES,
      }),
    },
  });
}

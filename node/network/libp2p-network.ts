/**
 * The network over libp2p: TCP, noise, yamux; gossipsub for transactions and heads; direct streams for consensus.
 *
 * Only members of the on-chain set may connect: the gater knows peer ids once noise has proven them. There is no
 * discovery, relay or DHT: members are few, known, and dialled at configured addresses.
 */
import { createHash } from 'node:crypto';
import { type GossipSub, gossipsub, TopicValidatorResult } from '@chainsafe/libp2p-gossipsub';
import { noise } from '@chainsafe/libp2p-noise';
import { yamux } from '@chainsafe/libp2p-yamux';
import { identify } from '@libp2p/identify';
import type { Connection, Libp2p, PeerId, Stream } from '@libp2p/interface';
import { peerIdFromString } from '@libp2p/peer-id';
import { tcp } from '@libp2p/tcp';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { bytesToHex } from '../../common/bytes.ts';
import { EmrError, InvariantError } from '../../common/errors.ts';
import { DIRECT_PROTOCOL, DirectChannel } from './direct-channel.ts';
import { FrameDecoder } from './frames.ts';
import { parsePeerKey } from './peer-key.ts';
import { requestProtocolId, RequestServer, sendRequest, type RequestHandler, type RequestOptions } from './requests.ts';
import type { Member, Network, Opinion, PeerInfo, RequestProtocol } from './types.ts';

/** A proposal of the largest block, with its signatures and framing. */
const MAX_DIRECT_FRAME_BYTES = 6 * 1024 * 1024;
/** A batch of transactions; larger batches are the sender's bug. */
const MAX_GOSSIP_BYTES = 1024 * 1024;
/** Streams that a peer may have open to us: requests, direct, gossip, identify. */
const MAX_STREAMS_PER_PEER = 64;
/** What a peer may send on a stream that we do not read; libp2p resets a stream at 4 MiB. */
const MAX_STREAM_WINDOW_BYTES = 1024 * 1024;
/** 131 members, each connected from both sides at worst; strangers are cut after the handshake. */
const MAX_CONNECTIONS = 300;
/** Handshakes under way at a time, and new ones each second from one address: strangers cost a handshake at most. */
const MAX_PENDING_INBOUND = 32;
const MAX_INBOUND_PER_SECOND = 20;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const REDIAL_MIN_MS = 200;
const REDIAL_MAX_MS = 5_000;
const STOP_TIMEOUT_MS = 2_000;

export interface Libp2pNetworkOptions {
  /** Secret bytes of the Ed25519 key, as in its keystore. */
  readonly peerSecret: Uint8Array;
  /** Scopes the gossip topics; 32 bytes. */
  readonly chainId: Uint8Array;
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[];
  /** Multiaddrs of members, each with /p2p/<peer id>. */
  readonly addresses: readonly string[];
  /** Told of faults in our own handlers; nothing that a peer does reaches it. */
  readonly onFault: (error: Error) => void;
}

interface PeerState {
  member: Member;
  readonly id: PeerId;
  readonly channel: DirectChannel;
  connections: Set<Connection>;
  bytesIn: number;
  bytesOut: number;
  redialMs: number;
  redialTimer: NodeJS.Timeout | null;
}

type GossipTopic = 'transactions' | 'heads';
type GossipHandler = (from: Member, payload: Uint8Array) => Opinion | Promise<Opinion>;

const OPINIONS: Readonly<Record<Opinion, TopicValidatorResult>> = {
  accept: TopicValidatorResult.Accept,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject,
};

export class Libp2pNetwork implements Network {
  readonly peerId: string;
  readonly #options: Libp2pNetworkOptions;
  readonly #peers = new Map<string, PeerState>();
  readonly #addresses = new Map<string, string[]>();
  readonly #counters = new Map<string, number>();
  readonly #gossipHandlers = new Map<GossipTopic, GossipHandler>();
  readonly #requestHandlers = new Map<RequestProtocol, RequestHandler>();
  readonly #peerListeners: ((peerId: string, connected: boolean) => void)[] = [];
  readonly #server: RequestServer;
  #directHandler: ((from: Member, payload: Uint8Array) => void) | null = null;
  #libp2p: Libp2p<{ pubsub: GossipSub }> | null = null;
  #stopping = false;

  constructor(options: Libp2pNetworkOptions) {
    this.#options = options;
    this.peerId = parsePeerKey(options.peerSecret).peerId;
    this.#server = new RequestServer(options.onFault);
    for (const address of options.addresses) {
      const id = address.slice(address.lastIndexOf('/p2p/') + '/p2p/'.length);
      this.#addresses.set(id, [...(this.#addresses.get(id) ?? []), address]);
    }
  }

  listenAddresses(): readonly string[] {
    return (this.#libp2p?.getMultiaddrs() ?? []).map((address) => address.toString());
  }

  async start(): Promise<void> {
    const { key } = parsePeerKey(this.#options.peerSecret);
    try {
      this.#libp2p = await createLibp2p({
        privateKey: key,
        addresses: { listen: [...this.#options.listen] },
        transports: [tcp({ backlog: 64 })],
        connectionEncrypters: [noise()],
        streamMuxers: [
          yamux({
            maxInboundStreams: MAX_STREAMS_PER_PEER,
            maxOutboundStreams: 2 * MAX_STREAMS_PER_PEER,
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
          denyDialPeer: (id) => this.#refuses(id, 'outbound'),
          denyInboundEncryptedConnection: (id) => this.#refuses(id, 'inbound'),
          denyOutboundEncryptedConnection: (id) => this.#refuses(id, 'outbound'),
        },
        services: {
          identify: identify({ runOnConnectionOpen: true }),
          pubsub: gossipsub({
            globalSignaturePolicy: 'StrictNoSign',
            msgIdFn: (message) => createHash('sha256').update(message.topic).update(message.data).digest(),
            allowedTopics: [this.#topic('transactions'), this.#topic('heads')],
            allowPublishToZeroTopicPeers: true,
            ignoreDuplicatePublishError: true,
            emitSelf: false,
            doPX: false,
            floodPublish: true,
            batchPublish: true,
            maxInboundDataLength: 2 * MAX_GOSSIP_BYTES,
            maxOutboundBufferSize: 16 * MAX_GOSSIP_BYTES,
          }),
        },
      });
    } catch (cause) {
      throw new EmrError(
        'LISTEN_FAILED',
        `cannot listen on ${this.#options.listen.join(', ')}: ${asMessage(cause)}; is another node running, or is network.listen wrong?`,
        {},
        { cause },
      );
    }
    await this.#wire(this.#libp2p);
    for (const peer of this.#peers.values()) this.#dial(peer);
  }

  async #wire(node: Libp2p<{ pubsub: GossipSub }>): Promise<void> {
    node.addEventListener('connection:open', (event) => this.#opened(event.detail));
    node.addEventListener('connection:close', (event) => this.#closed(event.detail));
    const limits = { maxInboundStreams: MAX_STREAMS_PER_PEER, maxOutboundStreams: MAX_STREAMS_PER_PEER };
    await node.handle(DIRECT_PROTOCOL, (stream, connection) => this.#receiveDirect(stream, connection), limits);
    for (const name of this.#requestHandlers.keys()) await this.#handleRequests(node, name);
    const { pubsub } = node.services;
    for (const topic of ['transactions', 'heads'] as const) {
      pubsub.topicValidators.set(
        this.#topic(topic),
        async (id, message) => OPINIONS[await this.#judge(topic, id.toString(), message.data)],
      );
      pubsub.subscribe(this.#topic(topic));
    }
    // Connections that were made while we were still wiring.
    for (const connection of node.getConnections()) this.#opened(connection);
  }

  async #handleRequests(node: Libp2p, name: RequestProtocol): Promise<void> {
    const options = { maxInboundStreams: MAX_STREAMS_PER_PEER, maxOutboundStreams: MAX_STREAMS_PER_PEER };
    await node.handle(
      requestProtocolId(name),
      async (stream, connection) => {
        const peer = this.#peers.get(connection.remotePeer.toString());
        const handler = this.#requestHandlers.get(name);
        if (peer === undefined || handler === undefined) stream.abort(new Error('not a member'));
        else await this.#server.serve(stream, peer.member, handler);
      },
      options,
    );
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const peer of this.#peers.values()) this.#forget(peer);
    this.#peers.clear();
    const node = this.#libp2p;
    this.#libp2p = null;
    if (node === null) return;
    const deadline = new Promise<void>((resolve) => setTimeout(resolve, STOP_TIMEOUT_MS).unref());
    await Promise.race([node.stop(), deadline]);
  }

  setMembers(members: readonly Member[]): void {
    const wanted = new Map(members.filter((m) => m.peerId !== this.peerId).map((m) => [m.peerId, m]));
    for (const [id, peer] of this.#peers) {
      if (wanted.has(id)) continue;
      this.#peers.delete(id);
      for (const connection of peer.connections)
        void connection.close().catch(() => connection.abort(new Error('not a member')));
      this.#forget(peer);
    }
    for (const [id, member] of wanted) {
      const known = this.#peers.get(id);
      if (known !== undefined) {
        known.member = member;
        continue;
      }
      this.#addPeer(id, member);
    }
  }

  #addPeer(id: string, member: Member): void {
    const peer: PeerState = {
      member,
      id: peerIdFromString(id),
      channel: new DirectChannel({
        dropped: (messages, bytes) => {
          this.#count('dropped_messages:direct', messages);
          this.#count('dropped_bytes:direct', bytes);
        },
        sent: (bytes) => {
          this.#count('bytes_out:direct', bytes);
          const current = this.#peers.get(id);
          if (current !== undefined) current.bytesOut += bytes;
        },
      }),
      connections: new Set(),
      bytesIn: 0,
      bytesOut: 0,
      redialMs: REDIAL_MIN_MS,
      redialTimer: null,
    };
    this.#peers.set(id, peer);
    if (this.#libp2p !== null) this.#dial(peer);
  }

  peers(): readonly PeerInfo[] {
    return [...this.#peers.values()].map((peer) => {
      const [connection] = peer.connections;
      return {
        peerId: peer.member.peerId,
        member: peer.member,
        connected: connection !== undefined,
        addresses: this.#addresses.get(peer.member.peerId) ?? [],
        direction: connection?.direction ?? null,
        bytesIn: peer.bytesIn,
        bytesOut: peer.bytesOut,
      };
    });
  }

  onPeerChange(listener: (peerId: string, connected: boolean) => void): void {
    this.#peerListeners.push(listener);
  }

  sendDirect(peerId: string, payload: Uint8Array): void {
    if (payload.length > MAX_DIRECT_FRAME_BYTES)
      throw new InvariantError('a direct message larger than any peer accepts');
    this.#peers.get(peerId)?.channel.send(payload);
  }

  onDirect(handler: (from: Member, payload: Uint8Array) => void): void {
    this.#directHandler = handler;
  }

  publish(topic: GossipTopic, payload: Uint8Array): void {
    if (payload.length > MAX_GOSSIP_BYTES) throw new InvariantError('a gossip message larger than any peer accepts');
    const node = this.#libp2p;
    if (node === null) return;
    this.#count(`bytes_out:gossip_${topic}`, payload.length);
    node.services.pubsub
      .publish(this.#topic(topic), payload)
      .catch(() => this.#count(`dropped_messages:gossip_${topic}`, 1));
  }

  onGossip(topic: GossipTopic, handler: GossipHandler): void {
    this.#gossipHandlers.set(topic, handler);
  }

  async *request(
    peerId: string,
    protocol: RequestProtocol,
    payload: Uint8Array,
    options: RequestOptions,
  ): AsyncGenerator<Uint8Array> {
    const peer = this.#peers.get(peerId);
    const [connection] = peer?.connections ?? [];
    if (peer === undefined || connection === undefined) {
      throw new EmrError('PEER_UNAVAILABLE', 'the peer is not connected', { peerId });
    }
    this.#count(`bytes_out:${protocol}`, payload.length);
    for await (const answer of sendRequest(connection, protocol, payload, options)) {
      this.#count(`bytes_in:${protocol}`, answer.length);
      peer.bytesIn += answer.length;
      yield answer;
    }
  }

  onRequest(protocol: RequestProtocol, handler: RequestHandler): void {
    const counted: RequestHandler = async function* (
      this: Libp2pNetwork,
      from: Member,
      payload: Uint8Array,
      signal: AbortSignal,
    ) {
      this.#count(`bytes_in:${protocol}`, payload.length);
      for await (const answer of handler(from, payload, signal)) {
        this.#count(`bytes_out:${protocol}`, answer.length);
        yield answer;
      }
    }.bind(this);
    const isNew = !this.#requestHandlers.has(protocol);
    this.#requestHandlers.set(protocol, counted);
    if (isNew && this.#libp2p !== null) void this.#handleRequests(this.#libp2p, protocol);
  }

  counters(): ReadonlyMap<string, number> {
    return this.#counters;
  }

  #topic(topic: GossipTopic): string {
    return `emrchain/${bytesToHex(this.#options.chainId.subarray(0, 8))}/${topic}/1`;
  }

  #count(name: string, by: number): void {
    this.#counters.set(name, (this.#counters.get(name) ?? 0) + by);
  }

  #refuses(id: PeerId, direction: 'inbound' | 'outbound'): boolean {
    if (this.#peers.has(id.toString())) return false;
    this.#count(`refused_connections:${direction}`, 1);
    return true;
  }

  async #judge(topic: GossipTopic, from: string, payload: Uint8Array): Promise<Opinion> {
    const peer = this.#peers.get(from);
    const handler = this.#gossipHandlers.get(topic);
    if (peer === undefined || handler === undefined) return 'ignore';
    if (payload.length > MAX_GOSSIP_BYTES) return 'reject';
    this.#count(`bytes_in:gossip_${topic}`, payload.length);
    peer.bytesIn += payload.length;
    const opinion = await handler(peer.member, payload);
    if (opinion !== 'accept') this.#count(`dropped_messages:gossip_${topic}_${opinion}`, 1);
    return opinion;
  }

  #opened(connection: Connection): void {
    const id = connection.remotePeer.toString();
    const peer = this.#peers.get(id);
    if (peer === undefined) {
      connection.abort(new Error('not a member'));
      return;
    }
    if (peer.connections.has(connection)) return;
    peer.connections.add(connection);
    peer.redialMs = REDIAL_MIN_MS;
    this.#useBestConnection(peer);
    if (peer.connections.size === 1) this.#announce(id, true);
  }

  #closed(connection: Connection): void {
    const id = connection.remotePeer.toString();
    const peer = this.#peers.get(id);
    if (peer === undefined || !peer.connections.delete(connection)) return;
    this.#useBestConnection(peer);
    if (peer.connections.size > 0) return;
    this.#announce(id, false);
    this.#scheduleDial(peer);
  }

  /** Both sides may have dialled at once; the oldest connection of ours carries the direct stream. */
  #useBestConnection(peer: PeerState): void {
    const [connection] = peer.connections;
    peer.channel.setConnection(connection ?? null);
  }

  #announce(id: string, connected: boolean): void {
    for (const listener of this.#peerListeners) listener(id, connected);
  }

  #dial(peer: PeerState): void {
    const addresses = this.#addresses.get(peer.member.peerId);
    const node = this.#libp2p;
    if (addresses === undefined || node === null || peer.connections.size > 0) return;
    node.dial(addresses.map((address) => multiaddr(address))).catch(() => {
      this.#count('failed_dials', 1);
      this.#scheduleDial(peer);
    });
  }

  /** Never gives up: a hospital that is away comes back. The pause grows to a few seconds, with jitter. */
  #scheduleDial(peer: PeerState): void {
    if (this.#stopping || peer.redialTimer !== null || this.#peers.get(peer.member.peerId)?.channel !== peer.channel)
      return;
    const waitMs = peer.redialMs * (0.75 + Math.random() / 2);
    peer.redialMs = Math.min(REDIAL_MAX_MS, peer.redialMs * 2);
    peer.redialTimer = setTimeout(() => {
      peer.redialTimer = null;
      this.#dial(peer);
    }, waitMs);
    peer.redialTimer.unref();
  }

  #forget(peer: PeerState): void {
    if (peer.redialTimer !== null) clearTimeout(peer.redialTimer);
    peer.redialTimer = null;
    peer.channel.close();
  }

  #receiveDirect(stream: Stream, connection: Connection): void {
    const peer = this.#peers.get(connection.remotePeer.toString());
    if (peer === undefined) {
      stream.abort(new Error('not a member'));
      return;
    }
    const decoder = new FrameDecoder(MAX_DIRECT_FRAME_BYTES);
    stream.addEventListener('message', (event) => {
      try {
        for (const payload of decoder.push(event.data)) {
          this.#count('bytes_in:direct', payload.length);
          peer.bytesIn += payload.length;
          this.#directHandler?.(peer.member, payload);
        }
      } catch (error) {
        if (!(error instanceof EmrError))
          this.#options.onFault(error instanceof Error ? error : new Error(String(error)));
        stream.abort(new Error('malformed frames'));
      }
    });
  }
}

function asMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

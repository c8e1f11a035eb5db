/**
 * The network over libp2p: gossipsub for transactions and heads, direct streams for consensus, a stream for each request.
 *
 * Only members of the on-chain set may connect. They are known by name and not trusted: what one of them does, whatever
 * it is, costs a bounded amount of memory, shuts nobody else out and never stops this node.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { TopicValidatorResult } from '@chainsafe/libp2p-gossipsub';
import type { Connection, Stream } from '@libp2p/interface';
import type { Multiaddr } from '@multiformats/multiaddr';
import { bytesToHex } from '../../common/bytes.ts';
import { EmrError, InvariantError } from '../../common/errors.ts';
import { DIRECT_PROTOCOL, DirectChannel } from './direct-channel.ts';
import { FrameDecoder } from '../frame-decoder.ts';
import { createMembersOnlyNode, MAX_GOSSIP_BYTES, MAX_STREAMS_PER_CONNECTION } from './libp2p-node.ts';
import type { MembersOnlyNode } from './libp2p-node.ts';
import { parseMemberAddress } from './member-address.ts';
import { parsePeerKey } from './peer-key.ts';
import { requestProtocolId, RequestServer, sendRequest, type RequestHandler, type RequestOptions } from './requests.ts';
import type { Audience, Member, Network, Opinion, PeerInfo, RequestProtocol } from './types.ts';

/** A proposal of the largest block, with its signatures and framing. */
const MAX_DIRECT_FRAME_BYTES = 6 * 1024 * 1024;
/** A peer uses one direct stream; while it changes to another connection, two. Each may hold a frame of 6 MiB. */
const MAX_DIRECT_STREAMS_PER_PEER = 2;
/** Two while both sides dial, and as many that died without a word. The oldest goes, so that a new one always works. */
const MAX_CONNECTIONS_PER_PEER = 4;
const REDIAL_MIN_MS = 200;
const REDIAL_MAX_MS = 5_000;
/** Blocks of a peer that this node does not know by the chain are asked for at this pace: some hundred a second. */
const BOOTSTRAP_PAUSE_MS = 500;
/** A connection that lasted this long was a good one; after a shorter one the pause goes on growing. */
const GOOD_CONNECTION_MS = 10_000;
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
  readonly channel: DirectChannel;
  /** Oldest first, with the time when each was opened. */
  readonly connections: Map<Connection, number>;
  /** Direct streams that come in, oldest first. */
  readonly incoming: Set<Stream>;
  dialling: boolean;
  bytesIn: number;
  bytesOut: number;
  redialMs: number;
  redialTimer: NodeJS.Timeout | null;
}

type GossipTopic = 'transactions' | 'heads';
type GossipHandler = (from: Member, payload: Uint8Array) => Opinion | Promise<Opinion>;

const OPINIONS: Readonly<Record<Opinion, TopicValidatorResult>> = {
  accept: TopicValidatorResult.Accept,
  keep: TopicValidatorResult.Ignore,
  ignore: TopicValidatorResult.Ignore,
  reject: TopicValidatorResult.Reject,
};

export class Libp2pNetwork implements Network {
  readonly peerId: string;
  readonly #options: Libp2pNetworkOptions;
  readonly #peers = new Map<string, PeerState>();
  readonly #addresses = new Map<string, Multiaddr[]>();
  readonly #counters = new Map<string, number>();
  readonly #gossipHandlers = new Map<GossipTopic, GossipHandler>();
  readonly #requestHandlers = new Map<RequestProtocol, RequestHandler>();
  readonly #peerListeners: ((peerId: string, connected: boolean) => void)[] = [];
  readonly #server: RequestServer;
  #directHandler: ((from: Member, payload: Uint8Array) => void) | null = null;
  #libp2p: MembersOnlyNode | null = null;
  #stopping = false;

  /** @throws EmrError PEER_KEY_INVALID, ADDRESS_INVALID */
  constructor(options: Libp2pNetworkOptions) {
    this.#options = options;
    this.peerId = parsePeerKey(options.peerSecret).peerId;
    this.#server = new RequestServer(options.onFault);
    for (const text of options.addresses) {
      const { peerId, address } = parseMemberAddress(text);
      this.#addresses.set(peerId, [...(this.#addresses.get(peerId) ?? []), address]);
    }
  }

  listenAddresses(): readonly string[] {
    return (this.#libp2p?.getMultiaddrs() ?? []).map((address) => address.toString());
  }

  async start(): Promise<void> {
    const { listen } = this.#options;
    try {
      // Handlers come before the first connection: a peer that is quicker than we are must find them.
      const node = await createMembersOnlyNode({
        peerSecret: this.#options.peerSecret,
        listen,
        topics: [this.#topic('transactions'), this.#topic('heads')],
        refuses: (peerId, direction) => this.#refuses(peerId, direction),
      });
      await this.#wire(node);
      await node.start();
      if (this.#stopping) return await node.stop();
      this.#libp2p = node;
    } catch (cause) {
      throw new EmrError(
        'LISTEN_FAILED',
        `cannot listen on ${listen.join(', ')}: ${asMessage(cause)}; is another node running, or is network.listen wrong?`,
        {},
        { cause },
      );
    }
    for (const topic of ['transactions', 'heads'] as const) {
      this.#libp2p.services.pubsub.subscribe(this.#topic(topic));
    }
    for (const peer of this.#peers.values()) this.#dial(peer);
  }

  async #wire(node: MembersOnlyNode): Promise<void> {
    node.addEventListener('connection:open', (event) => this.#opened(event.detail));
    node.addEventListener('connection:close', (event) => this.#closed(event.detail));
    await node.handle(DIRECT_PROTOCOL, (stream, connection) => this.#receiveDirect(stream, connection), {
      // Above our own bound, which closes the oldest in place of refusing the newest.
      maxInboundStreams: 2 * MAX_DIRECT_STREAMS_PER_PEER,
      maxOutboundStreams: MAX_STREAMS_PER_CONNECTION,
    });
    for (const name of this.#requestHandlers.keys()) await this.#handleRequests(node, name);
    for (const topic of ['transactions', 'heads'] as const) {
      node.services.pubsub.topicValidators.set(
        this.#topic(topic),
        async (id, message) => OPINIONS[await this.#judge(topic, id.toString(), message.data)],
      );
    }
  }

  async #handleRequests(node: MembersOnlyNode, name: RequestProtocol): Promise<void> {
    const options = { maxInboundStreams: MAX_STREAMS_PER_CONNECTION, maxOutboundStreams: MAX_STREAMS_PER_CONNECTION };
    await node.handle(
      requestProtocolId(name),
      async (stream, connection) => {
        const peer = this.#peers.get(connection.remotePeer.toString());
        const handler = this.#requestHandlers.get(name);
        if (peer === undefined || handler === undefined || peer.member.role === 'bootstrap')
          stream.abort(new Error('not a member'));
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
      if (!wanted.has(id)) this.#removePeer(id, peer);
    }
    for (const [id, member] of wanted) {
      const known = this.#peers.get(id);
      if (known === undefined) this.#addPeer(id, member);
      else this.#changePeer(known, member);
    }
  }

  /** It may be dialled elsewhere now, or at all. */
  #changePeer(peer: PeerState, member: Member): void {
    peer.member = member;
    if (peer.redialTimer === null) this.#dial(peer);
  }

  /** At once, and not in good order: who is voted out must not keep a connection open by leaving streams open. */
  #removePeer(id: string, peer: PeerState): void {
    this.#peers.delete(id);
    this.#forget(peer);
    if (peer.connections.size > 0) this.#announce(id, false);
    for (const connection of peer.connections.keys()) connection.abort(new Error('not a member'));
  }

  #addPeer(id: string, member: Member): void {
    const peer: PeerState = {
      member,
      channel: new DirectChannel({
        dropped: (messages, bytes) => {
          this.#count('dropped_messages:direct', messages);
          this.#count('dropped_bytes:direct', bytes);
        },
        sent: (bytes) => {
          this.#count('bytes_out:direct', bytes);
          peer.bytesOut += bytes;
        },
      }),
      connections: new Map(),
      incoming: new Set(),
      dialling: false,
      bytesIn: 0,
      bytesOut: 0,
      redialMs: REDIAL_MIN_MS,
      redialTimer: null,
    };
    this.#peers.set(id, peer);
    this.#dial(peer);
  }

  peers(): readonly PeerInfo[] {
    return [...this.#peers.values()].map((peer) => {
      const connection = newestOf(peer);
      return {
        peerId: peer.member.peerId,
        member: peer.member,
        connected: connection !== undefined,
        addresses: this.#addressesOf(peer.member).map((address) => address.toString()),
        direction: connection?.direction ?? null,
        bytesIn: peer.bytesIn,
        bytesOut: peer.bytesOut,
      };
    });
  }

  /** The configuration's first. What others wrote on the chain and cannot be read is left out. */
  #addressesOf({ peerId, addresses = [] }: Member): Multiaddr[] {
    const told = addresses.flatMap((text) => {
      try {
        const parsed = parseMemberAddress(text);
        return parsed.peerId === peerId ? [parsed.address] : [];
      } catch {
        return [];
      }
    });
    const own = this.#addresses.get(peerId) ?? [];
    return [...own, ...told.filter((address) => !own.some((known) => known.equals(address)))];
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

  audience(topic: GossipTopic): Audience {
    const listeners = this.#libp2p?.services.pubsub.getSubscribers(this.#topic(topic)) ?? [];
    const ids = new Set(listeners.map((peerId) => peerId.toString()));
    const members = [...this.#peers.values()].map(({ member }) => member).filter(({ role }) => role !== 'bootstrap');
    return {
      reached: members.filter(({ peerId }) => ids.has(peerId)),
      unreached: members.filter(({ peerId }) => !ids.has(peerId)),
    };
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
    const connection = peer && newestOf(peer);
    if (peer === undefined || connection === undefined) {
      throw new EmrError('PEER_UNAVAILABLE', 'the peer is not connected', { peerId });
    }
    if (peer.member.role === 'bootstrap') await pause(BOOTSTRAP_PAUSE_MS, undefined, { signal: options.signal });
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
    if (isNew && this.#libp2p !== null) this.#handleRequests(this.#libp2p, protocol).catch(this.#options.onFault);
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

  #refuses(peerId: string, direction: 'inbound' | 'outbound'): boolean {
    if (this.#peers.has(peerId)) return false;
    this.#count(`refused_connections:${direction}`, 1);
    return true;
  }

  async #judge(topic: GossipTopic, from: string, payload: Uint8Array): Promise<Opinion> {
    const peer = this.#peers.get(from);
    const handler = this.#gossipHandlers.get(topic);
    if (peer === undefined || handler === undefined || peer.member.role === 'bootstrap') return 'ignore';
    if (payload.length > MAX_GOSSIP_BYTES) return 'reject';
    this.#count(`bytes_in:gossip_${topic}`, payload.length);
    peer.bytesIn += payload.length;
    let opinion: Opinion = 'ignore';
    try {
      opinion = await handler(peer.member, payload);
    } catch (error) {
      // Gossipsub would swallow it.
      this.#options.onFault(asError(error));
    }
    if (opinion !== 'accept' && opinion !== 'keep') this.#count(`dropped_messages:gossip_${topic}_${opinion}`, 1);
    return opinion;
  }

  #opened(connection: Connection): void {
    const id = connection.remotePeer.toString();
    const peer = this.#peers.get(id);
    if (peer === undefined) {
      connection.abort(new Error('not a member'));
      return;
    }
    if (peer.connections.has(connection) || connection.status !== 'open') return;
    peer.connections.set(connection, performance.now());
    if (peer.connections.size > MAX_CONNECTIONS_PER_PEER) {
      const [oldest] = peer.connections.keys();
      oldest?.abort(new Error('too many connections'));
    }
    peer.channel.setConnection(newestOf(peer) ?? null);
    if (peer.connections.size === 1) this.#announce(id, true);
  }

  #closed(connection: Connection): void {
    const id = connection.remotePeer.toString();
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    const openedMs = peer.connections.get(connection);
    if (peer.connections.delete(connection)) {
      // A peer that takes connections and drops them at once does not know us yet: no handshake five times a second.
      if (openedMs !== undefined && performance.now() - openedMs >= GOOD_CONNECTION_MS) peer.redialMs = REDIAL_MIN_MS;
      peer.channel.setConnection(newestOf(peer) ?? null);
      if (peer.connections.size === 0) this.#announce(id, false);
    }
    if (peer.connections.size === 0) this.#scheduleDial(peer);
  }

  #announce(id: string, connected: boolean): void {
    for (const listener of this.#peerListeners) listener(id, connected);
  }

  #dial(peer: PeerState): void {
    const addresses = this.#addressesOf(peer.member);
    const node = this.#libp2p;
    if (addresses.length === 0 || node === null || peer.dialling || peer.connections.size > 0) return;
    peer.dialling = true;
    node
      .dial(addresses)
      .then(
        (connection) => this.#opened(connection),
        () => this.#count('failed_dials', 1),
      )
      .finally(() => {
        peer.dialling = false;
        // Not connected after a success: libp2p gave us a connection that was closing.
        if (peer.connections.size === 0) this.#scheduleDial(peer);
      })
      .catch(this.#options.onFault);
  }

  /** Never gives up: a hospital that is away comes back. The pause grows to a few seconds, with jitter. */
  #scheduleDial(peer: PeerState): void {
    const isCurrent = this.#peers.get(peer.member.peerId) === peer;
    if (this.#stopping || peer.dialling || peer.redialTimer !== null || !isCurrent) return;
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
    const id = connection.remotePeer.toString();
    const peer = this.#peers.get(id);
    if (peer === undefined || peer.member.role === 'bootstrap') {
      stream.abort(new Error('not a member'));
      return;
    }
    peer.incoming.add(stream);
    if (peer.incoming.size > MAX_DIRECT_STREAMS_PER_PEER) {
      const [oldest] = peer.incoming;
      oldest?.abort(new Error('too many direct streams'));
    }
    const decoder = new FrameDecoder(MAX_DIRECT_FRAME_BYTES);
    stream.addEventListener('close', () => peer.incoming.delete(stream));
    stream.addEventListener('message', (event) => {
      try {
        for (const payload of decoder.push(event.data)) {
          if (this.#peers.get(id) !== peer) return stream.abort(new Error('no longer a member'));
          this.#count('bytes_in:direct', payload.length);
          peer.bytesIn += payload.length;
          this.#deliver(peer.member, payload);
        }
      } catch (error) {
        stream.abort(asError(error));
      }
    });
  }

  #deliver(from: Member, payload: Uint8Array): void {
    try {
      this.#directHandler?.(from, payload);
    } catch (error) {
      this.#options.onFault(asError(error));
    }
  }
}

/** The newest connection works if any does: after a silent loss the peer dials again, and the old one is dead. */
function newestOf(peer: PeerState): Connection | undefined {
  return [...peer.connections.keys()].at(-1);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

function asMessage(error: unknown): string {
  return asError(error).message;
}

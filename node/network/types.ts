/**
 * What the rest of the node sees of the network: members, direct messages, gossip, and request/response streams.
 * No libp2p type leaves node/network; no meaning of a payload enters it.
 */

/** Who may connect: the validators and observers of the state, and, while this node's own set is stale, bootstrap peers. */
export interface Member {
  readonly peerId: string;
  readonly orgId: string;
  /**
   * `bootstrap`: no member as far as this node knows, and named by its configuration. It is asked for blocks, slowly, and
   * nothing that it says or asks is listened to; `orgId` is empty then.
   */
  readonly role: 'validator' | 'observer' | 'bootstrap';
  /** Address (20 bytes) of the member's SM2 key, which the state binds to the peer id. */
  readonly address: Uint8Array;
  /** Where the chain says that it is dialled, beside what the configuration says: text of multiaddrs. */
  readonly addresses?: readonly string[];
}

/**
 * What a handler thinks of a message that came in: `accept` passes it on, `keep` does not, since nobody needs it; `ignore`
 * drops it; `reject` counts against the peer besides.
 */
export type Opinion = 'accept' | 'keep' | 'ignore' | 'reject';

/** Without this node and without bootstrap peers. */
export interface Audience {
  readonly reached: readonly Member[];
  readonly unreached: readonly Member[];
}

export interface PeerInfo {
  readonly peerId: string;
  readonly member: Member;
  readonly connected: boolean;
  readonly addresses: readonly string[];
  readonly direction: 'inbound' | 'outbound' | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** Names of the request/response protocols; each is one libp2p protocol `/emrchain/<name>/1`. */
export type RequestProtocol = 'blocks' | 'snapshot' | 'blob' | 'txs' | 'release';

export interface Network {
  readonly peerId: string;
  /** Multiaddrs that this node listens on, with the peer id; none while it is not started. */
  listenAddresses(): readonly string[];

  start(): Promise<void>;
  stop(): Promise<void>;

  /** Replaces the set of members: connections of everybody else are closed, new members are dialled. */
  setMembers(members: readonly Member[]): void;
  peers(): readonly PeerInfo[];
  onPeerChange(listener: (peerId: string, connected: boolean) => void): void;

  /**
   * Queues one consensus message for a peer on its long-lived direct stream; ordered, no acknowledgement. The queue is
   * bounded by count and bytes; when it is full the oldest goes. Lost when the peer is away: the core retransmits.
   */
  sendDirect(peerId: string, payload: Uint8Array): void;
  onDirect(handler: (from: Member, payload: Uint8Array) => void): void;

  /** Gossips a batch; the payload's bytes identify it, so it is never a way to retransmit. */
  publish(topic: 'transactions' | 'heads', payload: Uint8Array): void;
  /** The members that what is published now goes to from here, and the others: those away, or not listening yet. */
  audience(topic: 'transactions' | 'heads'): Audience;
  onGossip(
    topic: 'transactions' | 'heads',
    handler: (from: Member, payload: Uint8Array) => Opinion | Promise<Opinion>,
  ): void;

  /**
   * Sends one request and gives the frames of the answer as they come. Throws `EmrError` PEER_UNAVAILABLE,
   * PEER_TIMEOUT, PEER_PROTOCOL (frames over `maxFrameBytes`, more than `maxFrames`), PEER_REFUSED with the peer's own
   * code in its detail (PEER_BUSY: too many requests at a time), or what the signal says.
   */
  request(
    peerId: string,
    protocol: RequestProtocol,
    payload: Uint8Array,
    options: {
      readonly maxFrames: number;
      readonly maxFrameBytes: number;
      /** No frame for this long ends the request. */
      readonly idleTimeoutMs: number;
      readonly signal?: AbortSignal;
    },
  ): AsyncIterable<Uint8Array>;
  /** Serves a protocol; at most a few requests of one peer run at a time. An `EmrError` goes to the peer as its code; anything else is a fault. */
  onRequest(
    protocol: RequestProtocol,
    handler: (from: Member, payload: Uint8Array, signal: AbortSignal) => AsyncIterable<Uint8Array>,
  ): void;

  /** Bytes by protocol and topic, drops by reason: for metrics. */
  counters(): ReadonlyMap<string, number>;
}

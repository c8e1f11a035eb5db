/**
 * The network port in one process: every payload is copied and arrives a moment later, links can be cut, and a node can
 * vanish as one that was killed does. Members only, as on the real one.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { EmrError } from '../../common/errors.ts';
import type { Audience, Member, Network, Opinion, PeerInfo, RequestProtocol } from '../../node/network/types.ts';

type GossipTopic = 'transactions' | 'heads';
type GossipHandler = (from: Member, payload: Uint8Array) => Opinion | Promise<Opinion>;
type RequestHandler = (from: Member, payload: Uint8Array, signal: AbortSignal) => AsyncIterable<Uint8Array>;

export class MemoryHub {
  readonly nodes = new Map<string, MemoryNetwork>();
  /** Whether a payload gets from one peer to another; links are cut by answering false. */
  passes: (from: string, to: string, payload: Uint8Array) => boolean = () => true;

  join(peerId: string): MemoryNetwork {
    const node = new MemoryNetwork(this, peerId);
    this.nodes.set(peerId, node);
    return node;
  }

  /** Whether gossip gets through; requests and direct messages do all the same. */
  gossips = true;

  /** The running node that a payload from `from` reaches, if it reaches any. */
  reach(from: string, to: string, payload: Uint8Array): { node: MemoryNetwork; as: Member } | undefined {
    const node = this.nodes.get(to);
    const as = node?.memberOf(from);
    // Who is no member by the receiver's state is asked, and not listened to.
    if (node === undefined || as === undefined || as.role === 'bootstrap' || !node.running) return undefined;
    return this.nodes.get(from)?.running === true && this.passes(from, to, payload) ? { node, as } : undefined;
  }
}

export class MemoryNetwork implements Network {
  readonly peerId: string;
  readonly #hub: MemoryHub;
  #members = new Map<string, Member>();
  #direct: ((from: Member, payload: Uint8Array) => void) | null = null;
  readonly #gossip = new Map<GossipTopic, GossipHandler>();
  readonly #requests = new Map<RequestProtocol, RequestHandler>();
  running = false;

  constructor(hub: MemoryHub, peerId: string) {
    this.#hub = hub;
    this.peerId = peerId;
  }

  memberOf(peerId: string): Member | undefined {
    return this.#members.get(peerId);
  }

  /** What a node that was killed meanwhile runs into concerns nobody any more. */
  async heard(topic: GossipTopic, from: Member, payload: Uint8Array): Promise<void> {
    try {
      await this.#gossip.get(topic)?.(from, payload);
    } catch (error) {
      if (this.running) throw error;
    }
  }

  handlerOf(protocol: RequestProtocol): RequestHandler | undefined {
    return this.#requests.get(protocol);
  }

  listenAddresses(): readonly string[] {
    return [`/memory/${this.peerId}`];
  }

  async start(): Promise<void> {
    this.running = true;
  }

  async stop(): Promise<void> {
    this.running = false;
  }

  setMembers(members: readonly Member[]): void {
    this.#members = new Map(members.filter((m) => m.peerId !== this.peerId).map((m) => [m.peerId, m]));
  }

  peers(): readonly PeerInfo[] {
    return [...this.#members.values()].map((member) => ({
      peerId: member.peerId,
      member,
      connected: this.#hub.reach(this.peerId, member.peerId, new Uint8Array()) !== undefined,
      addresses: [],
      direction: 'outbound' as const,
      bytesIn: 0,
      bytesOut: 0,
    }));
  }

  onPeerChange(): void {}

  audience(): Audience {
    const peers = this.peers();
    return {
      reached: peers.filter(({ connected }) => connected).map(({ member }) => member),
      unreached: peers.filter(({ connected }) => !connected).map(({ member }) => member),
    };
  }

  sendDirect(peerId: string, payload: Uint8Array): void {
    const copy = payload.slice();
    setImmediate(() => {
      const reached = this.#hub.reach(this.peerId, peerId, copy);
      if (reached !== undefined) reached.node.#direct?.(reached.as, copy);
    });
  }

  onDirect(handler: (from: Member, payload: Uint8Array) => void): void {
    this.#direct = handler;
  }

  publish(topic: GossipTopic, payload: Uint8Array): void {
    const copy = payload.slice();
    if (!this.#hub.gossips) return;
    for (const peerId of this.#members.keys()) {
      setImmediate(() => {
        const reached = this.#hub.reach(this.peerId, peerId, copy);
        if (reached !== undefined) void reached.node.heard(topic, reached.as, copy);
      });
    }
  }

  onGossip(topic: GossipTopic, handler: GossipHandler): void {
    this.#gossip.set(topic, handler);
  }

  async *request(
    peerId: string,
    protocol: RequestProtocol,
    payload: Uint8Array,
    options: { readonly maxFrames: number; readonly maxFrameBytes: number; readonly signal?: AbortSignal },
  ): AsyncGenerator<Uint8Array> {
    await nextTurn();
    const reached = this.#hub.reach(this.peerId, peerId, payload);
    const handler = reached?.node.handlerOf(protocol);
    if (reached === undefined || handler === undefined) throw new EmrError('PEER_UNAVAILABLE', `${peerId} is away`);
    const signal = options.signal ?? new AbortController().signal;
    let frames = 0;
    for await (const frame of answersOf(handler(reached.as, payload.slice(), signal))) {
      if (!reached.node.running || !this.#hub.passes(peerId, this.peerId, frame) || this.memberOf(peerId) === undefined)
        throw new EmrError('PEER_TIMEOUT', `${peerId} is gone`);
      frames += 1;
      if (frames > options.maxFrames || frame.length > options.maxFrameBytes) {
        throw new EmrError('PEER_PROTOCOL', 'more than was asked for');
      }
      yield frame.slice();
    }
  }

  onRequest(protocol: RequestProtocol, handler: RequestHandler): void {
    this.#requests.set(protocol, handler);
  }

  counters(): ReadonlyMap<string, number> {
    return new Map();
  }
}

/** What a handler refuses comes as the peer's word, as over the real network. */
async function* answersOf(frames: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* frames;
  } catch (error) {
    if (!(error instanceof EmrError)) throw error;
    throw new EmrError('PEER_REFUSED', `the peer answered ${error.code}`, { code: error.code });
  }
}

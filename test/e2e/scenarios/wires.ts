/**
 * The wires between nodes: one TCP proxy for each pair of a node that dials and one that is dialled, so that links are
 * cut, closed and slowed down one by one, without privileges. What a wire does to bytes, no end of it can tell from a
 * network that does the same.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Prng } from '../../sim/prng.ts';
import type { Link } from './scenario.ts';

/** A lost segment comes again after a retransmission timeout, which is rarely below this. */
const LOSS_DELAY_MS = 200;
/** What a slow link holds in each direction before its source has to wait, as the queue of a router would. */
const MAX_HELD_BYTES = 256 * 1024;

/** `silent`: nothing passes, connections stay. `refusing`: connections are closed, and new ones too. */
type Passage = 'open' | 'silent' | 'refusing';

interface Held {
  readonly bytes: Buffer;
  readonly dueMs: number;
}

/** One direction of one connection. */
class Flow {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #wire: Wire;
  readonly #held: Held[] = [];
  #heldBytes = 0;
  #freeAtMs = 0;
  #timer: NodeJS.Timeout | null = null;
  #ended = false;

  constructor(from: Socket, to: Socket, wire: Wire) {
    this.#from = from;
    this.#to = to;
    this.#wire = wire;
    from.on('data', (bytes: Buffer) => this.#take(bytes));
    from.on('end', () => {
      this.#ended = true;
      this.pump();
    });
    to.on('drain', () => this.pump());
  }

  #take(bytes: Buffer): void {
    const { link, dice } = this.#wire;
    const nowMs = performance.now();
    this.#freeAtMs = Math.max(nowMs, this.#freeAtMs) + (bytes.length / link.bytesPerSecond) * 1_000;
    const lossMs = dice.chance(link.lostPerMille) ? LOSS_DELAY_MS : 0;
    this.#held.push({ bytes, dueMs: this.#freeAtMs + link.delayMs + lossMs });
    this.#heldBytes += bytes.length;
    if (this.#heldBytes > MAX_HELD_BYTES) this.#from.pause();
    this.pump();
  }

  /** Passes on what is due, in order. */
  pump(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    while (this.#wire.passage === 'open' && !this.#to.writableNeedDrain) {
      const next = this.#held[0];
      if (next === undefined) {
        if (this.#ended) this.#to.end();
        break;
      }
      const waitMs = next.dueMs - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.pump(), waitMs);
        break;
      }
      this.#held.shift();
      this.#heldBytes -= next.bytes.length;
      this.#to.write(next.bytes);
    }
    if (this.#heldBytes <= MAX_HELD_BYTES && !this.#from.destroyed) this.#from.resume();
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}

/** A connection as its two ends see it. */
class Connection {
  readonly #wire: Wire;
  readonly #incoming: Socket;
  #outgoing: Socket | null = null;
  #flows: readonly Flow[] = [];
  /** One end has gone while nothing passed: the other hears of it when something does. */
  #broken = false;

  constructor(incoming: Socket, wire: Wire) {
    this.#wire = wire;
    this.#incoming = incoming;
    this.#watch(incoming);
  }

  #watch(socket: Socket): void {
    socket.setNoDelay(true);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#lost());
  }

  #lost(): void {
    if (this.#wire.passage === 'silent') this.#broken = true;
    else this.close();
  }

  passageChanged(): void {
    const { passage, targetPort } = this.#wire;
    if (passage === 'silent') return;
    if (passage === 'refusing' || this.#broken) return this.close();
    if (this.#outgoing === null) {
      const outgoing = connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true });
      this.#outgoing = outgoing;
      this.#watch(outgoing);
      this.#flows = [new Flow(this.#incoming, outgoing, this.#wire), new Flow(outgoing, this.#incoming, this.#wire)];
    }
    for (const flow of this.#flows) flow.pump();
  }

  close(): void {
    for (const flow of this.#flows) flow.stop();
    this.#incoming.destroy();
    this.#outgoing?.destroy();
    this.#wire.forget(this);
  }
}

const CLEAR: Link = { delayMs: 0, bytesPerSecond: Infinity, lostPerMille: 0 };

/** From one node that dials to one that is dialled; bytes go both ways. */
class Wire {
  readonly targetPort: number;
  readonly dice: Prng;
  passage: Passage = 'open';
  link: Link = CLEAR;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();

  constructor(targetPort: number, seed: number) {
    this.targetPort = targetPort;
    this.dice = new Prng(seed);
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      const connection = new Connection(socket, this);
      this.#connections.add(connection);
      connection.passageChanged();
    });
  }

  async open(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  set(passage: Passage): void {
    this.passage = passage;
    for (const connection of [...this.#connections]) connection.passageChanged();
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection);
  }

  close(): void {
    this.passage = 'refusing';
    this.#server.close();
    for (const connection of [...this.#connections]) connection.close();
  }
}

/** All wires of a network: from each node to each other one. */
export class Wires {
  readonly #wires: ReadonlyMap<string, Wire>;
  readonly #ports = new Map<string, number>();

  /** @param ports that the nodes listen on, by their numbers */
  constructor(ports: readonly number[]) {
    const pairs = ports.flatMap((_, from) => ports.map((port, to) => ({ from, to, port })));
    this.#wires = new Map(
      pairs
        .filter(({ from, to }) => from !== to)
        .map(({ from, to, port }) => [`${from}>${to}`, new Wire(port, from * 64 + to)]),
    );
  }

  async open(): Promise<void> {
    for (const [name, wire] of this.#wires) this.#ports.set(name, await wire.open());
  }

  /** Port at which `from` dials `to`. */
  port(from: number, to: number): number {
    const port = this.#ports.get(`${from}>${to}`);
    if (port === undefined) throw new Error(`no wire from ${from} to ${to}`);
    return port;
  }

  #set(passage: Passage, chosen: (from: number, to: number) => boolean): void {
    this.#each(chosen, (wire) => wire.set(passage));
  }

  #each(chosen: (from: number, to: number) => boolean, change: (wire: Wire) => void): void {
    for (const [name, wire] of this.#wires) {
      const [from, to] = name.split('>').map(Number) as [number, number];
      if (chosen(from, to)) change(wire);
    }
  }

  partition(groups: readonly (readonly number[])[]): void {
    this.#set('silent', (from, to) => !groups.some((group) => group.includes(from) && group.includes(to)));
  }

  disconnect(node: number): void {
    this.#set('refusing', (from, to) => from === node || to === node);
  }

  slow(node: number, link: Link): void {
    this.#each(
      (from, to) => from === node || to === node,
      (wire) => (wire.link = link),
    );
  }

  heal(): void {
    this.#each(
      () => true,
      (wire) => {
        wire.link = CLEAR;
        wire.set('open');
      },
    );
  }

  close(): void {
    for (const wire of this.#wires.values()) wire.close();
  }
}

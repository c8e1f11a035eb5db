/** A network that breaks: passes bytes between clients and a node, and cuts every connection after so many of them. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class BreakingProxy {
  readonly origin: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Port of the node on loopback; null while there is none. */
  port: number | null;
  /** Bytes towards the node after which everything is cut, one after the other; afterwards nothing is. */
  gaps: number[] = [];
  onCut: () => void = () => undefined;
  cuts = 0;

  private constructor(server: Server, port: number) {
    this.#server = server;
    this.port = port;
    this.origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** @param target origin of a node on loopback */
  static async open(target: string): Promise<BreakingProxy> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const proxy = new BreakingProxy(server, Number(new URL(target).port));
    server.on('connection', (client) => proxy.#pass(client));
    return proxy;
  }

  #pass(client: Socket): void {
    if (this.port === null) return void client.destroy();
    const node = connect(this.port, '127.0.0.1');
    for (const [socket, other] of [
      [client, node],
      [node, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    node.pipe(client);
    client.on('data', (bytes: Buffer) => {
      const [gap] = this.gaps;
      if (gap !== undefined && bytes.length >= gap) return this.#cut();
      if (gap !== undefined) this.gaps[0] = gap - bytes.length;
      if (!node.write(bytes)) {
        client.pause();
        node.once('drain', () => client.resume());
      }
    });
  }

  #cut(): void {
    this.gaps.shift();
    this.cuts += 1;
    for (const socket of this.#sockets) socket.destroy();
    this.onCut();
  }

  close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

/** Stands between a client and its node and changes the ciphertext on the way: what a node that lies would send. */
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Transform, type TransformCallback } from 'node:stream';
import type { Test } from 'tap';

export type Lie = 'none' | 'one bit' | 'cut off' | 'something else';

export class LyingProxy {
  readonly origin: string;
  readonly #server: Server;
  #lie: Lie;

  private constructor(server: Server, origin: string) {
    this.#server = server;
    this.origin = origin;
    this.#lie = 'none';
  }

  /** @param target origin of the node */
  static async open(t: Test, target: string): Promise<LyingProxy> {
    let lie: () => Lie = () => 'none';
    const server = createServer((incoming, outgoing) => {
      const { method, url = '/', headers } = incoming;
      const onward = request(new URL(url, target), { method, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        if (url.startsWith('/blob/')) answer.pipe(tampering(lie(), () => outgoing.destroy())).pipe(outgoing);
        else answer.pipe(outgoing);
      });
      onward.on('error', () => outgoing.destroy());
      incoming.pipe(onward);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const proxy = new LyingProxy(server, `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    lie = () => proxy.#lie;
    t.teardown(() => proxy.#close());
    return proxy;
  }

  tell(lie: Lie): void {
    this.#lie = lie;
  }

  #close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

function tampering(lie: Lie, breakOff: () => void): Transform {
  let isFirst = true;
  return new Transform({
    transform(piece: Buffer, _encoding: BufferEncoding, next: TransformCallback) {
      const first = isFirst;
      isFirst = false;
      switch (lie) {
        case 'none':
          return next(null, piece);
        case 'one bit':
          return next(null, first ? piece.map((byte, at) => (at === piece.length >> 1 ? byte ^ 0x10 : byte)) : piece);
        case 'something else':
          return next(null, Buffer.alloc(piece.length, 0xa5));
        case 'cut off':
          if (first) this.push(piece.subarray(0, piece.length >> 1));
          return breakOff();
      }
    },
  });
}

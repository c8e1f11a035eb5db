/** A WebSocket to one node's RPC: batches of transactions, and its blocks as it tells of them. */
import { WebSocket } from 'ws';
import { bytesToHex } from '../../../common/bytes.ts';
import type { LoadEntry } from './load-file.ts';

type OnBlock = (txHashes: readonly string[], atMs: number) => void;

interface Answer {
  readonly id?: number;
  readonly error?: { readonly message?: string; readonly data?: { readonly reason?: string } };
  readonly method?: string;
  readonly params?: { readonly event?: { readonly txHashes?: readonly string[] } };
}

export class NodeSocket {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  readonly #listeners = new Set<OnBlock>();
  #nextId = 1;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: Buffer) => this.#receive(data));
    socket.on('close', () => this.#closed());
    // 'close' follows.
    socket.on('error', () => {});
  }

  /** @param origin http://127.0.0.1:port */
  static async open(origin: string): Promise<NodeSocket> {
    const socket = new WebSocket(`${origin.replace(/^http/u, 'ws')}/ws`, { perMessageDeflate: false });
    await new Promise<void>((resolve, reject) => {
      socket.once('open', resolve);
      socket.once('error', reject);
    });
    return new NodeSocket(socket);
  }

  /** Calls without an answer. */
  get waiting(): number {
    return this.#waiting.size;
  }

  async subscribe(): Promise<void> {
    const answer = await this.#call('sub_subscribe', { topic: 'newBlocks' });
    if (answer.error !== undefined) throw new Error(`no subscription: ${JSON.stringify(answer.error)}`);
  }

  /** @param listener with `performance.now()` of the moment it came */
  onBlock(listener: OnBlock): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** @returns for each, null once the node has taken it, or the code it was refused with */
  async submit(entries: readonly LoadEntry[]): Promise<(string | null)[]> {
    const calls = entries.map(({ bytes, sidecar }) => {
      const id = this.#nextId++;
      const beside = sidecar === null ? '' : `,"sidecar":"0x${bytesToHex(sidecar)}"`;
      const text = `{"jsonrpc":"2.0","id":${id},"method":"tx_submit","params":{"raw":"0x${bytesToHex(bytes)}"${beside}}}`;
      return { id, text };
    });
    const answers = calls.map(({ id }) => new Promise<Answer>((resolve) => this.#waiting.set(id, resolve)));
    const [only] = calls;
    this.#socket.send(calls.length === 1 && only ? only.text : `[${calls.map(({ text }) => text).join()}]`);
    return (await Promise.all(answers)).map(({ error }) =>
      error === undefined ? null : (error.data?.reason ?? error.message ?? 'REFUSED'),
    );
  }

  close(): void {
    this.#socket.close();
  }

  #call(method: string, params: object): Promise<Answer> {
    const id = this.#nextId++;
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve));
    this.#socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    return answer;
  }

  #receive(data: Buffer): void {
    const atMs = performance.now();
    const message = JSON.parse(data.toString('utf8')) as Answer | Answer[];
    for (const one of Array.isArray(message) ? message : [message]) {
      if (one.method === 'sub_event') {
        for (const listener of this.#listeners) listener(one.params?.event?.txHashes ?? [], atMs);
      } else if (one.id !== undefined) {
        this.#waiting.get(one.id)?.(one);
        this.#waiting.delete(one.id);
      }
    }
  }

  #closed(): void {
    for (const resolve of this.#waiting.values()) resolve({ error: { message: 'CLOSED' } });
    this.#waiting.clear();
  }
}

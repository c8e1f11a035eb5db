/**
 * The blocks of one node as they come, over a subscription that is taken up again whenever the node is there. Its times
 * are this process's: when a subscriber could know of the block.
 */
const RECONNECT_MS = 50;
/** Ids of the two calls on a connection. */
const HEAD = 1;
const SUBSCRIBE = 2;

export interface SeenBlock {
  readonly height: number;
  readonly hash: string;
}

interface Answer {
  readonly id?: number;
  readonly result?: { readonly height?: number };
  readonly method?: string;
  readonly params?: { readonly event?: { readonly height: number; readonly hash: string } };
}

export class HeadWatch {
  readonly #url: string;
  readonly #onBlock: (block: SeenBlock) => void;
  #height = 0;
  #seen = 0;
  #told = false;
  #socket: WebSocket | null = null;
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  /** @param rpcUrl `http://host:port` of the node */
  constructor(rpcUrl: string, onBlock: (block: SeenBlock) => void) {
    this.#url = `${rpcUrl.replace('http', 'ws')}/ws`;
    this.#onBlock = onBlock;
    this.#open();
  }

  /** The head of the node as it has told last; lower than before where its disk is an older one. */
  get height(): number {
    return this.#height;
  }

  /** Whether the node is there and has told of its head. */
  get isOpen(): boolean {
    return this.#told;
  }

  #open(): void {
    if (this.#closed) return;
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.addEventListener('open', () => this.#call(HEAD, 'chain_getHeight', {}));
    socket.addEventListener('message', ({ data }) => this.#take(JSON.parse(data as string) as Answer));
    // A socket that could not be opened tells of it by an error and a close.
    socket.addEventListener('error', () => undefined);
    socket.addEventListener('close', () => {
      this.#told = false;
      if (!this.#closed) this.#timer = setTimeout(() => this.#open(), RECONNECT_MS);
    });
  }

  #call(id: number, method: string, params: object): void {
    this.#socket?.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
  }

  #take({ id, result, method, params }: Answer): void {
    if (id === HEAD && result?.height !== undefined) {
      this.#height = result.height;
      this.#told = true;
      this.#call(SUBSCRIBE, 'sub_subscribe', {
        topic: 'newHeaders',
        fromHeight: Math.min(this.#seen, this.#height) + 1,
      });
    }
    if (method === 'sub_end') this.#socket?.close();
    const block = params?.event;
    if (method !== 'sub_event' || block === undefined) return;
    this.#height = Math.max(this.#height, block.height);
    this.#seen = Math.max(this.#seen, block.height);
    this.#onBlock(block);
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#socket?.close();
  }
}

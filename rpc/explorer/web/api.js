/** Calls over HTTP and news over a WebSocket, by the same JSON-RPC API that everybody uses. */

export class ApiError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.code = code;
    this.reason = data?.reason ?? '';
    this.requestId = data?.requestId ?? '';
  }
}

const UNREACHABLE = { code: 0, message: 'The node does not answer.', data: { reason: 'UNREACHABLE' } };
const CALL_TIMEOUT_MS = 15_000;
/** Calls of one batch that the node takes. */
const BATCH = 50;

export class Api {
  /** In memory only: whoever has it reads as this account. */
  token = null;
  #nextId = 1;

  async #post(body) {
    const headers = { 'content-type': 'application/json' };
    if (this.token !== null) headers.authorization = `EMR ${this.token}`;
    let response;
    try {
      response = await fetch('/rpc', {
        method: 'POST',
        headers,
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
      });
      return await response.json();
    } catch {
      throw new ApiError(UNREACHABLE);
    }
  }

  /** @throws ApiError */
  async call(method, params = {}) {
    const answer = await this.#post({ jsonrpc: '2.0', id: this.#nextId++, method, params });
    if (answer.error) throw new ApiError(answer.error);
    return answer.result;
  }

  /** Results in the order of the calls [method, params]; an ApiError in the place of each that failed. */
  async many(calls) {
    const results = [];
    for (let first = 0; first < calls.length; first += BATCH) {
      const requests = calls
        .slice(first, first + BATCH)
        .map(([method, params = {}]) => ({ jsonrpc: '2.0', id: this.#nextId++, method, params }));
      const answers = await this.#post(requests);
      if (!Array.isArray(answers)) throw new ApiError(answers.error ?? UNREACHABLE);
      const byId = new Map(answers.map((answer) => [answer.id, answer]));
      for (const { id } of requests) {
        const answer = byId.get(id);
        results.push(answer?.result ?? new ApiError(answer?.error ?? UNREACHABLE));
      }
    }
    return results;
  }
}

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;

/**
 * News of the chain: `block`, `event`, `state` (connecting, live, away) and `reader` (who the token is). Reconnects by
 * itself and goes on from the height that it saw last.
 */
export class Live extends EventTarget {
  #api;
  #socket = null;
  #waiting = new Map();
  #topics = new Map();
  #nextId = 1;
  #retryMs = FIRST_RETRY_MS;
  #lastHeight = null;
  state = 'connecting';
  reader = null;
  /** Whether events may be asked for: reads are open, or a token was taken. */
  mayRead = false;

  constructor(api) {
    super();
    this.#api = api;
  }

  start(height) {
    this.#lastHeight = height;
    this.#connect();
  }

  /** Begins a new connection, as with a new token. */
  restart() {
    this.#retryMs = FIRST_RETRY_MS;
    if (this.#socket) this.#socket.close();
    else this.#connect();
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #become(state) {
    this.state = state;
    this.#emit('state', state);
  }

  #connect() {
    const address = new URL('/ws', location.href);
    address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(address);
    this.#socket = socket;
    this.#topics.clear();
    socket.addEventListener('open', () => this.#begin().catch((error) => this.#refused(error, socket)));
    socket.addEventListener('message', ({ data }) => this.#receive(JSON.parse(data)));
    socket.addEventListener('close', () => {
      if (this.#socket === socket) this.#later();
    });
  }

  #later() {
    this.#socket = null;
    for (const { reject } of this.#waiting.values()) reject(new ApiError(UNREACHABLE));
    this.#waiting.clear();
    this.#become('away');
    const waitMs = this.#retryMs * (0.75 + Math.random() / 2);
    this.#retryMs = Math.min(LAST_RETRY_MS, this.#retryMs * 2);
    setTimeout(() => {
      if (this.#socket === null) this.#connect();
    }, waitMs);
  }

  #refused(error, socket) {
    // A token that has ended: the page goes on without it, and says so.
    if (error.code === -32007 && this.#api.token !== null) this.#emit('refused', error);
    socket.close();
  }

  #ask(method, params) {
    const id = this.#nextId++;
    this.#socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  async #begin() {
    this.reader = this.#api.token === null ? null : await this.#ask('sub_authenticate', { token: this.#api.token });
    this.#emit('reader', this.reader);
    const fromHeight = this.#lastHeight === null ? undefined : this.#lastHeight + 1;
    const topics = this.mayRead || this.reader !== null ? ['newBlocks', 'aclEvents', 'emrEvents'] : ['newBlocks'];
    for (const topic of topics) {
      const { subscription } = await this.#ask('sub_subscribe', { topic, fromHeight });
      this.#topics.set(subscription, topic);
    }
    this.#retryMs = FIRST_RETRY_MS;
    this.#become('live');
  }

  #receive(message) {
    if (message.id !== undefined && this.#waiting.has(message.id)) {
      const { resolve, reject } = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      if (message.error) reject(new ApiError(message.error));
      else resolve(message.result);
      return;
    }
    const { subscription, topic, event, reason } = message.params ?? {};
    if (message.method === 'sub_event' && topic === 'newBlocks') {
      this.#lastHeight = event.height;
      this.#emit('block', event);
    } else if (message.method === 'sub_event') {
      this.#emit('event', event);
    } else if (message.method === 'sub_end') {
      this.#topics.delete(subscription);
      if (reason !== 'SLOW_CONSUMER' && this.#api.token !== null)
        this.#emit('refused', new ApiError({ code: -32007, message: 'The token has ended.', data: { reason } }));
      this.#socket?.close();
    }
  }
}

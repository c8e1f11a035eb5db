/**
 * Subscriptions of one socket. Each reads the chain at its own pace, from the height it stands at to the head, and sends
 * the next event only when the socket has taken the one before: nothing is buffered for anybody.
 */
import type { Event } from '../common/protocol/receipt.ts';
import type { BlockView } from './blocks.ts';
import { RPC_ERRORS, RpcError, type RpcErrorName } from './errors.ts';
import { toHex, toJson } from './json.ts';
import type { ParamsOf, SubscriptionEvents, SubscriptionNotification, Topic } from './methods.ts';
import type { StoredHeader, TransactionStatus } from './ports.ts';
import type { Scope } from './scope.ts';
import { bytesOf, type Service } from './service.ts';
import { headerView } from './views.ts';

/** What a subscription needs of its socket. */
export interface Outlet {
  /** Resolves when the socket has taken it. False: the socket is gone. */
  send(notification: SubscriptionNotification): Promise<boolean>;
  /** As the caller's token and the state stand now. @throws RpcError FORBIDDEN where the token has ended */
  scope(): Promise<Scope>;
  remove(subscription: string): void;
}

export interface Subscription {
  readonly id: string;
  /** Something was committed or dropped: look again. Never throws. */
  wake(): void;
  end(): void;
}

type Filter = NonNullable<ParamsOf<'sub_subscribe'>['filter']>;

interface Options {
  readonly id: string;
  readonly topic: Topic;
  readonly filter: Filter;
  readonly fromHeight: number;
}

const ACL_EVENT = /^(?:access|account|role|attending)\./;
const EMR_EVENT = /^(?:record|policy)\./;

/** @throws RpcError INVALID_PARAMS, FORBIDDEN, PRUNED */
export function openSubscription(
  service: Service,
  outlet: Outlet,
  scope: Scope,
  id: string,
  params: ParamsOf<'sub_subscribe'>,
): Subscription {
  const { chain } = service.ports;
  const { topic, filter = {} } = params;
  if (topic === 'txStatus') {
    if (filter.hash === undefined)
      throw new RpcError('INVALID_PARAMS', 'txStatus needs filter.hash.', 'FILTER_REQUIRED');
    return new TransactionSubscription(service, outlet, id, filter.hash);
  }
  requireReads(topic, scope);
  const head = chain.head().height;
  const fromHeight = params.fromHeight ?? head + 1;
  if (fromHeight < chain.lowestHeight())
    throw new RpcError('PRUNED', `The lowest block kept is ${chain.lowestHeight()}.`);
  if (fromHeight > head + 1) throw new RpcError('NOT_FOUND', `The next block is ${head + 1}.`, 'HEIGHT_AHEAD');
  return new BlockSubscription(service, outlet, { id, topic, filter, fromHeight });
}

function requireReads(topic: Topic, scope: Scope): void {
  if ((topic === 'aclEvents' || topic === 'emrEvents') && !scope.caller.reads) {
    throw new RpcError('FORBIDDEN', `${topic} needs the token of an enrolled account.`, 'TOKEN_REQUIRED');
  }
}

function ending(subscription: string, rpc: RpcErrorName, reason: string): SubscriptionNotification {
  return { method: 'sub_end', params: { subscription, code: RPC_ERRORS[rpc].code, reason } };
}

class BlockSubscription implements Subscription {
  readonly id: string;
  readonly #service: Service;
  readonly #outlet: Outlet;
  readonly #options: Options;
  #next: number;
  #pumping = false;
  #ended = false;

  constructor(service: Service, outlet: Outlet, options: Options) {
    this.id = options.id;
    this.#service = service;
    this.#outlet = outlet;
    this.#options = options;
    this.#next = options.fromHeight;
  }

  wake(): void {
    if (this.#pumping || this.#ended) return;
    this.#pumping = true;
    this.#pump().catch((error: unknown) => this.#fail(error));
  }

  end(): void {
    this.#ended = true;
  }

  async #pump(): Promise<void> {
    while (!this.#ended && this.#next <= this.#service.ports.chain.head().height) {
      if (!(await this.#tellOf(this.#next))) return this.end();
      this.#next += 1;
    }
    this.#pumping = false;
  }

  async #tellOf(height: number): Promise<boolean> {
    const { topic } = this.#options;
    const { blocks } = this.#service;
    // Whoever listens must still be somebody who may.
    const scope = await this.#outlet.scope();
    switch (topic) {
      case 'newHeaders':
        return this.#send(topic, await this.#headAt(height));
      case 'newBlocks': {
        const block = await blocks.load(height);
        return this.#send(topic, { ...headOf(block), txHashes: block.decoded.map(({ hash }) => toHex(hash)) });
      }
      case 'aclEvents':
      case 'emrEvents':
        return this.#sendEvents(topic, await blocks.load(height), scope);
      case 'txStatus':
        return true;
    }
  }

  /** Nobody reads a block from disk for its header alone. */
  async #headAt(height: number): Promise<SubscriptionEvents['newHeaders']> {
    const stored = await this.#service.ports.chain.header(height);
    if (stored === null) throw new RpcError('PRUNED', `Block ${height} is not kept any more.`);
    return headOf(stored);
  }

  async #sendEvents(topic: 'aclEvents' | 'emrEvents', block: BlockView, scope: Scope): Promise<boolean> {
    requireReads(topic, scope);
    const wanted = topic === 'aclEvents' ? ACL_EVENT : EMR_EVENT;
    for (const receipt of block.receipts) {
      for (const event of receipt.events) {
        if (this.#ended) return false;
        if (!wanted.test(event.type) || !passes(event, this.#options.filter) || !(await scope.event(event))) continue;
        const { height, timestampMs } = block.header;
        const txHash = receipt.txHash && toHex(receipt.txHash);
        if (!(await this.#send(topic, { height, timestampMs, txHash, event: toJson(event) }))) return false;
      }
    }
    return true;
  }

  #send<T extends Topic>(topic: T, event: SubscriptionEvents[T]): Promise<boolean> {
    if (this.#ended) return Promise.resolve(false);
    const notification = {
      method: 'sub_event',
      params: { subscription: this.id, topic, event },
    } as SubscriptionNotification;
    return this.#outlet.send(notification);
  }

  #fail(error: unknown): void {
    if (this.#ended) return;
    this.end();
    this.#outlet.remove(this.id);
    const [rpc, reason] = error instanceof RpcError ? [error.rpc, error.code] : (['INTERNAL', 'INTERNAL'] as const);
    if (rpc === 'INTERNAL') this.#service.ports.log.error({ err: error }, 'subscription failed');
    void this.#outlet.send(ending(this.id, rpc, reason));
  }
}

function headOf({ header, hash }: StoredHeader): SubscriptionEvents['newHeaders'] {
  return { height: header.height, hash: toHex(hash), header: headerView(header) };
}

function passes(event: Event, { recordId, requestHash, account }: Filter): boolean {
  if (recordId !== undefined && (event.recordId === null || toHex(event.recordId) !== recordId)) return false;
  if (requestHash !== undefined && (event.requestHash === null || toHex(event.requestHash) !== requestHash))
    return false;
  if (account === undefined) return true;
  return [event.actor, event.subject].some((one) => one !== null && toHex(one) === account);
}

/** Tells each change of a transaction's status once, and ends with the last one. */
class TransactionSubscription implements Subscription {
  readonly id: string;
  readonly #service: Service;
  readonly #outlet: Outlet;
  readonly #hash: `0x${string}`;
  #last: TransactionStatus['kind'] | null = null;
  #looking = false;
  /** A wake-up came while it looked. */
  #again = false;
  #ended = false;

  constructor(service: Service, outlet: Outlet, id: string, hash: `0x${string}`) {
    this.id = id;
    this.#service = service;
    this.#outlet = outlet;
    this.#hash = hash;
  }

  wake(): void {
    this.#again = true;
    if (this.#looking || this.#ended) return;
    this.#looking = true;
    this.#look().catch((error: unknown) => {
      this.end();
      this.#outlet.remove(this.id);
      this.#service.ports.log.error({ err: error }, 'subscription failed');
      void this.#outlet.send(ending(this.id, 'INTERNAL', 'INTERNAL'));
    });
  }

  end(): void {
    this.#ended = true;
  }

  async #look(): Promise<void> {
    while (this.#again && !this.#ended) {
      this.#again = false;
      const status = await this.#service.ports.transactions.status(bytesOf(this.#hash));
      if (status.kind === this.#last) continue;
      this.#last = status.kind;
      const event = this.#eventOf(status);
      const sent = await this.#outlet.send({
        method: 'sub_event',
        params: { subscription: this.id, topic: 'txStatus', event },
      });
      if (!sent) return this.end();
      if (status.kind === 'committed' || status.kind === 'dropped') {
        this.end();
        this.#outlet.remove(this.id);
        await this.#outlet.send({ method: 'sub_end', params: { subscription: this.id, code: 0, reason: 'DONE' } });
      }
    }
    this.#looking = false;
  }

  #eventOf(status: TransactionStatus): SubscriptionEvents['txStatus'] {
    const hash = this.#hash;
    switch (status.kind) {
      case 'committed':
        return { hash, status: 'committed', height: status.height, index: status.index };
      case 'dropped':
        return { hash, status: 'dropped', code: status.code, message: status.message };
      case 'pending':
      case 'unknown':
        return { hash, status: status.kind };
    }
  }
}

/**
 * Transactions for a network under test: each the cheapest that is always valid, signed by an administrator, submitted
 * over the real RPC. What a node has reported as committed is kept: none of it may ever be lost.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { PolicyDocument } from '../../../common/protocol/policy.ts';
import { ClientError, RpcClient, signTransaction } from '../../../client/index.ts';
import { hexOf } from '../../../client/hex.ts';
import type { SignedBytes } from '../../../client/transactions.ts';
import type { Hex } from '../../../rpc/schema.ts';
import type { Sm2Signer } from '../../../common/crypto/sm2.ts';
import { sm2Address } from '../../../common/crypto/sm2.ts';

const COMMIT_WAIT_MS = 10_000;
/** Longer than any fault of a scenario lasts; half of what the chain takes at most. */
const VALIDITY_MS = 300_000;
/** Before the same bytes are given to the next node: asking in vain takes time of the processors that nodes start on. */
const PAUSE_MS = 200;

/** Answers after which the transaction may still be committed: the same bytes are submitted again. */
const AGAIN: ReadonlySet<string> = new Set([
  'ALREADY_PENDING',
  'COMMIT_TIMEOUT',
  'NODE_UNREACHABLE',
  'NODE_TIMEOUT',
  'NOT_READY',
  'POOL_FULL',
  'RATE_LIMITED',
  'RESPONSE_INVALID',
  'SHUTTING_DOWN',
  'TOO_MANY_CALLS',
]);

export interface Writer {
  readonly orgId: string;
  readonly signer: Sm2Signer;
}

export interface Reported {
  readonly hash: Hex;
  readonly height: number;
}

export interface LoadOptions {
  /** Transactions under way at a time. */
  readonly inFlight: number;
  readonly perSecond?: number;
  /** The nodes that they are given to. */
  readonly at: readonly number[];
}

export class Load {
  /** What nodes have reported as committed. */
  readonly reported: Reported[] = [];
  /** Refusals that nothing in a scenario explains. */
  readonly refused: string[] = [];
  readonly #chainId: Uint8Array;
  readonly #writers: readonly Writer[];
  readonly #nodes: readonly RpcClient[];
  #running: readonly Promise<void>[] = [];
  #stopped = true;
  #nextSlotMs = 0;

  constructor(chainId: Uint8Array, writers: readonly Writer[], urls: readonly string[]) {
    this.#chainId = chainId;
    this.#writers = writers;
    this.#nodes = urls.map((url) => new RpcClient(url));
  }

  get isRunning(): boolean {
    return !this.#stopped;
  }

  start(options: LoadOptions): void {
    if (!this.#stopped) throw new Error('the load runs already');
    this.#stopped = false;
    this.#nextSlotMs = performance.now();
    this.#running = Array.from({ length: options.inFlight }, (_, n) => this.#work(n, options));
  }

  /** Begins no further transaction, and waits for those that are under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
    this.#running = [];
  }

  async #work(n: number, { perSecond, at }: LoadOptions): Promise<void> {
    const writer = this.#writers[n % this.#writers.length] as Writer;
    const home = at.indexOf(at[n % at.length] as number);
    for (;;) {
      if (perSecond !== undefined) await this.#slot(1_000 / perSecond);
      if (this.#stopped) return;
      await this.#commit(this.#sign(writer), at, home);
    }
  }

  /** The times at which transactions begin are shared by all: those that nobody was free for are left out. */
  async #slot(everyMs: number): Promise<void> {
    const nowMs = performance.now();
    const slotMs = Math.max(nowMs, this.#nextSlotMs);
    this.#nextSlotMs = slotMs + everyMs;
    if (slotMs > nowMs) await delay(slotMs - nowMs);
  }

  #sign({ orgId, signer }: Writer): SignedBytes {
    const document: PolicyDocument = {
      nonce: new Uint8Array(randomBytes(16)),
      orgId,
      rules: [
        {
          purposes: ['TREAT'],
          requesters: [{ role: 'physician', scope: { kind: 'any' }, department: null }],
          categories: null,
          maxDurationMs: 86_400_000,
          approvals: { kind: 'owner' },
        },
      ],
      adminRule: { kind: 'owner' },
      custodian: true,
      patientWrap: true,
      recovery: false,
    };
    const sender = { account: sm2Address(signer.publicKey), signer };
    const validUntilMs = Date.now() + VALIDITY_MS;
    return signTransaction(this.#chainId, sender, { kind: 'policy.create', document }, { validUntilMs });
  }

  async #commit(signed: SignedBytes, at: readonly number[], home: number): Promise<void> {
    const params = { raw: hexOf(signed.raw), mode: 'committed', timeoutMs: COMMIT_WAIT_MS } as const;
    for (let attempt = 0; Date.now() < signed.validUntilMs; attempt += 1) {
      const node = this.#nodes[at[(home + attempt) % at.length] as number] as RpcClient;
      try {
        const { status, height } = await node.call('tx_submit', params, { timeoutMs: 2 * COMMIT_WAIT_MS });
        if (status !== 'committed' || height === null) throw new Error(`tx_submit answered ${status}`);
        this.reported.push({ hash: hexOf(signed.hash), height });
        return;
      } catch (error) {
        const code = error instanceof ClientError ? error.code : String(error);
        if (!AGAIN.has(code)) return void this.refused.push(code);
      }
      await delay(PAUSE_MS);
    }
    this.refused.push('never committed');
  }
}

/**
 * One open-loop run: each transaction is sent when it is due, whatever became of those before it. What a node answers and
 * when its block events name a transaction is written down against when that transaction was due.
 */
import { bytesToHex0x } from '../../../common/bytes.ts';
import { Latencies, type Percentiles } from './latency.ts';
import type { LoadEntry } from './load-file.ts';
import type { NodeSocket } from './node-socket.ts';

/** What is due within one of these goes out together. */
const TICK_MS = 1;
/** What a node takes in one message. */
const MAX_BATCH = 50;
/** Once nothing is sent any more, for so long without a commit the rest counts as lost. */
const SILENCE_MS = 10_000;
/** The first part of the time is for the network to come up to speed. */
const STEADY_FROM = 0.25;

export interface RunResult {
  readonly offered: number;
  readonly seconds: number;
  readonly accepted: number;
  /** By code. */
  readonly refused: Readonly<Record<string, number>>;
  /** Accepted, and in no block that every node told of. */
  readonly lost: number;
  /** Committed each second, from a quarter of the time to the last commit: a backlog counts with the time that it takes. */
  readonly committedPerSecond: number;
  /** From when it was due until the node that it was given to told of the block that has it. */
  readonly latency: Percentiles;
  /** From when it was due until the node had taken it. */
  readonly accept: Percentiles;
  /** How late it was sent. */
  readonly lateness: Percentiles;
  readonly blocks: number;
}

interface Sent {
  readonly entry: LoadEntry;
  readonly dueMs: number;
  accepted: boolean;
  /** Nodes that have told of it. */
  told: number;
}

export class LoadRun {
  readonly #sockets: readonly (readonly NodeSocket[])[];
  readonly #byHash = new Map<string, Sent>();
  readonly #latency = new Latencies();
  readonly #accept = new Latencies();
  readonly #lateness = new Latencies();
  readonly #refused = new Map<string, number>();
  readonly #commitTimes: number[] = [];
  #accepted = 0;
  #done = 0;
  #open = 0;
  #blocks = 0;
  #lastEventMs = 0;
  #startMs = 0;

  /** @param sockets of each node; the first one of each is subscribed to its blocks */
  constructor(sockets: readonly (readonly NodeSocket[])[]) {
    this.#sockets = sockets;
  }

  /** @param due offsets in milliseconds, ascending; as many entries are sent */
  async run(entries: readonly LoadEntry[], due: Float64Array, seconds: number): Promise<RunResult> {
    const unsubscribe = this.#sockets.map(([socket], node) =>
      socket?.onBlock((hashes, atMs) => this.#block(node, hashes, atMs)),
    );
    this.#startMs = performance.now();
    await this.#send(entries, due);
    await this.#drain();
    unsubscribe.forEach((end) => end?.());
    return this.#result(due.length, seconds);
  }

  async #send(entries: readonly LoadEntry[], due: Float64Array): Promise<void> {
    const queues = this.#sockets.map((): Sent[] => []);
    for (let next = 0; next < due.length;) {
      const nowMs = performance.now() - this.#startMs;
      for (; next < due.length && (due[next] as number) <= nowMs; next += 1) {
        const entry = entries[next] as LoadEntry;
        const sent = { entry, dueMs: due[next] as number, accepted: false, told: 0 };
        this.#byHash.set(bytesToHex0x(entry.hash), sent);
        this.#lateness.record(nowMs - sent.dueMs);
        (queues[entry.node] as Sent[]).push(sent);
      }
      queues.forEach((queue, node) => this.#flush(node, queue.splice(0)));
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
  }

  #flush(node: number, queue: Sent[]): void {
    const sockets = this.#sockets[node] as readonly NodeSocket[];
    for (let first = 0; first < queue.length; first += MAX_BATCH) {
      const part = queue.slice(first, first + MAX_BATCH);
      const socket = sockets.reduce((least, other) => (other.waiting < least.waiting ? other : least));
      this.#open += part.length;
      void socket.submit(part.map(({ entry }) => entry)).then((answers) => {
        const atMs = performance.now() - this.#startMs;
        part.forEach((sent, index) => this.#answered(sent, answers[index] ?? null, atMs));
      });
    }
  }

  #answered(sent: Sent, code: string | null, atMs: number): void {
    this.#open -= 1;
    this.#lastEventMs = atMs;
    if (code === null) {
      sent.accepted = true;
      this.#accepted += 1;
      this.#accept.record(atMs - sent.dueMs);
      // Its block may have come before the answer.
      if (sent.told === this.#sockets.length) this.#done += 1;
    } else {
      this.#refused.set(code, (this.#refused.get(code) ?? 0) + 1);
    }
  }

  #block(node: number, hashes: readonly string[], absoluteMs: number): void {
    const atMs = absoluteMs - this.#startMs;
    if (node === 0) this.#blocks += 1;
    for (const hash of hashes) {
      const sent = this.#byHash.get(hash);
      if (sent === undefined) continue;
      this.#lastEventMs = atMs;
      sent.told += 1;
      if (sent.entry.node === node) {
        this.#latency.record(atMs - sent.dueMs);
        this.#commitTimes.push(atMs);
      }
      if (sent.told === this.#sockets.length && sent.accepted) this.#done += 1;
    }
  }

  async #drain(): Promise<void> {
    const silent = (): boolean => performance.now() - this.#startMs - this.#lastEventMs > SILENCE_MS;
    while ((this.#open > 0 || this.#done < this.#accepted) && !silent()) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  #result(offered: number, seconds: number): RunResult {
    const fromMs = seconds * 1_000 * STEADY_FROM;
    const steady = this.#commitTimes.filter((atMs) => atMs >= fromMs);
    const untilMs = steady.reduce((last, atMs) => Math.max(last, atMs), seconds * 1_000);
    return {
      offered,
      seconds,
      accepted: this.#accepted,
      refused: Object.fromEntries(this.#refused),
      lost: this.#accepted - this.#done,
      committedPerSecond: (steady.length * 1_000) / (untilMs - fromMs),
      latency: this.#latency.percentiles(),
      accept: this.#accept.percentiles(),
      lateness: this.#lateness.percentiles(),
      blocks: this.#blocks,
    };
  }
}

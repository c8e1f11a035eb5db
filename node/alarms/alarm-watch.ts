/**
 * The one place that knows what this node's operator should know now. Whoever asks (status, readiness, metrics), and a
 * tick each second, makes it look; what has changed since the last look is logged, once. So all of them agree.
 */
import type { TimeMs } from '../../common/protocol/primitives.ts';
import type { Validator } from '../../common/protocol/validator-set.ts';
import type { Alarm } from '../../rpc/ports.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import { STALLS, WARNINGS } from './codes.ts';
import { type AlarmFacts, type DiskFacts, type Finding, hasHeard, judge } from './judge.ts';

const LOOK_MS = 1_000;
/** How often the disk is asked for its room. */
const DISK_MS = 10_000;

export interface DiskProbe {
  freeBytes(): Promise<number>;
  /** Below this, uploads are refused. */
  readonly minFreeBytes: number;
}

export interface AlarmPorts {
  readonly clock: Clock;
  readonly log: Log;
  facts(): Omit<AlarmFacts, 'nowMs' | 'hasHeard' | 'disk'>;
  /** Null where there is no disk to watch. */
  readonly disk: DiskProbe | null;
}

export interface Alarms {
  /** Why no block comes although one is due, or why this node lacks what the others have; null if neither is so. */
  readonly stall: Alarm | null;
  readonly warnings: readonly Alarm[];
}

interface Raised {
  readonly key: string;
  readonly alarm: Alarm;
}

export class AlarmWatch {
  readonly #ports: AlarmPorts;
  /** Since when, by kind and code: at most one for each code. */
  #raised: ReadonlyMap<string, Raised> = new Map();
  #hasHeard = false;
  #disk: DiskFacts | null = null;
  #cancelLook: () => void = () => {};
  #cancelDisk: () => void = () => {};
  #stopped = false;

  constructor(ports: AlarmPorts) {
    this.#ports = ports;
  }

  start(): void {
    this.#tick();
    void this.#askDisk();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelLook();
    this.#cancelDisk();
  }

  /** Whether, since the start, enough others have said how far they are. Once true, it stays. */
  get hasHeard(): boolean {
    this.#hasHeard ||= hasHeard(this.#ports.facts());
    return this.#hasHeard;
  }

  /** As last asked; null before, and where no disk is watched. */
  get diskFreeBytes(): number | null {
    return this.#disk?.freeBytes ?? null;
  }

  /** What is so now; logs what has changed. */
  look(): Alarms {
    const facts: AlarmFacts = {
      ...this.#ports.facts(),
      nowMs: this.#ports.clock.nowMs(),
      hasHeard: this.hasHeard,
      disk: this.#disk,
    };
    const { stall, warnings } = judge(facts);
    const before = this.#raised;
    const raised = new Map<string, Raised>();
    const raise = (kind: 'stall' | 'warning', finding: Finding<string>, action: string): Alarm => {
      const of = `${kind}/${finding.code}`;
      const sinceMs = finding.sinceMs ?? before.get(of)?.alarm.sinceMs ?? facts.nowMs;
      const { height, view, phase } = facts.seen.phase;
      const missing = finding.missing.map((validator) => memberView(facts, validator));
      const key = `${of}/${missing.map(({ orgId }) => orgId).join()}`;
      const alarm = { code: finding.code, message: finding.message, action, sinceMs, height, view, phase, missing };
      raised.set(of, { key, alarm });
      return alarm;
    };
    const found: Alarms = {
      stall: stall === null ? null : raise('stall', stall, STALLS[stall.code]),
      warnings: warnings.map((warning) => raise('warning', warning, WARNINGS[warning.code])),
    };
    this.#raised = raised;
    this.#logChanges(before, raised, facts.nowMs);
    return found;
  }

  #logChanges(before: ReadonlyMap<string, Raised>, now: ReadonlyMap<string, Raised>, nowMs: TimeMs): void {
    const { log } = this.#ports;
    for (const [of, { alarm }] of before) {
      if (now.has(of)) continue;
      const isStall = of.startsWith('stall/');
      log.info({ code: alarm.code, lastedMs: nowMs - alarm.sinceMs }, isStall ? 'no longer stalled' : 'warning over');
    }
    for (const [of, { key, alarm }] of now) {
      if (before.get(of)?.key === key) continue;
      const { code, message, action, sinceMs, height, view, phase, missing } = alarm;
      const fields = {
        code,
        height,
        view,
        phase,
        sinceMs,
        missing: missing.map(({ orgId }) => orgId),
        message,
        action,
      };
      if (of.startsWith('stall/')) log.warn(fields, 'stalled');
      else log.warn(fields, 'warning raised');
    }
  }

  #tick(): void {
    if (this.#stopped) return;
    this.look();
    this.#cancelLook = this.#ports.clock.after(LOOK_MS, () => this.#tick());
  }

  async #askDisk(): Promise<void> {
    const { disk, clock } = this.#ports;
    if (disk === null) return;
    const { minFreeBytes } = disk;
    try {
      this.#disk = { freeBytes: await disk.freeBytes(), error: null, minFreeBytes };
    } catch (error) {
      const why = (error as NodeJS.ErrnoException).code ?? String(error);
      this.#disk = { freeBytes: null, error: why, minFreeBytes };
    }
    if (!this.#stopped) this.#cancelDisk = clock.after(DISK_MS, () => void this.#askDisk());
  }
}

function memberView({ seen, peers }: AlarmFacts, validator: Validator): Alarm['missing'][number] {
  const { orgId, address, peerId } = validator;
  const { lastSeenMs } = seen.of(address);
  return { orgId, address, lastSeenMs, connected: peers.some((peer) => peer.peerId === peerId && peer.connected) };
}

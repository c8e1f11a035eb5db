/** Tables of what a network did under loads. */
import type { Table } from '../../../scripts/bench/table.ts';
import type { Loaded } from './loaded-network.ts';

export interface Swept {
  readonly validators: number;
  /** What was sent, in words. */
  readonly mix: string;
  /** By rising rate. */
  readonly steps: readonly Loaded[];
  /** At a tenth and at four fifths of saturation; null where too little was prepared. */
  readonly low: Loaded | null;
  readonly high: Loaded | null;
}

export const latencyRow = ({ latency }: Loaded): (string | number)[] => [
  latency.p50Ms,
  latency.p90Ms,
  latency.p99Ms,
  latency.p999Ms,
];
export const LATENCY_HEAD = ['p50 ms', 'p90 ms', 'p99 ms', 'p99.9 ms'];

export function sweepTable({ validators, mix, steps }: Swept): Table {
  return {
    title: `${validators} validators, ${mix}, offered load rising`,
    head: [
      'offered /s',
      'committed /s',
      ...LATENCY_HEAD,
      'cpu µs per tx and validator',
      'validators, cores',
      'load, cores',
      'peak MiB',
      'sent late, p99 ms',
    ],
    rows: steps.map((step) => [
      step.ratePerSecond.toFixed(0),
      step.committedPerSecond,
      ...latencyRow(step),
      step.cpuUsPerTx,
      step.validatorCores,
      step.loadCores,
      step.peakMiB,
      step.lateness.p99Ms,
    ]),
  };
}

export function latencyTable(all: readonly Swept[]): Table {
  const row = (of: Swept, name: string, loaded: Loaded | null) =>
    loaded === null
      ? []
      : [[`${of.validators}: ${name}`, loaded.ratePerSecond.toFixed(0), ...latencyRow(loaded), loaded.cpuUsPerTx]];
  return {
    title: 'From when it was due until the block event names it',
    head: ['validators: share of saturation', 'offered /s', ...LATENCY_HEAD, 'cpu µs per tx and validator'],
    rows: all.flatMap((of) => [...row(of, '10 %', of.low), ...row(of, '80 %', of.high)]),
  };
}

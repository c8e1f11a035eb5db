/**
 * Text for people: what comes from a node or a file is made harmless before it reaches a terminal, times and sizes and
 * durations are written and read in one way. No colours, no output here.
 */
import { ClientError } from './errors.ts';

/** Longest untrusted text that is shown: names and messages of the protocol are shorter. */
const MAX_SHOWN_CHARACTERS = 2_000;

/** C0, DEL, C1, bidirectional marks and overrides, line and paragraph separators, BOM: what a terminal acts upon. */
function isControl(code: number): boolean {
  return (
    code < 0x20 ||
    (code >= 0x7f && code <= 0x9f) ||
    code === 0x061c ||
    (code >= 0x200b && code <= 0x200f) ||
    (code >= 0x2028 && code <= 0x202e) ||
    (code >= 0x2060 && code <= 0x206f) ||
    code === 0xfeff
  );
}

/**
 * Untrusted text as one harmless line: control characters are shown as `\u{..}`, lone surrogates replaced, length
 * bounded.
 */
export function clean(text: string): string {
  let result = '';
  for (const character of text.slice(0, MAX_SHOWN_CHARACTERS).toWellFormed()) {
    const code = character.codePointAt(0) ?? 0;
    result += isControl(code) ? `\\u{${code.toString(16)}}` : character;
  }
  return text.length > MAX_SHOWN_CHARACTERS ? `${result}…` : result;
}

/** As `clean`, keeping line ends: for our own messages of several lines. */
export function cleanLines(text: string): string {
  return text.split('\n').map(clean).join('\n');
}

/** UTC, to the second. What lies beyond the calendar of JavaScript stands for "without end". */
export function time(ms: number): string {
  if (!Number.isSafeInteger(ms) || Math.abs(ms) > 8.64e15) return 'without end';
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1_000],
] as const;

/** `1d 2h`, the two largest units; `0s` below a second. */
export function duration(ms: number): string {
  const parts: string[] = [];
  let rest = Math.max(0, ms);
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size);
    if (count > 0 && parts.length < 2) parts.push(`${count}${unit}`);
    rest -= count * size;
  }
  return parts.length === 0 ? '0s' : parts.join(' ');
}

/** `24h`, `30m`, `7d`, `90s`, `1d12h`. Undefined for anything else, zero included. */
export function parseDuration(text: string): number | undefined {
  if (!/^(?:\d{1,6}[dhms])+$/.test(text)) return undefined;
  let total = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+)([dhms])/g)) {
    total += Number(digits) * (UNITS.find(([name]) => name === unit)?.[1] ?? 0);
  }
  return total > 0 && Number.isSafeInteger(total) ? total : undefined;
}

/** @throws ClientError DURATION_INVALID */
export function requireDuration(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined) {
    throw new ClientError(
      'DURATION_INVALID',
      `"${clean(text)}" is not a duration.`,
      'Write a number and a unit: 30m, 24h, 7d, 90s.',
    );
  }
  return ms;
}

/** 1.5 GiB and the like. */
export function size(bytes: number): string {
  let value = bytes;
  let unit = 'B';
  for (const next of ['KiB', 'MiB', 'GiB', 'TiB']) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return unit === 'B' ? `${bytes} B` : `${value.toFixed(value < 10 ? 2 : 1)} ${unit}`;
}

/** Rows in columns, as wide as their widest cell; the last column runs free. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    row.slice(0, -1).forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length);
    });
  }
  return rows.map((row) =>
    row
      .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}

/** Names and values below one another. Values are untrusted: they are cleaned. Null values are left out. */
export function fields(pairs: readonly (readonly [string, string | number | boolean | null])[]): string[] {
  return table(pairs.flatMap(([name, value]) => (value === null ? [] : [[`${name}`, clean(String(value))]])));
}

/** How values read: hashes, times, sizes, words. Times are the node's, so that ages are right on a wrong clock. */

let offsetMs = 0;

/** Called with what the node says the time is. */
export function setNodeTime(nowMs) {
  offsetMs = nowMs - Date.now();
}

export function nodeNow() {
  return Date.now() + offsetMs;
}

export function short(hex, digits = 6) {
  if (typeof hex !== 'string') return '–';
  return hex.length <= 2 * digits + 3 ? hex : `${hex.slice(0, digits + 2)}…${hex.slice(-digits)}`;
}

const integer = new Intl.NumberFormat('en');
const NO_TIME_MS = 8.64e15;

export function number(value) {
  return value === null || value === undefined ? '–' : integer.format(value);
}

/** `count(1, 'vote')` -> 1 vote; `count(2, 'vote')` -> 2 votes. */
export function count(value, noun) {
  return `${number(value)} ${noun}${value === 1 ? '' : 's'}`;
}

export function rate(value) {
  if (!Number.isFinite(value)) return '–';
  if (value === 0 || value >= 100) return integer.format(Math.round(value));
  return String(Number(value.toFixed(value >= 10 ? 1 : 2)));
}

export function time(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms > NO_TIME_MS) return 'never';
  const date = new Date(ms);
  const two = (value) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000],
];

export function duration(ms) {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  for (const [index, [unit, size]] of UNITS.entries()) {
    if (ms < size) continue;
    const next = UNITS[index + 1];
    const rest = next && ms < 10 * size ? Math.floor((ms % size) / next[1]) : 0;
    return rest > 0 ? `${Math.floor(ms / size)} ${unit} ${rest} ${next[0]}` : `${Math.floor(ms / size)} ${unit}`;
  }
  return `${ms} ms`;
}

/** Whole seconds: for what counts on. */
function clock(ms) {
  return ms < 10_000 ? `${Math.max(1, Math.floor(ms / 1_000))} s` : duration(ms);
}

export function ago(ms) {
  const age = nodeNow() - ms;
  return age < 1_500 ? 'now' : `${clock(age)} ago`;
}

export function until(ms) {
  if (ms > NO_TIME_MS) return 'no end';
  const left = ms - nodeNow();
  return left <= 0 ? 'over' : `${clock(left)} left`;
}

const SIZES = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  let size = value;
  let unit = 0;
  while (size >= 1_024 && unit < SIZES.length - 1) {
    size /= 1_024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${SIZES[unit]}`;
}

/** `department_head` -> `department head`, `custodianKey` -> `custodian key`. */
export function words(name) {
  return String(name)
    .replace(/_/g, ' ')
    .replace(/([a-z0-9])([A-Z])/g, (_, before, after) => `${before} ${after.toLowerCase()}`);
}

const PURPOSES = {
  TREAT: 'treatment',
  ETREAT: 'emergency treatment',
  HRESCH: 'research',
  HPAYMT: 'payment',
  HOPERAT: 'operations',
  PUBHLTH: 'public health',
  PATRQT: 'patient request',
  BTG: 'break glass',
};

export function purpose(code) {
  return PURPOSES[code] ?? code;
}

export function capital(text) {
  return text.replace(/^./, (letter) => letter.toUpperCase());
}

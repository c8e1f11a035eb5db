/** Protocol structures for `--json`: the same fields, bytes as 0x-hex. */
import { hexOf } from './hex.ts';

export function toJson(value: unknown): unknown {
  if (value instanceof Uint8Array) return hexOf(value);
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, toJson(field)]));
}

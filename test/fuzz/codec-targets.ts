/**
 * Every exported codec, found by looking: whoever exports one needs no line here. Those that are not exported are
 * reached through the functions of targets.ts.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { type Codec, decode, encode } from '../../common/codec.ts';
import type { Target } from './engine.ts';
import { inventBytes } from './generate.ts';

export const ROOT = join(import.meta.dirname, '../..');
/** Folders whose code meets bytes from outside or from disk. */
export const FOLDERS = ['common', 'config', 'consensus', 'vm', 'node', 'rpc', 'client'] as const;
/** More than any message: its own bound is the business of whoever calls `decode`, and is fuzzed there. */
const MAX_BYTES = 8 * 1024 * 1024;
/** `common/codec.ts` makes codecs, and has none. */
const MAKERS = new Set(['common/codec.ts']);
const EXPORTED_CODEC =
  /^export const \w+(?:: Codec<.*>)? =[^>]*\b(?:struct|union|list|nullable|oneOf|bytes|text|uint)\(/m;

export interface SourceFile {
  /** From the top of the project. */
  readonly path: string;
  readonly text: string;
}

export function sources(): readonly SourceFile[] {
  return FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => {
        const full = join(ROOT, folder, name);
        return { path: relative(ROOT, full), text: readFileSync(full, 'utf8') };
      }),
  );
}

const isCodec = (value: unknown): value is Codec<unknown> =>
  typeof value === 'object' && value !== null && 'write' in value && 'read' in value;

export async function codecTargets(): Promise<readonly Target[]> {
  const targets = new Map<unknown, Target>();
  for (const { path, text } of sources()) {
    if (MAKERS.has(path) || !EXPORTED_CODEC.test(text)) continue;
    const exported = (await import(join(ROOT, path))) as Readonly<Record<string, unknown>>;
    for (const [name, codec] of Object.entries(exported)) {
      // A codec that a second file exports anew is the same one.
      if (isCodec(codec) && !targets.has(codec)) targets.set(codec, codecTarget(`${path} ${name}`, codec));
    }
  }
  return [...targets.values()];
}

export function codecTarget<T>(name: string, codec: Codec<T>, maxBytes = MAX_BYTES): Target {
  return {
    name,
    form: 'cbor',
    sample: (random) => inventBytes(codec, random),
    decode(bytes) {
      const decoded = decode(codec, bytes, maxBytes);
      return decoded.ok ? { ok: true, again: encode(codec, decoded.value) } : decoded;
    },
  };
}

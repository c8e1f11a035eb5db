/**
 * The WebAssembly module, instantiated: compiled and started synchronously, from bytes in the source, so that it works the
 * same in Node, in a worker and in a browser. Its memory layout and calls are `assembly/index.ts`.
 */

import { SM2_MODULE } from './module.generated.ts';

/** What the compiler makes of `assembly/index.ts`. Numbers are addresses, lengths, or booleans as 0 and 1. */
export interface Sm2Exports {
  readonly memory: WasmMemory;
  /** Where the key and the signature, 64 bytes each, and a piece of the message go; and where the digest comes. */
  readonly KEY: WasmGlobal;
  readonly SIGNATURE: WasmGlobal;
  readonly MESSAGE: WasmGlobal;
  readonly MESSAGE_BYTES: WasmGlobal;
  readonly DIGEST: WasmGlobal;
  /** Size of what is kept of a key; and the first address that is free for it. */
  readonly KNOWN_BYTES: WasmGlobal;
  /** Where scalars and points go, and where a point comes. */
  readonly SCALARS: WasmGlobal;
  readonly POINTS: WasmGlobal;
  readonly RESULT: WasmGlobal;
  readonly heapBase: () => number;
  readonly start: () => void;
  readonly begin: () => number;
  readonly makeKnown: (known: number) => void;
  readonly beginKnown: (known: number) => void;
  readonly absorbMessage: (length: number) => void;
  readonly finishMessage: () => void;
  readonly verify: () => number;
  readonly verifyKnown: (known: number) => number;
  readonly addPoints: (count: number) => number;
  readonly decompress: (odd: number) => number;
}

interface WasmGlobal {
  readonly value: number;
}

interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

// The language's own library of types does not know WebAssembly; that of browsers does, and much that we must not use.
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/** Some 10 ms, most of it the table of G. @throws where WebAssembly is missing or forbidden */
export function instantiate(): Sm2Exports {
  const module = new WebAssembly.Module(Uint8Array.from(atob(SM2_MODULE), (character) => character.charCodeAt(0)));
  const exports = new WebAssembly.Instance(module).exports as Sm2Exports;
  exports.start();
  return exports;
}

/**
 * Map keys for hashes: one character for each byte. Never shown or stored. No Buffer over the hash: to make one moves the
 * bytes of a short array out of the heap, which costs ten times as much.
 */
export const hashKey = (hash: Uint8Array): string => Reflect.apply(String.fromCharCode, null, hash) as string;

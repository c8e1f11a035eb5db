/** What the lists of targets share. */
import { type Codec, decode } from '../../common/codec.ts';
import type { Verdict } from '../../common/errors.ts';
import { createOpensslEngine } from '../../common/native/sm2-openssl.ts';
import { consortium } from '../integration/node-consortium.ts';
import type { Prng } from '../sim/prng.ts';
import type { Outcome, Target } from './engine.ts';
import { invent } from './generate.ts';

export interface FunctionTarget extends Target {
  /** Exported decoders, and codecs that no file exports, that this reaches. */
  readonly covers: readonly string[];
}

export const PEER_IDS = [
  '12D3KooWAXzSqHS28sYXdFBL2eXFUus8RvrsybZfcsWiicuKSo9t',
  '12D3KooWHJc2qSDFiiLnCPq5Mmhg9Zhxvk7hv8y7wx3WGVCwYwya',
  '12D3KooWRNQq545tasT8bUhxiwmVd8dB2VSKhjvgbm8F8YarQ5rv',
  '12D3KooWAb2eTQgw9h1Jn5rQvZizmAXuzyc9xfUFFs7vd3doLiBk',
] as const;
/** The same in every run: what is drawn from it must be. */
export const net = consortium({ timeMs: 1_700_000_000_000, peerIds: PEER_IDS });
export const engine = createOpensslEngine();
export const trusted = { chainId: net.chainId, fromHeight: 0, validators: net.genesis.validators };

export function must<T>(codec: Codec<T>, random: Prng): T {
  const value = invent(codec, random);
  if (value === null) throw new Error('no value of this codec was found');
  return value;
}

export const draw = (length: number, random: Prng): Uint8Array =>
  Uint8Array.from({ length }, () => random.uint32() & 0xff);

export const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

export const decodeAny = <T>(codec: Codec<T>, bytes: Uint8Array): Verdict<T> => decode(codec, bytes, 8 * 1024 * 1024);

export function verdict<T>(answer: Verdict<T>, again: (value: T) => Uint8Array | null = () => null): Outcome {
  return answer.ok ? { ok: true, again: again(answer.value) } : answer;
}

/** For decoders that answer `undefined`. */
export function maybe<T>(answer: T | undefined, again: (value: T) => Uint8Array | null = () => null): Outcome {
  return answer === undefined ? { ok: false, code: 'REFUSED' } : { ok: true, again: again(answer) };
}

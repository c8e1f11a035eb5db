/** What nodes ask and answer when one of them begins with a state of the others. */
import { handover } from '../../common/protocol/light.ts';
import {
  decodeEntries,
  decodeHandover,
  decodeOffers,
  decodeSnapshotRequest,
  encodeEntries,
  encodeHandover,
  encodeOffers,
  encodeSnapshotRequest,
  keyRange,
  type SnapshotRequest,
} from '../../node/snapshot/wire.ts';
import type { Prng } from '../sim/prng.ts';
import { inventBytes } from './generate.ts';
import { draw, type FunctionTarget, must, verdict } from './parts.ts';

function someRequest(random: Prng): SnapshotRequest {
  const height = random.between(0, 1_000);
  return random.pick<SnapshotRequest>([
    { kind: 'offers' },
    { kind: 'handovers', from: height },
    { kind: 'block', height },
    { kind: 'entries', height, range: must(keyRange, random) },
  ]);
}

export const snapshotTargets: readonly FunctionTarget[] = [
  {
    name: 'request for a snapshot',
    covers: ['decodeSnapshotRequest', 'snapshotRequest'],
    form: 'cbor',
    sample: (random) => encodeSnapshotRequest(someRequest(random)),
    decode: (bytes) => verdict(decodeSnapshotRequest(bytes), encodeSnapshotRequest),
  },
  {
    name: 'offers of snapshots',
    covers: ['decodeOffers', 'offers'],
    form: 'cbor',
    sample: (random) =>
      encodeOffers(
        Array.from({ length: random.between(0, 4) }, (_, height) => ({ height, blockHash: draw(32, random) })),
      ),
    decode: (bytes) => verdict(decodeOffers(bytes), encodeOffers),
  },
  {
    name: 'handover of a snapshot',
    covers: ['decodeHandover'],
    form: 'cbor',
    sample: (random) => inventBytes(handover, random),
    decode: (bytes) => verdict(decodeHandover(bytes), encodeHandover),
  },
  {
    name: 'entries of a snapshot',
    covers: ['decodeEntries', 'entriesAnswer'],
    form: 'cbor',
    sample: (random) =>
      encodeEntries({ lt: random.chance(500) ? null : draw(8, random), proof: draw(random.between(1, 200), random) }),
    decode: (bytes) => verdict(decodeEntries(bytes), encodeEntries),
  },
];

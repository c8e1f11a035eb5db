/**
 * Who keeps a copy: an order of the organisations for each CID that every node computes alike (rendezvous hashing).
 * The first `replicas` of it fetch at once; the next ones step in, one after the other, while copies are missing.
 */
import { compareBytes, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import type { OrgId } from '../../common/protocol/primitives.ts';

/** The other organisations in the order in which they are to hold the blob. */
export function replicaOrder(cid: Uint8Array, writer: OrgId, organisations: readonly OrgId[]): readonly OrgId[] {
  return organisations
    .filter((org) => org !== writer)
    .map((org) => ({ org, weight: H('replica-order', cid, utf8(org)) }))
    .sort((a, b) => compareBytes(a.weight, b.weight))
    .map(({ org }) => org);
}

/**
 * Milliseconds that a standby waits before it makes a copy, from when the record was committed.
 * @param place 1 for the first standby
 * @param stepMs what each of those before it may need for a copy
 */
export function standbyMs(place: number, stepMs: number): number {
  return place * stepMs;
}

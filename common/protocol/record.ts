/**
 * What a record is outside its bytes: its id, its label, the header that the physician and the patient sign, and the
 * plaintext of a key wrap. Formulas follow docs/custody-protocol.md.
 */
import { concatBytes, u32be, u64be, utf8 } from '../bytes.ts';
import { oneOf } from '../codec.ts';
import { H } from '../crypto/hash.ts';
import type { Address, Hash, OrgId } from './primitives.ts';
import { recordLabelFields } from './signing.ts';
import { tlv } from '../crypto/hash.ts';

/** Sensitivity classes: one key each, so that a grant opens one class only. */
export const SECTION_CLASSES = ['general', 'imaging', 'laboratory', 'genomics', 'psychiatry', 'sexual_health'] as const;
export const sectionClass = oneOf(SECTION_CLASSES);
export type SectionClass = (typeof SECTION_CLASSES)[number];

/** Commits to writer and owner: nobody can take it by being first. */
export const recordIdOf = (writer: Address, owner: Address, nonce: Uint8Array, section: SectionClass): Hash =>
  H('recordId', writer, owner, nonce, utf8(section));

/** Tells a reader early that the key is the right one; stands on chain beside the record. */
export { keyCheck as keyCheckOf } from '../crypto/sm4-format.ts';

/** Inside the ciphertext, and by hash on chain: ties the signed content to the ciphertext. */
export const headerHashOf = (h: {
  readonly recordId: Hash;
  readonly version: number;
  /** SM3 Merkle root over the content's sections; one section for opaque bytes. */
  readonly contentRoot: Hash;
  readonly owner: Address;
  readonly writer: Address;
  readonly issuedAtMs: number;
}): Hash => H('emr-header', h.recordId, u32be(h.version), h.contentRoot, h.owner, h.writer, u64be(h.issuedAtMs));

/** What the owner signs when a record is written: everything that the record says about itself. */
export const writeSigningHash = (w: {
  readonly chainId: Hash;
  readonly recordId: Hash;
  readonly version: number;
  readonly policyRef: Hash;
  readonly owner: Address;
  readonly dataDigest: Hash;
  readonly keyCheck: Uint8Array;
  readonly encodedCapsule: Uint8Array;
  readonly cid: Uint8Array;
  readonly headerHash: Hash;
  readonly categoryToken: Uint8Array;
  readonly hospital: OrgId;
  readonly writer: Address;
  readonly section: SectionClass;
  readonly sizeBytes: number;
  readonly sidecarHash: Hash;
}): Hash =>
  H(
    'writetx',
    tlv('label', ...recordLabelFields(w)),
    w.encodedCapsule,
    w.cid,
    w.headerHash,
    w.categoryToken,
    utf8(w.hospital),
    w.writer,
    utf8(w.section),
    u64be(w.sizeBytes),
    w.sidecarHash,
  );

/** What a key wrap encrypts: the 32-byte record key and what it is for (custody protocol, section 10). */
export const wrapPlaintext = (key: Uint8Array, recordId: Hash, version: number): Uint8Array =>
  concatBytes(key, recordId, u32be(version));
export const WRAP_PLAINTEXT_BYTES = 68;

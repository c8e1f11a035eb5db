/**
 * Keyed tokens: what categories, departments and persons are called on chain. Without the key a token says nothing, and
 * two organisations' tokens for the same word differ; person tags are equal in the whole network, whose registrars
 * share that key.
 */
import { utf8 } from '../common/bytes.ts';
import { tlv } from '../common/crypto/hash.ts';
import { hmacSm3 } from '../common/crypto/sm3.ts';
import { ClientError } from './errors.ts';
import type { OrgTokens } from './keys.ts';
import { clean } from './text.ts';

export type TokenKind = 'category' | 'department' | 'person';

const MAX_WORD_BYTES = 128;

/**
 * @param word a category code, a department's name, a licence number; surrounding spaces and case do not matter
 * @returns 32 bytes: HMAC-SM3(key, TLV("token/kind", word))
 */
export function tokenOf(tokens: OrgTokens, kind: TokenKind, word: string): Uint8Array {
  const plain = utf8(word.normalize('NFKC').trim().toLowerCase().toWellFormed());
  if (plain.length === 0 || plain.length > MAX_WORD_BYTES) {
    throw new ClientError('TOKEN_WORD_INVALID', `"${clean(word)}" is no ${kind}.`, 'Give 1 to 128 bytes of text.');
  }
  const key =
    kind === 'category' ? tokens.categoryKey : kind === 'department' ? tokens.departmentKey : tokens.personTagKey;
  return hmacSm3(key, tlv(`token/${kind}`, plain));
}

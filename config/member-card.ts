/**
 * The public card of one hospital (`member.yaml`), and the genesis that the founders make out of all their cards.
 */
import { parseHex0x } from '../common/bytes.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import type { ChainParams } from '../common/protocol/chain-params.ts';
import type { Genesis } from '../common/protocol/genesis.ts';
import { sortedValidatorSet } from '../common/protocol/validator-set.ts';
import type { Schema } from './document.ts';

export interface MemberCard {
  readonly orgId: string;
  readonly name: string;
  /** Multiaddr with peer id that the other members dial. */
  readonly address: string;
  readonly validator: { readonly publicKey: string; readonly peerId: string };
  readonly custodianKey?: string;
  /** First administrator of the organisation. */
  readonly admin: { readonly publicKey: string; readonly personTag: string };
}

const hex = (lengthBytes: number): Schema => ({ type: 'string', pattern: `^0x[0-9a-f]{${lengthBytes * 2}}$` });

export const memberCardSchema: Schema = {
  type: 'object',
  additionalProperties: false,
  required: ['orgId', 'name', 'address', 'validator', 'admin'],
  properties: {
    orgId: {
      type: 'string',
      pattern: '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$',
      maxLength: 32,
      remedy: 'write a short lower-case name such as hospital-a',
    },
    name: { type: 'string', minLength: 1, maxLength: 100 },
    address: {
      type: 'string',
      pattern: '^/(ip4|ip6|dns4|dns6|dns)/[^/]+/tcp/[0-9]{1,5}/p2p/[1-9A-HJ-NP-Za-km-z]+$',
      remedy: 'write e.g. /dns4/hospital-a.example/tcp/7600/p2p/12D3KooW…',
    },
    validator: {
      type: 'object',
      additionalProperties: false,
      required: ['publicKey', 'peerId'],
      properties: { publicKey: hex(64), peerId: { type: 'string', minLength: 20, maxLength: 64 } },
    },
    custodianKey: hex(64),
    admin: {
      type: 'object',
      additionalProperties: false,
      required: ['publicKey', 'personTag'],
      properties: { publicKey: hex(64), personTag: hex(32) },
    },
  },
};

const fromHex = (text: string): Uint8Array => parseHex0x(text) ?? new Uint8Array(0);

/**
 * The genesis of a new network. What is wrong with it (a key used twice, an organisation named twice) is found when the
 * file is read back with `parseGenesisFile`.
 * @param salt 16 random bytes
 */
export function genesisFromCards(
  cards: readonly MemberCard[],
  network: { readonly name: string; readonly timeMs: number; readonly params: ChainParams; readonly salt: Uint8Array },
): Genesis {
  return {
    version: 1,
    network: network.name,
    timeMs: network.timeMs,
    params: network.params,
    organisations: cards.map((card) => ({
      orgId: card.orgId,
      name: card.name,
      custodianKey: card.custodianKey === undefined ? null : fromHex(card.custodianKey),
    })),
    validators: sortedValidatorSet(
      cards.map((card) => {
        const publicKey = fromHex(card.validator.publicKey);
        return { orgId: card.orgId, publicKey, address: sm2Address(publicKey), peerId: card.validator.peerId };
      }),
    ),
    observers: [],
    accounts: cards.map((card) => ({
      publicKey: fromHex(card.admin.publicKey),
      orgId: card.orgId,
      personTag: fromHex(card.admin.personTag),
      roles: ['org_admin', 'registrar'],
    })),
    salt: network.salt,
  };
}

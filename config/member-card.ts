/**
 * The public card of one hospital (`member.yaml`), and the genesis that the founders make out of all their cards.
 */
import { parseHex0x } from '../common/bytes.ts';
import { isPublicKey } from '../common/crypto/curve.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import type { ChainParams } from '../common/protocol/chain-params.ts';
import type { Genesis } from '../common/protocol/genesis.ts';
import { sortedValidatorSet } from '../common/protocol/validator-set.ts';
import { checkDocument, ConfigError, type Problem, type Schema } from './document.ts';
import { isMemberAddress, isPeerId, NOT_A_PEER_ID, NOT_AN_ADDRESS } from './addresses.ts';

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

const NOT_A_POINT = 'not a point of the SM2 curve; copy the key again, 64 bytes x and y';

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

/** Hex whose form the schema has already checked. */
const fromHex = (text: string): Uint8Array => parseHex0x(text) ?? new Uint8Array(0);

/**
 * Checks a card that another hospital sent.
 * @param file name for messages
 * @throws ConfigError naming each line and remedy
 */
export function parseMemberCard(file: string, source: string): MemberCard {
  const checked = checkDocument<MemberCard>(file, source, memberCardSchema);
  const card = checked.value;
  const problems: Problem[] = [];
  const keys: [path: string[], key: string | undefined][] = [
    [['validator', 'publicKey'], card.validator.publicKey],
    [['custodianKey'], card.custodianKey],
    [['admin', 'publicKey'], card.admin.publicKey],
  ];
  for (const [path, key] of keys) {
    if (key !== undefined && !isPublicKey(fromHex(key))) problems.push(checked.problem(path, NOT_A_POINT));
  }
  const used = keys.flatMap(([, key]) => key ?? []);
  if (new Set(used).size !== used.length)
    problems.push(checked.problem([], 'one key stands here twice; each has its own'));
  if (!isPeerId(card.validator.peerId)) problems.push(checked.problem(['validator', 'peerId'], NOT_A_PEER_ID));
  const { address } = card;
  if (!isMemberAddress(address)) {
    problems.push(checked.problem(['address'], NOT_AN_ADDRESS));
  } else if (!address.endsWith(`/p2p/${card.validator.peerId}`)) {
    problems.push(checked.problem(['address'], "ends with another peer id than the validator's"));
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return card;
}

/**
 * The genesis of a new network.
 * @param cards as `parseMemberCard` gives them
 * @param network.timeMs block time of block 0; @param network.salt 16 random bytes
 * @throws ConfigError when two cards have the same organisation, key or peer id
 */
export function genesisFromCards(
  cards: readonly MemberCard[],
  network: { readonly name: string; readonly timeMs: number; readonly params: ChainParams; readonly salt: Uint8Array },
): Genesis {
  refuseDuplicates(cards);
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

/** Somebody's card twice, or a card made from another: the founders must know before the chain id is agreed on. */
function refuseDuplicates(cards: readonly MemberCard[]): void {
  const problems: Problem[] = [];
  const seen = new Map<string, string>();
  const note = (card: MemberCard, path: string, value: string | undefined): void => {
    if (value === undefined) return;
    const before = seen.get(value);
    if (before !== undefined) {
      const message = `the card of ${card.orgId} has the same ${path} as the card of ${before}`;
      problems.push({ file: 'member.yaml', line: 1, column: 1, path, message });
    }
    seen.set(value, card.orgId);
  };
  for (const card of cards) {
    note(card, 'orgId', card.orgId);
    note(card, 'validator.peerId', card.validator.peerId);
    for (const [path, key] of [
      ['validator.publicKey', card.validator.publicKey],
      ['custodianKey', card.custodianKey],
      ['admin.publicKey', card.admin.publicKey],
      ['admin.personTag', card.admin.personTag],
    ] as const) {
      note(card, path, key);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
}

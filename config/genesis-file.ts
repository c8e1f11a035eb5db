/**
 * The genesis file that people read and agree on (YAML), and its canonical form, whose hash is the chain id.
 */
import { stringify } from 'yaml';
import { encode } from '../common/codec.ts';
import { InvariantError } from '../common/errors.ts';
import { bytesToHex0x, parseHex0x } from '../common/bytes.ts';
import { isPublicKey } from '../common/crypto/curve.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import { type ChainParams, chainParams, DEFAULT_CHAIN_PARAMS } from '../common/protocol/chain-params.ts';
import type { Genesis } from '../common/protocol/genesis.ts';
import { ROLES, type Role } from '../common/protocol/policy.ts';
import { sortedValidatorSet } from '../common/protocol/validator-set.ts';
import { isPeerId, NOT_A_PEER_ID } from './addresses.ts';
import { checkDocument, ConfigError, type Problem, type Schema } from './document.ts';

export const GENESIS_FILE = 'genesis.yaml';

const hex = (lengthBytes: number, what: string): Schema => ({
  type: 'string',
  pattern: `^0x[0-9a-f]{${lengthBytes * 2}}$`,
  remedy: `write ${what}: 0x and ${lengthBytes * 2} lower-case hex digits, in quotes`,
});
const orgIdSchema: Schema = {
  type: 'string',
  pattern: '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$',
  maxLength: 32,
  remedy: 'write a short lower-case name such as hospital-a',
};
const member = {
  orgId: orgIdSchema,
  publicKey: hex(64, 'the SM2 public key'),
  peerId: { type: 'string', pattern: '^[1-9A-HJ-NP-Za-km-z]{20,64}$', remedy: 'write the peer id, such as 12D3KooW…' },
};

interface Param {
  /** Below this a network stalls from its first block on. What a vote may set is narrower still (vm/params.ts). */
  readonly least: number;
  readonly meaning: string;
}

const PARAM_TABLE: Readonly<Record<keyof ChainParams, Param>> = {
  maxBlockBytes: { least: 65_536, meaning: 'Bytes of transactions and sidecars in one block.' },
  maxBlockTxs: { least: 1, meaning: 'Transactions in one block.' },
  maxClockDriftMs: { least: 100, meaning: "How far a proposal's timestamp may be from the voter's clock." },
  viewTimeoutMs: { least: 50, meaning: 'First view timer of a height; it doubles with each view.' },
  viewTimeoutCapMs: { least: 50, meaning: 'Longest view timer.' },
  heartbeatMs: {
    least: 1_000,
    meaning: 'While a grant is active, a block is due this often. Custodians take no state older than three of them.',
  },
  leaderDemotionBlocks: { least: 0, meaning: 'Blocks for which a validator that was skipped as leader comes last.' },
  txValidityMs: { least: 1_000, meaning: 'Longest validity of a transaction.' },
  requestTtlMs: { least: 1_000, meaning: 'A pending access request without a decision ends after this.' },
  maxGrantMs: { least: 1_000, meaning: 'Longest access that a grant gives, whatever a policy says.' },
  roleCoolingMs: { least: 0, meaning: 'A role fills an approval slot only this long after it was granted.' },
  recoveryDelayMs: { least: 0, meaning: "Between opening and completing the recovery of an account's key." },
  governanceDelayMs: { least: 0, meaning: 'Between an accepted vote and its effect.' },
  governanceTtlMs: { least: 1_000, meaning: 'An open proposal ends after this.' },
  readyTtlMs: {
    least: 1_000,
    meaning: 'An accepted validator that does not show within this time that it is in step stays an observer.',
  },
  replicas: { least: 0, meaning: "Organisations beside the writer's that must hold each ciphertext." },
  orgStorageBytes: { least: 0, meaning: 'Ciphertext that one organisation may have stored by the others.' },
  maxOpenRequests: { least: 1, meaning: 'Pending access requests of one person.' },
};
const PARAMS = Object.entries(PARAM_TABLE) as [keyof ChainParams, Param][];

export const genesisSchema: Schema = {
  type: 'object',
  additionalProperties: false,
  required: ['version', 'network', 'time', 'salt', 'organisations', 'validators', 'accounts'],
  properties: {
    version: { const: 1, description: 'Format of this file.' },
    network: {
      type: 'string',
      pattern: '^[a-z0-9][a-z0-9-]*$',
      maxLength: 64,
      description: 'Human name of the network.',
    },
    time: {
      type: 'string',
      description: 'Block time of block 0, in UTC: 2026-01-31T12:00:00.000Z',
      pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$',
      remedy: 'write UTC with milliseconds, in quotes',
    },
    salt: { ...hex(16, '16 random bytes'), description: 'Makes this network differ from any other.' },
    params: {
      type: 'object',
      description: 'Consensus parameters; what is left out takes its default.',
      additionalProperties: false,
      default: {},
      properties: Object.fromEntries(
        PARAMS.map(([name, { least, meaning }]) => [
          name,
          { type: 'integer', minimum: 0, default: DEFAULT_CHAIN_PARAMS[name], least, description: meaning },
        ]),
      ),
    },
    organisations: {
      type: 'array',
      minItems: 1,
      maxItems: 100,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['orgId', 'name'],
        properties: {
          orgId: orgIdSchema,
          name: { type: 'string', minLength: 1, maxLength: 100 },
          custodianKey: {
            ...hex(64, "the custodian's SM2 public key"),
            description: 'Left out if the organisation runs no custodian.',
          },
        },
      },
    },
    validators: {
      type: 'array',
      minItems: 1,
      maxItems: 31,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['orgId', 'publicKey', 'peerId'],
        properties: member,
      },
    },
    observers: {
      type: 'array',
      maxItems: 100,
      default: [],
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['orgId', 'publicKey', 'peerId'],
        properties: member,
      },
    },
    accounts: {
      type: 'array',
      minItems: 1,
      maxItems: 1000,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['orgId', 'publicKey', 'personTag', 'roles'],
        properties: {
          orgId: orgIdSchema,
          publicKey: member.publicKey,
          personTag: hex(32, 'the person tag'),
          roles: { type: 'array', maxItems: ROLES.length, uniqueItems: true, items: { enum: [...ROLES] } },
        },
      },
    },
  },
};

interface GenesisDocument {
  version: 1;
  network: string;
  time: string;
  salt: string;
  params: ChainParams;
  organisations: { orgId: string; name: string; custodianKey?: string }[];
  validators: { orgId: string; publicKey: string; peerId: string }[];
  observers: { orgId: string; publicKey: string; peerId: string }[];
  accounts: { orgId: string; publicKey: string; personTag: string; roles: Role[] }[];
}

/** Hex whose form the schema has already checked. */
const fromHex = (text: string): Uint8Array => parseHex0x(text) ?? new Uint8Array(0);

/**
 * Checks a genesis file and gives its canonical form.
 * @throws ConfigError naming each line and remedy
 */
export function parseGenesisFile(file: string, source: string): Genesis {
  const checked = checkDocument<GenesisDocument>(file, source, genesisSchema);
  const doc = checked.value;
  const problems: Problem[] = [];
  const say = (path: readonly (string | number)[], message: string): void =>
    void problems.push(checked.problem(path, message));
  const organisations = new Set(doc.organisations.map((o) => o.orgId));
  if (organisations.size !== doc.organisations.length) say(['organisations'], 'two organisations have the same orgId');

  const keys = new Map<string, string>();
  const checkKey = (path: readonly (string | number)[], key: string): void => {
    if (!isPublicKey(fromHex(key))) say(path, 'not a point of the SM2 curve; copy the key again, 64 bytes x and y');
    const before = keys.get(key);
    if (before !== undefined) say(path, `the same key is used at ${before}; every key serves one purpose`);
    keys.set(key, path.join('.'));
  };
  const checkOrg = (path: readonly (string | number)[], org: string): void => {
    if (!organisations.has(org)) say(path, `there is no organisation ${org}; add it under organisations`);
  };
  doc.organisations.forEach((o, i) => {
    if (o.custodianKey !== undefined) checkKey(['organisations', i, 'custodianKey'], o.custodianKey);
  });
  const peers = new Set<string>();
  const validating = new Set<string>();
  for (const [list, members] of [
    ['validators', doc.validators],
    ['observers', doc.observers],
  ] as const) {
    members.forEach((m, i) => {
      checkKey([list, i, 'publicKey'], m.publicKey);
      checkOrg([list, i, 'orgId'], m.orgId);
      if (!isPeerId(m.peerId)) say([list, i, 'peerId'], NOT_A_PEER_ID);
      if (peers.has(m.peerId)) say([list, i, 'peerId'], 'two members have the same peer id');
      peers.add(m.peerId);
      if (list === 'validators' && validating.has(m.orgId))
        say([list, i, 'orgId'], 'one organisation has one validator');
      if (list === 'validators') validating.add(m.orgId);
    });
  }
  doc.accounts.forEach((a, i) => {
    checkKey(['accounts', i, 'publicKey'], a.publicKey);
    checkOrg(['accounts', i, 'orgId'], a.orgId);
  });
  for (const org of validating) {
    if (!doc.accounts.some((a) => a.orgId === org && a.roles.includes('org_admin'))) {
      say(['accounts'], `${org} has a validator but no account with the role org_admin; nobody could vote for it`);
    }
  }
  const time = Date.parse(doc.time);
  if (!Number.isSafeInteger(time) || new Date(time).toISOString() !== doc.time)
    say(['time'], 'there is no such moment');
  problems.push(...paramProblems(doc.params, (name, message) => checked.problem(['params', name], message)));
  if (problems.length > 0) throw new ConfigError(problems);

  const toMember = (m: { orgId: string; publicKey: string; peerId: string }) => {
    const publicKey = fromHex(m.publicKey);
    return { orgId: m.orgId, publicKey, address: sm2Address(publicKey), peerId: m.peerId };
  };
  return {
    version: 1,
    network: doc.network,
    timeMs: time,
    params: doc.params,
    organisations: doc.organisations.map((o) => ({
      orgId: o.orgId,
      name: o.name,
      custodianKey: o.custodianKey === undefined ? null : fromHex(o.custodianKey),
    })),
    validators: sortedValidatorSet(doc.validators.map(toMember)),
    observers: doc.observers.map(toMember),
    accounts: doc.accounts.map((a) => ({
      publicKey: fromHex(a.publicKey),
      orgId: a.orgId,
      personTag: fromHex(a.personTag),
      roles: a.roles,
    })),
    salt: fromHex(doc.salt),
  };
}

function paramProblems(params: ChainParams, at: (name: string, message: string) => Problem): Problem[] {
  const problems: Problem[] = [];
  const need = (ok: boolean, name: keyof ChainParams, message: string): void => {
    if (!ok) problems.push(at(name, message));
  };
  for (const name of Object.keys(params) as (keyof ChainParams)[]) {
    if (!chainParamFits(name, params[name])) problems.push(at(name, 'is larger than this parameter may be'));
  }
  for (const [name, { least }] of PARAMS) need(params[name] >= least, name, `must be at least ${least}`);
  need(params.viewTimeoutCapMs >= params.viewTimeoutMs, 'viewTimeoutCapMs', 'must not be below viewTimeoutMs');
  return problems;
}

/** Whether the canonical form can carry the value: its codec has the upper bounds. */
function chainParamFits(name: keyof ChainParams, value: number): boolean {
  try {
    encode(chainParams, { ...DEFAULT_CHAIN_PARAMS, [name]: value });
    return true;
  } catch (error) {
    if (error instanceof InvariantError) return false;
    throw error;
  }
}

/** Writes the file that `parseGenesisFile` reads back to the same canonical form. */
export function formatGenesisFile(value: Genesis): string {
  const memberOf = (m: { orgId: string; publicKey: Uint8Array; peerId: string }) => ({
    orgId: m.orgId,
    publicKey: bytesToHex0x(m.publicKey),
    peerId: m.peerId,
  });
  const document = {
    version: 1,
    network: value.network,
    time: new Date(value.timeMs).toISOString(),
    salt: bytesToHex0x(value.salt),
    params: value.params,
    organisations: value.organisations.map((o) => ({
      orgId: o.orgId,
      name: o.name,
      ...(o.custodianKey === null ? {} : { custodianKey: bytesToHex0x(o.custodianKey) }),
    })),
    validators: value.validators.map(memberOf),
    observers: value.observers.map(memberOf),
    accounts: value.accounts.map((a) => ({
      orgId: a.orgId,
      publicKey: bytesToHex0x(a.publicKey),
      personTag: bytesToHex0x(a.personTag),
      roles: [...a.roles],
    })),
  };
  return `# Genesis of an emrchain network: every member has this same file; its canonical hash is the chain id.\n${stringify(document, { lineWidth: 0 })}`;
}

/**
 * Policies as people write them (YAML), and the document that goes on the chain. Errors name line and remedy.
 *
 *   organisation: hospital-a
 *   patient-wrap: true            # the patient holds the key of every record under this policy
 *   custodian: true               # so do the custodians, who release it for a grant alone
 *   recovery: true                # and the officers of the recovery key, for a grant, should too many custodians fail
 *   rules:
 *     - purposes: [TREAT]
 *       requesters:
 *         - role: physician       # optional: from: any | writer | org:ID, department: NAME or 0x token
 *       categories: [imaging]     # optional: codes or 0x tokens; without it, all
 *       for-at-most: 72h
 *       approvals:
 *         all:
 *           - owner
 *           - attending
 *           - any: [{ role: department_head, from: writer }, { role: medical_affairs, from: writer }]
 *   changed-by: owner             # whose approval it takes to change the policy
 *
 * An approval is `owner`, `attending`, {role, from, department}, {person: 0x account}, {all: [...]}, {any: [...]}, or
 * {at-least: k, of: [...]}.
 */
import { parseHex0x } from '../common/bytes.ts';
import { encode } from '../common/codec.ts';
import { InvariantError } from '../common/errors.ts';
import {
  type ApprovalNode,
  MAX_POLICY_DEPTH,
  MAX_POLICY_SLOTS,
  type OrgScope,
  policyDocument,
  type PolicyDocument,
  type PolicyRule,
  PURPOSES,
  ROLES,
  type Role,
} from '../common/protocol/policy.ts';
import { type Checked, checkDocument, ConfigError, type Problem, type Schema } from '../config/document.ts';
import { parseDuration } from './text.ts';

/** Turns a word that is not yet a token into one; undefined where this person has no token keys. */
export type WordToken = (kind: 'category' | 'department', word: string) => Uint8Array | undefined;

const ORG_ID = '^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$';

const roleScopeProperties: Schema = {
  role: { enum: [...ROLES] },
  from: {
    type: 'string',
    pattern: '^(?:any|writer|requester|org:[a-z0-9][a-z0-9-]*)$',
    remedy: 'write any, writer, requester or org:ID',
  },
  department: { type: 'string', minLength: 1, maxLength: 128 },
};

export const policySchema: Schema = {
  type: 'object',
  additionalProperties: false,
  required: ['organisation', 'rules', 'changed-by'],
  properties: {
    organisation: { type: 'string', pattern: ORG_ID, maxLength: 32, remedy: 'write an id such as hospital-a' },
    'patient-wrap': { type: 'boolean', default: true },
    custodian: { type: 'boolean', default: false },
    recovery: { type: 'boolean', default: false },
    'changed-by': {},
    rules: {
      type: 'array',
      minItems: 1,
      maxItems: 8,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['purposes', 'requesters', 'for-at-most', 'approvals'],
        properties: {
          purposes: {
            type: 'array',
            minItems: 1,
            maxItems: PURPOSES.length,
            uniqueItems: true,
            items: { enum: [...PURPOSES] },
          },
          requesters: {
            type: 'array',
            minItems: 1,
            maxItems: 8,
            items: { type: 'object', additionalProperties: false, required: ['role'], properties: roleScopeProperties },
          },
          categories: {
            type: 'array',
            minItems: 1,
            maxItems: 16,
            items: { type: 'string', minLength: 1, maxLength: 128 },
            remedy: 'list codes or 0x tokens, or leave it out for all categories',
          },
          'for-at-most': { type: 'string', remedy: 'write a duration such as 72h or 30d' },
          approvals: {},
        },
      },
    },
  },
};

interface RoleText {
  readonly role: Role;
  readonly from?: string;
  readonly department?: string;
}

interface RuleText {
  readonly purposes: PolicyRule['purposes'];
  readonly requesters: readonly RoleText[];
  readonly categories?: readonly string[];
  readonly 'for-at-most': string;
  readonly approvals: unknown;
}

interface PolicyText {
  readonly organisation: string;
  readonly 'patient-wrap': boolean;
  readonly custodian: boolean;
  readonly recovery: boolean;
  readonly 'changed-by': unknown;
  readonly rules: readonly RuleText[];
}

type Path = readonly (string | number)[];

/** Reads one document: collects every problem before it gives up. */
class Reader {
  readonly problems: Problem[] = [];
  readonly #checked: Checked<PolicyText>;
  readonly #wordToken: WordToken;

  constructor(checked: Checked<PolicyText>, wordToken: WordToken) {
    this.#checked = checked;
    this.#wordToken = wordToken;
  }

  say(path: Path, message: string): void {
    this.problems.push(this.#checked.problem(path, message));
  }

  scope(path: Path, from: string | undefined): OrgScope {
    switch (from) {
      case undefined:
      case 'any':
        return { kind: 'any' };
      case 'writer':
      case 'requester':
        return { kind: from };
      default: {
        const orgId = from.startsWith('org:') ? from.slice(4) : '';
        if (!new RegExp(ORG_ID).test(orgId) || orgId.length > 32) {
          this.say(path, 'is no organisation; write any, writer, requester or org:ID');
          return { kind: 'any' };
        }
        return { kind: 'named', orgId };
      }
    }
  }

  token(path: Path, kind: 'category' | 'department', word: string): Uint8Array {
    const given = word.startsWith('0x') ? parseHex0x(word, 32) : this.#wordToken(kind, word);
    if (given !== undefined) return given;
    this.say(
      path,
      word.startsWith('0x')
        ? 'is no token; write 0x and 64 lower-case hex digits, in quotes'
        : `cannot be hidden: this home has no token keys; import them (emrchain keys import) or write the ${kind}'s token`,
    );
    return new Uint8Array(32);
  }

  role(path: Path, { role, from, department }: RoleText) {
    return {
      role,
      scope: this.scope([...path, 'from'], from),
      department: department === undefined ? null : this.token([...path, 'department'], 'department', department),
    };
  }

  rule(path: Path, text: RuleText): PolicyRule {
    const maxDurationMs = parseDuration(text['for-at-most']);
    if (maxDurationMs === undefined) this.say([...path, 'for-at-most'], 'is no duration; write one such as 72h or 30d');
    return {
      purposes: text.purposes,
      requesters: text.requesters.map((one, i) => this.role([...path, 'requesters', i], one)),
      categories: text.categories?.map((word, i) => this.token([...path, 'categories', i], 'category', word)) ?? null,
      maxDurationMs: maxDurationMs ?? 0,
      approvals: this.approvals([...path, 'approvals'], text.approvals),
    };
  }

  approvals(path: Path, value: unknown): ApprovalNode {
    const slots = { count: 0 };
    const tree = this.#node(path, value, 0, slots);
    if (slots.count > MAX_POLICY_SLOTS)
      this.say(path, `has ${slots.count} approvals; at most ${MAX_POLICY_SLOTS} are possible`);
    return tree;
  }

  #node(path: Path, value: unknown, depth: number, slots: { count: number }): ApprovalNode {
    if (value === 'owner' || value === 'attending') {
      slots.count += 1;
      return { kind: value };
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.say(
        path,
        'is no approval; write owner, attending, {role: …}, {person: …}, {all: […]}, {any: […]} or {at-least: k, of: […]}',
      );
      return { kind: 'owner' };
    }
    const fields = value as Readonly<Record<string, unknown>>;
    if ('role' in fields || 'person' in fields) {
      slots.count += 1;
      return 'role' in fields ? this.#roleSlot(path, fields) : this.#personSlot(path, fields);
    }
    return this.#threshold(path, fields, depth, slots);
  }

  #only(path: Path, fields: Readonly<Record<string, unknown>>, known: readonly string[]): void {
    for (const name of Object.keys(fields)) {
      if (!known.includes(name)) this.say([...path, name], `there is no such setting; known here: ${known.join(', ')}`);
    }
  }

  #roleSlot(path: Path, fields: Readonly<Record<string, unknown>>): ApprovalNode {
    this.#only(path, fields, ['role', 'from', 'department']);
    const { role, from, department } = fields;
    const known = ROLES.find((one) => one === role);
    if (known === undefined) this.say([...path, 'role'], `must be one of ${ROLES.join(', ')}`);
    for (const [name, text] of [
      ['from', from],
      ['department', department],
    ] as const) {
      if (text !== undefined && typeof text !== 'string') this.say([...path, name], 'must be text');
    }
    return {
      kind: 'role',
      ...this.role(path, {
        role: known ?? 'physician',
        ...(typeof from === 'string' ? { from } : {}),
        ...(typeof department === 'string' ? { department } : {}),
      }),
    };
  }

  #personSlot(path: Path, fields: Readonly<Record<string, unknown>>): ApprovalNode {
    this.#only(path, fields, ['person']);
    const { person } = fields;
    const account = typeof person === 'string' ? parseHex0x(person, 20) : undefined;
    if (account === undefined)
      this.say([...path, 'person'], 'must be an account: 0x and 40 lower-case hex digits, in quotes');
    return { kind: 'person', account: account ?? new Uint8Array(20) };
  }

  #threshold(
    path: Path,
    fields: Readonly<Record<string, unknown>>,
    depth: number,
    slots: { count: number },
  ): ApprovalNode {
    const name = (['all', 'any', 'of'] as const).find((one) => one in fields);
    if (name === undefined) {
      this.say(path, 'is no approval; write role, person, all, any, or at-least with of');
      return { kind: 'owner' };
    }
    this.#only(path, fields, name === 'of' ? ['at-least', 'of'] : [name]);
    const children = fields[name];
    if (!Array.isArray(children) || children.length === 0 || children.length > MAX_POLICY_SLOTS) {
      this.say([...path, name], `must be a list of 1 to ${MAX_POLICY_SLOTS} approvals`);
      return { kind: 'owner' };
    }
    if (depth >= MAX_POLICY_DEPTH) {
      this.say(path, `is nested more than ${MAX_POLICY_DEPTH} deep`);
      return { kind: 'owner' };
    }
    const of = children.map((child: unknown, i) => this.#node([...path, name, i], child, depth + 1, slots));
    return { kind: 'threshold', k: this.#count(path, name, fields, of.length), of };
  }

  #count(path: Path, name: 'all' | 'any' | 'of', fields: Readonly<Record<string, unknown>>, children: number): number {
    if (name === 'all') return children;
    if (name === 'any') return 1;
    const k = fields['at-least'];
    if (typeof k === 'number' && Number.isInteger(k) && k >= 1 && k <= children) return k;
    this.say([...path, 'at-least'], `must be a number from 1 to ${children}, the number of approvals in of`);
    return 1;
  }
}

/**
 * @param file name for messages
 * @param nonce 16 fresh bytes: two policies of the same words are two policies
 * @throws ConfigError with every problem found
 */
export function parsePolicyFile(file: string, source: string, nonce: Uint8Array, wordToken: WordToken): PolicyDocument {
  const checked = checkDocument<PolicyText>(file, source, policySchema);
  const text = checked.value;
  const reader = new Reader(checked, wordToken);
  const document: PolicyDocument = {
    nonce,
    orgId: text.organisation,
    rules: text.rules.map((rule, i) => reader.rule(['rules', i], rule)),
    adminRule: reader.approvals(['changed-by'], text['changed-by']),
    custodian: text.custodian,
    patientWrap: text['patient-wrap'],
    recovery: text.recovery,
  };
  if (!document.custodian && !document.patientWrap) {
    reader.say([], 'nobody would hold the key of a record: set patient-wrap or custodian to true');
  }
  if (document.recovery && !document.custodian) {
    reader.say(['recovery'], 'is for records whose keys custodians hold: set custodian to true as well');
  }
  if (reader.problems.length > 0) throw new ConfigError(reader.problems);
  try {
    encode(policyDocument, document);
  } catch (error) {
    if (!(error instanceof InvariantError)) throw error;
    throw new ConfigError([checked.problem([], `cannot be put on the chain: ${error.message}`)]);
  }
  return document;
}

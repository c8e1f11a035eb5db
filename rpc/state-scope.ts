/**
 * Whose matter a raw state key is, for reads of the state by key. A key belongs to the parent that its first bytes
 * name; a range is allowed where it stays under one parent that is in scope.
 *
 * Entries of accounts hold the token that links the accounts of one person: raw, they are for the own organisation.
 *
 * A proof of absence shows one other key, which may be somebody else's: it is given where that key is in scope as well. A
 * proof of a range shows keys on both sides of it: only who sees everything gets that. A proof of presence shows hashes
 * beside the path and is for everybody in scope.
 */
import { compareBytes, equalBytes } from '../common/bytes.ts';
import { prefixRange } from '../common/protocol/state-entries.ts';
import { outOfScope } from './errors.ts';
import type { Facts } from './facts.ts';
import type { Scope } from './scope.ts';

/** How the entries of a namespace belong to their parent: which bytes of the key name it, and what it is. */
type Rule =
  | { readonly kind: 'common' }
  | { readonly kind: 'all' }
  | { readonly kind: 'organisation' }
  | { readonly kind: 'account' | 'record' | 'request'; readonly parentBytes: number };

const ADDRESS = 20;
const HASH = 32;

/** First byte of a key -> rule. What is not here is for those who see everything: a new namespace is closed at first. */
const RULES: ReadonlyMap<number, Rule> = new Map<number, Rule>([
  [0x01, { kind: 'common' }],
  [0x02, { kind: 'common' }],
  [0x03, { kind: 'common' }],
  [0x04, { kind: 'common' }],
  [0x05, { kind: 'common' }],
  [0x06, { kind: 'common' }],
  [0x07, { kind: 'common' }],
  [0x08, { kind: 'common' }],
  [0x09, { kind: 'common' }],
  [0x0b, { kind: 'common' }],
  [0x0c, { kind: 'common' }],
  [0x10, { kind: 'common' }],
  [0x11, { kind: 'account', parentBytes: ADDRESS }],
  [0x13, { kind: 'account', parentBytes: ADDRESS }],
  [0x15, { kind: 'account', parentBytes: ADDRESS }],
  [0x16, { kind: 'account', parentBytes: ADDRESS }],
  [0x20, { kind: 'common' }],
  [0x21, { kind: 'common' }],
  [0x22, { kind: 'common' }],
  [0x23, { kind: 'common' }],
  [0x30, { kind: 'record', parentBytes: HASH }],
  [0x31, { kind: 'record', parentBytes: HASH }],
  [0x32, { kind: 'account', parentBytes: ADDRESS }],
  [0x33, { kind: 'organisation' }],
  [0x34, { kind: 'account', parentBytes: ADDRESS }],
  [0x40, { kind: 'request', parentBytes: HASH }],
  [0x41, { kind: 'record', parentBytes: HASH }],
  [0x42, { kind: 'request', parentBytes: HASH }],
  [0x44, { kind: 'request', parentBytes: HASH }],
  [0x45, { kind: 'record', parentBytes: HASH }],
  [0x48, { kind: 'record', parentBytes: HASH }],
  [0x70, { kind: 'common' }],
  [0x71, { kind: 'common' }],
  [0x80, { kind: 'common' }],
  [0x90, { kind: 'common' }],
  [0x91, { kind: 'common' }],
  [0x92, { kind: 'common' }],
  [0x93, { kind: 'request', parentBytes: HASH }],
  [0x94, { kind: 'common' }],
  [0x95, { kind: 'common' }],
]);

const ALL: Rule = { kind: 'all' };

/** @throws RpcError FORBIDDEN unless the key's parent is in scope */
export async function requireKey(key: Uint8Array, scope: Scope, facts: Facts): Promise<void> {
  if (!(await mayRead(key, scope, facts))) throw outOfScope('This key of the state');
}

/** @throws RpcError FORBIDDEN unless the whole range lies under one parent that is in scope */
export async function requireRange(gte: Uint8Array, lt: Uint8Array, scope: Scope, facts: Facts): Promise<void> {
  if (scope.all) return;
  const rule = RULES.get(gte[0] ?? -1) ?? ALL;
  const prefixBytes = 1 + ('parentBytes' in rule ? rule.parentBytes : 0);
  const prefix = gte.subarray(0, prefixBytes);
  const inside = prefix.length === prefixBytes && compareBytes(lt, prefixRange(prefix).lt) <= 0;
  if (!inside || rule.kind === 'organisation' || !(await mayRead(gte, scope, facts)))
    throw outOfScope('This range of the state');
}

/** Whether what the key names is in scope. */
export async function mayRead(key: Uint8Array, scope: Scope, facts: Facts): Promise<boolean> {
  if (scope.all) return true;
  const rule = RULES.get(key[0] ?? -1) ?? ALL;
  if (rule.kind === 'common') return true;
  if (rule.kind === 'all') return false;
  if (rule.kind === 'organisation') {
    const own = scope.caller.account;
    return (
      own !== null && scope.worksFor(own.orgId) && equalBytes(key.subarray(2), new TextEncoder().encode(own.orgId))
    );
  }
  const parent = key.subarray(1, 1 + rule.parentBytes);
  if (parent.length !== rule.parentBytes) return false;
  return mayReadUnder(rule.kind, parent, scope, facts);
}

async function mayReadUnder(
  kind: 'account' | 'record' | 'request',
  parent: Uint8Array,
  scope: Scope,
  facts: Facts,
): Promise<boolean> {
  switch (kind) {
    case 'record': {
      const record = await facts.record(parent);
      return record !== null && (await scope.record(parent, record)) === 'full';
    }
    case 'request': {
      const request = await facts.request(parent);
      return request !== null && scope.request(request);
    }
    case 'account': {
      if (scope.isSelf(parent)) return true;
      const account = await facts.account(parent);
      return account !== null && scope.worksFor(account.orgId);
    }
  }
}

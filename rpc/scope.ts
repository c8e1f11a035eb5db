/**
 * Who may see what. Every route asks here: calls, proofs, pages, subscriptions, downloads, the explorer through them.
 *
 *   a patient   what concerns it: own account, own records, requests on them and by itself, their audit
 *   staff       what concerns the own organisation (its records, requests on them or by its people, its accounts), the own
 *               requests, and requests whose policy has a slot that this account could fill
 *   everybody   organisations, validators, policies, governance, staff accounts of all organisations: the directory that
 *   enrolled    policies and approvals refer to
 *   all         where the operator opened reads, and for regulators whom the genesis names
 *
 * Staff who know a record's id, which is 32 bytes that nobody can guess, see what it takes to ask for access.
 */
import { equalBytes } from '../common/bytes.ts';
import type { ApprovalNode, OrgScope } from '../common/protocol/policy.ts';
import type { Address, Hash, OrgId } from '../common/protocol/primitives.ts';
import type { Event, Receipt } from '../common/protocol/receipt.ts';
import {
  type AccountEntry,
  attendingEntry,
  grantEntry,
  policyEntry,
  stateKey,
  statePrefix,
} from '../common/protocol/state-entries.ts';
import type { Caller } from './auth.ts';
import { outOfScope, type Reason, RpcError } from './errors.ts';
import type { AccountFacts, Facts, RecordFacts, RequestFacts } from './facts.ts';
import { get, list, type StateReads } from './state-reads.ts';

export type RecordView = 'full' | 'request' | 'none';

/** Events about things that every enrolled account may see. */
const COMMON_EVENT = /^(?:gov|policy|node|custody)\./;

export class Scope {
  readonly caller: Caller;
  readonly #facts: Facts;
  readonly #reads: StateReads;
  /** Within one call or subscription step; an entry for each policy rule that was looked at. */
  readonly #decides = new Map<string, Promise<boolean>>();

  constructor(caller: Caller, facts: Facts, reads: StateReads) {
    this.caller = caller;
    this.#facts = facts;
    this.#reads = reads;
  }

  get all(): boolean {
    return this.caller.seesAll;
  }

  isSelf(account: Address | null): boolean {
    const own = this.caller.account;
    return own !== null && account !== null && equalBytes(own.id, account);
  }

  /** The caller works for this organisation, as staff or as one of its machines. */
  worksFor(org: OrgId | null): boolean {
    const own = this.caller.account;
    return own !== null && own.kind !== 'patient' && own.orgId === org;
  }

  /** @throws RpcError FORBIDDEN unless the caller sees everything */
  requireAll(what: string, reason: Reason): void {
    if (!this.all) throw new RpcError('FORBIDDEN', what, reason);
  }

  async record(id: Hash, facts: RecordFacts): Promise<RecordView> {
    if (this.all || this.isSelf(facts.owner) || this.worksFor(facts.orgId)) return 'full';
    const own = this.caller.account;
    if (own === null) return 'none';
    const { results } = await this.#reads.read(list(grantEntry, statePrefix.grantsOf(id, own.id), { limit: 1 }));
    if (results[0].entries.length > 0) return 'full';
    return own.kind === 'patient' ? 'none' : 'request';
  }

  async request(facts: RequestFacts): Promise<boolean> {
    if (this.all || this.isSelf(facts.requester) || this.isSelf(facts.owner)) return true;
    if (this.worksFor(facts.recordOrg) || this.worksFor(facts.requesterOrg)) return true;
    return this.#mayDecide(facts);
  }

  /** @throws RpcError FORBIDDEN */
  async requireRequest(facts: RequestFacts): Promise<void> {
    if (!(await this.request(facts))) throw outOfScope('This request');
  }

  account(id: Address, facts: AccountFacts): boolean {
    if (this.all || this.isSelf(id) || this.worksFor(facts.orgId)) return true;
    return this.caller.account !== null && facts.kind !== 'patient';
  }

  /** The token by which accounts of one person are equal: within the organisation only. */
  personTag(account: AccountEntry): Uint8Array | null {
    return this.all || this.isSelf(account.id) || this.worksFor(account.orgId) ? account.personTag : null;
  }

  async event(event: Event): Promise<boolean> {
    if (this.all || this.isSelf(event.actor) || this.isSelf(event.subject) || this.worksFor(event.orgId)) return true;
    if (this.caller.account === null) return false;
    if (event.recordId === null && event.requestHash === null) return COMMON_EVENT.test(event.type);
    const request = event.requestHash && (await this.#facts.request(event.requestHash));
    if (request) return this.request(request);
    const record = event.recordId && (await this.#facts.record(event.recordId));
    return record ? this.isSelf(record.owner) || this.worksFor(record.orgId) : false;
  }

  async events(events: readonly Event[]): Promise<readonly Event[]> {
    if (this.all) return events;
    if (!this.caller.reads) return [];
    const visible: Event[] = [];
    for (const event of events) if (await this.event(event)) visible.push(event);
    return visible;
  }

  /** A committed transaction is in scope with the first of its events that is, or for its sender. */
  async transaction(sender: Address, receipt: Receipt | undefined): Promise<boolean> {
    if (this.all || this.isSelf(sender)) return true;
    if (this.caller.account === null) return false;
    for (const event of receipt?.events ?? []) if (await this.event(event)) return true;
    return this.pendingTransaction(sender);
  }

  /** What a transaction will do is not known yet: its sender and the sender's organisation see it. */
  async pendingTransaction(sender: Address): Promise<boolean> {
    if (this.all || this.isSelf(sender)) return true;
    if (this.caller.account === null) return false;
    const facts = await this.#facts.account(sender);
    return facts !== null && this.worksFor(facts.orgId);
  }

  /** Whether the rule of the request has a slot that the caller could fill. Slots filled or not: approvers see the rest. */
  #mayDecide(request: RequestFacts): Promise<boolean> {
    const own = this.caller.account;
    if (own === null || own.kind === 'patient') return Promise.resolve(false);
    const key = [
      request.policyRef,
      request.policyVersion,
      request.ruleIndex,
      request.owner,
      request.recordOrg,
      request.requesterOrg,
    ].join('|');
    const known = this.#decides.get(key);
    if (known !== undefined) return known;
    const answer = this.#hasSlot(request, own);
    this.#decides.set(key, answer);
    return answer;
  }

  async #hasSlot(request: RequestFacts, own: AccountEntry): Promise<boolean> {
    const { results } = await this.#reads.read(
      get(policyEntry, stateKey.policy(request.policyRef)),
      get(policyEntry, stateKey.policyVersion(request.policyRef, request.policyVersion)),
      get(attendingEntry, stateKey.attending(request.owner, own.id)),
    );
    const [newest, replaced, attending] = results;
    const rule = (replaced ?? newest)?.document.rules[request.ruleIndex];
    return rule !== undefined && this.#fills(rule.approvals, request, own, attending?.endedMs === null);
  }

  #fills(node: ApprovalNode, request: RequestFacts, own: AccountEntry, attending: boolean): boolean {
    switch (node.kind) {
      case 'threshold':
        return node.of.some((child) => this.#fills(child, request, own, attending));
      case 'owner':
        return equalBytes(request.owner, own.id);
      case 'person':
        return equalBytes(node.account, own.id);
      case 'attending':
        return attending;
      case 'role':
        return (
          inScope(node.scope, own.orgId, request) &&
          this.caller.roles.some(
            ({ role, department }) =>
              role === node.role &&
              (node.department === null || (department !== null && equalBytes(department, node.department))),
          )
        );
    }
  }
}

function inScope(scope: OrgScope, org: OrgId, request: RequestFacts): boolean {
  switch (scope.kind) {
    case 'writer':
      return org === request.recordOrg;
    case 'requester':
      return org === request.requesterOrg;
    case 'named':
      return org === scope.orgId;
    case 'any':
      return true;
  }
}

/**
 * Who may connect to this node, as its own executed state has it: validators, observers, and where the chain says that
 * they are dialled. While this node's state is stale, also the peers that its configuration names: for fetching blocks and
 * for nothing else.
 */
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { type Codec, decodeTrusted } from '../../common/codec.ts';
import { type Address, MAX_OBSERVERS } from '../../common/protocol/primitives.ts';
import {
  counterEntry,
  diallingEntry,
  observerEntry,
  prefixRange,
  stateKey,
  statePrefix,
  validatorsEntry,
} from '../../common/protocol/state-entries.ts';
import { quorumSize, type Validator } from '../../common/protocol/validator-set.ts';
import type { StateReader } from '../../vm/types.ts';
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { Member, Network } from '../network/types.ts';

const LOOK_MS = 1_000;
/** So long without a quorum of its own set, a node takes its set for stale: longer than a restart of the others takes. */
const STALE_AFTER_MS = 10_000;

function read<T>(state: StateReader, codec: Codec<T>, key: Uint8Array): T | undefined {
  const bytes = state.get(key);
  return bytes === undefined ? undefined : decodeTrusted(codec, bytes, 'state entry');
}

/** Everybody who is a member by this state. */
export function membersOf(state: StateReader): readonly Member[] {
  const memberOf = ({ peerId, orgId, address }: Validator, role: Member['role']): Member => ({
    peerId,
    orgId,
    role,
    address,
    addresses: read(state, diallingEntry, stateKey.dialling(address))?.addresses ?? [],
  });
  const validators = read(state, validatorsEntry, stateKey.validators()) ?? [];
  const observers = [...state.range({ ...prefixRange(statePrefix.observers()), limit: MAX_OBSERVERS })];
  return [
    ...validators.map((validator) => memberOf(validator, 'validator')),
    ...observers.map(({ value }) => memberOf(decodeTrusted(observerEntry, value, 'observer'), 'observer')),
  ];
}

export interface MemberWatchPorts {
  readonly clock: Clock;
  readonly log: Log;
  readonly network: Pick<Network, 'setMembers' | 'peers'>;
  /** Address of this node's SM2 key. */
  readonly self: Address;
  /** Peer ids that the configuration has addresses of. */
  readonly bootstrap: readonly string[];
  /** The state after the last block. */
  state(): StateReader;
}

/** Keeps the network at what the state says, from the very block that changes it. */
export class MemberWatch {
  readonly #ports: MemberWatchPorts;
  #members: readonly Member[] = [];
  #revision = -1;
  #withBootstrap = false;
  #aloneSinceMs: number | null = null;
  #wasMember = false;
  #cancel: () => void = () => {};

  constructor(ports: MemberWatchPorts) {
    this.#ports = ports;
  }

  get members(): readonly Member[] {
    this.#refresh();
    return this.#members;
  }

  /** Whether the chain, as far as this node has it, knows this node. */
  get isMember(): boolean {
    return this.members.some(({ address }) => equalBytes(address, this.#ports.self));
  }

  get hasObservers(): boolean {
    return this.members.some(({ role }) => role === 'observer');
  }

  start(): void {
    this.#apply();
    this.#tick();
  }

  stop(): void {
    this.#cancel();
  }

  /** After each block: one look at a counter where nothing has changed. */
  committed(): void {
    if (this.#refresh()) this.#apply();
  }

  /** @returns whether there was a change */
  #refresh(): boolean {
    const state = this.#ports.state();
    const revision = read(state, counterEntry, stateKey.membership())?.value ?? 0;
    if (revision === this.#revision) return false;
    this.#revision = revision;
    this.#members = membersOf(state);
    return true;
  }

  #apply(): void {
    const { network, bootstrap, log, self } = this.#ports;
    const { members, isMember } = this;
    if (this.#wasMember && !isMember) {
      log.warn({ address: bytesToHex(self) }, 'this node is no member any more: the others refuse its connections');
    }
    this.#wasMember = isMember;
    const known = new Set(members.map(({ peerId }) => peerId));
    const strangers = this.#withBootstrap ? bootstrap.filter((peerId) => !known.has(peerId)) : [];
    network.setMembers([...members, ...strangers.map(bootstrapMember)]);
  }

  #tick(): void {
    const { clock, log, bootstrap } = this.#ports;
    const stale = bootstrap.length > 0 && this.#isStale();
    if (stale !== this.#withBootstrap) {
      this.#withBootstrap = stale;
      if (stale)
        log.warn({}, 'no quorum of the members that this node knows is there: asks the configured peers for blocks');
      this.#apply();
    }
    this.#cancel = clock.after(LOOK_MS, () => this.#tick());
  }

  /** By connections alone: a chain without work has no blocks to judge by. */
  #isStale(): boolean {
    const { network, clock, self } = this.#ports;
    const validators = this.members.filter(({ role }) => role === 'validator');
    const present = network.peers().filter(({ connected, member }) => connected && member.role === 'validator').length;
    const own = validators.some(({ address }) => equalBytes(address, self)) ? 1 : 0;
    const nowMs = clock.nowMs();
    if (present + own >= quorumSize(validators.length)) this.#aloneSinceMs = null;
    else this.#aloneSinceMs ??= nowMs;
    return this.#aloneSinceMs !== null && nowMs - this.#aloneSinceMs >= STALE_AFTER_MS;
  }
}

const NOBODY = new Uint8Array(20);

const bootstrapMember = (peerId: string): Member => ({
  peerId,
  orgId: '',
  role: 'bootstrap',
  address: NOBODY,
});

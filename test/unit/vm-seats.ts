/** Seats at the network beside a world of the tests of vm/: votes, observers, candidates, validators. */
import { decodeTrusted } from '../../common/codec.ts';
import { sm2Address } from '../../common/crypto/sm2.ts';
import type { NodeCard } from '../../common/protocol/member.ts';
import { proposalEntry, stateKey, validatorsEntry } from '../../common/protocol/state-entries.ts';
import { type Call, type CallOf, type Proposal, proposalIdOf } from '../../common/protocol/transaction.ts';
import { type Actor, BLANK, DAY, newKey, nonce, rootAt, tag, World } from './vm-world.ts';

let peers = 0;
export function cardOf(
  orgId: string,
  publicKey: Uint8Array = newKey().publicKey,
  more: Partial<NodeCard> = {},
): NodeCard {
  peers += 1;
  return {
    orgId,
    publicKey,
    peerId: `12D3KooWNew${'abcdefghijkmnopqrstuvwxyz'[peers % 25]}${1 + (peers % 9)}${peers % 2 ? 'A' : 'B'}`,
    addresses: [],
    ...more,
  };
}
export const admit = (card: NodeCard): Proposal => ({ kind: 'admitObserver', card, possession: BLANK });
export const rotateTo = (address: Uint8Array, card: NodeCard): Proposal => ({
  kind: 'rotateMember',
  address,
  card,
  possession: BLANK,
});

/** Seats beside a world: its nodes are actors like people, known by their key. */
export class Seats {
  readonly world: World;
  constructor(world = new World()) {
    this.world = world;
  }

  read<T>(codec: Parameters<typeof decodeTrusted<T>>[0], key: Uint8Array): T | undefined {
    const bytes = this.world.state.get(key);
    return bytes === undefined ? undefined : decodeTrusted(codec, bytes, 'entry');
  }

  get validators() {
    return this.read(validatorsEntry, stateKey.validators())!;
  }

  node(orgId: string): Actor {
    const { publicKey, address } = this.validators.find((v) => v.orgId === orgId)!;
    return this.actor(orgId, publicKey, address);
  }

  actor(orgId: string, publicKey: Uint8Array, id = sm2Address(publicKey)): Actor {
    return { id, orgId, tag: null, custodial: false, privateKey: BLANK, publicKey };
  }

  code(proposal: Proposal, from = 'admin@a'): string | null {
    return this.world.try(from, { kind: 'gov.propose', proposal, nonce: nonce() });
  }

  /** Proposes and votes it through; its effect is still to come. */
  accept(proposal: Proposal, from = 'admin@a', voters = ['a', 'b', 'c']): Uint8Array {
    const call: Call = { kind: 'gov.propose', proposal, nonce: nonce() };
    this.world.do(from, call);
    const id = proposalIdOf(this.world.chainId, this.world.who(from).id, call.nonce, proposal);
    for (const org of voters) this.world.do(`admin@${org}`, { kind: 'gov.vote', proposalId: id, approve: true });
    return id;
  }

  enact(proposal: Proposal, from = 'admin@a', voters = ['a', 'b', 'c']): Uint8Array {
    const id = this.accept(proposal, from, voters);
    this.world.pass(DAY);
    return id;
  }

  status(id: Uint8Array) {
    const { status, reason } = this.read(proposalEntry, stateKey.proposal(id))!;
    return reason === null ? status : `${status} ${reason}`;
  }

  /** A new organisation with its administrator. */
  found(orgId: string, voters?: string[], custodianKey: Uint8Array | null = null): void {
    const admin = newKey();
    const name = `admin@${orgId.slice(-1)}`;
    const personTag = tag(name);
    const { publicKey } = admin;
    this.enact(
      {
        kind: 'addOrganisation',
        orgId,
        name: orgId,
        custodianKey,
        admin: { publicKey, personTag, possession: BLANK },
      },
      'admin@a',
      voters,
    );
    this.world.people.set(name, { ...admin, id: sm2Address(publicKey), orgId, tag: personTag, custodial: false });
  }

  /** An observer of the organisation, as the actor that its node is. */
  observer(orgId: string, voters?: string[]): Actor {
    const card = cardOf(orgId);
    this.enact(admit(card), 'admin@a', voters);
    return this.actor(orgId, card.publicKey);
  }

  candidacy(node: Actor, voters?: string[]): Uint8Array {
    return this.enact({ kind: 'addValidator', orgId: node.orgId, address: node.id }, 'admin@a', voters);
  }

  readyCall(height = this.world.height - 1, stateRoot = rootAt(height)): CallOf<'node.ready'> {
    return { kind: 'node.ready', height, stateRoot };
  }

  /** The whole way in. */
  validator(orgId: string, voters?: string[]): Actor {
    this.found(orgId, voters);
    const node = this.observer(orgId, voters);
    this.candidacy(node, voters);
    this.world.do(node, this.readyCall());
    return node;
  }
}

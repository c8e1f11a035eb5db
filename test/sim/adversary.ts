/**
 * Byzantine validators: each runs the real replica and does something else with what that wants to send. They hold
 * their own key only, so that whatever they say for others does not verify.
 */
import { bytesToHex } from '../../common/bytes.ts';
import type { BlockHeader } from '../../common/protocol/block.ts';
import {
  INCARNATION_BYTES,
  type ProposedBlock,
  type SignedMessage,
  type UnsignedMessage,
} from '../../consensus/messages.ts';
import type { Behaviour, SimNode } from './node.ts';
import type { Prng } from './prng.ts';
import { sealBlock } from './toy-chain.ts';

type Make = (prng: Prng) => Behaviour;

const nothing = (): void => undefined;

/** Does what the protocol says; for nodes that the checkers must not hold to it, such as two with one key. */
export const obedient: Behaviour = { name: 'obedient', outgoing: (_node, message) => [message], received: nothing };

/** Says nothing at all. */
const silent: Make = () => ({ name: 'silent', outgoing: () => [], received: nothing });

/** Two blocks for the two halves of the others, and votes for whatever each half believes. */
const equivocate: Make = () => {
  const twins = new Map<string, ProposedBlock>();
  const twinOf = (block: ProposedBlock): ProposedBlock => {
    const key = bytesToHex(block.hash);
    const known = twins.get(key);
    if (known !== undefined) return known;
    const twin = sealBlock({ ...block.header, timestampMs: block.header.timestampMs + 1 }, block.block.txs);
    twins.set(key, twin);
    return twin;
  };
  return {
    name: 'equivocate',
    received: nothing,
    outgoing(node, message, to) {
      const { body } = message;
      if (to % 2 === 0 || body.kind === 'status') return [message];
      if (body.kind === 'prePrepare') return [node.sign({ ...body, block: twinOf(body.block) })];
      if (body.kind !== 'prepare' && body.kind !== 'commit') return [message];
      const twin = twins.get(bytesToHex(body.digest));
      return twin === undefined ? [message] : [node.sign({ ...body, digest: twin.hash }), message];
    },
  };
};

/** Prepare and Commit for every block that it hears of, in every view. */
const promiscuous: Make = () => ({
  name: 'promiscuous',
  outgoing: (_node, message) => [message],
  received(node, { body }) {
    if (body.kind !== 'prePrepare') return;
    const { height, view, block } = body;
    for (const other of node.cluster.nodes) {
      if (other === node) continue;
      node.transmit(node.sign({ kind: 'prepare', height, view, digest: block.hash }), other.index);
      node.transmit(node.sign({ kind: 'commit', height, view, digest: block.hash }), other.index);
    }
  },
});

/** Old messages of everybody, again and again. */
const replay: Make = (prng) => {
  const heard: SignedMessage[] = [];
  return {
    name: 'replay',
    received(_node, message) {
      if (heard.length < 300) heard.push(message);
      else heard[prng.between(0, 299)] = message;
    },
    outgoing: (_node, message) => (heard.length > 0 && prng.chance(600) ? [message, prng.pick(heard)] : [message]),
  };
};

/** One field changed a little, under the old signature or a new one of its own. */
const mutate: Make = (prng) => ({
  name: 'mutate',
  received: nothing,
  outgoing(node, message) {
    if (!prng.chance(500)) return [message];
    const body = mutated(message.body, prng);
    if (prng.chance(300)) return [{ ...message, body }];
    if (prng.chance(100))
      return [{ ...node.sign(body), validator: (message.validator + 1) % node.cluster.nodes.length }];
    return [node.sign(body)];
  },
});

function mutated(body: UnsignedMessage, prng: Prng): UnsignedMessage {
  const moved = (value: number): number => Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, value + prng.pick([-1, 1])));
  if (prng.chance(400)) return { ...body, height: moved(body.height) };
  if (prng.chance(500)) return { ...body, view: moved(body.view) };
  switch (body.kind) {
    case 'prePrepare':
      return { ...body, block: mutatedBlock(body.block, prng) };
    case 'prepare':
    case 'commit':
      return { ...body, digest: flipped(body.digest, prng) };
    case 'viewChange':
      if (body.prepared === null) return body;
      return prng.chance(500)
        ? { ...body, prepared: null }
        : { ...body, prepared: { ...body.prepared, view: moved(body.prepared.view) } };
    case 'newView':
      return { ...body, viewChanges: mutatedProofs(body.viewChanges, prng) };
    case 'status':
      return prng.chance(500)
        ? { ...body, hash: flipped(body.hash, prng) }
        : { ...body, incarnation: flipped(body.incarnation, prng), asking: !body.asking };
    case 'echo':
      return prng.chance(500)
        ? { ...body, promises: [], status: null }
        : { ...body, to: prng.between(0, 3), incarnation: flipped(body.incarnation, prng) };
  }
}

type Proofs = Extract<UnsignedMessage, { kind: 'newView' }>['viewChanges'];

function mutatedProofs(proofs: Proofs, prng: Prng): Proofs {
  if (prng.chance(400)) return proofs.slice(1);
  if (prng.chance(400)) return proofs.map((p, i) => (i === 0 ? (proofs[1] ?? p) : p));
  return proofs.map((p) => ({ ...p, prepared: null }));
}

function flipped(bytes: Uint8Array, prng: Prng): Uint8Array {
  const copy = bytes.slice();
  const at = prng.between(0, copy.length - 1);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

function mutatedBlock(block: ProposedBlock, prng: Prng): ProposedBlock {
  return withWrongField(block, prng.pick(Object.keys(block.header) as (keyof BlockHeader)[]), prng);
}

function withWrongField(block: ProposedBlock, field: keyof BlockHeader, prng: Prng): ProposedBlock {
  const { header } = block;
  const value = header[field];
  const changed = typeof value === 'number' ? Math.max(0, value + prng.pick([-1, 1, 60_000])) : flipped(value, prng);
  return sealBlock({ ...header, [field]: changed }, block.block.txs);
}

/** As leader, blocks whose header is wrong in this one field: the same block for all. */
export function wrongField(field: keyof BlockHeader, prng: Prng): Behaviour {
  const wrong = new Map<string, ProposedBlock>();
  return {
    name: `wrong ${field}`,
    received: nothing,
    outgoing(node, message) {
      const { body } = message;
      if (body.kind !== 'prePrepare') return [message];
      const key = bytesToHex(body.block.hash);
      const block = wrong.get(key) ?? withWrongField(body.block, field, prng);
      wrong.set(key, block);
      return [node.sign({ ...body, block })];
    },
  };
}

/** As leader, headers that fail in some field. */
const invalidBlocks: Make = (prng) => ({
  name: 'invalidBlocks',
  received: nothing,
  outgoing(node, message) {
    const { body } = message;
    return body.kind === 'prePrepare' ? [node.sign({ ...body, block: mutatedBlock(body.block, prng) })] : [message];
  },
});

/** Views and heights from nowhere. */
const hugeViews: Make = (prng) => ({
  name: 'hugeViews',
  received: nothing,
  outgoing(node, message) {
    const { body } = message;
    if (!prng.chance(300)) return [message];
    const number = Math.min(
      Number.MAX_SAFE_INTEGER,
      prng.pick([body.view + 1, body.view + 5, 2 ** 31, Number.MAX_SAFE_INTEGER]),
    );
    const height = node.replica?.position.height ?? 1;
    return [
      message,
      node.sign({ kind: 'viewChange', height, view: number, prepared: null }),
      node.sign({ kind: 'commit', height, view: number, digest: new Uint8Array(32) }),
      node.sign({
        kind: 'prepare',
        height: prng.pick([height, height + 1, number]),
        view: number,
        digest: new Uint8Array(32),
      }),
      node.sign({
        kind: 'status',
        height: number,
        hash: new Uint8Array(32),
        view: number,
        incarnation: new Uint8Array(INCARNATION_BYTES).fill(prng.between(0, 3)),
        asking: prng.chance(500),
      }),
    ];
  },
});

/** Speaks to some only. */
const withhold: Make = (prng) => {
  const deaf = prng.between(0, 7);
  return {
    name: 'withhold',
    received: nothing,
    outgoing: (_node, message, to) => ((to + deaf) % 3 === 0 ? [] : [message]),
  };
};

/** As leader of a later view, a block of its own choice in place of the one that was prepared. */
const wrongProposal: Make = () => ({
  name: 'wrongProposal',
  received: nothing,
  outgoing(node, message) {
    const { body } = message;
    if (body.kind !== 'prePrepare' || body.view === 0) return [message];
    const header = {
      ...body.block.header,
      view: body.view,
      proposer: body.block.header.proposer,
      timestampMs: body.block.header.timestampMs + 1,
    };
    return [node.sign({ ...body, block: sealBlock(header, body.block.block.txs) })];
  },
});

/** Several at once. */
const mixed: Make = (prng) => {
  const parts = prng
    .shuffled([equivocate, promiscuous, replay, mutate, hugeViews])
    .slice(0, 3)
    .map((make) => make(prng));
  return {
    name: `mixed(${parts.map((p) => p.name).join()})`,
    received: (node, message) => parts.forEach((p) => p.received(node, message)),
    outgoing: (node: SimNode, message, to) =>
      parts.reduce<readonly SignedMessage[]>(
        (messages, p) => messages.flatMap((m) => p.outgoing(node, m, to)),
        [message],
      ),
  };
};

export const BEHAVIOURS: readonly Make[] = [
  silent,
  equivocate,
  promiscuous,
  replay,
  mutate,
  invalidBlocks,
  hugeViews,
  withhold,
  wrongProposal,
  mixed,
];

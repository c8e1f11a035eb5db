/**
 * Byzantine validators: each runs the real replica and does something else with what that wants to send. They hold
 * their own key only, so that whatever they say for others does not verify.
 */
import * as dagCbor from '@ipld/dag-cbor';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import type { BlockHeader } from '../../common/protocol/block.ts';
import { quorumSize } from '../../common/protocol/validator-set.ts';
import {
  encodeMessage,
  INCARNATION_BYTES,
  type ProposedBlock,
  type SignedMessage,
  type UnsignedMessage,
  type ViewChangeProof,
} from '../../consensus/messages.ts';
import type { Behaviour } from './node.ts';
import type { Prng } from './prng.ts';
import { sealBlock, type StoredBlock, toyTx } from './toy-chain.ts';

/** What those who are up to something together know of each other: the second block that goes with a first one. */
export interface Plot {
  readonly twins: Map<string, ProposedBlock>;
}
export const newPlot = (): Plot => ({ twins: new Map() });

/** As good as the first in every respect but that it is another. */
function twinOf({ twins }: Plot, block: ProposedBlock): ProposedBlock {
  const key = bytesToHex(block.hash);
  const twin =
    twins.get(key) ?? sealBlock({ ...block.header, timestampMs: block.header.timestampMs + 1 }, block.block.txs);
  twins.set(key, twin);
  return twin;
}

type Make = (prng: Prng, plot: Plot) => Behaviour;

const bounded = (value: number): number => Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, value));
const nothing = (): void => undefined;

/** Does what the protocol says; for nodes that the checkers must not hold to it, such as two with one key. */
export const obedient: Behaviour = { name: 'obedient', outgoing: (_node, message) => [message], received: nothing };

/** Says nothing at all. */
const silent: Make = () => ({ name: 'silent', outgoing: () => [], received: nothing });

/** Two blocks for the two halves of the others, and votes for whatever each half believes. */
const equivocate: Make = (_prng, plot) => {
  return {
    name: 'equivocate',
    received: nothing,
    outgoing(node, message, to) {
      const { body } = message;
      if (to % 2 === 0 || body.kind === 'status') return [message];
      if (body.kind === 'prePrepare') {
        return body.block.header.view === body.view
          ? [node.sign({ ...body, block: twinOf(plot, body.block) })]
          : [message];
      }
      if (body.kind !== 'prepare' && body.kind !== 'commit') return [message];
      const twin = plot.twins.get(bytesToHex(body.digest));
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
    for (const { member } of node.cluster.nodes) {
      if (member === node.member) continue;
      node.transmit(node.sign({ kind: 'prepare', height, view, digest: block.hash }), member);
      node.transmit(node.sign({ kind: 'commit', height, view, digest: block.hash }), member);
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
  const moved = (value: number): number => bounded(value + prng.pick([-1, 1]));
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
  const wrong = inPlaceOf((block) => withWrongField(block, field, prng));
  return {
    name: `wrong ${field}`,
    received: nothing,
    outgoing(node, message) {
      const { body } = message;
      return body.kind === 'prePrepare' ? [node.sign({ ...body, block: wrong(body.block) })] : [message];
    },
  };
}

/** The same block in place of another for all who get it. */
function inPlaceOf(make: (block: ProposedBlock) => ProposedBlock): (block: ProposedBlock) => ProposedBlock {
  const made = new Map<string, ProposedBlock>();
  return (block) => {
    const key = bytesToHex(block.hash);
    const known = made.get(key) ?? make(block);
    made.set(key, known);
    return known;
  };
}

/** As leader, headers that fail in some field. */
const invalidBlocks: Make = (prng) => {
  const invalid = inPlaceOf((block) => mutatedBlock(block, prng));
  return {
    name: 'invalidBlocks',
    received: nothing,
    outgoing(node, message) {
      const { body } = message;
      return body.kind === 'prePrepare' ? [node.sign({ ...body, block: invalid(body.block) })] : [message];
    },
  };
};

/** Views and heights from nowhere. */
const hugeViews: Make = (prng) => ({
  name: 'hugeViews',
  received: nothing,
  outgoing(node, message) {
    const { body } = message;
    if (!prng.chance(300)) return [message];
    const number = bounded(prng.pick([body.view + 1, body.view + 5, 2 ** 31, Number.MAX_SAFE_INTEGER]));
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

/** As leader of a later view, a fresh block of its own in place of the one that was prepared. */
const wrongProposal: Make = () => ({
  name: 'wrongProposal',
  received: nothing,
  outgoing(node, message) {
    const { body } = message;
    const seat = node.index;
    if (body.kind !== 'prePrepare' || body.view === 0 || seat === null) return [message];
    const { header, block } = body.block;
    const proposer = node.set.validators[seat]?.address ?? header.proposer;
    const timestampMs = Math.max(header.timestampMs + 1, node.clockMs);
    const fresh = sealBlock({ ...header, view: body.view, proposer, timestampMs }, block.txs);
    const votes = (['prepare', 'commit'] as const).map((kind) =>
      node.sign({ kind, height: body.height, view: body.view, digest: fresh.hash }),
    );
    return [node.sign({ ...body, block: fresh }), ...votes];
  },
});

/**
 * View changes with certificates of its own making, for a second block that it has: one signer many times, votes that were
 * for something else, too few of them.
 */
const forger: Make = (prng, plot) => {
  const blocks = new Map<number, ProposedBlock>();
  const prepares = new Map<string, SignedMessage>();
  return {
    name: 'forger',
    received(_node, message) {
      const { body, validator } = message;
      if (body.kind === 'prePrepare') blocks.set(body.height, body.block);
      blocks.delete(body.height - 4);
      if (body.kind !== 'prepare') return;
      prepares.set(`${body.height}/${validator}`, message);
      if (prepares.size > 64) prepares.delete(prepares.keys().next().value as string);
    },
    outgoing(node, message) {
      const { body } = message;
      if (body.kind !== 'viewChange') return [message];
      const view = body.view - 1;
      const block = blocks.get(body.height);
      const digest = block === undefined ? new Uint8Array(32) : twinOf(plot, block).hash;
      const own = node.sign({ kind: 'prepare', height: body.height, view, digest });
      const others = [...prepares.values()].filter((m) => m.body.height === body.height);
      const count = quorumSize(node.set.validators.length);
      const signed = prng.pick([Array.from({ length: count }, () => own), [own, ...others], [own]]);
      const signatures = signed
        .map(({ validator, signature }) => ({ validator, signature }))
        .sort((a, b) => a.validator - b.validator)
        .slice(0, count);
      return [node.sign({ ...body, prepared: { view, digest, signatures } })];
    },
    lend: (hash) => [...plot.twins.values()].find((block) => equalBytes(block.hash, hash)),
  };
};

/** As leader, every second block from tomorrow. */
const future: Make = () => {
  const later = inPlaceOf(({ header, block }) =>
    sealBlock({ ...header, timestampMs: header.timestampMs + 86_400_000 }, block.txs),
  );
  return {
    name: 'future',
    received: nothing,
    outgoing(node, message) {
      const { body } = message;
      const isFresh = body.kind === 'prePrepare' && body.block.header.view === body.view;
      if (!isFresh || (body.block.hash[0] as number) % 2 === 0) return [message];
      return [node.sign({ ...body, block: later(body.block) })];
    },
  };
};

/**
 * As leader of a new view: the view changes that hide what was prepared, as far as a quorum of others lets it, its own
 * among them; another choice for every second receiver. And its own view change never admits anything.
 */
const selective: Make = () => {
  const heard = new Map<string, Map<number, ViewChangeProof>>();
  const note = ({ validator, signature, body }: SignedMessage): void => {
    if (body.kind !== 'viewChange') return;
    const key = `${body.height}/${body.view}`;
    const proofs = heard.get(key) ?? new Map<number, ViewChangeProof>();
    proofs.set(validator, { validator, prepared: body.prepared, signature });
    heard.set(key, proofs);
    if (heard.size > 16) heard.delete(heard.keys().next().value as string);
  };
  return {
    name: 'selective',
    received: (_node, message) => note(message),
    outgoing(node, message, to) {
      const { body } = message;
      if (body.kind === 'viewChange') {
        const denying = node.sign({ ...body, prepared: null });
        note(denying);
        return [denying];
      }
      if (body.kind !== 'newView') return [message];
      const proofs = [...(heard.get(`${body.height}/${body.view}`)?.values() ?? [])];
      const rank = (p: ViewChangeProof): number => (p.prepared === null ? -1 : p.prepared.view);
      proofs.sort((a, b) => (to % 2 === 0 ? rank(a) - rank(b) : rank(b) - rank(a)));
      const quorum = proofs.slice(0, quorumSize(node.set.validators.length));
      const viewChanges = quorum.sort((a, b) => a.validator - b.validator);
      return [node.sign({ ...body, viewChanges })];
    },
  };
};

/** Each message just before others lose patience. */
const late: Make = (prng) => ({
  name: 'late',
  received: nothing,
  outgoing(node, message, to) {
    const { viewTimeoutMs } = node.cluster.params;
    node.cluster.world.after(prng.between(viewTimeoutMs / 2, viewTimeoutMs), () => node.transmit(message, to));
    return [];
  },
});

/** As leader, blocks without the transactions that it does not like. */
const censor: Make = () => ({
  name: 'censor',
  received: nothing,
  outgoing: (_node, message) => [message],
  choose: (_node, txs) => txs.filter((tx) => (tx[0] as number) % 2 === 0),
});

/** As leader, transactions that were executed before, and ones that nobody sent. */
const repeat: Make = (prng) => ({
  name: 'repeat',
  received: nothing,
  outgoing: (_node, message) => [message],
  choose(node, txs) {
    const old = node.disk.chain.flatMap((b) => b.block.block.txs);
    if (old.length === 0 || prng.chance(300)) return txs;
    return prng.chance(700) ? [...txs, prng.pick(old)] : [toyTx(1_000_000 + prng.between(0, 99)), ...txs];
  },
});

/** Lies about its head and view, and hands false blocks to those who ask. */
const liar: Make = (prng) => ({
  name: 'liar',
  received: nothing,
  outgoing(node, message) {
    const { body } = message;
    if (body.kind !== 'status') return [message];
    const height = bounded(prng.pick([0, body.height, body.height + 1, body.height + 1_000, Number.MAX_SAFE_INTEGER]));
    const view = bounded(prng.pick([0, body.view, body.view + 1, 2 ** 31, Number.MAX_SAFE_INTEGER]));
    return [node.sign({ ...body, height, view, hash: prng.chance(500) ? body.hash : flipped(body.hash, prng) })];
  },
  serve: (blocks) => blocks.map((stored) => falseBlock(stored, prng)),
});

function falseBlock({ block, certificate }: StoredBlock, prng: Prng): StoredBlock {
  const { signatures } = certificate;
  switch (prng.between(0, 5)) {
    case 0:
      return { block, certificate: { ...certificate, signatures: signatures.slice(1) } };
    case 1:
      return { block, certificate: { ...certificate, view: certificate.view + 1 } };
    case 2: {
      const [first] = signatures;
      return { block, certificate: { ...certificate, signatures: signatures.map((s) => first ?? s) } };
    }
    case 3:
      return { block: { ...block, block: { ...block.block, txs: [toyTx(7)], sidecars: [null] } }, certificate };
    case 4:
      return { block: mutatedBlock(block, prng), certificate };
    default:
      return { block, certificate };
  }
}

/** Ten of everything, and votes for heights and views to come. */
const flood: Make = (prng) => ({
  name: 'flood',
  received: nothing,
  outgoing(node, message) {
    if (!prng.chance(200)) return [message];
    const { body } = message;
    const digest = new Uint8Array(32).fill(prng.between(0, 255));
    const extra = Array.from({ length: 5 }, (_, i) =>
      node.sign({
        kind: prng.pick(['prepare', 'commit'] as const),
        height: bounded(body.height + prng.between(0, 2)),
        view: bounded(body.view + i),
        digest,
      }),
    );
    return [...Array.from({ length: 10 }, () => message), ...extra];
  },
});

/** Bytes that are no message, or nearly one: bits flipped, cut off, views that are no integers. */
const garble: Make = (prng) => ({
  name: 'garble',
  received: nothing,
  outgoing(node, message, to) {
    if (!prng.chance(500)) return [message];
    node.transmitBytes(garbled(message, prng), message, to);
    return prng.chance(500) ? [message] : [];
  },
});

function garbled(message: SignedMessage, prng: Prng): Uint8Array {
  const bytes = encodeMessage(message);
  if (prng.chance(300)) return bytes.subarray(0, prng.between(0, bytes.length));
  if (prng.chance(500)) return flipped(bytes, prng);
  const [validator, signature, [kind, fields]] = dagCbor.decode<[number, Uint8Array, [string, unknown[]]]>(bytes);
  const number = prng.pick([-1, 1.5, 2 ** 53, -(2 ** 40), 2 ** 60]);
  return dagCbor.encode([validator, signature, [kind, fields.with(prng.between(0, 1), number)]]);
}

/** Several at once: one way for each thing that a validator says. */
export const mixed: Make = (prng, plot) => {
  const ways: readonly (readonly Make[])[] = [
    [wrongProposal, wrongProposal, equivocate, invalidBlocks, future, censor, repeat],
    [promiscuous, withhold],
    [selective, forger],
    [liar, hugeViews],
    [replay, flood, mutate, late],
  ];
  const parts = ways.flatMap((some) => (prng.chance(600) ? [prng.pick(some)(prng, plot)] : []));
  return {
    name: 'mixed',
    received: (node, message) => parts.forEach((p) => p.received(node, message)),
    outgoing: (node, message, to) =>
      parts.reduce<readonly SignedMessage[]>(
        (messages, p) => messages.flatMap((m) => p.outgoing(node, m, to)),
        [message],
      ),
    choose: (node, txs) => parts.reduce((chosen, p) => p.choose?.(node, chosen) ?? chosen, txs),
    lend: (hash) => parts.map((p) => p.lend?.(hash)).find((block) => block !== undefined),
    serve: (blocks) => parts.reduce((served, p) => p.serve?.(served) ?? served, blocks),
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
  selective,
  forger,
  future,
  late,
  censor,
  repeat,
  liar,
  flood,
  garble,
  mixed,
];

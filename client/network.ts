/**
 * Which network, chain and node stand behind an address: asked once, shown, and pinned in the home. From then on an
 * answer that differs is an error, so that a name that points elsewhere one day cannot make this person sign for, or
 * read from, another chain.
 *
 *   nodes.json          origin -> network, chain id, node id
 *   chains/ID.genesis   canonical genesis whose hash is the chain id: the validator set that proofs are checked against
 */
import { bytesToHex, equalBytes } from '../common/bytes.ts';
import { decode } from '../common/codec.ts';
import { InvariantError } from '../common/errors.ts';
import { type Genesis, genesis, genesisHash, MAX_GENESIS_BYTES } from '../common/protocol/genesis.ts';
import { sortedValidatorSet, type ValidatorSet } from '../common/protocol/validator-set.ts';
import { writeSecretFile } from '../common/native/secret-file.ts';
import { ClientError } from './errors.ts';
import { fromHex, hexOf } from './hex.ts';
import { type Home, readPrivate, readPrivateJson, writePrivateJson } from './home.ts';
import type { RpcClient } from './rpc-client.ts';

const NODES_FILE = 'nodes.json';
/** A home meets some nodes, not thousands: the oldest pin goes when there are more. */
const MAX_PINNED_NODES = 256;

/** A chain and the node of it that is talked to. */
export interface PinnedNode {
  readonly network: string;
  /** Genesis hash, 32 bytes. */
  readonly chainId: Uint8Array;
  readonly genesis: Genesis;
  /** The set of the genesis, sorted. */
  readonly validators: ValidatorSet;
  /** 20 bytes. */
  readonly nodeId: Uint8Array;
  readonly origin: string;
}

interface Pin {
  readonly network: string;
  readonly chainId: string;
  readonly nodeId: string;
}

/** A first meeting, for the person to compare with what the operator says. */
export interface FirstContact {
  readonly origin: string;
  readonly network: string;
  readonly chainId: string;
  readonly nodeId: string;
  /** The organisation that the genesis has for this node; null if the genesis does not name the node. */
  readonly orgId: string | null;
}

function readPins(value: unknown): Map<string, Pin> {
  const pins = new Map<string, Pin>();
  const nodes = (value as { nodes?: unknown } | undefined)?.nodes;
  if (typeof nodes !== 'object' || nodes === null) return pins;
  for (const [origin, pin] of Object.entries(nodes)) {
    const { network, chainId, nodeId } = pin as Record<string, unknown>;
    if (typeof network === 'string' && typeof chainId === 'string' && typeof nodeId === 'string') {
      pins.set(origin, { network, chainId, nodeId });
    }
  }
  return pins;
}

async function loadPins(home: Home): Promise<Map<string, Pin>> {
  return readPins(await readPrivateJson(home.top(NODES_FILE)));
}

async function savePin(home: Home, origin: string, pin: Pin): Promise<void> {
  await home.ensure('chains');
  const pins = await loadPins(home);
  pins.delete(origin);
  pins.set(origin, pin);
  const kept = [...pins].slice(-MAX_PINNED_NODES);
  await writePrivateJson(home.top(NODES_FILE), { version: 1, nodes: Object.fromEntries(kept) });
}

/** Untrusted canonical bytes as the genesis of this chain id. @throws ClientError GENESIS_INVALID */
function checkGenesis(bytes: Uint8Array, chainId: Uint8Array): { genesis: Genesis; validators: ValidatorSet } {
  const invalid = (why: string, cause?: unknown): ClientError =>
    new ClientError(
      'GENESIS_INVALID',
      `The genesis document is not that of the chain: ${why}.`,
      'Use another node (--rpc URL), and compare the chain id with what your organisation was told.',
      {},
      { cause },
    );
  const decoded = decode(genesis, bytes, MAX_GENESIS_BYTES);
  if (!decoded.ok) throw invalid(decoded.message);
  if (!equalBytes(genesisHash(decoded.value), chainId)) throw invalid('its hash is another');
  try {
    return { genesis: decoded.value, validators: sortedValidatorSet(decoded.value.validators) };
  } catch (cause) {
    if (cause instanceof InvariantError) throw invalid(cause.message, cause);
    throw cause;
  }
}

/** Where the home keeps the genesis of a chain: canonical bytes whose hash was checked. */
export const genesisFile = (home: Home, chainId: Uint8Array): string =>
  home.file('chains', `${bytesToHex(chainId)}.genesis`);

async function loadGenesis(home: Home, rpc: RpcClient, chainId: Uint8Array) {
  const stored = await readPrivate(genesisFile(home, chainId));
  if (stored !== undefined) return checkGenesis(stored, chainId);
  const answer = await rpc.call('chain_getGenesis', {});
  const bytes = fromHex(answer.bytes);
  const checked = checkGenesis(bytes, chainId);
  await home.ensure('chains');
  await writeSecretFile(genesisFile(home, chainId), bytes, true);
  return checked;
}

/**
 * Identifies the node behind `rpc` and holds it to what was pinned; pins it at the first meeting.
 * @param announce told of a first meeting, before anything is signed
 * @param expectedChainId where the person knows it: another one is refused before anything is pinned
 * @param replace pins anew whatever was pinned: only ever by the person's explicit wish
 * @throws ClientError CHAIN_PIN_MISMATCH, NODE_PIN_MISMATCH, GENESIS_INVALID, and those of calls
 */
export async function meetNode(
  home: Home,
  rpc: RpcClient,
  options: {
    readonly announce?: (contact: FirstContact) => void;
    readonly replace?: boolean;
    readonly expectedChainId?: Uint8Array;
  } = {},
): Promise<PinnedNode> {
  const info = await rpc.call('node_info', {});
  const expected = options.expectedChainId;
  if (expected !== undefined && info.chainId !== hexOf(expected)) {
    throw new ClientError(
      'CHAIN_ID_MISMATCH',
      `The node serves the chain ${info.chainId}.`,
      'Check --rpc URL, and the chain id that your organisation was told.',
    );
  }
  const pin = options.replace === true ? undefined : (await loadPins(home)).get(rpc.origin);
  if (pin !== undefined) refuseOther(rpc.origin, pin, info);
  const chainId = fromHex(info.chainId, 32);
  const { genesis: document, validators } = await loadGenesis(home, rpc, chainId);
  const nodeId = fromHex(info.nodeId, 20);
  if (pin === undefined) {
    const found = { network: document.network, chainId: info.chainId, nodeId: info.nodeId };
    await savePin(home, rpc.origin, found);
    options.announce?.({ origin: rpc.origin, ...found, orgId: orgOf(document, nodeId) });
  }
  return { network: document.network, chainId, genesis: document, validators, nodeId, origin: rpc.origin };
}

function refuseOther(origin: string, pin: Pin, info: { readonly chainId: string; readonly nodeId: string }): void {
  if (pin.chainId !== info.chainId) {
    throw new ClientError(
      'CHAIN_PIN_MISMATCH',
      `${origin} served the chain ${pin.chainId} before and serves ${info.chainId} now.`,
      'If the operator confirms the new chain: emrchain chain pin --replace. Otherwise do not use this node.',
      { pinned: pin.chainId, served: info.chainId },
    );
  }
  if (pin.nodeId !== info.nodeId) {
    throw new ClientError(
      'NODE_PIN_MISMATCH',
      `${origin} was the node ${pin.nodeId} before and says it is ${info.nodeId} now.`,
      'If the operator confirms the new node: emrchain chain pin --replace. Otherwise do not use it.',
      { pinned: pin.nodeId, served: info.nodeId },
    );
  }
}

function orgOf(document: Genesis, nodeId: Uint8Array): string | null {
  return [...document.validators, ...document.observers].find((m) => equalBytes(m.address, nodeId))?.orgId ?? null;
}

/**
 * Pins a node that this person knows from elsewhere, without asking it: for whoever sets up homes beside nodes.
 * @param bytes canonical genesis
 */
export async function pinNode(home: Home, origin: string, bytes: Uint8Array, nodeId: Uint8Array): Promise<void> {
  const decoded = decode(genesis, bytes, MAX_GENESIS_BYTES);
  if (!decoded.ok) throw new ClientError('GENESIS_INVALID', decoded.message, 'Give the canonical genesis document.');
  const chainId = genesisHash(decoded.value);
  await home.ensure('chains');
  await writeSecretFile(genesisFile(home, chainId), bytes, true);
  await savePin(home, origin, { network: decoded.value.network, chainId: hexOf(chainId), nodeId: hexOf(nodeId) });
}

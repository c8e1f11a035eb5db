/** node_*, net_* and consensus_*: this node, its peers, and the agreement it takes part in. */
import { VOTE_KINDS } from '../../common/protocol/signing.ts';
import * as s from '../schema.ts';
import { address, at, hash, height, heightOrLatest, method, orgId, page, paging, timeMs } from './shapes.ts';

const nodeRole = s.words(['validator', 'observer']);

/** Its code has a section in docs/runbook.md. */
const alarm = s.object({
  code: s.text(32),
  /** What is wrong, with names. */
  message: s.text(2_000),
  /** The first thing to do about it. */
  action: s.text(500),
  sinceMs: timeMs,
  /** What was being decided, and where that stood. */
  height,
  view: s.integer(),
  phase: s.text(32),
  /** Validators whose messages, votes or presence are missing, or who caused it. */
  missing: s.list(s.object({ orgId, address, connected: s.bool, lastSeenMs: s.nullable(timeMs) })),
});

export const nodeMethods = {
  node_info: method({
    summary: 'Who this node is: what a reader needs to compose a token.',
    access: 'public',
    params: {},
    result: s.object({
      version: s.text(64),
      network: s.text(64),
      chainId: hash,
      orgId,
      role: nodeRole,
      nodeId: address,
      peerId: s.text(128),
      startedMs: timeMs,
      openReads: s.bool,
    }),
  }),
  node_status: method({
    summary: 'Height, view, leader, phase; why nothing is committed if something should be, and who is missing.',
    access: 'public',
    params: {},
    result: s.object({
      height,
      hash,
      timestampMs: timeMs,
      lastBlockAgeMs: s.integer(),
      decidingHeight: height,
      view: s.integer(),
      leader: address,
      leaderOrg: s.nullable(orgId),
      phase: s.text(32),
      role: nodeRole,
      syncing: s.bool,
      highestKnownHeight: height,
      stalledReason: s.nullable(alarm),
      warnings: s.list(alarm),
      validators: s.integer(),
      /** This node and the validators that it has a connection to. */
      validatorsUp: s.integer(),
      quorum: s.integer(),
      pendingTransactions: s.integer(),
      ...at,
    }),
  }),
  node_version: method({
    summary: 'Versions of the software and of this interface.',
    access: 'public',
    params: {},
    result: s.object({ version: s.text(64), rpcVersion: s.text(16), nodejs: s.text(32) }),
  }),
};

export const consensusMethods = {
  consensus_getState: method({
    summary: 'The height that is being decided, its view, leader and phase, and what the quorum takes.',
    access: 'member',
    params: {},
    result: s.object({
      height,
      view: s.integer(),
      leader: address,
      phase: s.text(32),
      stalledReason: s.nullable(alarm),
      validators: s.integer(),
      faultTolerance: s.integer(),
      quorum: s.integer(),
      ...at,
    }),
  }),
  consensus_getValidators: method({
    summary: 'The set that certifies a height; `latest` is the one for the next height.',
    access: 'public',
    params: { height: s.optional(heightOrLatest) },
    result: s.object({
      height,
      quorum: s.integer(),
      validators: s.list(
        s.object({
          ...validatorProperties(),
          /** What this node has seen of it; null without a token, and for past sets. */
          liveness: s.nullable(
            s.object({
              connected: s.bool,
              lastSignedHeight: s.nullable(height),
              lastSeenMs: s.nullable(timeMs),
              executedHeight: s.nullable(height),
            }),
          ),
        }),
      ),
      ...at,
    }),
  }),
  consensus_getEvidence: method({
    summary: 'Pairs of votes that one validator signed and that exclude each other, as they stand on chain.',
    access: 'member',
    params: { ...paging },
    result: page(evidence()),
  }),
};

function evidence() {
  const signedDigest = s.object({ digest: hash, signature: s.hex(64) });
  return s.object({
    validator: address,
    orgId,
    publicKey: s.hex(64),
    vote: s.words(VOTE_KINDS),
    height,
    view: s.integer(),
    first: signedDigest,
    second: signedDigest,
    /** The node that brought it. */
    reporter: address,
    reportedHeight: height,
    reportedMs: timeMs,
  });
}

function validatorProperties() {
  return { index: s.integer(), address, orgId, publicKey: s.hex(64), peerId: s.text(64) };
}

const peer = s.object({
  peerId: s.text(128),
  orgId,
  role: nodeRole,
  address,
  connected: s.bool,
  direction: s.nullable(s.words(['inbound', 'outbound'])),
  addresses: s.list(s.text(512)),
  bytesIn: s.integer(),
  bytesOut: s.integer(),
});

export const netMethods = {
  net_info: method({
    summary: 'How this node is reached by other members.',
    access: 'member',
    params: {},
    result: s.object({
      peerId: s.text(128),
      listenAddresses: s.list(s.text(512)),
      members: s.integer(),
      connected: s.integer(),
    }),
  }),
  net_peers: method({
    summary: 'The members and the connections to them.',
    access: 'member',
    params: {},
    result: s.object({ peers: s.list(peer) }),
  }),
};

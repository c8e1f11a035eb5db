/** custody_getStatus: the key that the members' custodians share, and the session that makes or hands it on. */
import { CUSTODY_KINDS, CUSTODY_PHASES } from '../../common/protocol/custody.ts';
import * as s from '../schema.ts';
import { at, hash, height, method, orgId, timeMs } from './shapes.ts';

const epoch = s.object({
  epoch: s.integer(),
  /** The public key that records are sealed under. */
  key: s.hex(33),
  /** How many holders release a key. */
  threshold: s.integer(),
  holders: s.list(s.object({ orgId, share: s.hex(33) })),
  sinceHeight: height,
  sinceMs: timeMs,
  /** When the chain by itself begins to make new shares. */
  refreshMs: timeMs,
});

const session = s.object({
  id: hash,
  kind: s.words(CUSTODY_KINDS),
  /** The epoch that it makes. */
  epoch: s.integer(),
  phase: s.words(CUSTODY_PHASES),
  threshold: s.integer(),
  /** What a holder's operator confirms before its share is handed on. */
  setHash: hash,
  receivers: s.list(s.object({ orgId, custodianKey: s.hex(64), announced: s.bool, confirmed: s.bool })),
  /** Organisations whose dealings are stored. */
  dealt: s.list(orgId),
  /** Dealers that were proven false, and receivers that complained falsely. */
  disqualified: s.list(orgId),
  falseAccusers: s.list(orgId),
  /** Organisations that the phase waits for. */
  missing: s.list(orgId),
  override: s.bool,
  openedHeight: height,
  openedMs: timeMs,
  deadlineMs: s.nullable(timeMs),
  proposalId: s.nullable(hash),
});

export const custodyStatusMethods = {
  custody_getStatus: method({
    summary: 'The epoch of the custody key, the session under way with who is missing, and how the own custodian is.',
    access: 'public',
    params: {},
    result: s.object({
      epoch: s.nullable(epoch),
      session: s.nullable(session),
      /** Of this node's hospital. */
      custodian: s.object({
        state: s.words(['none', 'unknown', 'answers', 'refuses', 'unreachable']),
        /** What its operator has to do. */
        waitsFor: s.nullable(s.text(300)),
        code: s.nullable(s.text(64)),
        message: s.nullable(s.text(1024)),
      }),
      ...at,
    }),
  }),
};

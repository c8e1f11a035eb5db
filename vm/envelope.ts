/** What every transaction must fulfil, whatever it calls: version, chain, time, replay, key, standing of its sender. */
import { equalBytes } from '../common/bytes.ts';
import { accept, type Verdict } from '../common/errors.ts';
import type { ChainParams } from '../common/protocol/chain-params.ts';
import type { Hash, TimeMs } from '../common/protocol/primitives.ts';
import type { AccountEntry } from '../common/protocol/state-entries.ts';
import {
  type Call,
  type DecodedTransaction,
  isNodeCall,
  type NodeCall,
  type SignedTransaction,
  type TransactionBody,
} from '../common/protocol/transaction.ts';
import { refuse } from './codes.ts';
import { OK } from './context.ts';
import { type Membership, membershipOf } from './members.ts';
import { accountOf, organisationOf } from './organisations.ts';
import type { Overlay } from './overlay.ts';
import { isReplay } from './replay.ts';

interface Where {
  readonly state: Overlay;
  readonly chainId: Hash;
  readonly now: TimeMs;
  readonly params: ChainParams;
}

/** An account with what it calls, or a member's node with what it does in its own name. */
export type Sender =
  | { readonly sender: AccountEntry; readonly node: null; readonly call: Exclude<Call, NodeCall> }
  | { readonly sender: null; readonly node: Membership; readonly call: NodeCall };

function checkTimes({ now, params }: Where, { validUntilMs }: TransactionBody): Verdict {
  if (validUntilMs < now) return refuse('TX_EXPIRED', `by ${now - validUntilMs} ms`);
  // Block time may be behind the sender's clock by the drift that consensus allows.
  const maxMs = params.txValidityMs + params.maxClockDriftMs;
  return validUntilMs - now <= maxMs ? OK : refuse('TX_VALIDITY_TOO_LONG', `${validUntilMs - now} ms of ${maxMs} ms`);
}

/** The sender, if the transaction may execute as far as its envelope goes. */
export function checkEnvelope(where: Where, { signed, body }: DecodedTransaction): Verdict<Sender> {
  if (body.version !== 1) return refuse('UNSUPPORTED_VERSION', `${body.version}`);
  if (!equalBytes(body.chainId, where.chainId)) return refuse('CHAIN_ID_MISMATCH');
  const times = checkTimes(where, body);
  if (!times.ok) return times;
  const { call } = body;
  return isNodeCall(call) ? checkNode(where, signed, body, call) : checkAccount(where, signed, body, call);
}

function checkAccount(
  { state }: Where,
  signed: SignedTransaction,
  body: TransactionBody,
  call: Exclude<Call, NodeCall>,
): Verdict<Sender> {
  const sender = accountOf(state, body.account);
  if (sender === undefined) return refuse('ACCOUNT_UNKNOWN');
  if (!equalBytes(sender.publicKey, signed.publicKey)) return refuse('KEY_NOT_CURRENT');
  if (isReplay(state, body)) return refuse('TX_REPLAYED');
  // Or else an administrator could suspend an account and then take it over in peace.
  if (call.kind === 'account.vetoRecovery') return accept({ sender, node: null, call });
  if (sender.status !== 'active') return refuse('ACCOUNT_SUSPENDED');
  if (organisationOf(state, sender.orgId)?.status !== 'active') return refuse('ORG_SUSPENDED', sender.orgId);
  return accept({ sender, node: null, call });
}

/** A validator or an observer, by the key that the chain knows it by now: keys of nodes are never those of accounts. */
function checkNode(
  { state }: Where,
  signed: SignedTransaction,
  body: TransactionBody,
  call: NodeCall,
): Verdict<Sender> {
  const node = membershipOf(state, body.account);
  if (node === undefined) return refuse('NODE_UNKNOWN');
  if (!equalBytes(node.member.publicKey, signed.publicKey)) return refuse('KEY_NOT_CURRENT');
  if (isReplay(state, body)) return refuse('TX_REPLAYED');
  const { orgId } = node.member;
  if (organisationOf(state, orgId)?.status !== 'active') return refuse('ORG_SUSPENDED', orgId);
  return accept({ sender: null, node, call });
}

/**
 * Leaving a view and entering the next: view changes with the prepared certificate of the sender, the new-view that a
 * quorum of them justifies, and what it obliges the leader to propose. Steps in brackets: docs/protocol.md.
 */
import { bytesToHex } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import type { View } from '../common/protocol/primitives.ts';
import type { NewView, PreparedCertificate, Signed, ViewChange, ViewChangeProof } from './messages.ts';
import { onPrePrepare } from './ordering.ts';
import {
  emit,
  emptyView,
  type HeightState,
  isLeader,
  leaderOfView,
  mayVote,
  persist,
  refuse,
  type ReplicaState,
} from './state.ts';
import { bodiesOf } from './safety-record.ts';
import type { Report, Verified } from './types.ts';

type Reason = Extract<Report, { readonly kind: 'enteredView' }>['reason'];

/**
 * [V1] Gives up the views below `target`: from here on this replica votes in none of them, which is durable before
 * the view change leaves.
 */
export function startViewChange(state: ReplicaState, target: View, reason: Reason): void {
  const height = state.current;
  if (!mayVote(state) || height.mode === 'committing') return;
  // More than f faulty validators can bring a replica to the last view that there is. It stays there, and runs.
  if (!Number.isSafeInteger(target)) return;
  assert(target > height.view, 'views only grow');
  leaveView(height, target, 'viewChange');
  persist(state, { ...height.record, view: target }, null);
  announceViewChange(state);
  reportView(state, reason);
}

/** The same words each time, before and after a restart: the record holds all that they are made of. */
export function announceViewChange(state: ReplicaState): void {
  const { height, view, record } = state.current;
  emit(state, { kind: 'broadcast', message: { kind: 'viewChange', height, view, prepared: record.prepared } });
}

/** [V2] Of each validator the view change for the highest view counts, and only that one is kept. */
export function onViewChange(state: ReplicaState, message: Verified<Signed<ViewChange>>): void {
  const { viewChanges } = state.current;
  const known = viewChanges.get(message.validator);
  if (known === undefined || known.body.view < message.body.view) viewChanges.set(message.validator, message);
}

/**
 * [V6] Joins the highest view that enough others have reached: one of them at least is honest, so that nobody's
 * invented view is followed, however large.
 */
export function join(state: ReplicaState): boolean {
  const height = state.current;
  if (!mayVote(state) || height.mode === 'committing') return false;
  const views: View[] = [];
  for (const [validator, { body }] of height.viewChanges) if (validator !== height.members.self) views.push(body.view);
  views.sort((a, b) => b - a);
  const reached = views[height.members.joinCount - 1];
  if (reached === undefined || reached <= height.view) return false;
  startViewChange(state, reached, 'join');
  return true;
}

/** [V3] The leader of the view that is asked for begins it, once a quorum asks for exactly that view. */
export function beginNewView(state: ReplicaState): boolean {
  const height = state.current;
  if (height.mode !== 'viewChange' || !isLeader(state)) return false;
  const viewChanges: ViewChangeProof[] = [];
  for (let validator = 0; validator < height.members.count; validator += 1) {
    const message = height.viewChanges.get(validator);
    if (message?.body.view !== height.view) continue;
    viewChanges.push({ validator, prepared: message.body.prepared, signature: message.signature });
  }
  if (viewChanges.length < height.members.quorum) return false;
  const { height: at, view } = height;
  emit(state, { kind: 'broadcast', message: { kind: 'newView', height: at, view, viewChanges } });
  enterView(state, view, mandateOf(viewChanges), null);
  return true;
}

/**
 * [V4] A backup enters the view of a new-view from that view's leader. That a quorum of view changes for this very
 * height and view stands behind it was verified; what they oblige the leader to, each backup works out itself [V5].
 */
export function onNewView(state: ReplicaState, message: Verified<Signed<NewView>>): void {
  const height = state.current;
  const { view, viewChanges } = message.body;
  if (leaderOfView(height, view) !== message.validator) return refuse(state, message, 'NOT_THE_LEADER');
  if (view < height.view) return;
  if (view === height.view && height.mode === 'normal') {
    const { current } = height;
    if (current.newView === null) current.newView = message;
    // A leader that restarted may justify its view anew. What was accepted stands; what was not, follows the leader.
    if (current.proposal !== null || message.validator === height.members.self) return;
    current.newView = message;
    current.mandate = mandateOf(viewChanges);
    return;
  }
  enterView(state, view, mandateOf(viewChanges), message);
}

/**
 * [V5] What a new-view obliges its leader to propose: the block that was prepared in the highest view. Two different
 * ones of the same view would need more than f faulty validators; then the one of the lowest index is as good as any.
 */
export function mandateOf(
  viewChanges: readonly { readonly prepared: PreparedCertificate | null }[],
): PreparedCertificate | null {
  let highest: PreparedCertificate | null = null;
  for (const { prepared } of viewChanges) {
    if (prepared !== null && (highest === null || prepared.view > highest.view)) highest = prepared;
  }
  return highest;
}

function enterView(
  state: ReplicaState,
  view: View,
  mandate: PreparedCertificate | null,
  newView: Signed<NewView> | null,
): void {
  const height = state.current;
  const early = height.earlyPrePrepares.get(view);
  leaveView(height, view, 'normal');
  height.current.mandate = mandate;
  height.current.newView = newView;
  height.earlyPrePrepares.delete(view);
  reportView(state, 'newView');
  if (early !== undefined) onPrePrepare(state, early);
}

function leaveView(height: HeightState, view: View, mode: 'normal' | 'viewChange'): void {
  height.view = view;
  height.mode = mode;
  height.current = emptyView();
  height.prepares.dropBelow(view);
  for (const early of height.earlyPrePrepares.keys()) if (early < view) height.earlyPrePrepares.delete(early);
  keepPromisedBlocks(height);
}

/** Of the bodies, those stay that were voted for, prepared or certified; others come again with their pre-prepare. */
function keepPromisedBlocks(height: HeightState): void {
  const needed = new Set(bodiesOf(height.record).map(bytesToHex));
  if (height.certified !== null) needed.add(bytesToHex(height.certified.digest));
  for (const hash of height.blocks.keys()) if (!needed.has(hash)) height.blocks.delete(hash);
}

function reportView(state: ReplicaState, reason: Reason): void {
  const { height, view } = state.current;
  emit(state, { kind: 'report', report: { kind: 'enteredView', height, view, reason } });
}

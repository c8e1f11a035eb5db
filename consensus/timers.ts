/**
 * Timers: when the view timer runs, for how long, and the regular tick. Whether it should run is derived from the
 * state after each step, so that no rule can forget to start or stop it [T1-T4].
 */
import type { View } from '../common/protocol/primitives.ts';
import { emit, mayVote, type ReplicaState } from './state.ts';
import type { ConsensusParams, TimerName } from './types.ts';

/** Status goes out, and what is unanswered is sent again, this often [S1]. Local: no two nodes need to agree on it. */
export const RETRANSMIT_MS = 1_000;
/** [S1] A new head is announced when this replica has voted on no block after it for this long. Local, too. */
export const ANNOUNCE_MS = 100;

/** [T2] Doubles with each view up to the cap; the next height starts from the first view, and so from the base again. */
export function viewTimeoutMs(view: View, params: ConsensusParams): number {
  const doublings = Math.min(view, 30);
  return Math.max(1, Math.min(params.viewTimeoutCapMs, params.viewTimeoutMs * 2 ** doublings));
}

export function startTimer(state: ReplicaState, timer: TimerName, afterMs: number, purpose: string): void {
  state.lastToken += 1;
  state.timers.set(timer, { token: state.lastToken, purpose });
  emit(state, { kind: 'setTimer', timer, token: state.lastToken, afterMs });
}

/** Whether this firing is of the timer that runs; if so it runs no more. */
export function takeTimer(state: ReplicaState, timer: TimerName, token: number): boolean {
  if (state.timers.get(timer)?.token !== token) return false;
  state.timers.delete(timer);
  return true;
}

/** [T1] One timer for each (height, view, mode): entering another restarts it, staying does not. */
export function refreshViewTimer(state: ReplicaState): void {
  const { height, view, mode } = state.current;
  const wanted = viewTimerWanted(state) ? `${height}/${view}/${mode}` : null;
  const running = state.timers.get('view')?.purpose ?? null;
  if (wanted === running) return;
  if (wanted !== null) {
    startTimer(state, 'view', viewTimeoutMs(view, state.params), wanted);
  } else {
    state.timers.delete('view');
    emit(state, { kind: 'cancelTimer', timer: 'view' });
  }
}

function viewTimerWanted(state: ReplicaState): boolean {
  if (!mayVote(state)) return false;
  const height = state.current;
  switch (height.mode) {
    case 'committing':
      return false;
    // [T3] Alone in a view change, a replica waits: running ahead would only make it harder to meet again.
    case 'viewChange':
      return viewsReached(state) >= height.members.quorum;
    // [T1] An idle chain runs no timer; a block that is due or under way does. Votes of a view that was left do not: when
    // f + 1 prepared, the prepared block is mandated, and what fewer prepared nobody has decided.
    case 'normal':
      return (
        state.due ||
        height.current.proposal !== null ||
        height.current.mandate !== null ||
        height.record.prepared !== null
      );
  }
}

/** How many validators asked for this view or a higher one. */
function viewsReached(state: ReplicaState): number {
  let count = 0;
  for (const { body } of state.current.viewChanges.values()) if (body.view >= state.current.view) count += 1;
  return count;
}

/** What commands that submit a transaction have in common. */
import type { Call } from '../../common/protocol/transaction.ts';
import { hexOf } from '../hex.ts';
import { type Committed, execute } from '../transactions.ts';
import { time } from '../text.ts';
import type { Session } from './session.ts';

/** Signs as the session's key, submits, waits. */
export async function submitCall(session: Session, call: Call, sidecar: Uint8Array | null = null): Promise<Committed> {
  const [view, sender] = [await session.view(), await session.sender()];
  const committed = await execute(view, sender, call, { ...session.submitOptions(), sidecar });
  session.out.progressDone();
  if (!committed.proven) session.out.note('note: the node did not show the proof of the commit; this is its word.');
  return committed;
}

export const txView = (committed: Committed) => ({
  hash: hexOf(committed.hash),
  height: committed.height,
  timestampMs: committed.timestampMs,
  proven: committed.proven,
});

export const txFields = (committed: Committed): readonly (readonly [string, string | number | null])[] => [
  ['transaction', hexOf(committed.hash)],
  [
    'block',
    committed.timestampMs === 0 ? `${committed.height}` : `${committed.height}, ${time(committed.timestampMs)}`,
  ],
];

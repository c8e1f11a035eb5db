/** What a node says of its own trouble, as lines for a person at a terminal. */
import type { ResultOf } from '../../rpc/methods.ts';
import { clean, duration, time } from '../text.ts';

type Status = ResultOf<'node_status'>;
type Alarm = Status['warnings'][number];

/** The stall and the warnings of a status: what, since when, who, and what to do. Empty when all is well. */
export function alarmLines({ stalledReason, warnings }: Pick<Status, 'stalledReason' | 'warnings'>): readonly string[] {
  return [
    ...(stalledReason === null ? [] : alarm('stalled', stalledReason)),
    ...warnings.flatMap((warning) => alarm('warning', warning)),
  ];
}

function alarm(kind: string, { code, message, action, sinceMs, missing }: Alarm): readonly string[] {
  return [
    '',
    `${kind}: ${clean(code)}, since ${time(sinceMs)}`,
    `  ${clean(message)}`,
    ...missing.map(({ orgId, connected, lastSeenMs }) => {
      const heard = lastSeenMs === null ? 'not heard since the node started' : `last heard ${ago(lastSeenMs)}`;
      return `  - ${clean(orgId)}: ${connected ? 'connected' : 'not connected'}, ${heard}`;
    }),
    `  ${clean(action)}`,
    `  docs/runbook.md: ${clean(code)}`,
  ];
}

const ago = (ms: number): string => `${duration(Date.now() - ms)} ago`;

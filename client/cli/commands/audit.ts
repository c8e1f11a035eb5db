/** `emrchain audit`: what happened to a record, in order. */
import type { ResultOf } from '../../../rpc/methods.ts';
import { hexOf, parseId } from '../../hex.ts';
import { clean, table, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import { gather, moreLine, parseLimit } from '../paging.ts';
import type { Session } from '../session.ts';

type Item = ResultOf<'acl_getAuditTrail'>['items'][number];

const row = ({ timestampMs, height, event }: Item): readonly string[] => [
  time(timestampMs),
  `${height}`,
  clean(event.type),
  clean(event.detail ?? ''),
  event.actor ?? 'time',
  clean(event.orgId ?? ''),
  event.requestHash ?? '',
];

async function audit(session: Session, options: { limit?: string }, id: string): Promise<Result> {
  const { rpc } = await session.view();
  const recordId = hexOf(parseId(id, 32, 'record'));
  const { items, more } = await gather(parseLimit(options.limit), (query) =>
    rpc.call('acl_getAuditTrail', { recordId, ...query }),
  );
  return {
    json: items.map(({ event, ...where }) => ({ ...event, ...where })),
    text:
      items.length === 0
        ? ['Nothing that you may see.']
        : [...table([['WHEN', 'BLOCK', 'WHAT', '', 'BY', 'OF', 'REQUEST'], ...items.map(row)]), ...moreLine(more)],
  };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .argument('<record>')
      .description('what happened to a record: who asked, approved, denied, revoked, and when')
      .option('--limit <n>', 'at most so many lines')
      .action(run(audit));
  },
};

/** `emrchain audit`: what happened to a record, in order. */
import { hexOf, parseId } from '../../hex.ts';
import { table, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import { gather, moreLine, parseLimit } from '../paging.ts';
import type { Session } from '../session.ts';
import { eventLine } from './chain.ts';

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
        : [
            ...table(items.map((item) => [time(item.timestampMs), `block ${item.height}`, eventLine(item.event)])),
            ...moreLine(more),
          ],
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

/** The driver of a node's custodian, out of the node's parts. */
import type { OrgId } from '../../common/protocol/primitives.ts';
import { CustodyDriver } from '../custody/custody-driver.ts';
import type { OwnCustodian } from '../custody/own-custodian.ts';
import type { Log } from '../log.ts';
import type { EmrNode } from '../node.ts';

/** Hears of the node's blocks from now on. @param failed as `onFatal` of the node */
export function driveCustody(
  node: EmrNode,
  of: { readonly orgId: OrgId; readonly own: OwnCustodian; readonly log: Log; failed(error: unknown): void },
): CustodyDriver {
  const { clock, executor, calls, custody: notes, syncer, membership } = node;
  const { orgId, own, log } = of;
  const driver = new CustodyDriver({
    orgId,
    clock,
    log,
    executor,
    calls,
    own,
    notes,
    isSyncing: () => syncer.syncing,
    isMember: () => membership.isMember,
    failed: (error) => of.failed(error),
  });
  node.onCommitted(({ block }) => driver.committed(block.txs));
  return driver;
}

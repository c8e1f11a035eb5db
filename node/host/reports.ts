/** What the core reports, in words for the log. Nothing here decides anything. */
import { unreachable } from '../../common/errors.ts';
import type { Report } from '../../consensus/types.ts';
import type { Log } from '../log.ts';

export function logReport(log: Log, report: Report): void {
  switch (report.kind) {
    case 'phase':
      return;
    case 'enteredView':
      log.info({ height: report.height, view: report.view, reason: report.reason }, 'entered a view');
      return;
    case 'refused':
      log.warn({ ...report }, 'a validator broke a rule of the protocol');
      return;
    case 'evidence': {
      const { validator, vote, height, view } = report.equivocation;
      log.error({ validator, vote, height, view }, 'a validator signed two votes that conflict');
      return;
    }
    case 'keyInUse':
      log.error(
        { height: report.height, view: report.view },
        "another process signs with this node's key; this node does not vote until it is started again",
      );
      return;
    default:
      unreachable(report);
  }
}

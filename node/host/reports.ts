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
      if (report.abstainThrough === null)
        log.error(
          {},
          'another process is running with the key of this node, which does not vote until it is started again',
        );
      else
        log.error(
          { abstainThrough: report.abstainThrough },
          'the key of this node has signed what its database does not know: it does not vote up to this height',
        );
      return;
    default:
      unreachable(report);
  }
}

/** What is known of the own custodian: status and alarms take it from here, so that they say the same. */
import type { CustodianAnswer } from '../../common/protocol/release.ts';
import type { CustodianStatus } from '../../rpc/ports.ts';

const UNREACHABLE: ReadonlySet<string> = new Set(['CUSTODIAN_UNAVAILABLE', 'CUSTODIAN_TIMEOUT', 'CUSTODIAN_PROTOCOL']);

const BLANK = { waitsFor: null, code: null, message: null } as const;

export class CustodyNotes {
  #status: CustodianStatus = { state: 'unknown', ...BLANK };

  get status(): CustodianStatus {
    return this.#status;
  }

  /** What the operator should look at; null where all is well. */
  get concern(): string | null {
    const { state, waitsFor, message } = this.#status;
    if (state === 'unreachable') return `Keys are released without this hospital: ${message}.`;
    if (state === 'refuses') return `The custodian does not take what its node shows it: ${message}.`;
    return waitsFor;
  }

  noCustodian(): void {
    this.#status = { state: 'none', ...BLANK };
  }

  /** @returns whether it is something else than before */
  note(answer: CustodianAnswer): boolean {
    const before = this.#status;
    this.#status = statusOf(answer);
    const { state, waitsFor, code } = this.#status;
    return state !== before.state || waitsFor !== before.waitsFor || code !== before.code;
  }
}

function statusOf(answer: CustodianAnswer): CustodianStatus {
  if (answer.kind === 'steps') return { ...BLANK, state: 'answers', waitsFor: answer.waitsFor };
  if (answer.kind !== 'refused') return { ...BLANK, state: 'answers' };
  const { code, message } = answer;
  return { state: UNREACHABLE.has(code) ? 'unreachable' : 'refuses', waitsFor: null, code, message };
}

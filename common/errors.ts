/**
 * The three kinds of failure, which never mix:
 *   - an invariant broke (a bug, or a disk that lies): `InvariantError`; the process stops loudly;
 *   - an operation failed: `EmrError`, with a stable code, typed detail and cause;
 *   - untrusted input was bad: a returned `Verdict`, never a throw.
 */

/** What a check of untrusted input answers. `code` is stable and documented; `message` is for people. */
export type Verdict<T = undefined> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly code: string; readonly message: string };

export function accept<T>(value: T): Verdict<T> {
  return { ok: true, value };
}

export function reject(code: string, message: string): { ok: false; code: string; message: string } {
  return { ok: false, code, message };
}

export type ErrorDetail = Readonly<Record<string, string | number | boolean | null>>;

/** An operation failed. Callers switch on `code`; `message` says what happened and what to do next. */
export class EmrError extends Error {
  readonly code: string;
  readonly detail: ErrorDetail;

  constructor(code: string, message: string, detail: ErrorDetail = {}, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'EmrError';
    this.code = code;
    this.detail = detail;
  }
}

/** A bug in this program or a broken promise of the machine under it. Never caught to go on. */
export class InvariantError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'InvariantError';
  }
}

export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** For the default arm of a switch over a union: the compiler proves that it cannot be reached. */
export function unreachable(value: never): never {
  throw new InvariantError(`unreachable variant: ${JSON.stringify((value as { kind?: string } | null)?.kind)}`);
}

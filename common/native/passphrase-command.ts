/**
 * A passphrase from a program of the operator's: a client of a key management service, or a tool for a PKCS #11 device. It is
 * run once, without a shell, and what it prints is the passphrase and nothing else.
 *
 * DANGER: what it prints is never shown, not even when it fails. Its stderr is this process's own, so that a person sees why.
 */
import { spawn } from 'node:child_process';
import { isAbsolute } from 'node:path';
import { EmrError } from '../errors.ts';

/** Program with its arguments, as a JSON list. */
export const PASSPHRASE_COMMAND_VARIABLE = 'EMRCHAIN_PASSPHRASE_COMMAND';

/** A device may ask somebody to touch it; a service that hangs must not keep a node from saying so. */
export const PASSPHRASE_COMMAND_TIMEOUT_MS = 60_000;
/** The list, as it stands in the environment. */
const MAX_COMMAND_CHARACTERS = 8 * 1024;

/**
 * @param text such as `["/usr/bin/pkcs11-tool","--module","/usr/lib/hsm.so","--read-object"]`
 * @throws EmrError PASSPHRASE_COMMAND_INVALID unless it is a JSON list of texts, the first an absolute path
 */
export function passphraseCommand(text: string): readonly [string, ...string[]] {
  let value: unknown;
  try {
    value = text.length > MAX_COMMAND_CHARACTERS ? undefined : JSON.parse(text);
  } catch {
    value = undefined;
  }
  const isList = Array.isArray(value) && value.every((part) => typeof part === 'string' && !part.includes('\0'));
  const [program, ...args] = isList ? (value as string[]) : [];
  if (program !== undefined && isAbsolute(program)) return [program, ...args];
  throw new EmrError(
    'PASSPHRASE_COMMAND_INVALID',
    `${PASSPHRASE_COMMAND_VARIABLE} is no JSON list of texts that begins with the absolute path of a program.`,
  );
}

/**
 * Runs it to its end.
 * @param maxBytes of its output; more ends it
 * @returns what it printed; the caller erases it
 * @throws EmrError PASSPHRASE_COMMAND_FAILED (cannot be started, or did not end with 0), PASSPHRASE_COMMAND_TIMEOUT,
 *   PASSPHRASE_COMMAND_OUTPUT
 */
export function runPassphraseCommand(
  [program, ...args]: readonly [string, ...string[]],
  maxBytes: number,
  timeoutMs: number = PASSPHRASE_COMMAND_TIMEOUT_MS,
): Promise<Uint8Array> {
  const output = new Uint8Array(maxBytes);
  let filled = 0;
  return new Promise<Uint8Array>((resolve, refuse) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], shell: false, windowsHide: true });
    let failure: EmrError | undefined;
    const end = (code: string, message: string, cause?: unknown): void => {
      failure ??= new EmrError(code, `${program} ${message}.`, { program }, { cause });
      child.kill('SIGKILL');
      // What it has started in turn may hold the pipe open.
      child.stdout.destroy();
    };
    const timer = setTimeout(
      () => end('PASSPHRASE_COMMAND_TIMEOUT', `gave no passphrase within ${timeoutMs / 1000} s, and was ended`),
      timeoutMs,
    );
    child.stdout.on('data', (chunk: Buffer) => {
      const fits = filled + chunk.length <= maxBytes;
      if (fits) output.set(chunk, filled);
      filled += fits ? chunk.length : 0;
      chunk.fill(0);
      if (!fits) end('PASSPHRASE_COMMAND_OUTPUT', `printed more than the ${maxBytes} bytes that a passphrase can have`);
    });
    child.on('error', (cause) => end('PASSPHRASE_COMMAND_FAILED', 'cannot be started', cause));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (failure === undefined && code !== 0) end('PASSPHRASE_COMMAND_FAILED', `ended with ${signal ?? code}`);
      if (failure === undefined) return resolve(output.subarray(0, filled));
      output.fill(0);
      refuse(failure);
    });
  });
}

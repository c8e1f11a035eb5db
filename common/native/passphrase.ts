/**
 * Where passphrases come from: a terminal without echo, a file descriptor, or a file or a program that an environment variable
 * names. Never the command line nor an environment variable itself: both are shown to every process of the machine or
 * inherited by children.
 */

import { read } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { parseUtf8, utf8 } from '../bytes.ts';
import { EmrError } from '../errors.ts';
import { PASSPHRASE_COMMAND_VARIABLE, passphraseCommand, runPassphraseCommand } from './passphrase-command.ts';
import { readSecretFile } from './secret-file.ts';

/** Names a file that holds the passphrase in its first line, mode 0600. */
export const PASSPHRASE_FILE_VARIABLE = 'EMRCHAIN_PASSPHRASE_FILE';

/** For new secrets. Length is what a passphrase has to offer; scrypt makes each guess dear. */
export const MIN_PASSPHRASE_CHARACTERS = 8;
/** Far beyond what anybody types; a file of another kind is refused instead of being read in full. */
export const MAX_PASSPHRASE_BYTES = 1024;

export type PassphraseSource =
  | { readonly kind: 'prompt' }
  | { readonly kind: 'descriptor'; readonly descriptor: number }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'command'; readonly command: readonly [string, ...string[]] };

/** What a terminal must offer; `process.stdin` and `process.stderr` do. */
export interface Terminal {
  readonly input: NodeJS.ReadableStream & { isTTY?: boolean; setRawMode?: (raw: boolean) => unknown };
  readonly output: NodeJS.WritableStream;
}

const processTerminal = (): Terminal => ({ input: process.stdin, output: process.stderr });

/**
 * The descriptor when one is given, else the file or the program of the environment, else the terminal.
 * @throws EmrError PASSPHRASE_TWO_SOURCES, PASSPHRASE_COMMAND_INVALID
 */
export function choosePassphraseSource(
  descriptor: number | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): PassphraseSource {
  if (descriptor !== undefined) return { kind: 'descriptor', descriptor };
  const path = environment[PASSPHRASE_FILE_VARIABLE] ?? '';
  const command = environment[PASSPHRASE_COMMAND_VARIABLE] ?? '';
  if (path !== '' && command !== '') {
    const message = `Both ${PASSPHRASE_FILE_VARIABLE} and ${PASSPHRASE_COMMAND_VARIABLE} are set: which one is meant?`;
    throw new EmrError('PASSPHRASE_TWO_SOURCES', message);
  }
  if (command !== '') return { kind: 'command', command: passphraseCommand(command) };
  return path === '' ? { kind: 'prompt' } : { kind: 'file', path };
}

export interface PassphraseRequest {
  /** Shown before the input, without colon. */
  readonly prompt: string;
  /** For a new secret: asks twice at a terminal, and refuses short ones. */
  readonly fresh?: boolean;
  readonly terminal?: Terminal;
}

/**
 * @returns the passphrase as UTF-8 of its NFKC form, so that one phrase from two keyboards is one; erase it after use
 * @throws EmrError PASSPHRASE_EMPTY, PASSPHRASE_TOO_SHORT, PASSPHRASE_TOO_LONG, PASSPHRASE_MALFORMED,
 *   PASSPHRASE_MISMATCH, PASSPHRASE_CANCELLED, PASSPHRASE_NO_TERMINAL, PASSPHRASE_UNREADABLE, PASSPHRASE_COMMAND_…, and those
 *   of secret files
 */
export async function readPassphrase(source: PassphraseSource, request: PassphraseRequest): Promise<Uint8Array> {
  const text = await readText(source, request);
  if (text === '') throw new EmrError('PASSPHRASE_EMPTY', 'The passphrase is empty.');
  if (request.fresh === true && [...text].length < MIN_PASSPHRASE_CHARACTERS) {
    throw new EmrError('PASSPHRASE_TOO_SHORT', `A passphrase has at least ${MIN_PASSPHRASE_CHARACTERS} characters.`);
  }
  const bytes = utf8(text.normalize('NFKC'));
  if (bytes.length > MAX_PASSPHRASE_BYTES) throw tooLong();
  return bytes;
}

async function readText(source: PassphraseSource, request: PassphraseRequest): Promise<string> {
  switch (source.kind) {
    case 'file':
      return firstLine(await readSecretFile(source.path, MAX_PASSPHRASE_BYTES + 2));
    case 'command':
      return firstLine(await runPassphraseCommand(source.command, MAX_PASSPHRASE_BYTES + 2));
    case 'descriptor':
      return firstLine(await readDescriptor(source.descriptor));
    case 'prompt': {
      const terminal = request.terminal ?? processTerminal();
      const first = await prompt(terminal, request.prompt);
      if (request.fresh === true && (await prompt(terminal, `${request.prompt} (again)`)) !== first) {
        throw new EmrError('PASSPHRASE_MISMATCH', 'The two passphrases differ.');
      }
      return first;
    }
  }
}

const tooLong = (): EmrError =>
  new EmrError('PASSPHRASE_TOO_LONG', `A passphrase has at most ${MAX_PASSPHRASE_BYTES} bytes.`);

function firstLine(bytes: Uint8Array): string {
  const end = bytes.indexOf(0x0a);
  const line = parseUtf8(end < 0 ? bytes : bytes.subarray(0, end));
  bytes.fill(0);
  if (line === undefined) throw new EmrError('PASSPHRASE_MALFORMED', 'The passphrase is not UTF-8 text.');
  return line.endsWith('\r') ? line.slice(0, -1) : line;
}

/** The first line of a descriptor, which stays open: it is the caller's. */
async function readDescriptor(descriptor: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(MAX_PASSPHRASE_BYTES + 3);
  let filled = 0;
  while (filled < buffer.length) {
    const bytesRead = await readSome(descriptor, buffer, filled);
    filled += bytesRead;
    if (bytesRead === 0 || buffer.subarray(filled - bytesRead, filled).includes(0x0a))
      return buffer.subarray(0, filled);
  }
  buffer.fill(0);
  throw tooLong();
}

function readSome(descriptor: number, buffer: Uint8Array, offset: number): Promise<number> {
  return new Promise((resolve, refuse) => {
    const failed = (cause: unknown): void => {
      const message = `Cannot read the passphrase from descriptor ${descriptor}.`;
      refuse(new EmrError('PASSPHRASE_UNREADABLE', message, { descriptor }, { cause }));
    };
    try {
      read(descriptor, buffer, offset, buffer.length - offset, null, (error, bytesRead) => {
        if (error === null) resolve(bytesRead);
        else failed(error);
      });
    } catch (cause) {
      // A descriptor that is no number of a file at all.
      failed(cause);
    }
  });
}

const ENTER = ['\r', '\n'];
const INTERRUPT = '\u0003';
const END_OF_INPUT = '\u0004';
const ERASE = ['\u007f', '\b'];
const ERASE_LINE = '\u0015';
const ESCAPE = '\u001b';

/** One line from a terminal in raw mode, so that nothing is echoed; the mode is restored whatever happens. */
async function prompt(terminal: Terminal, label: string): Promise<string> {
  const { input, output } = terminal;
  if (input.isTTY !== true || typeof input.setRawMode !== 'function') {
    const message =
      'There is no terminal to ask for the passphrase at. Give a file descriptor, or name a file of mode 0600 in ' +
      `${PASSPHRASE_FILE_VARIABLE}, or a program in ${PASSPHRASE_COMMAND_VARIABLE}.`;
    throw new EmrError('PASSPHRASE_NO_TERMINAL', message);
  }
  output.write(`${label}: `);
  input.setRawMode(true);
  let stop: () => void = () => undefined;
  try {
    return await new Promise<string>((resolve, refuse) => {
      const decoder = new StringDecoder('utf8');
      let line: string[] = [];
      const onData = (data: Buffer | string): void => {
        const text = typeof data === 'string' ? data : decoder.write(data);
        // Arrow and function keys come as one sequence that begins with ESC.
        if (text.startsWith(ESCAPE)) return;
        for (const character of text) {
          if (ENTER.includes(character)) return resolve(line.join(''));
          if (character === INTERRUPT || character === END_OF_INPUT) return refuse(cancelled());
          if (ERASE.includes(character)) line.pop();
          else if (character === ERASE_LINE) line = [];
          else if (character >= ' ') line.push(character);
          if (line.length > MAX_PASSPHRASE_BYTES) return refuse(tooLong());
        }
      };
      const onEnd = (): void => refuse(cancelled());
      input.on('data', onData);
      input.on('end', onEnd);
      stop = () => {
        input.off('data', onData);
        input.off('end', onEnd);
      };
      input.resume();
    });
  } finally {
    stop();
    input.pause();
    input.setRawMode(false);
    output.write('\n');
  }
}

const cancelled = (): EmrError => new EmrError('PASSPHRASE_CANCELLED', 'No passphrase was given.');

/**
 * The reference of all commands, made from the commands themselves. docs/cli.md has it below its mark; a test holds the
 * two together. `node client/cli/reference.ts` writes it anew.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { buildCommand, createProgram } from './command-line.ts';

export const REFERENCE_FILE = join(import.meta.dirname, '..', '..', 'docs', 'cli.md');
export const REFERENCE_MARK = '<!-- Below: made by `node client/cli/reference.ts` from the commands. -->';

function optionLines(command: Command): string[] {
  return command.options.map((option) => {
    const given = option.defaultValue as string | undefined;
    const note = option.mandatory ? ' (needed)' : given === undefined ? '' : ` (default: ${given})`;
    return `  ${option.flags.padEnd(28)} ${option.description}${note}`;
  });
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}

const argumentText = (command: Command): string =>
  command.registeredArguments
    .map((argument) => {
      const name = `${argument.name()}${argument.variadic ? '...' : ''}`;
      return argument.required ? ` <${name}>` : ` [${name}]`;
    })
    .join('');

function section(command: Command): string[] {
  if (command.commands.length > 0) return command.commands.flatMap(section);
  return [`${fullName(command)}${argumentText(command)}`, `    ${command.description()}`, ...optionLines(command), ''];
}

/** The generated part of docs/cli.md. */
export async function renderReference(): Promise<string> {
  const program = createProgram({ environment: {} }, () => undefined);
  const parts = ['## Every command takes', '', '```text', ...optionLines(program), '```', ''];
  const noAction = () => () => Promise.resolve();
  for (const command of program.commands) {
    await buildCommand(command, noAction);
    const lines = section(command);
    parts.push(`## ${command.name()}`, '', `${command.summary()}.`, '', '```text', ...lines.slice(0, -1), '```', '');
  }
  return `${parts.join('\n').trimEnd()}\n`;
}

if (import.meta.main) {
  const before = await readFile(REFERENCE_FILE, 'utf8');
  const head = before.slice(0, before.indexOf(REFERENCE_MARK) + REFERENCE_MARK.length);
  await writeFile(REFERENCE_FILE, `${head}\n\n${await renderReference()}`);
}

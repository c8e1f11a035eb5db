/**
 * The command `emrchain`: global options, the registry of commands, exit codes. 0 only on success, 1 when the command
 * failed, 2 when it was typed wrongly. What commands do is in commands/.
 */
import { Command, CommanderError } from 'commander';
import { ClientError } from '../errors.ts';
import type { Run } from './descriptor.ts';
import { Output } from './output.ts';
import { COMMANDS } from './registry.ts';
import { type GlobalOptions, type Invocation, Session } from './session.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const ABOUT = `Medical records on a consortium chain.

Every command takes the options below. Ids are 0x and hex; an account is also the name of a key of this home.
Durations are written 90s, 30m, 24h, 7d. Passphrases come from the terminal, from --passphrase-fd, from the file that
EMRCHAIN_PASSPHRASE_FILE names, or from the program in EMRCHAIN_PASSPHRASE_COMMAND;
never from the command line.`;

/** The whole program; `failed` is told what went wrong in an action. */
export function createProgram(invocation: Invocation, failed: (error: unknown, output: Output) => void): Command {
  const program = new Command('emrchain')
    .description(ABOUT)
    .option('--json', 'print one JSON value, and errors as {"error": {...}}')
    .option('--rpc <url>', 'the node (default http://127.0.0.1:8545, or EMRCHAIN_RPC)')
    .option('--as <key>', 'name of the key that signs and reads (default: the only one)')
    .option('--home <dir>', 'keys and known chains (default ~/.emrchain, or EMRCHAIN_HOME)')
    .option('--passphrase-fd <n>', 'read the passphrase from this descriptor')
    .option('--timeout <duration>', 'how long to wait for a commit, for replicas, for a revocation')
    .helpCommand(false)
    .exitOverride()
    .configureOutput(
      invocation.streams === undefined
        ? { writeErr: () => undefined }
        : { writeOut: (text) => void invocation.streams?.out.write(text), writeErr: () => undefined },
    );
  const run = makeRun(invocation, failed);
  for (const entry of COMMANDS) {
    program.command(entry.name).summary(entry.summary).description(entry.summary).copyInheritedSettings(program);
  }
  program.hook('preSubcommand', async (_program, command) => buildCommand(command, run));
  return program;
}

/** Fills in what the command's module says. */
export async function buildCommand(command: Command, run: Run): Promise<void> {
  const entry = COMMANDS.find(({ name }) => name === command.name());
  if (entry === undefined) return;
  const { descriptor } = await entry.load();
  descriptor.build(command, run);
}

function makeRun(invocation: Invocation, failed: (error: unknown, output: Output) => void): Run {
  return (action) =>
    async (...given) => {
      const command = given.at(-1) as Command;
      const args = given.slice(0, -2) as string[];
      const global = command.optsWithGlobals<GlobalOptions>();
      try {
        const session = new Session(global, invocation);
        const result = await action(session, global as never, ...args);
        session.out.progressDone();
        if (result !== undefined) session.out.result(result);
      } catch (error) {
        failed(error, new Output(global.json === true, invocation.streams));
      }
    };
}

/** `emrchain help X Y` is `emrchain X Y --help`. */
function withHelp(args: readonly string[]): readonly string[] {
  return args[0] === 'help' ? [...args.slice(1), '--help'] : args;
}

/** Runs one command line. @returns the exit code */
export async function main(args: readonly string[], invocation: Invocation): Promise<number> {
  let code = 0;
  const program = createProgram(invocation, (error, output) => {
    output.error(error);
    code = EXIT_FAILED;
  });
  try {
    await program.parseAsync([...withHelp(args)], { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) return usage(error, args, invocation);
    new Output(args.includes('--json'), invocation.streams).error(error);
    return EXIT_FAILED;
  }
  return code;
}

function usage(error: CommanderError, args: readonly string[], invocation: Invocation): number {
  if (error.exitCode === 0) return 0;
  const output = new Output(args.includes('--json'), invocation.streams);
  const named = args
    .filter((arg) => !arg.startsWith('-'))
    .slice(0, 2)
    .join(' ');
  const message =
    error.code === 'commander.help'
      ? 'A subcommand is missing.'
      : error.message.replace(/^error: /, '').replace(/\.?$/, '.');
  output.error(
    new ClientError(
      'USAGE',
      `${message[0]?.toUpperCase() ?? ''}${message.slice(1)}`,
      `emrchain help ${named} shows how it is typed.`.replace('  ', ' '),
    ),
  );
  return EXIT_USAGE;
}

/** What a command module exports, and what it gets: the plug between `main.ts` and the folders of commands. */
import type { Command } from 'commander';
import type { Result } from './output.ts';
import type { Session } from './session.ts';

/** Positional arguments as typed (undefined where optional and left out, a list for `[name...]`) and options by name. */
export type Action<O> = (session: Session, options: O, ...args: string[]) => Promise<Result | void>;

/** Wraps an action for commander: makes the session, prints the result, turns what is thrown into an exit code. */
export type Run = <O extends object>(action: Action<O>) => (...args: unknown[]) => Promise<void>;

/** One command of the first level. `build` adds arguments, options, subcommands and actions to `command`. */
export interface CommandDescriptor {
  build(command: Command, run: Run): void;
}

/** A module of `commands/`: exports this and nothing that runs when it is loaded. */
export interface CommandModule {
  readonly descriptor: CommandDescriptor;
}

/** `emrchain devnet`: a consortium on this machine. */
import type { CommandDescriptor } from '../descriptor.ts';
import { runProgram } from '../program.ts';

interface Options {
  readonly dir?: string;
  readonly hospitals: string;
  readonly rpcPort: string;
  readonly demo?: boolean;
  readonly exit?: boolean;
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .description('start a consortium of hospitals on this machine, each a process of its own')
      .option('--dir <dir>', 'keep it in this folder, and start it again from there (default: a temporary folder)')
      .option('--hospitals <n>', 'how many, 1 to 7', '4')
      .option('--rpc-port <port>', 'RPC port of the first; the others follow; 0 takes free ones', '8545')
      .option('--demo', 'share real records end to end, told step by step')
      .option('--exit', 'end after that, with 0 only if every step held')
      .action(
        run(async (_session, options: Options) => {
          process.exitCode = await runProgram('devnet', [
            ...(options.dir === undefined ? [] : ['--dir', options.dir]),
            '--hospitals',
            options.hospitals,
            '--rpc-port',
            options.rpcPort,
            ...(options.demo === true ? ['--demo'] : []),
            ...(options.exit === true ? ['--exit'] : []),
          ]);
        }),
      );
  },
};

/** `emrchain genesis`: one network out of the cards of its founders, and checking such a file. */
import type { CommandDescriptor } from '../descriptor.ts';
import { runProgram } from '../program.ts';

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('create <cards...>')
      .description("make genesis.yaml out of the members' cards; every member then gets this same file")
      .requiredOption('--network <name>', 'lower-case name of the network')
      .requiredOption('--out <file>', 'where to write it')
      .action(
        run(async (_session, o: { network: string; out: string }, ...cards: string[]) => {
          process.exitCode = await runProgram('init', [
            'genesis',
            '--network',
            o.network,
            '--out',
            o.out,
            ...cards.flat(),
          ]);
        }),
      );
    command
      .command('check <dir>')
      .description("check a hospital's folder: configuration, genesis, and whether its keys are in it")
      .action(
        run(async (_session, _options: object, dir) => {
          process.exitCode = await runProgram('init', ['check', '--dir', dir ?? '.']);
        }),
      );
  },
};

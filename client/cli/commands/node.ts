/** `emrchain node`: run the node of a hospital, and see how one is. */
import { alarmLines } from '../alarm-text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import { runProgram } from '../program.ts';
import type { Session } from '../session.ts';
import { clean, fields } from '../../text.ts';

async function status(session: Session): Promise<Result> {
  const { rpc } = await session.publicView();
  const found = await rpc.call('node_status', {});
  const { stalledReason, warnings, ...plain } = found;
  const said = Object.entries(plain).map(
    ([name, value]) => [name, value === null ? null : clean(String(value))] as const,
  );
  return { json: found, text: [...fields(said), ...alarmLines({ stalledReason, warnings })] };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('start')
      .description('run the node whose folder `emrchain init` made, until it is told to stop')
      .requiredOption('--dir <dir>', 'folder with config.yaml, genesis.yaml and keys/')
      .action(
        run(async (_session, options: { dir: string }) => {
          process.exitCode = await runProgram('node', ['--dir', options.dir]);
        }),
      );
    command
      .command('custodian')
      .description("run the custodian of the hospital's record keys, a process apart from the node")
      .requiredOption('--dir <dir>', 'folder with config.yaml, genesis.yaml and keys/custodian.json')
      .action(
        run(async (_session, options: { dir: string }) => {
          process.exitCode = await runProgram('custodian', ['--dir', options.dir]);
        }),
      );
    command
      .command('status')
      .description('height, view, leader; what stalls the chain, who is missing, and what to do')
      .action(run(status));
  },
};

/** `emrchain init`: the folder of a new hospital node; `emrchain genesis`: one network out of all members' cards. */
import type { CommandDescriptor } from '../descriptor.ts';
import { runProgram } from '../program.ts';

interface Options {
  readonly org: string;
  readonly dir: string;
  readonly name: string;
  readonly address: string;
  readonly listen?: string;
  readonly rpcPort?: string;
  readonly adminKey: string;
  readonly adminTag: string;
  readonly custodian: boolean;
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .description("make a hospital's folder: keys, config.yaml, and the card member.yaml for the other members")
      .requiredOption('--org <id>', 'short lower-case name, such as hospital-a')
      .requiredOption('--dir <dir>', 'where; keys are never overwritten')
      .requiredOption('--name <name>', 'the name that people read')
      .requiredOption('--address <multiaddr>', 'where the others dial: /dns4/HOST/tcp/7600 or /ip4/…/tcp/…')
      .option('--listen <multiaddr>', 'where the node listens (default: the address if it is an IP, else loopback)')
      .option('--rpc-port <port>', 'port of the JSON-RPC on loopback')
      .requiredOption('--admin-key <hex>', "public key of the first administrator: keys show's publicKey")
      .requiredOption('--admin-tag <hex>', "the administrator's person tag, 32 bytes: org token person LICENCE")
      .option('--no-custodian', 'run no custodian of record keys')
      .action(
        run(async (_session, o: Options) => {
          process.exitCode = await runProgram('init', [
            'hospital',
            ...['--org', o.org, '--dir', o.dir, '--name', o.name, '--address', o.address],
            ...['--admin-key', o.adminKey, '--admin-tag', o.adminTag],
            ...(o.listen === undefined ? [] : ['--listen', o.listen]),
            ...(o.rpcPort === undefined ? [] : ['--rpc-port', o.rpcPort]),
            ...(o.custodian ? [] : ['--no-custodian']),
          ]);
        }),
      );
  },
};

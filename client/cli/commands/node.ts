/** `emrchain node`: run the node of a hospital, and see how one is. */
import { alarmLines } from '../alarm-text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import { runProgram } from '../program.ts';
import type { Session } from '../session.ts';
import { ClientError } from '../../errors.ts';
import { hexOf, parseId } from '../../hex.ts';
import { genesisFile } from '../../network.ts';
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

interface JoinOptions {
  readonly org: string;
  readonly dir: string;
  readonly address: string;
  readonly listen?: string;
  readonly rpcPort?: string;
  readonly peer?: readonly string[];
  readonly replaces?: string;
  readonly custodian: boolean;
}

const UNSPECIFIED = /^\/ip4\/0\.0\.0\.0\/|^\/ip6\/::\//;

/** Where the members are dialled, as the node that is asked knows it. Members only are told. */
async function knownPeers(session: Session): Promise<string[]> {
  try {
    const { rpc } = await session.view();
    const [own, { peers }] = await Promise.all([rpc.call('net_info', {}), rpc.call('net_peers', {})]);
    const others = peers.flatMap(({ role, addresses }) => (role === 'validator' ? addresses.slice(0, 1) : []));
    const dialled = [...own.listenAddresses.filter((address) => !UNSPECIFIED.test(address)).slice(0, 1), ...others];
    if (dialled.length > 0) return dialled;
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
  }
  throw new ClientError(
    'PEERS_NEEDED',
    'The node does not say where the members are dialled.',
    'Give the address of one or more of them: --peer /dns4/HOST/tcp/7600/p2p/PEER-ID.',
  );
}

async function joinNetwork(session: Session, o: JoinOptions): Promise<void> {
  const { chainId } = await session.node();
  const peers = o.peer ?? (await knownPeers(session));
  process.exitCode = await runProgram('init', [
    'join',
    ...['--genesis', genesisFile(session.home, chainId)],
    ...['--org', o.org, '--dir', o.dir, '--address', o.address],
    ...peers.flatMap((peer) => ['--peer', peer]),
    ...(o.listen === undefined ? [] : ['--listen', o.listen]),
    ...(o.rpcPort === undefined ? [] : ['--rpc-port', o.rpcPort]),
    ...(o.replaces === undefined ? [] : ['--replaces', hexOf(parseId(o.replaces, 20, 'node'))]),
    ...(o.custodian ? [] : ['--no-custodian']),
  ]);
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
      .command('join')
      .description('make the folder of a node that joins this network by vote, with the card to be proposed')
      .requiredOption('--org <id>', 'organisation that runs it')
      .requiredOption('--dir <dir>', 'where; keys are never overwritten')
      .requiredOption('--address <multiaddr>', 'where the others dial: /dns4/HOST/tcp/7600 or /ip4/…/tcp/…')
      .option('--listen <multiaddr>', 'where the node listens (default: the address if it is an IP, else loopback)')
      .option('--rpc-port <port>', 'port of the JSON-RPC on loopback')
      .option('--peer <multiaddr...>', 'members to begin with (default: those that the node of --rpc tells)')
      .option('--replaces <address>', "node address of the organisation's node whose keys this one replaces")
      .option('--no-custodian', 'run no custodian of record keys')
      .action(run(joinNetwork));
    command
      .command('status')
      .description('height, view, leader; what stalls the chain, who is missing, and what to do')
      .action(run(status));
  },
};

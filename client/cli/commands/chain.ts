/** `emrchain chain`: blocks, transactions, validators, and whether all of it holds. */
import { readFile, writeFile } from 'node:fs/promises';
import { bytesToHex } from '../../../common/bytes.ts';
import { selectSm2Engine } from '../../../common/native/sm2-select.ts';
import type { ResultOf } from '../../../rpc/methods.ts';
import { bundleBlock, ChainChecker, formatBundle, verifyBundle } from '../../chain-bundle.ts';
import type { ChainView } from '../../chain-view.ts';
import { ClientError } from '../../errors.ts';
import { fromHex, hexOf, parseId } from '../../hex.ts';
import { clean, duration, fields, table, time } from '../../text.ts';
import { alarmLines } from '../alarm-text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';

async function status(session: Session): Promise<Result> {
  const { rpc, node } = await session.publicView();
  const found = await rpc.call('node_status', {});
  return {
    json: { network: node.network, chainId: hexOf(node.chainId), ...found },
    text: [
      ...fields([
        ['network', node.network],
        ['chain', hexOf(node.chainId)],
        ['height', found.height],
        ['block', found.hash],
        ['block time', `${time(found.timestampMs)}, ${duration(found.lastBlockAgeMs)} ago`],
        ['deciding', `height ${found.decidingHeight}, view ${found.view}, ${found.phase}`],
        ['leader', `${found.leader}${found.leaderOrg === null ? '' : ` of ${found.leaderOrg}`}`],
        ['validators', `${found.validatorsUp} of ${found.validators} up, ${found.quorum} decide`],
        ['pending', found.pendingTransactions],
        ['behind', found.syncing ? `${found.highestKnownHeight - found.height} blocks, catching up` : null],
      ]),
      ...alarmLines(found),
    ],
  };
}

/** A height, `latest`, or a block hash. */
function whichBlock(text: string | undefined): { height: number | 'latest' } | { hash: `0x${string}` } {
  if (text === undefined || text === 'latest') return { height: 'latest' };
  if (/^\d{1,15}$/.test(text)) return { height: Number(text) };
  return { hash: hexOf(parseId(text, 32, 'block')) };
}

async function certifiedBy(view: ChainView, height: number): Promise<string> {
  if (height === 0) return 'genesis: known by its hash';
  await view.header(height);
  return 'verified here, against the validators of the genesis and their handovers';
}

async function block(session: Session, _options: object, which: string | undefined): Promise<Result> {
  const view = await session.publicView();
  const found = await view.rpc.call('chain_getBlock', whichBlock(which));
  const certified = await certifiedBy(view, found.header.height);
  const signers = found.certificate?.signatures.map(({ orgId }) => orgId) ?? [];
  return {
    json: { ...found, verified: found.header.height > 0 },
    text: [
      ...fields([
        ['height', found.header.height],
        ['hash', found.hash],
        ['time', time(found.header.timestampMs)],
        ['proposer', found.header.proposer],
        ['parent', found.header.parentHash],
        ['state root', found.header.stateRoot],
        ['signed by', signers.length === 0 ? null : signers.join(', ')],
        ['certificate', certified],
        ['transactions', found.txs.length],
      ]),
      ...table(found.txs.map((tx) => ['', tx.hash, clean(tx.callKind ?? '-'), tx.account ?? '-'])),
    ],
  };
}

async function tx(session: Session, _options: object, id: string): Promise<Result> {
  const { rpc } = await session.view();
  const hash = hexOf(parseId(id, 32, 'transaction'));
  const found = await rpc.call('tx_get', { hash });
  const receipt =
    found.status === 'committed' && found.visible ? (await rpc.call('tx_getReceipt', { hash })).receipt : null;
  return {
    json: { ...found, receipt },
    text: [
      ...fields([
        ['transaction', found.hash],
        ['status', found.status],
        ['block', found.height],
        ['time', found.timestampMs === null ? null : time(found.timestampMs)],
        ['account', found.account],
        ['call', found.call?.kind ?? (found.visible ? null : 'out of your scope')],
      ]),
      ...(receipt?.events ?? []).map((event) => `  ${eventLine(event)}`),
    ],
  };
}

type EventView = ResultOf<'tx_getReceipt'>['receipt']['events'][number];

/** One event as a line: what, and the ids that it names. */
function eventLine(event: EventView): string {
  const named = [
    ['by', event.actor],
    ['of', event.orgId],
    ['subject', event.subject],
    ['request', event.requestHash],
    ['object', event.objectId],
    ['detail', event.detail],
  ].flatMap(([name, value]) => (value === null ? [] : [`${name} ${clean(String(value))}`]));
  return [clean(event.type), ...named].join('  ');
}

async function validators(session: Session): Promise<Result> {
  const { rpc } = await session.publicView();
  const found = await rpc.call('consensus_getValidators', {});
  const evidence = await evidenceOf(rpc);
  const rows = found.validators.map(({ index, orgId, address, liveness }) => [
    `${index}`,
    clean(orgId),
    address,
    liveness === null ? '-' : liveness.connected ? 'up' : 'down',
    liveness === null || liveness.lastSignedHeight === null ? '-' : `${liveness.lastSignedHeight}`,
  ]);
  const accused = (evidence ?? []).map((e) => [
    '',
    clean(e.orgId),
    e.validator,
    `${e.vote} twice at height ${e.height}, view ${e.view}`,
    `in block ${e.reportedHeight}`,
  ]);
  return {
    json: { ...found, evidence },
    text: [
      `${found.quorum} of ${found.validators.length} decide height ${found.height}`,
      ...table([['#', 'ORGANISATION', 'ADDRESS', 'NOW', 'LAST SIGNED'], ...rows]),
      ...(accused.length === 0 ? [] : ['', 'Signed votes that exclude each other:', ...table(accused)]),
    ],
  };
}

/** What the chain holds against validators; null for who may not ask. */
async function evidenceOf(rpc: ChainView['rpc']): Promise<ResultOf<'consensus_getEvidence'>['items'] | null> {
  try {
    return (await rpc.call('consensus_getEvidence', { limit: 100 })).items;
  } catch (error) {
    if (error instanceof ClientError) return null;
    throw error;
  }
}

function height(text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  if (!/^\d{1,15}$/.test(text)) throw new ClientError('HEIGHT_INVALID', 'That is no height.', 'Give a whole number.');
  return Number(text);
}

interface VerifyOptions {
  readonly from?: string;
  readonly to?: string;
  readonly out?: string;
  readonly bundle?: string;
  readonly chainId?: string;
}

async function verify(session: Session, options: VerifyOptions): Promise<Result> {
  if (options.bundle !== undefined) return verifyOffline(session, options.bundle, options.chainId);
  const view = await session.publicView();
  const head = (await view.rpc.call('chain_getHeight', {})).height;
  const [from, to] = [Math.max(1, height(options.from, 1)), Math.min(head, height(options.to, head))];
  if (from > to) throw new ClientError('CHAIN_AT_GENESIS', 'There is no such block yet.', 'Give lower heights.');
  // The set that certifies the first block: of the genesis, or reached through its handovers.
  const { trusted } = await view.header(from);
  const checker = new ChainChecker(trusted, view.engine);
  const blocks = [];
  let commit = await view.rpc.call('chain_getCommit', { height: from });
  for (let at = from; at <= to; at += 1) {
    const next = at < head ? await view.rpc.call('chain_getCommit', { height: at + 1 }) : undefined;
    const one = bundleBlock(commit, next);
    checker.add(
      fromHex(one.header),
      fromHex(one.certificate),
      one.nextValidators === undefined ? undefined : fromHex(one.nextValidators),
    );
    if (options.out !== undefined) blocks.push(one);
    session.out.progress(`verified block ${at} of ${to}`);
    if (next !== undefined) commit = next;
  }
  session.out.progressDone();
  if (options.out !== undefined) {
    const genesis = await readFile(session.home.file('chains', `${bytesToHex(view.node.chainId)}.genesis`));
    await writeFile(options.out, formatBundle(genesis, blocks), { flag: 'wx' });
  }
  const hash = hexOf(checker.last?.hash ?? new Uint8Array(32));
  return {
    json: { chainId: hexOf(view.node.chainId), from, to, blocks: checker.count, head: hash, out: options.out ?? null },
    text: [
      `${checker.count} blocks hold: each follows the one before and is certified by a quorum.`,
      ...fields([
        ['chain', hexOf(view.node.chainId)],
        ['from', from],
        ['to', to],
        ['head', hash],
        ['written to', options.out ?? null],
      ]),
    ],
  };
}

async function verifyOffline(session: Session, path: string, chainId: string | undefined): Promise<Result> {
  const expected = chainId === undefined ? undefined : parseId(chainId, 32, 'chain');
  const report = await verifyBundle(path, expected, selectSm2Engine().engine);
  const id = hexOf(report.chainId);
  if (expected === undefined)
    session.out.note('note: compare the chain id with the one that you know; --chain-id does it for you.');
  return {
    json: {
      chainId: id,
      network: report.network,
      from: report.from,
      to: report.to,
      blocks: report.count,
      head: hexOf(report.head.hash),
    },
    text: [
      `${report.count} blocks hold, checked without any node.`,
      ...fields([
        ['network', report.network],
        ['chain', id],
        ['from', report.from],
        ['to', report.to],
        ['head', hexOf(report.head.hash)],
      ]),
    ],
  };
}

async function pin(session: Session, options: { replace?: boolean; chainId?: string }): Promise<Result> {
  const expected = options.chainId === undefined ? undefined : parseId(options.chainId, 32, 'chain');
  const node = await session.meet(options.replace === true, expected);
  const shown = {
    origin: node.origin,
    network: node.network,
    chainId: hexOf(node.chainId),
    nodeId: hexOf(node.nodeId),
  };
  return {
    json: shown,
    text: fields([
      ['address', shown.origin],
      ['network', shown.network],
      ['chain', shown.chainId],
      ['node', shown.nodeId],
    ]),
  };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command.command('status').description('height, leader, validators, and what is missing').action(run(status));
    command
      .command('block [which]')
      .description('a block by height or hash (default: the last), its certificate verified')
      .action(run(block));
    command.command('tx <hash>').description('a transaction and what it did').action(run(tx));
    command.command('validators').description('who decides').action(run(validators));
    command
      .command('verify')
      .description('check headers and certificates one after the other, from the node or offline from a file')
      .option('--from <height>', 'first block (default: 1)')
      .option('--to <height>', 'last block (default: the last)')
      .option('--out <file>', 'keep what was verified, for checking it offline')
      .option('--bundle <file>', 'check such a file, without a node')
      .option('--chain-id <id>', 'with --bundle: the chain that it must be of')
      .action(run(verify));
    command
      .command('pin')
      .description('show which chain and node are pinned for the address')
      .option('--chain-id <id>', 'refuse any other chain')
      .option('--replace', 'pin anew what the node says now; only after the operator has confirmed it')
      .action(run(pin));
  },
};

/** How an institution joins a network that runs: its folder by `emrchain node join`, its seat by votes of the others. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { hexToBytes } from '../../../common/bytes.ts';
import { decodeTrusted } from '../../../common/codec.ts';
import { sm2Address } from '../../../common/crypto/sm2.ts';
import { createOpensslSigner } from '../../../common/native/sm2-openssl.ts';
import { readKeystore } from '../../../common/native/keystore.ts';
import { newPrivateKey } from '../../../common/native/sm2-select.ts';
import { nodeCard } from '../../../common/protocol/member.ts';
import type { Proposal } from '../../../common/protocol/transaction.ts';
import type { Hospital } from '../../../scripts/devnet/devnet.ts';
import { freePorts } from '../../../scripts/devnet/processes.ts';
import type { Writer } from './load.ts';
import { confirming } from './operators.ts';
import type { Stage } from './stage.ts';

const COMMAND_LINE = join(import.meta.dirname, '..', '..', '..', 'client', 'cli', 'main.ts');
const CARD_FILE = 'node-card.json';

/**
 * Makes the folder, as the newcomer's operator does, with the node of a member to ask.
 * @returns the key of its custodian; null where it has none
 */
async function makeFolder(
  stage: Stage,
  { orgId, dir, rpcPort }: Hospital,
  p2pPort: number,
): Promise<Uint8Array | null> {
  const args = ['--home', join(stage.dir, 'people', orgId), '--rpc', stage.node(0).hospital.rpcUrl];
  const folder = ['--org', orgId, '--dir', dir, '--address', `/ip4/127.0.0.1/tcp/${p2pPort}`];
  const custodian = stage.hasCustodians ? [] : ['--no-custodian'];
  await promisify(execFile)(
    process.execPath,
    [COMMAND_LINE, ...args, 'node', 'join', ...folder, '--rpc-port', `${rpcPort}`, ...custodian],
    { env: stage.env },
  );
  return stage.hasCustodians ? (await readKeystore(join(dir, 'keys', 'custodian.json'))).publicKey : null;
}

/** What the newcomer sends to the members; the chain checks it. */
async function readCard({ dir }: Hospital) {
  const file = JSON.parse(await readFile(join(dir, CARD_FILE), 'utf8')) as { card: string; possession: string };
  const bytes = (text: string): Uint8Array => hexToBytes(text.slice(2));
  return { card: decodeTrusted(nodeCard, bytes(file.card), 'node card'), possession: bytes(file.possession) };
}

/** Organisations come in, each with a node: admitted as observers, then made validators once they are in step. */
export async function joinByVote(stage: Stage, indices: readonly number[]): Promise<void> {
  const ports = await freePorts(2 * indices.length);
  const { votes } = stage;
  const newcomers = indices.map((index, i) => {
    const orgId = `hospital-${String.fromCharCode(97 + index)}`;
    const rpcPort = ports[2 * i] as number;
    const rpcUrl = `http://127.0.0.1:${rpcPort}`;
    const hospital: Hospital = { orgId, name: orgId, dir: join(stage.dir, orgId), rpcPort, rpcUrl };
    const writer: Writer = { orgId, signer: createOpensslSigner(newPrivateKey()) };
    return { index, hospital, writer, p2pPort: ports[2 * i + 1] as number };
  });
  const founding: Proposal[] = [];
  for (const { hospital, writer, p2pPort } of newcomers) {
    founding.push(votes.founding(writer, await makeFolder(stage, hospital, p2pPort)));
  }
  await votes.enact(founding);
  const cards = [];
  for (const { index, hospital } of newcomers) {
    const node = await stage.add(index, hospital);
    node.start();
    if (stage.hasCustodians) await node.custodian.run('own');
    cards.push(await readCard(hospital));
  }
  await votes.enact(cards.map(({ card, possession }) => ({ kind: 'admitObserver', card, possession })));
  await changeSet(
    stage,
    cards.map(({ card }, i) => ({
      proposal: { kind: 'addValidator', orgId: card.orgId, address: sm2Address(card.publicKey) },
      done: () => votes.joined((newcomers[i] as (typeof newcomers)[number]).writer),
    })),
  );
}

interface SetChange {
  readonly proposal: Proposal;
  /** In effect: who votes from now on has changed. */
  done(): void;
}

/**
 * With custodians one after the other: shares go to one set at a time, and a change that is due meanwhile is looked at again
 * a minute later.
 */
async function changeSet(stage: Stage, changes: readonly SetChange[]): Promise<void> {
  const { votes } = stage;
  const steps = stage.hasCustodians ? changes.map((change) => [change]) : [changes];
  for (const together of steps) {
    await confirming(stage, votes.enact(together.map(({ proposal }) => proposal)));
    for (const { done } of together) done();
  }
}

/** Voted out first, and stopped when that is in effect: nobody waits for a node that is gone. */
export async function leaveByVote(stage: Stage, indices: readonly number[]): Promise<void> {
  const leaving = indices.map((index) => stage.node(index));
  await changeSet(
    stage,
    leaving.map(({ name }) => ({
      proposal: { kind: 'removeValidator', orgId: name },
      done: () => stage.votes.left(name),
    })),
  );
  for (const node of leaving) {
    await node.stop();
    await node.custodian.kill();
    node.watch.close();
  }
}

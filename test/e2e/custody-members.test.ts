/**
 * Real nodes and custodians: a fifth hospital comes in with a share, another leaves, shares are made anew, and the key stays.
 * Nobody hands a share on to a set that its operator has not confirmed.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bytesToHex0x, hexToBytes } from '../../common/bytes.ts';
import { sm2Address } from '../../common/crypto/sm2.ts';
import { confirmSet } from '../../common/native/custody-confirmed.ts';
import { createOpensslSigner } from '../../common/native/sm2-openssl.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';
import type { Proposal } from '../../common/protocol/transaction.ts';
import { GENESIS_FILE, parseGenesisFile } from '../../config/genesis-file.ts';
import { NODE_CONFIG_FILE, parseNodeConfig } from '../../config/node-config.ts';
import { initJoining } from '../../node/init/join.ts';
import { childEnvironment } from '../../scripts/devnet/devnet.ts';
import { freePorts, type Service, startService, stopService } from '../../scripts/devnet/processes.ts';
import { emrchain } from './command.ts';
import { Consortium } from './consortium.ts';
import { until } from './until.ts';
import { Votes } from './scenarios/votes.ts';

const NEWCOMER = 'hospital-e';
const PROGRAMS = join(import.meta.dirname, '..', '..', 'node');

const consortium = await Consortium.open(t);
const { devnet } = consortium;
const status = async (index: number) => consortium.rpc(index).call('custody_getStatus', {});
const first = await until('the key is made', async () => (await status(0)).epoch);
const orgsOf = (list: readonly { readonly orgId: string }[]): string[] =>
  list.map(({ orgId }) => orgId).sort((a, b) => (a < b ? -1 : 1));
const writers = consortium.admins.map(({ hospital: { orgId }, signer }) => ({ orgId, signer }));
const votes = new Votes(consortium.admin(0).view, writers);

/** As the operator of the first hospital does it, at the terminal. */
const operator = consortium.admin(0);
const passphrase = new Uint8Array(await readFile(devnet.passphraseFile));
await consortium.writeKey(operator, passphrase);
const custody = (...args: readonly string[]) =>
  emrchain(devnet, [
    ...['--home', operator.home.path, '--as', operator.name, '--rpc', operator.hospital.rpcUrl],
    ...['custody', ...args],
  ]);

async function confirm(dir: string, setHash: string): Promise<void> {
  if (dir !== operator.hospital.dir) return confirmSet(dir, hexToBytes(setHash.slice(2)));
  const other = `0x${'1'.repeat(64)}`;
  await t.rejects(custody('confirm', other, '--dir', dir), { message: /another set: / }, 'only what the chain holds');
  const { answer } = await custody('status');
  t.match(answer, { session: { setHash } }, 'the status names the set');
  const confirmed = await custody('confirm', setHash, '--dir', dir);
  t.match(confirmed.answer, { setHash, file: join(dir, 'custody-confirmed') });
}

/** Every node has this epoch. @returns the first one's view of it */
async function reached(epoch: number, indices: readonly number[]) {
  const seen = await Promise.all(
    indices.map((index) =>
      until(`node ${index} has epoch ${epoch}`, async () => {
        const found = await status(index);
        return found.epoch?.epoch === epoch && found.session === null ? found.epoch : null;
      }),
    ),
  );
  return seen[0]!;
}

/**
 * Votes it through, and confirms the set at these hospitals once their custodians ask for that.
 * @param unasked folders of hospitals whose operators confirm what the others were shown
 */
async function handOver(
  t: Test,
  proposal: Proposal,
  holders: readonly number[],
  unasked: readonly string[] = [],
): Promise<void> {
  const enacted = votes.enact([proposal]);
  // Awaited below; what it fails with meanwhile is not lost.
  enacted.catch(() => {});
  for (const index of holders) {
    const waiting = await until(`the custodian of node ${index} waits for its operator`, async () => {
      const { session, custodian } = await status(index);
      return session !== null && custodian.waitsFor !== null ? { session, said: custodian.waitsFor } : null;
    });
    t.ok(waiting.said.includes(waiting.session.setHash), 'it says which set');
    const dirs = [consortium.hospital(index).dir, ...(index === holders[0] ? unasked : [])];
    for (const dir of dirs) await confirm(dir, waiting.session.setHash);
  }
  await enacted;
}

/** The folder of a hospital that joins, and its two processes. */
async function newcomer() {
  const [p2p, rpcPort] = (await freePorts(2)) as [number, number];
  const member = consortium.hospital(0).dir;
  const text = await readFile(join(member, NODE_CONFIG_FILE), 'utf8');
  const { network } = parseNodeConfig(NODE_CONFIG_FILE, text, member);
  const address = `/ip4/127.0.0.1/tcp/${p2p}`;
  const dir = join(devnet.dir, NEWCOMER);
  const joined = await initJoining({
    dir,
    orgId: NEWCOMER,
    genesis: parseGenesisFile(GENESIS_FILE, await readFile(join(member, GENESIS_FILE), 'utf8')),
    publicAddress: address,
    listen: address,
    rpcPort,
    peers: network.peers,
    custodian: true,
    replaces: null,
    passphrase: new Uint8Array(await readFile(devnet.passphraseFile)),
  });
  const services: Service[] = [];
  t.teardown(() => Promise.all(services.map(stopService)));
  const start = (): void => {
    const env = childEnvironment(devnet.dir);
    const programs = { node: 'main.ts', custodian: join('custodian', 'main.ts') };
    for (const [name, file] of Object.entries(programs)) {
      const log = join(dir, `${name}.log`);
      services.push(startService(`${name} ${NEWCOMER}`, join(PROGRAMS, file), ['--dir', dir], log, env));
    }
  };
  const file = JSON.parse(await readFile(join(dir, 'node-card.json'), 'utf8')) as { possession: string };
  return { ...joined, possession: hexToBytes(file.possession.slice(2)), start };
}

t.test('a refresh: other shares for the same holders, by themselves', async (t) => {
  await votes.enact([{ kind: 'refreshCustody' }]);
  const epoch = await reached(2, [0, 1, 2, 3]);
  t.equal(epoch.key, first.key);
  t.same(orgsOf(epoch.holders), orgsOf(first.holders));
  t.notSame(epoch.holders, first.holders);
});

t.test('a fifth hospital comes in, with its share', async (t) => {
  const { card, custodianKey, possession, start } = await newcomer();
  const writer = { orgId: NEWCOMER, signer: createOpensslSigner(newPrivateKey()) };
  await votes.enact([votes.founding(writer, custodianKey)]);
  start();
  await votes.enact([{ kind: 'admitObserver', card, possession }]);
  const address = sm2Address(card.publicKey);
  await handOver(t, { kind: 'addValidator', orgId: NEWCOMER, address }, [0, 1, 2, 3]);
  const epoch = await reached(3, [0, 1, 2, 3]);
  t.equal(epoch.key, first.key, 'the key stays');
  t.equal(epoch.threshold, 4);
  t.same(orgsOf(epoch.holders), [...orgsOf(first.holders), NEWCOMER]);
  const { validators } = await consortium.rpc(0).call('gov_getMembers', {});
  t.same(orgsOf(validators), orgsOf(epoch.holders), 'who validates is who holds shares');
  t.ok(validators.some((validator) => validator.address === bytesToHex0x(address)));
  votes.joined(writer);
});

t.test('one leaves, and hands its share on before it does', async (t) => {
  const leaving = consortium.hospital(3).orgId;
  await handOver(t, { kind: 'removeValidator', orgId: leaving }, [0, 1, 2, 3], [join(devnet.dir, NEWCOMER)]);
  const epoch = await reached(4, [0, 1, 2]);
  t.equal(epoch.key, first.key);
  t.equal(epoch.threshold, 3);
  t.notOk(orgsOf(epoch.holders).includes(leaving));
});

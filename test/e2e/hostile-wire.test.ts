/**
 * Whoever reaches a port of a node without being a member, or a reader without a token: garbage on every port changes
 * nothing, a stranger does not connect, and what a token is needed for is not answered without one.
 */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import { Libp2pNetwork } from '../../node/network/libp2p-network.ts';
import { generatePeerKey } from '../../node/network/peer-key.ts';
import { NODE_CONFIG_FILE } from '../../config/node-config.ts';
import { requireFreePort } from '../../scripts/devnet/processes.ts';
import { cidText } from '../../client/cid-text.ts';
import { hexOf } from '../../client/hex.ts';
import { createReaderToken, type PinnedNode, RpcClient } from '../../client/index.ts';
import { subjectOf } from '../../client/record-offer.ts';
import { peakBytes } from './command.ts';
import { Consortium } from './consortium.ts';
import type { Person } from './people.ts';
import { until } from './until.ts';
import { httpGarbage, p2pGarbage, rpcGarbage, socketGarbage } from './garbage.ts';
import { refused } from './refusals.ts';
import { HeldConnections, listeningOn, send, type Target } from './wire.ts';

/** Far more than garbage should cost, far less than an attack on memory would take. */
const MAX_PEAK_BYTES = 350_000_000;
const DEFAULT_PORTS = [7600, 8545] as const;
/** The hospital whose node answers nobody without a token. */
const CLOSED = 3;

const consortium = await Consortium.open(t, async (devnet) => {
  const file = join((devnet.hospitals[CLOSED] as (typeof devnet.hospitals)[number]).dir, NODE_CONFIG_FILE);
  await writeFile(file, (await readFile(file, 'utf8')).replace('openReads: true', 'openReads: false'));
});
const { devnet } = consortium;
const target = consortium.hospital(0);
const [chen, mei, wang, policy] = await Promise.all([
  consortium.staff('chen', 0, ['physician']),
  consortium.patient('mei', 0),
  consortium.staff('wang', 1, ['physician']),
  consortium.policy({ kind: 'owner' }),
]);
const path = join(devnet.dir, 'note.bin');
await writeFile(path, randomBytes(500));
const { offer, call } = await consortium.offer(chen, mei, path, policy);
await chen.do(call, offer.sidecar);
const { recordId } = subjectOf(offer);
const grant = await wang.ask(recordId);
await mei.decide(grant);

/** Everything works as before: blocks, keys, the same processes. */
async function stillWorks(t: Test, pids: ReadonlyMap<string, number>): Promise<void> {
  const before = await consortium.settled();
  const relation = { patient: mei.account, physician: chen.account, expiresAtMs: Date.now() + 86_400_000 };
  const committed = await mei.do({ kind: 'attending.set', relation, countersignature: null });
  t.ok(committed.height > before.height, 'the attacked node commits');
  await consortium.settled();
  const { replies } = await wang.view.rpc.call('custody_getShare', { grantId: hexOf(grant), timeoutMs: 10_000 });
  const shares = replies.filter(({ share }) => share !== null);
  t.equal(shares.length, 3, 'the custodians release to whom they should');
  t.same(devnet.pids(), pids, 'no node was started again');
  for (const [orgId, pid] of pids) {
    const peak = await peakBytes(pid);
    t.ok(peak > 0 && peak < MAX_PEAK_BYTES, `${orgId} runs, ${Math.ceil(peak / 1_000_000)} MB at its peak`);
  }
}

t.test('garbage on every port', async (t) => {
  const pids = devnet.pids();
  const rpc: Target = { port: target.rpcPort };
  const { listenAddresses } = await consortium.rpc(0).call('net_info', {});
  const p2p: Target = { port: Number(/\/tcp\/(\d+)\//.exec(listenAddresses[0] ?? '')?.[1]) };
  const custodian: Target = { path: join(target.dir, 'custodian.sock') };

  const held = new HeldConnections();
  t.teardown(() => held.close());
  await Promise.all([
    held.open(rpc, 200, 'POST /rpc HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: '),
    held.open(
      rpc,
      100,
      `POST /rpc HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n{`,
    ),
    held.open(p2p, 100, ''),
    held.open(p2p, 20, '\x13/multistream/1.0.0\n'),
    held.open(custodian, 20, Uint8Array.of(0, 0, 4, 0, 1)),
  ]);
  for (const { what, bytes, status } of httpGarbage(rpc.port)) {
    held.dribble('a');
    const said = await send(rpc, bytes);
    const answers = said.text.match(/HTTP\/1\.1 \d{3}/g) ?? [];
    t.ok(said.ended && answers.length <= 1, `${what}: one answer at the most, and the connection is ended`);
    if (status !== null) t.match(answers[0] ?? '', status, `${what}: ${answers[0]}`);
  }
  for (const [what, bytes] of p2pGarbage()) {
    const { ended, text } = await send(p2p, bytes);
    t.ok(ended && text.length < 1_000, `network port, ${what}: ended`);
  }
  for (const [what, bytes] of socketGarbage()) {
    const { ended, text } = await send(custodian, bytes);
    t.same({ ended, text }, { ended: true, text: '' }, `custodian socket, ${what}: ended without a word`);
  }
  await rpcGarbage(t, target.rpcUrl);
  held.dribble('b');
  await stillWorks(t, pids);
});

t.test('a peer that is no member does not connect', async (t) => {
  const { listenAddresses, connected } = await consortium.rpc(0).call('net_info', {});
  const { peers } = await consortium.rpc(1).call('net_peers', {});
  const member = peers.find(({ orgId }) => orgId === target.orgId);
  const { secret, peerId } = await generatePeerKey();
  const faults: Error[] = [];
  const stranger = new Libp2pNetwork({
    peerSecret: secret,
    chainId: chen.view.node.chainId,
    listen: ['/ip4/127.0.0.1/tcp/0'],
    addresses: listenAddresses.slice(),
    onFault: (error) => faults.push(error),
  });
  t.teardown(() => stranger.stop());
  let opened = 0;
  let closed = 0;
  stranger.onPeerChange((_, isConnected) => (isConnected ? (opened += 1) : (closed += 1)));
  await stranger.start();
  stranger.setMembers([
    { peerId: member?.peerId ?? '', orgId: target.orgId, role: 'validator', address: new Uint8Array(20) },
  ]);
  const refusals = async (): Promise<number> => {
    const metrics = await (await fetch(`${target.rpcUrl}/metrics`)).text();
    return Number(/^emrchain_network_\w*\{[^}]*refused_connections:inbound[^}]*\} (\d+)$/m.exec(metrics)?.[1] ?? 0);
  };
  await until('the node has refused the stranger more than once', async () => (await refusals()) > 1);
  await until('the stranger has no connection', () => opened === closed);
  const after = await consortium.rpc(0).call('net_peers', {});
  t.notOk(
    after.peers.some((peer) => peer.peerId === peerId),
    'it is no peer',
  );
  t.equal(after.peers.filter((peer) => peer.connected).length, connected, 'and the members are as before');
  await t.rejects(
    async () => {
      const options = { maxFrames: 1, maxFrameBytes: 1_000, idleTimeoutMs: 2_000 };
      for await (const frame of stranger.request(member?.peerId ?? '', 'blob', new Uint8Array(8), options)) void frame;
    },
    { code: /^PEER_/ },
    'nor does anybody answer it',
  );
  t.same(faults, []);
});

t.test('without a token a node tells strangers what the chain is, and nothing that is in it', async (t) => {
  const closed = consortium.rpc(CLOSED);
  const { height } = await consortium.settled();
  t.equal((await closed.call('chain_getHeader', { height })).header.height, height, 'headers are for everybody');
  const { txs } = await closed.call('chain_getBlock', { height });
  t.same(
    txs.map(({ account, callKind }) => ({ account, callKind })),
    txs.map(() => ({ account: null, callKind: null })),
  );
  const account = hexOf(mei.account);
  const withheld: readonly (readonly [method: string, read: () => Promise<unknown>])[] = [
    ['acl_getAccount', () => closed.call('acl_getAccount', { account })],
    ['acl_listRequests', () => closed.call('acl_listRequests', {})],
    ['emr_getRecord', () => closed.call('emr_getRecord', { recordId: hexOf(recordId) })],
    ['emr_listRecords', () => closed.call('emr_listRecords', {})],
    ['emr_listPolicies', () => closed.call('emr_listPolicies', {})],
    ['state_getRange', () => closed.call('state_getRange', { gte: '0x00', lt: '0xff' })],
    ['state_get', () => closed.call('state_get', { key: '0x00', prove: true })],
    ['custody_getShare', () => closed.call('custody_getShare', { grantId: hexOf(grant) })],
    ['blob_getReceipts', () => closed.call('blob_getReceipts', { cid: cidText(call.content.cid) })],
    ['tx_pending', () => closed.call('tx_pending', {})],
    ['net_peers', () => closed.call('net_peers', {})],
  ];
  for (const [method, read] of withheld) await refused(t, 'TOKEN_REQUIRED', method, read);
  for (const [method, url] of [
    ['GET', `/blob/${cidText(call.content.cid)}`],
    ['PUT', '/blob'],
  ] as const) {
    const body = method === 'PUT' ? new Uint8Array(100) : null;
    const headers = { 'content-type': 'application/octet-stream' };
    const response = await fetch(`${closed.base}${url}`, { method, body, headers });
    const { error } = (await response.json()) as { error: { data: { reason: string } } };
    t.same({ status: response.status, reason: error.data.reason }, { status: 403, reason: 'TOKEN_REQUIRED' }, url);
  }
});

t.test('a token is good for its account, its node, its origin and its time', async (t) => {
  const node = consortium.nodes[CLOSED] as PinnedNode;
  const read = (token: string) =>
    new RpcClient(node.origin, { authorize: () => `EMR ${token}` }).call('acl_getAccount', {
      account: hexOf(mei.account),
    });
  const token = (by: Person, on: PinnedNode = node, fromMs = Date.now()) =>
    createReaderToken(on, by.signer, fromMs, 60_000);
  t.equal((await read(token(mei))).account.id, hexOf(mei.account), 'the patient reads the own account');
  t.equal((await read(token(chen))).account.id, hexOf(mei.account), 'and so does staff of the same hospital');
  const stranger = { ...chen, signer: selectSm2Engine().createSigner(newPrivateKey()) } as Person;
  const ofOther = consortium.nodes[0] as PinnedNode;
  const cases: readonly (readonly [what: string, code: string, token: string])[] = [
    ['staff of another hospital', 'OUT_OF_SCOPE', token(wang)],
    ['a key of nobody', 'ACCOUNT_UNKNOWN', token(stranger)],
    ['made for another node', 'TOKEN_WRONG_NODE', token(mei, { ...node, nodeId: ofOther.nodeId })],
    ['made for another origin', 'TOKEN_WRONG_ORIGIN', token(mei, { ...node, origin: 'http://127.0.0.1:1' })],
    ['made for another network', 'TOKEN_WRONG_NETWORK', token(mei, { ...node, network: 'elsewhere' })],
    ['ended', 'TOKEN_EXPIRED', token(mei, node, Date.now() - 61_000)],
    ['from the future', 'TOKEN_TOO_LONG', token(mei, node, Date.now() + 15 * 60_000)],
    ['garbage', 'TOKEN_MALFORMED', randomBytes(200).toString('base64url')],
  ];
  for (const [what, code, text] of cases) await refused(t, code, what, () => read(text));
  const paul = await consortium.patient('paul', 0);
  await consortium.settled();
  await refused(t, 'OUT_OF_SCOPE', 'another patient of the same hospital', () => read(token(paul)));
});

t.test('with no network configuration a node listens on loopback alone', async (t) => {
  const pids = devnet.pids();
  const orgId = consortium.hospital(CLOSED).orgId;
  for (const [org, pid] of pids) {
    const found = await listeningOn(pid);
    if (found === undefined) {
      t.comment('skipped: only Linux tells which process listens where');
      return;
    }
    t.ok(
      found.length >= 2 && found.every((address) => address.startsWith('127.0.0.1:')),
      `${org}: ${found.join(', ')}`,
    );
  }
  try {
    for (const port of DEFAULT_PORTS) await requireFreePort(port);
  } catch (error) {
    t.comment(`the default ports are not tried: ${(error as Error).message}`);
    return;
  }
  const file = join(consortium.hospital(CLOSED).dir, NODE_CONFIG_FILE);
  await devnet.killNode(orgId);
  await writeFile(file, '');
  devnet.startNode(orgId);
  const pid = devnet.pids().get(orgId) as number;
  const found = await until('the node listens', async () => {
    const addresses = (await listeningOn(pid).catch(() => [])) ?? [];
    return addresses.length >= DEFAULT_PORTS.length && addresses;
  });
  t.same(
    [...found].sort(),
    DEFAULT_PORTS.map((port) => `127.0.0.1:${port}`),
    'an empty configuration',
  );
});

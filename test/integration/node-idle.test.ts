/**
 * A chain that nobody uses for a day. There are no heights to count, so time is what ends things: with the first block
 * after it everything is over that should be, and nothing that was signed before it can be brought back.
 */
import t from 'tap';
import { bytesToHex } from '../../common/bytes.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { proposalEntry, requestEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { type AccessRequest, type Call, proposalIdOf, requestHashOf } from '../../common/protocol/transaction.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import type { EmrNode } from '../../node/node.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { MemoryChain, Story } from './memory-chain.ts';
import { Cluster, until } from './node-cluster.ts';
import { consortium, signCall, signerFor, type TestTransaction } from './node-consortium.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

interface Submission {
  readonly bytes: Uint8Array;
  readonly sidecar?: Uint8Array | null;
}

/** Remembers what it was given, for the cluster of the same genesis to commit too. */
class RecordingChain extends MemoryChain {
  readonly log: Submission[] = [];

  override commit(txs: readonly Submission[], timestampMs?: number): void {
    super.commit(txs, timestampMs);
    this.log.push(...txs);
  }
}

t.test('a day without a client: what should be over is over, and stays so', async (t) => {
  const params = { viewTimeoutMs: 300, viewTimeoutCapMs: 2_000, requestTtlMs: HOUR_MS, governanceTtlMs: HOUR_MS };
  const net = consortium({ params });
  const cluster = new Cluster(net);
  const dir = t.testdir({});
  for (const index of [0, 1, 2, 3]) await cluster.start(index, await openLevelStore(`${dir}/${index}`));
  t.teardown(() => cluster.stop());
  const [writer, reader] = [net.hospitals[0]!, net.hospitals[1]!];
  const patient = signerFor('patient/idle');

  const commit = async (tx: TestTransaction, sidecar: Uint8Array | null = null): Promise<void> => {
    const verdict = await cluster.node(0).mempool.submit({ bytes: tx.bytes, sidecar });
    if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.message}`);
    await cluster.committed([{ bytes: tx.bytes, hash: verdict.value.hash }]);
  };
  const perform = async (by: typeof patient, call: Call): Promise<void> => commit(signCall(net.chainId, by, call));
  const requestOf = (key: string, notAfterMs: number): Extract<Call, { readonly kind: 'access.request' }> => {
    const fresh = signerFor(`request/${key}`);
    const request: AccessRequest = {
      recordId,
      version: 1,
      requester: reader.admin.address,
      requesterKey: fresh.publicKey,
      purpose: 'TREAT',
      ruleIndex: 0,
      policyVersion: 1,
      notAfterMs,
      nonce: fresh.publicKey.slice(0, 16),
    };
    return { kind: 'access.request', request, possession: fresh.sign(requestHashOf(net.chainId, request)) };
  };

  const chain = new RecordingChain(
    net.genesis,
    net.hospitals.map(({ validator }) => validator),
  );
  const story = new Story(chain, { orgId: writer.orgId, signer: writer.admin }, patient);
  const nonce = new Uint8Array(16).fill(3);
  const recordId = story.recordId(nonce);
  const blob = {
    cid: Uint8Array.of(1, 0x55, 0x12, 0x20, ...new Uint8Array(32)),
    sizeBytes: 4096,
    dataDigest: recordId,
  };
  chain.commit([story.record(blob, { nonce })]);
  for (const { bytes, sidecar } of chain.log) await commit({ bytes, hash: new Uint8Array(0) }, sidecar ?? null);

  const granted = requestOf('granted', Date.now() + HOUR_MS);
  const pending = requestOf('pending', Date.now() + 20 * HOUR_MS);
  const [grantId, pendingId] = [granted, pending].map(({ request }) => requestHashOf(net.chainId, request)) as [
    Uint8Array,
    Uint8Array,
  ];
  await perform(reader.admin, granted);
  await perform(patient, { kind: 'access.approve', requestHash: grantId });
  await perform(reader.admin, pending);
  const proposal = { kind: 'setParams' as const, params: { ...DEFAULT_CHAIN_PARAMS, ...params, roleCoolingMs: 0 } };
  const proposalId = proposalIdOf(net.chainId, writer.admin.address, nonce, proposal);
  await perform(writer.admin, { kind: 'gov.propose', proposal, nonce });
  // Signed in time, and kept back.
  const withheld = signCall(net.chainId, patient, { kind: 'access.approve', requestHash: pendingId });
  await cluster.level();

  const read = (node: EmrNode) => {
    const value = (key: Uint8Array): Uint8Array => node.executor.state.reader.get(key) as Uint8Array;
    return {
      granted: decodeTrusted(requestEntry, value(stateKey.request(grantId)), 'grant').status,
      pending: decodeTrusted(requestEntry, value(stateKey.request(pendingId)), 'request').status,
      proposal: decodeTrusted(proposalEntry, value(stateKey.proposal(proposalId)), 'proposal').status,
    };
  };
  for (const node of cluster.nodes()) {
    t.same(read(node), { granted: 'granted', pending: 'pending', proposal: 'open' });
  }

  const before = cluster.node(0).host.head;
  cluster.leap.by(DAY_MS);
  const over = { granted: 'ended', pending: 'expired', proposal: 'expired' };
  await until(
    () => cluster.nodes().every((node) => JSON.stringify(read(node)) === JSON.stringify(over)),
    20_000,
    () =>
      `${cluster.describe()}\n${cluster
        .nodes()
        .map((node) => JSON.stringify(read(node)))
        .join('\n')}`,
  );
  await cluster.level();
  const after = cluster.node(0).host.head;
  t.ok(after.height > before.height, 'deadlines alone made blocks');
  t.ok(after.timestampMs >= before.timestampMs + DAY_MS - 60_000, 'block time is the time of the day after');

  for (const node of cluster.nodes()) {
    const verdict = await node.mempool.submit({ bytes: withheld.bytes, sidecar: null });
    t.equal(verdict.ok ? 'ok' : verdict.code, 'TX_EXPIRED', 'a withheld approval is dead');
  }
  await until(
    () => cluster.nodes().every((node) => !node.due.due),
    10_000,
    () => cluster.describe(),
  );
  t.same(new Set(cluster.nodes().map((node) => bytesToHex(node.host.head.hash))).size, 1, 'and then it is idle again');

  const again = requestOf('again', Date.now() + DAY_MS + HOUR_MS);
  await commit(signCall(net.chainId, reader.admin, again, { validUntilMs: Date.now() + DAY_MS + 60_000 }));
  for (const node of cluster.nodes()) t.same(read(node), over, 'what is over stays over');
  t.same(cluster.fatal(), []);
});

import { CID } from 'multiformats/cid';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import { verifyCertificate } from '../../common/protocol/block.ts';
import { type PolicyDocument, policyRefOf } from '../../common/protocol/policy.ts';
import { accountEntry, paramsEntry, prefixRange, stateKey, statePrefix } from '../../common/protocol/state-entries.ts';
import { verifyProof, verifyRange } from '../../common/protocol/state-proof.ts';
import { enrolmentPossessionHash, ownerWriteHash } from '../../common/protocol/statements.ts';
import {
  type CallOf,
  encodeSidecar,
  type Enrolment,
  type RecordContent,
  sidecarHash,
} from '../../common/protocol/transaction.ts';
import { decodeTrusted } from '../../common/codec.ts';
import { openEmbeddedStore } from '../../node/ipfs/open.ts';
import { OwnCustodian } from '../../node/custody/own-custodian.ts';
import { ReleaseService } from '../../node/custody/release-service.ts';
import { BlobService } from '../../node/replication/blob-service.ts';
import { createChainPort, createRpcPorts, createStatePort, hostViewOf } from '../../node/rpc-ports/index.ts';
import { createBlobIndex } from '../../node/storage/blob-index.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import type { CommittedNotice, RpcPorts, StateAnswer, StateQuery, StoredBlob } from '../../rpc/ports.ts';
import { Cluster, until } from './node-cluster.ts';
import {
  consortium,
  enrolPatient,
  type Hospital,
  signCall,
  signerFor,
  type TestTransaction,
} from './node-consortium.ts';
import { mustFail } from './node-expect.ts';

const MIB = 1024 * 1024;
const quick = { viewTimeoutMs: 300, viewTimeoutCapMs: 2_000 };
const silent = { info: () => {}, warn: () => {}, error: () => {} };

interface Served {
  readonly cluster: Cluster;
  readonly ports: RpcPorts;
  readonly faults: unknown[];
}

/** A consortium of which the first `running` nodes run, and the ports of node 0. */
async function serve(t: Test, running = 4): Promise<Served> {
  const cluster = new Cluster(consortium({ params: quick }));
  const dir = t.testdir({});
  const kv = await openLevelStore(join(dir, '0'));
  const node = await cluster.start(0, kv);
  for (let index = 1; index < running; index += 1)
    await cluster.start(index, await openLevelStore(join(dir, `${index}`)));
  const host = hostViewOf(node);
  const chain = createChainPort({ store: node.store, executor: node.executor, host });
  const state = createStatePort(node.executor, node.history);
  const index = createBlobIndex(kv);
  const store = await openEmbeddedStore({ dir: join(dir, 'blobs'), index });
  const { orgId } = cluster.net.hospitals[0]!;
  const faults: unknown[] = [];
  const { network, signer, chainId, verifier, clock, executor, mempool } = node;
  const blobs = new BlobService({
    chainId,
    orgId,
    signer,
    engine: verifier.engine,
    store,
    index,
    network,
    chain,
    state,
    limits: { maxFileBytes: MIB, maxStagedBytes: 16 * MIB, stagedMs: 60_000 },
    hasRoom: () => Promise.resolve(true),
    nowMs: () => clock.nowMs(),
    log: () => {},
    onFault: (error) => faults.push(error),
  });
  const ports = createRpcPorts({
    identity: { version: '1.2.3', orgId, address: signer.address, startedMs: clock.nowMs() },
    clock,
    chain,
    state,
    executor,
    mempool,
    store: node.store,
    network,
    host,
    blobs,
    custody: new ReleaseService({
      orgId,
      own: new OwnCustodian({ orgId, socket: null, chain, state }),
      chain,
      state,
      network,
      engine: verifier.engine,
      status: () => node.custody.status,
    }),
    metrics: { text: () => node.metrics.registry.metrics(), rpcCall: () => {}, rpcConnections: () => {} },
    sm2: verifier.engine,
    log: silent,
  });
  t.teardown(async () => {
    await blobs.stop();
    await store.close();
    await cluster.stop();
  });
  return { cluster, ports, faults };
}

async function ready({ ports, cluster }: Served): Promise<void> {
  await until(
    () => ports.node.status().stalledReason === null,
    10_000,
    () => cluster.describe(),
  );
}

async function submitAll(
  { ports, cluster }: Served,
  txs: readonly TestTransaction[],
  sidecar: Uint8Array | null = null,
): Promise<void> {
  const verdicts = await Promise.all(txs.map(({ bytes }) => ports.transactions.submit(bytes, sidecar)));
  for (const verdict of verdicts) if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.message}`);
  await cluster.committed(txs);
  const height = Math.max(...txs.map(({ hash }) => cluster.node(0).store.locateTx(hash)!.height));
  await until(
    () => cluster.nodes().every(({ executor }) => executor.head.height >= height),
    10_000,
    () => cluster.describe(),
  );
}

t.test('the chain, as a reader who verifies sees it', async (t) => {
  const served = await serve(t);
  await ready(served);
  const { ports, cluster } = served;
  const notices: CommittedNotice[] = [];
  const unsubscribe = ports.chain.onCommitted((notice) => {
    t.equal(ports.chain.head().height, notice.height, 'the head is there when its notice comes');
    notices.push(notice);
  });
  const txs = [enrolPatient(cluster.net, 0), enrolPatient(cluster.net, 1)];
  for (const tx of txs) await submitAll(served, [tx]);
  unsubscribe();
  await submitAll(served, [enrolPatient(cluster.net, 2)]);

  const { chain } = ports;
  const head = chain.head();
  t.same(chain.chainId(), cluster.net.chainId);
  t.equal(chain.lowestHeight(), 0);
  t.same(
    notices.map(({ height }) => height),
    notices.map((_, n) => n + 1),
    'once each, in order, and none after the end',
  );
  t.ok(notices.length < head.height);
  for (let height = 1; height <= head.height; height += 1) {
    const stored = (await chain.header(height))!;
    const certificate = (await chain.certificate(height))!;
    const set = (await chain.validatorsAt(height))!;
    const proven = verifyCertificate(stored.header, stored.hash, certificate, set, ports.sm2);
    t.ok(proven.ok, `block ${height} is certified by the set that the port names`);
    const block = (await chain.block(height))!;
    t.same([block.hash, block.header], [stored.hash, stored.header]);
    t.equal(block.sidecars.length, block.txs.length);
    t.equal((await chain.receipts(height))!.length, block.txs.length + 1);
    t.equal(await chain.heightOfBlock(stored.hash), height);
  }
  for (const tx of txs) {
    const place = (await chain.locateTransaction(tx.hash))!;
    t.same((await chain.block(place.height))!.txs[place.index], tx.bytes);
  }
  t.match(await chain.block(0), { header: { height: 0 }, txs: [], sidecars: [] });
  t.equal(await chain.certificate(0), null);
  t.same(await chain.receipts(0), []);
  t.same(await chain.validatorsAt(0), cluster.net.genesis.validators);
  t.same(await chain.validatorsAt(head.height + 1), cluster.net.genesis.validators, 'the next set is known already');
  const none = head.height + 2;
  t.same(await Promise.all([chain.header(none), chain.block(none), chain.receipts(none), chain.validatorsAt(none)]), [
    null,
    null,
    null,
    null,
  ]);
  t.equal(await chain.heightOfBlock(new Uint8Array(32)), null);
  t.equal(await chain.locateTransaction(new Uint8Array(32)), null);
});

t.test('the state: one height for all answers, proofs that lead to its root', async (t) => {
  const served = await serve(t);
  await ready(served);
  const { ports, cluster } = served;
  await submitAll(
    served,
    Array.from({ length: 6 }, (_, n) => enrolPatient(cluster.net, n % 4)),
  );
  const accounts = prefixRange(statePrefix.accounts());
  const absent = stateKey.account(new Uint8Array(20));
  const { at, answers } = await ports.state.read([
    { kind: 'get', key: stateKey.params(), prove: true },
    { kind: 'get', key: absent, prove: true },
    { kind: 'get', key: absent },
    { kind: 'range', ...accounts, limit: 1_000, prove: true },
    { kind: 'range', ...accounts, limit: 4, prove: true },
    { kind: 'range', ...accounts, limit: 4 },
    { kind: 'range', ...accounts, limit: 1_000, reverse: true },
  ]);
  const { header, hash } = (await ports.chain.header(at.height))!;
  t.same(at.hash, hash);
  const [params, missing, unproven, all, cut, page, reversed] = answers as unknown as [
    GetAnswer,
    GetAnswer,
    GetAnswer,
    RangeAnswer,
    RangeAnswer,
    RangeAnswer,
    RangeAnswer,
  ];
  t.equal(decodeTrusted(paramsEntry, params.value!, 'parameters').viewTimeoutMs, quick.viewTimeoutMs);
  const present = verifyProof(header.stateRoot, stateKey.params(), params.proof!);
  t.same(present, { ok: true, value: { present: true, value: params.value } });
  t.same(verifyProof(header.stateRoot, absent, missing.proof!), { ok: true, value: { present: false } });
  t.same(unproven, { kind: 'get', value: null, proof: null });
  t.equal(all.entries.length, 10, 'four administrators and six patients');
  t.same([all.more, all.provenLt], [false, accounts.lt]);
  t.same(verifyRange(header.stateRoot, accounts, all.proof!), { ok: true, value: all.entries });
  t.same(cut.entries, all.entries.slice(0, 4));
  t.equal(cut.more, true);
  t.same(verifyRange(header.stateRoot, { gte: accounts.gte, lt: cut.provenLt }, cut.proof!), {
    ok: true,
    value: cut.entries,
  });
  t.same([page.entries, page.more, page.proof], [all.entries.slice(0, 4), true, null]);
  t.same([reversed.entries, reversed.more], [[...all.entries].reverse(), false]);

  const long: StateQuery[] = Array.from({ length: 64 }, () => ({
    kind: 'range',
    ...accounts,
    limit: 1_000,
    prove: true,
  }));
  const reading = ports.state.read(long);
  const commit = submitAll(served, [enrolPatient(cluster.net, 0)]);
  const read = await reading;
  await commit;
  t.equal(new Set(read.answers.map((answer) => bytesToHex((answer as RangeAnswer).proof!))).size, 1);
  t.same(read.at, at, 'a block that is committed meanwhile changes nothing of a read');
  await t.rejects(ports.state.read([...long, { kind: 'get', key: absent }]), { name: 'InvariantError' });
});

type GetAnswer = Extract<StateAnswer, { kind: 'get' }>;
type RangeAnswer = Extract<StateAnswer, { kind: 'range' }>;

t.test('transactions from submission to block, and those that no block gets', async (t) => {
  const served = await serve(t, 2);
  const { ports, cluster } = served;
  const { transactions } = ports;
  const early = enrolPatient(cluster.net, 0);
  t.equal(
    mustFail(await transactions.submit(early.bytes, null)),
    'NOT_READY',
    'two of four do not know where they are',
  );
  t.match(ports.node.status(), { stalledReason: { code: 'STARTING' }, syncing: false, highestKnownHeight: 0 });
  const dir = t.testdir({});
  await cluster.start(2, await openLevelStore(join(dir, '2')));
  await ready(served);

  const dropped: string[] = [];
  transactions.onDropped(({ hash, code }) => dropped.push(`${bytesToHex(hash)} ${code}`));
  // While nothing can be committed, the pool shows what waits.
  cluster.hub.passes = () => false;
  const waiting = Array.from({ length: 5 }, (_, n) => enrolPatient(cluster.net, n % 4));
  const [first] = waiting as [TestTransaction];
  t.same(await transactions.status(first.hash), { kind: 'unknown' });
  const simulated = await transactions.simulate(first.bytes, null);
  t.ok(simulated.verdict.ok && simulated.verdict.value.length > 0, 'it says what it would do');
  t.same(simulated.at, { height: ports.chain.head().height, hash: ports.chain.head().hash });
  t.same(await transactions.status(first.hash), { kind: 'unknown' }, 'and keeps nothing');
  for (const { bytes, hash } of waiting) {
    t.same(await transactions.submit(bytes, null), { ok: true, value: { hash } });
  }
  t.equal(mustFail(await transactions.submit(first.bytes, null)), 'ALREADY_PENDING');
  t.equal(mustFail(await transactions.submit(first.bytes.slice(1), null)), 'MALFORMED');
  t.same(await transactions.status(first.hash), { kind: 'pending' });
  const page = transactions.pending({ limit: 3, after: null });
  const rest = transactions.pending({ limit: 3, after: page[2]!.hash });
  t.same(
    [...page, ...rest].map(({ hash }) => hash),
    waiting.map(({ hash }) => hash),
    'in the order of arrival',
  );
  t.match(page[0], {
    account: cluster.net.hospitals[0]!.admin.address,
    callKind: 'account.enrol',
    sizeBytes: first.bytes.length,
  });
  t.match(transactions.poolStatus(), {
    transactions: 5,
    bytes: waiting.reduce((sum, { bytes }) => sum + bytes.length, 0),
    maxTransactions: 5_000,
  });
  t.equal(transactions.poolStatus().rejected.get('MALFORMED'), 1);

  cluster.hub.passes = () => true;
  await cluster.committed(waiting);
  const place = await transactions.status(first.hash);
  t.equal(place.kind, 'committed');
  t.equal(mustFail(await transactions.submit(first.bytes, null)), 'ALREADY_COMMITTED');
  t.same(dropped, []);
});

/** A patient whose key the test has, enrolled at hospital `index`, and a policy for its records. */
async function patientWithPolicy(
  served: Served,
  index: number,
): Promise<{ patient: Sm2Signer; policyRef: Uint8Array }> {
  const { net } = served.cluster;
  const { orgId, admin } = net.hospitals[index]!;
  const patient = signerFor(`record owner/${orgId}`);
  const enrolment: Enrolment = {
    publicKey: patient.publicKey,
    orgId,
    kind: 'patient',
    personTag: null,
    custodial: false,
  };
  const document: PolicyDocument = {
    nonce: new Uint8Array(16).fill(index),
    orgId,
    rules: [
      {
        purposes: ['TREAT'],
        requesters: [{ role: 'physician', scope: { kind: 'any' }, department: null }],
        categories: null,
        maxDurationMs: 3_600_000,
        approvals: { kind: 'owner' },
      },
    ],
    adminRule: { kind: 'owner' },
    custodian: false,
    patientWrap: true,
    recovery: false,
  };
  const possession = patient.sign(enrolmentPossessionHash(net.chainId, enrolment));
  await submitAll(served, [
    signCall(net.chainId, admin, { kind: 'account.enrol', enrolment, possession, countersignature: null }),
    signCall(net.chainId, admin, { kind: 'policy.create', document }),
  ]);
  return { patient, policyRef: policyRefOf(document) };
}

const SIDECAR = encodeSidecar({
  kind: 'wraps',
  wraps: [{ to: { kind: 'patient' }, ciphertext: new Uint8Array(165).fill(7) }],
});

/** A record that says of its ciphertext what it is told to. */
function recordOf(
  served: Served,
  writer: Hospital,
  owner: { readonly patient: Sm2Signer; readonly policyRef: Uint8Array },
  blob: { readonly cid: Uint8Array; readonly sizeBytes: number; readonly dataDigest: Uint8Array },
): TestTransaction {
  const { chainId } = served.cluster.net;
  const content: RecordContent = {
    policyRef: owner.policyRef,
    ...blob,
    categoryToken: new Uint8Array(32),
    headerHash: new Uint8Array(32),
    keyCheck: new Uint8Array(16),
    capsule: { kind: 'direct' },
    sidecarHash: sidecarHash(SIDECAR),
    ownerPublicKey: owner.patient.publicKey,
    ownerSignature: new Uint8Array(64),
  };
  const call: CallOf<'record.create'> & { readonly kind: 'record.create' } = {
    kind: 'record.create',
    owner: owner.patient.address,
    hospital: writer.orgId,
    nonce: blob.dataDigest.slice(0, 16),
    sectionClass: 'general',
    content,
  };
  const ownerSignature = owner.patient.sign(ownerWriteHash(chainId, writer.admin.address, call));
  return signCall(chainId, writer.admin, { ...call, content: { ...content, ownerSignature } });
}

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(new TextEncoder().encode(text));
}

t.test('a record must name ciphertext that is here, as it is', async (t) => {
  const served = await serve(t);
  await ready(served);
  const { ports, cluster, faults } = served;
  const [own, other] = cluster.net.hospitals as [Hospital, Hospital];
  const owner = await patientWithPolicy(served, 0);
  const submit = async (tx: TestTransaction): Promise<string> =>
    mustFail(await ports.transactions.submit(tx.bytes, SIDECAR));
  const nobodys = { cid: Uint8Array.from([1, 0x70, 0x12, 32, ...new Uint8Array(32).fill(9)]), sizeBytes: 64 };
  t.equal(await submit(recordOf(served, own, owner, { ...nobodys, dataDigest: new Uint8Array(32) })), 'BLOB_UNKNOWN');

  const upload = { account: own.admin.address, orgId: own.orgId, declaredBytes: null };
  const put = await ports.blobs.put(bytesOf('ciphertext'), upload, new AbortController().signal);
  const stored = (put as { readonly value: StoredBlob }).value;
  const { sizeBytes, dataDigest } = stored;
  const cid = CID.parse(stored.cid).bytes;
  t.equal(await submit(recordOf(served, own, owner, { cid, sizeBytes: 11, dataDigest })), 'BLOB_SIZE_MISMATCH');
  const wrong = dataDigest.slice().reverse();
  t.equal(await submit(recordOf(served, own, owner, { cid, sizeBytes, dataDigest: wrong })), 'BLOB_DIGEST_MISMATCH');
  const elsewhere = await patientWithPolicy(served, 1);
  t.equal(await submit(recordOf(served, other, elsewhere, { cid, sizeBytes, dataDigest })), 'WRONG_HOSPITAL');

  const good = recordOf(served, own, owner, { cid, sizeBytes, dataDigest });
  const unsigned = { ...good, bytes: good.bytes.slice() };
  unsigned.bytes[unsigned.bytes.length - 1]! ^= 1;
  t.equal(await submit(unsigned), 'BAD_SIGNATURE', 'who is not the writer learns nothing of the ciphertext');
  await submitAll(served, [good], SIDECAR);
  t.equal(await submit(good), 'ALREADY_COMMITTED');
  t.same(faults, []);
});

t.test('who leads, who is up, who this node is', async (t) => {
  const served = await serve(t);
  await ready(served);
  const { ports, cluster } = served;
  const { net } = cluster;
  for (let n = 0; n < 3; n += 1) {
    const { height, view, leader, phase } = ports.consensus.state();
    t.same([height, phase], [ports.chain.head().height + 1, 'idle']);
    await submitAll(served, [enrolPatient(net, n)]);
    const { header } = (await ports.chain.header(height))!;
    if (header.view === view) t.same(header.proposer, leader, 'the leader that was named proposed');
    t.equal(header.height, height);
  }
  const { height } = ports.chain.head();
  await until(
    () => ports.consensus.validators().every((one) => one.executedHeight === height),
    10_000,
    () => cluster.describe(),
  );
  const all = ports.consensus.validators();
  t.same(
    all.map(({ address }) => address),
    net.genesis.validators.map(({ address }) => address),
  );
  t.ok(all.every(({ connected }) => connected));
  t.ok(all.some(({ lastSignedHeight }) => lastSignedHeight === height));
  t.equal(ports.network.peers().length, 3);
  t.ok(ports.network.peers().every(({ address }) => !equalBytes(address, net.hospitals[0]!.validator.address)));
  cluster.running[3]!.kill();
  t.equal(ports.network.peers().filter(({ connected }) => connected).length, 2);
  t.equal(ports.consensus.validators().filter(({ connected }) => connected).length, 3);
  t.match(ports.node.info(), { version: '1.2.3', orgId: net.hospitals[0]!.orgId, role: 'validator' });
  t.match(ports.node.status(), { syncing: false, highestKnownHeight: height, stalledReason: null });

  const account = net.hospitals[1]!.admin.address;
  const { answers } = await ports.state.read([{ kind: 'get', key: stateKey.account(account) }]);
  const entry = decodeTrusted(accountEntry, (answers[0] as GetAnswer).value!, 'account');
  t.equal(entry.orgId, net.hospitals[1]!.orgId);
  const { decision, at } = await ports.access.checkAccess({
    subject: account,
    recordId: new Uint8Array(32),
    purpose: 'TREAT',
  });
  t.match([decision.decision, decision.reason, at.height], ['deny', 'RECORD_UNKNOWN', height]);
  t.equal((await ports.access.explainRequest(new Uint8Array(32))).explanation, null);
});

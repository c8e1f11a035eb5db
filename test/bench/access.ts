/**
 * npm run bench -- access: what reading a record takes of the chain, for a record that 10 to 100,000 people may read already,
 * and under rules that take 1 to 20 approvals.
 */
import { join } from 'node:path';
import { verifyProof } from '../../common/protocol/state-proof.ts';
import { type ApprovalNode, type PolicyDocument, policyRefOf } from '../../common/protocol/policy.ts';
import { recordIdOf } from '../../common/protocol/record.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import { requestHashOf } from '../../common/protocol/transaction.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { spread } from '../../scripts/bench/measure.ts';
import { checkGrant } from '../../vm/index.ts';
import { proveKey, rootHashOf } from '../../vm/state-tree/index.ts';
import type { CheckedTransaction } from '../../vm/types.ts';
import { benchKey } from './load/bench-key.ts';
import { type BlockCosts, blockCosts } from './load/block-costs.ts';
import { implantReaders, readersGrant, type ReadRecord } from './load/readers.ts';
import { PreparedChain } from './load/prepared-chain.ts';
import { seated } from './load/seated.ts';
import { POLICY, Town } from './load/town.ts';
import { blank, type Origin } from './load/transactions.ts';
import { inWorkFolder } from './load/work-folder.ts';

const quick = process.argv.includes('--quick');
const READERS = quick ? [10, 1_000] : [10, 100, 1_000, 10_000, 100_000];
/** A rule has at most twelve slots: under the last, twenty approve and twelve of them fill it. */
const APPROVERS = [1, 2, 3, 5, 8, 12, 20];
const MAX_SLOTS = 12;
const APPROVERS_AT_READERS = 3;
/** Readings in one block, and blocks. */
const READINGS = 10;
const BLOCKS = 8;
const WARM_UP = 3;
const LOOKS = 200;
/** Of the town's physicians, those who ask; the others approve. */
const ASKING = 200;

const town = new Town(4, 50);
const physician: ApprovalNode = {
  kind: 'role',
  role: 'physician',
  scope: { kind: 'any' },
  department: null,
};

function policyFor(approvers: number): PolicyDocument {
  const slots = Math.min(approvers, MAX_SLOTS);
  const of: ApprovalNode[] = [{ kind: 'owner' }, ...Array.from({ length: slots - 1 }, () => physician)];
  const [rule] = POLICY.rules;
  if (rule === undefined) throw new Error('the policy has a rule');
  const nonce = new Uint8Array(16).fill(approvers);
  return { ...POLICY, nonce, rules: [{ ...rule, approvals: { kind: 'threshold', k: slots, of } }] };
}

/** A policy, and a record of a patient under it. */
async function recordUnder(chain: PreparedChain, origin: Origin, approvers: number): Promise<ReadRecord> {
  const document = policyFor(approvers);
  const policyRef = policyRefOf(document);
  const patient = approvers;
  const { writer, call, sidecar } = town.record(patient);
  const content = { ...call.content, policyRef };
  await chain.commit([blank(origin, town.admin(0), { kind: 'policy.create', document })]);
  await chain.commit([blank(origin, writer, { ...call, content }, sidecar)]);
  const recordId = recordIdOf(writer.address, call.owner, call.nonce, call.sectionClass);
  return { recordId, policyRef, owner: town.patient(patient), orgId: call.hospital };
}

let asked = 0;

/** A request and its approvals, the owner's last. */
function reading(chain: PreparedChain, origin: Origin, { recordId, owner }: ReadRecord, approvers: number) {
  asked += 1;
  const asking = asked % ASKING;
  const request = {
    ...town.request(0, asking, 'three', benchKey('asked', asked).publicKey, chain.timestampMs),
    recordId,
  };
  const hash = requestHashOf(origin.chainId, request);
  const possession = new Uint8Array(64);
  const others = Array.from({ length: approvers - 1 }, (_, n) => town.physician(ASKING + n));
  return [
    blank(origin, town.physician(asking), { kind: 'access.request', request, possession }),
    ...[...others, owner].map((by) => blank(origin, by, { kind: 'access.approve', requestHash: hash })),
  ];
}

/** Costs of one reading: of all its transactions together. */
async function readingCosts(chain: PreparedChain, origin: Origin, record: ReadRecord, approvers: number) {
  const txs: CheckedTransaction[] = Array.from({ length: READINGS * BLOCKS }, () =>
    reading(chain, origin, record, approvers),
  ).flat();
  const each: BlockCosts = await blockCosts(chain, txs, READINGS * (approvers + 1), WARM_UP);
  const all = (us: number): number => us * (approvers + 1);
  return { rulesUs: all(each.rulesUs), treeUs: all(each.treeUs), writes: all(each.writes) };
}

function timed(run: (index: number) => unknown): number {
  const costs: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const before = process.cpuUsage();
    for (let n = 0; n < LOOKS; n += 1) run(n);
    const { user, system } = process.cpuUsage(before);
    costs.push((user + system) / LOOKS);
  }
  return spread(costs).median;
}

/** What custodians and readers do with a grant. */
function grantCosts(chain: PreparedChain, readers: number) {
  const { state } = chain.executor;
  const hashes = Array.from({ length: LOOKS }, (_, n) => readersGrant(Math.floor((n * readers) / LOOKS)));
  const of = (index: number): Uint8Array => hashes[index] as Uint8Array;
  const proofs = hashes.map((hash) => proveKey(state.nodes, state.root, stateKey.request(hash)));
  const root = rootHashOf(state.root);
  return {
    checkUs: timed((n) => {
      if (!checkGrant(state.reader, of(n), chain.timestampMs).ok) throw new Error('no grant');
    }),
    proveUs: timed((n) => proveKey(state.nodes, state.root, stateKey.request(of(n)))),
    verifyUs: timed((n) => {
      if (!verifyProof(root, stateKey.request(of(n)), proofs[n] as Uint8Array).ok) throw new Error('no proof');
    }),
    proofBytes: proofs.reduce((sum, proof) => sum + proof.length, 0) / proofs.length,
  };
}

await inWorkFolder(async (dir) => {
  const net = seated(town);
  const kv = await openLevelStore(join(dir, 'db'));
  const validators = net.hospitals.map(({ validator }) => validator);
  const chain = await PreparedChain.open(kv, net.genesis, validators);
  const origin = { chainId: net.chainId, validUntilMs: chain.timestampMs + 500_000 };
  const patients = Array.from({ length: town.patientCount }, (_, patient) => town.enrolment(patient));
  await chain.commit(patients.map(({ by, call }) => blank(origin, by, call)));
  const records = new Map<number, ReadRecord>();
  for (const approvers of APPROVERS) records.set(approvers, await recordUnder(chain, origin, approvers));
  const recordOf = (approvers: number): ReadRecord => records.get(approvers) as ReadRecord;

  await readingCosts(chain, origin, recordOf(APPROVERS_AT_READERS), APPROVERS_AT_READERS);
  const byApprovers: number[][] = [];
  for (const approvers of APPROVERS) {
    const { rulesUs, treeUs, writes } = await readingCosts(chain, origin, recordOf(approvers), approvers);
    byApprovers.push([approvers, rulesUs, rulesUs / (approvers + 1), treeUs, writes]);
  }
  const byReaders: (string | number)[][] = [];
  let there = 0;
  for (const readers of READERS) {
    await implantReaders(chain, town, recordOf(APPROVERS_AT_READERS), there, readers);
    there = readers;
    const { rulesUs, treeUs } = await readingCosts(chain, origin, recordOf(APPROVERS_AT_READERS), APPROVERS_AT_READERS);
    const { checkUs, proveUs, verifyUs, proofBytes } = grantCosts(chain, readers);
    byReaders.push([readers.toLocaleString('en'), rulesUs, treeUs, checkUs, proveUs, verifyUs, proofBytes]);
  }
  await kv.close();
  const line = (name: string, column: number) => ({
    name,
    points: byReaders.map((row, index) => [READERS[index] ?? 0, Number(row[column])] as const),
  });
  process.stdout.write(
    JSON.stringify({
      rows: [],
      ratios: [],
      tables: [
        {
          title: `One more reading of a record that many may read: a request, ${APPROVERS_AT_READERS} approvals, a grant; processor time in µs`,
          head: [
            'readers before',
            'rules',
            'state tree',
            'grant checked',
            'proof made',
            'proof verified',
            'proof bytes',
          ],
          rows: byReaders,
        },
        {
          title: 'One reading by the approvals that it takes, processor time in µs',
          head: ['approvals', 'rules', 'of it for one transaction', 'state tree', 'entries written'],
          rows: byApprovers,
        },
      ],
      plots: [
        {
          name: 'access-readers',
          title: 'One more reading of a record that many may read',
          x: { title: 'readers before', logarithmic: true },
          y: { title: 'processor time, microseconds' },
          lines: [line('rules', 1), line('state tree', 2), line('proof made', 4), line('proof verified', 5)],
        },
        {
          name: 'access-approvers',
          title: 'One reading by the approvals that it takes',
          x: { title: 'approvals' },
          y: { title: 'processor time, microseconds' },
          lines: [{ name: 'rules', points: byApprovers.map(([n = 0, us = 0]) => [n, us] as const) }],
        },
      ],
    }),
  );
});

/**
 * What a block costs a node beside signatures and network: `state.ts [--keep DIR] [RECORDS ...]`, one process, a database on
 * disk. Blocks of one kind of call at a time, on states of so many records; the stages of each block one after the other,
 * as a node has them. The first to touch a part of the state pays for reading it, as in a node. With `--keep` the state
 * stays in DIR and is gone on with: a million records take minutes to write.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { u32be, utf8 } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { H } from '../../common/crypto/hash.ts';
import {
  type AccessRequest,
  type Call,
  type CallOf,
  decodeTransaction,
  encodeSidecar,
  requestHashOf,
  type Sidecar,
  sidecarHash,
  signedTransaction,
  transactionBody,
} from '../../common/protocol/transaction.ts';
import { Executor } from '../../node/execution/executor.ts';
import { type ChainStore, openChainStore } from '../../node/storage/chain-store.ts';
import { openLevelStore } from '../../node/storage/level-store.ts';
import { openStateHistory } from '../../node/storage/state-history.ts';
import { type CheckedTransaction, executeBlock, obligations } from '../../vm/index.ts';
import { applyWrites } from '../../vm/state-tree/index.ts';
import { HospitalState, type Person, writeHospitalState } from './hospital-state.ts';

const BLOCK_MS = 20_000;
const VALIDITY_MS = 60_000;
const KEEP_STATES = 8;
const SIZES = [100, 500];
/** Rounds of one block of each kind; the first ones are for the compiler and are not counted. */
const ROUNDS = 8;
const WARM_UP = 2;

const STAGES = ['decode', 'obligations', 'execute', 'tree', 'build', 'batch', 'prune'] as const;
type Stage = (typeof STAGES)[number];
interface Cost {
  /** Of the thread that runs JavaScript. */
  readonly mainUs: number;
  /** Of the whole process, its database's threads included. */
  readonly allUs: number;
}

interface Unsigned {
  readonly from: Person;
  readonly call: Call;
  readonly sidecar?: Sidecar;
}

/** Makes calls that succeed, each on a part of the state that the one before did not touch. */
class Load {
  readonly state: HospitalState;
  #made = 0;
  #nextRecord = 0;
  #nextStaff = 0;
  readonly #prefix: string;

  constructor(state: HospitalState, run: string) {
    this.state = state;
    this.#prefix = run;
  }

  fresh(what: string): Uint8Array {
    this.#made += 1;
    return H('bench-load', utf8(this.#prefix), utf8(what), u32be(this.#made));
  }

  create(): Unsigned {
    const { state } = this;
    const owner = state.patient(this.#pick(state.patients));
    const seed = this.fresh('record');
    const sidecar: Sidecar = {
      kind: 'wraps',
      wraps: [
        { to: { kind: 'patient' }, ciphertext: new Uint8Array(165).fill(7) },
        { to: { kind: 'custodian', orgId: owner.orgId }, ciphertext: new Uint8Array(165).fill(7) },
      ],
    };
    const content = { ...state.content(owner, seed), sidecarHash: sidecarHash(encodeSidecar(sidecar)) };
    const nonce = seed.slice(0, 16);
    const call: Call = {
      kind: 'record.create',
      owner: owner.id,
      hospital: owner.orgId,
      nonce,
      sectionClass: 'general',
      content,
    };
    return { from: state.writerOf(owner), call, sidecar };
  }

  /** Of a record that has been there from the beginning. */
  request(nowMs: number): { readonly unsigned: Unsigned; readonly owner: Person; readonly request: AccessRequest } {
    const { state } = this;
    // Steps over the ids evenly: neighbours in the tree do not meet in one block.
    this.#nextRecord = (this.#nextRecord + 618_033) % state.records;
    const recordId = state.recordId(this.#nextRecord);
    const from = state.physicians[this.#pick(state.physicians.length)] as Person;
    const requesterKey = new Uint8Array(64);
    requesterKey.set(this.fresh('request'));
    const request: AccessRequest = {
      recordId,
      version: 1,
      requester: from.id,
      requesterKey,
      purpose: 'TREAT',
      ruleIndex: 0,
      policyVersion: 1,
      notAfterMs: nowMs + 3_600_000,
      nonce: this.fresh('nonce').slice(0, 16),
    };
    const call: Call = { kind: 'access.request', request, possession: new Uint8Array(64) };
    return { unsigned: { from, call }, owner: state.ownerOf(this.#nextRecord), request };
  }

  role(): Unsigned {
    // In turn: an account has few roles.
    this.#nextStaff = (this.#nextStaff + 1) % this.state.physicians.length;
    const to = this.state.physicians[this.#nextStaff] as Person;
    const administrator = this.state.administrators.find(({ orgId }) => orgId === to.orgId) as Person;
    const scope = {
      account: to.id,
      role: 'researcher',
      orgId: to.orgId,
      department: this.fresh('department'),
    } as const;
    return { from: administrator, call: { kind: 'role.grant', scope, expiresAtMs: Number.MAX_SAFE_INTEGER } };
  }

  #pick(among: number): number {
    const digest = this.fresh('pick');
    return (((digest[0] as number) << 16) | ((digest[1] as number) << 8) | (digest[2] as number)) % among;
  }

  sign(
    { from, call, sidecar }: Unsigned,
    nowMs: number,
  ): { readonly bytes: Uint8Array; readonly sidecar: Sidecar | null } {
    const body = encode(transactionBody, {
      version: 1,
      chainId: this.state.chainId,
      account: from.id,
      nonce: this.fresh('nonce').slice(0, 16),
      validUntilMs: nowMs + VALIDITY_MS,
      call,
    });
    const signature = new Uint8Array(64);
    return {
      bytes: encode(signedTransaction, { body, publicKey: from.publicKey, signature }),
      sidecar: sidecar ?? null,
    };
  }
}

async function timed<T>(into: Map<Stage, Cost[]>, stage: Stage, per: number, work: () => T | Promise<T>): Promise<T> {
  const main = process.threadCpuUsage();
  const all = process.cpuUsage();
  const value = await work();
  const mainSpent = process.threadCpuUsage(main);
  const allSpent = process.cpuUsage(all);
  const costs = into.get(stage) ?? [];
  into.set(stage, costs);
  costs.push({ mainUs: (mainSpent.user + mainSpent.system) / per, allUs: (allSpent.user + allSpent.system) / per });
  return value;
}

class Chain {
  readonly store: ChainStore;
  readonly executor: Executor;
  readonly prune: () => Promise<void>;
  readonly load: Load;
  writes = 0;
  nodes = 0;
  bytes = 0;

  constructor(store: ChainStore, executor: Executor, prune: () => Promise<void>, load: Load) {
    this.store = store;
    this.executor = executor;
    this.prune = prune;
    this.load = load;
  }

  get nowMs(): number {
    return this.executor.head.header.timestampMs + BLOCK_MS;
  }

  /** One block of these calls, stage by stage. */
  async block(calls: readonly Unsigned[], into: Map<Stage, Cost[]>): Promise<void> {
    const { executor, store, nowMs: timestampMs } = this;
    const signed = calls.map((each) => this.load.sign(each, timestampMs));
    const per = calls.length;
    const txs = await timed(into, 'decode', per, () =>
      signed.map(({ bytes, sidecar }): CheckedTransaction => {
        const tx = decodeTransaction(bytes);
        if (!tx.ok) throw new Error(tx.message);
        return { tx: tx.value, sidecar };
      }),
    );
    await timed(into, 'obligations', per, () => {
      for (const { tx } of txs) obligations(this.load.state.chainId, tx);
    });
    const { head, state } = executor;
    const height = head.height + 1;
    const { chainId } = this.load.state;
    const context = { chainId, height, timestampMs, parentStateRoot: head.header.stateRoot };
    const executed = await timed(into, 'execute', per, () => executeBlock(state.reader, context, txs));
    if (!executed.ok) throw new Error(`${executed.code}: ${executed.message}`);
    const applied = await timed(into, 'tree', per, () =>
      applyWrites(state.nodes, head.root, executed.value.writes, height),
    );
    this.writes = executed.value.writes.length / per;
    this.nodes = applied.newNodes.length / per;
    this.bytes = applied.newNodes.reduce((sum, { bytes }) => sum + bytes.length, 0) / per;
    const proposer = (head.validators[0] as { readonly address: Uint8Array }).address;
    // All of it again, and what `execute` and `tree` leave out: roots, receipts, and what the head is afterwards.
    const built = await timed(into, 'build', per, () =>
      executor.build({ view: 0, proposer, timestampMs, candidates: txs }),
    );
    const kept = executor.executed(built.proposal.hash);
    if (kept === undefined || built.included !== per) throw new Error(`${built.included} of ${per} included`);
    const certificate = { height, view: 0, blockHash: built.proposal.hash, signatures: [] };
    await timed(into, 'batch', per, () => store.commitBlock(executor.toCommit(kept, certificate)));
    executor.advance(kept);
    await timed(into, 'prune', per, () => this.prune());
  }
}

async function open(
  dir: string,
  state: HospitalState,
  run: string,
): Promise<{ chain: Chain; close: () => Promise<void> }> {
  const kv = await openLevelStore(dir);
  const isNew =
    kv.getSync(utf8('no such key')) === undefined &&
    (await kv.scan({ gte: Uint8Array.of(0), lt: Uint8Array.of(255), limit: 1 })).length === 0;
  const first = isNew ? await writeHospitalState(kv, state) : undefined;
  const store = await openChainStore(kv, state.genesis, () => first as never);
  const history = await openStateHistory(kv, store.readers);
  const prune = async (): Promise<void> => {
    const keepFrom = store.head.header.height - KEEP_STATES;
    if (keepFrom > 0) while (await history.step(keepFrom));
  };
  return { chain: new Chain(store, Executor.open(store), prune, new Load(state, run)), close: () => kv.close() };
}

type Kind = 'create' | 'request' | 'approve' | 'revoke' | 'role';
type Costs = Map<Kind, Map<Stage, Cost[]>>;

async function round(chain: Chain, size: number, into: Costs, about: Map<Kind, string>): Promise<void> {
  const times = <T>(make: () => T): T[] => Array.from({ length: size }, make);
  const run = async (kind: Kind, calls: readonly Unsigned[]): Promise<void> => {
    const costs = into.get(kind) ?? new Map<Stage, Cost[]>();
    into.set(kind, costs);
    await chain.block(calls, costs);
    about.set(
      kind,
      `${chain.writes.toFixed(1)} writes, ${chain.nodes.toFixed(1)} nodes, ${chain.bytes.toFixed(0)} bytes`,
    );
  };
  const { load } = chain;
  await run(
    'create',
    times(() => load.create()),
  );
  const asked = times(() => load.request(chain.nowMs));
  await run(
    'request',
    asked.map(({ unsigned }) => unsigned),
  );
  const hashes = asked.map(({ owner, request }) => ({
    owner,
    requestHash: requestHashOf(load.state.chainId, request),
  }));
  const decide = (kind: 'access.approve' | 'access.revoke') =>
    hashes.map(({ owner: from, requestHash }) => ({
      from,
      call: (kind === 'access.approve'
        ? { kind, requestHash }
        : { kind, requestHash, reason: 'NOT_NEEDED' }) as CallOf<'access.approve'>,
    }));
  await run('approve', decide('access.approve'));
  await run('revoke', decide('access.revoke'));
  await run(
    'role',
    times(() => load.role()),
  );
}

const mean = (of: readonly number[]): number => of.reduce((sum, each) => sum + each, 0) / of.length;

function print(records: number, size: number, costs: Costs, about: Map<Kind, string>): void {
  process.stdout.write(
    `\n${records} records, ${size} transactions in a block: us per transaction, thread / process, means\n`,
  );
  process.stdout.write(`${'call'.padEnd(9)}${STAGES.map((stage) => stage.padStart(14)).join('')}\n`);
  for (const [kind, stages] of costs) {
    const cells = STAGES.map((stage) => {
      const of = stages.get(stage) ?? [];
      // Not medians: the system counts a thread's time by its ticks, which are longer than most of these.
      const main = mean(of.map(({ mainUs }) => mainUs));
      const all = mean(of.map(({ allUs }) => allUs));
      return `${main.toFixed(1)}/${all.toFixed(1)}`.padStart(14);
    });
    process.stdout.write(`${kind.padEnd(9)}${cells.join('')}   ${about.get(kind)}\n`);
  }
}

async function measure(dir: string, records: number): Promise<void> {
  const began = performance.now();
  const { chain, close } = await open(dir, new HospitalState(records), `${process.pid} ${began}`);
  process.stdout.write(
    `\nstate of ${records} records: opened in ${((performance.now() - began) / 1000).toFixed(1)} s\n`,
  );
  for (const size of SIZES) {
    const costs: Costs = new Map();
    const about = new Map<Kind, string>();
    for (let n = 0; n < WARM_UP; n++) await round(chain, size, new Map(), about);
    for (let n = 0; n < ROUNDS; n++) await round(chain, size, costs, about);
    print(records, size, costs, about);
  }
  const { rss, heapUsed } = process.memoryUsage();
  process.stdout.write(`memory ${(rss / 2 ** 20).toFixed(0)} MiB, of it heap ${(heapUsed / 2 ** 20).toFixed(0)} MiB\n`);
  await close();
}

const { values, positionals } = parseArgs({ options: { keep: { type: 'string' } }, allowPositionals: true });
for (const records of (positionals.length > 0 ? positionals : ['1000', '100000']).map(Number)) {
  const dir =
    values.keep === undefined ? mkdtempSync(join(tmpdir(), 'emrchain-state-')) : join(values.keep, `${records}`);
  try {
    await measure(dir, records);
  } finally {
    if (values.keep === undefined) rmSync(dir, { recursive: true, force: true });
  }
}

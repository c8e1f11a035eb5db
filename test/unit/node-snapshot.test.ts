import t from 'tap';
import { compareBytes } from '../../common/bytes.ts';
import { EmrError } from '../../common/errors.ts';
import { createOpensslEngine } from '../../common/native/sm2-openssl.ts';
import { type BlockHeader, blockHash, encodeHeader } from '../../common/protocol/block.ts';
import type { Handover } from '../../common/protocol/light.ts';
import { voteSigningHash } from '../../common/protocol/signing.ts';
import { verifyRange } from '../../common/protocol/state-proof.ts';
import {
  quorumSize,
  sortedValidatorSet,
  type ValidatorSet,
  validatorSetHash,
} from '../../common/protocol/validator-set.ts';
import { Executor } from '../../node/execution/executor.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';
import { decodeCertifiedBlock } from '../../node/host/wire.ts';
import type { Member } from '../../node/network/types.ts';
import { endsWithin, middleOf } from '../../node/snapshot/key-range.ts';
import { isSnapshotHeight } from '../../node/snapshot/snapshot-heights.ts';
import { SnapshotKeeper } from '../../node/snapshot/snapshot-keeper.ts';
import { SnapshotServer } from '../../node/snapshot/snapshot-server.ts';
import { TrustChain } from '../../node/snapshot/trust-chain.ts';
import {
  decodeEntries,
  decodeOffers,
  encodeSnapshotRequest,
  type KeyRange,
  type SnapshotRequest,
} from '../../node/snapshot/wire.ts';
import { openChainStore } from '../../node/storage/chain-store.ts';
import { openStateHistory } from '../../node/storage/state-history.ts';
import { SimulatedDisk } from '../crash/simulated-disk.ts';
import { commitOne } from '../integration/node-chain.ts';
import { ManualClock } from '../integration/node-clock.ts';
import { consortium, enrolPatient, peerIdFor, signerFor } from '../integration/node-consortium.ts';
import { flipBit } from '../integration/node-expect.ts';

const engine = createOpensslEngine();
const key = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes);

t.test('the middle of a range lies within it, or there is none', (t) => {
  const ranges: KeyRange[] = [
    { gte: key(), lt: null },
    { gte: key(0x20), lt: key(0x21) },
    { gte: key(0x20, 0xff, 0xff, 0xff, 0xff, 0xff), lt: key(0x21) },
    { gte: key(1, 2, 3), lt: key(1, 2, 3, 0, 0, 0, 9) },
    { gte: key(0xff, 0xff, 0xff, 0xff), lt: null },
    { gte: key(7), lt: key(7, 0) },
    { gte: new Uint8Array(126).fill(9), lt: new Uint8Array(127).fill(9) },
  ];
  const divided = ranges.map((range) => {
    const middle = middleOf(range);
    if (middle === null) return false;
    t.ok(compareBytes(range.gte, middle) < 0);
    t.ok(range.lt === null || compareBytes(middle, range.lt) < 0);
    t.ok(middle.length <= 128);
    return true;
  });
  t.same(divided, [true, true, false, true, false, false, false]);
  const whole = { gte: key(5), lt: key(9) };
  t.same(
    [key(9), key(6), key(5), key(9, 0), null].map((lt) => endsWithin(whole, lt)),
    [true, true, false, false, false],
  );
  t.equal(endsWithin({ gte: key(5), lt: null }, null), true);
  t.end();
});

t.test('heights that a newcomer can begin at', (t) => {
  t.same(
    [0, 1, 6, 7, 8, 15].map((height) => isSnapshotHeight(height, 8)),
    [false, false, false, true, false, true],
  );
  t.equal(isSnapshotHeight(5, 0), true, 'nobody is demoted on this chain');
  t.equal(isSnapshotHeight(5, 1), true, 'every height begins a span');
  t.end();
});

t.test('trust follows handovers, and nothing else', (t) => {
  const chainId = new Uint8Array(32).fill(7);
  const signers = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => ({ name, signer: signerFor(`trust/${name}`) }));
  const setOf = (names: string): ValidatorSet =>
    sortedValidatorSet(
      signers
        .filter(({ name }) => names.includes(name))
        .map(({ name, signer }) => ({
          orgId: `org-${name}`,
          publicKey: signer.publicKey,
          address: signer.address,
          peerId: peerIdFor(name),
        })),
    );
  const certified = (height: number, by: ValidatorSet, next: ValidatorSet, change: Partial<BlockHeader> = {}) => {
    const hash = new Uint8Array(32);
    const header = encodeHeader({
      chainId,
      height,
      view: 0,
      parentHash: hash,
      timestampMs: height,
      proposer: new Uint8Array(20),
      txRoot: hash,
      receiptsRoot: hash,
      stateRoot: hash,
      validatorsHash: validatorSetHash(by),
      nextValidatorsHash: validatorSetHash(next),
      ...change,
    });
    const message = voteSigningHash(change.chainId ?? chainId, 'commit', height, 0, blockHash(header));
    const signatures = by.slice(0, quorumSize(by.length)).map(({ address }, validator) => {
      const own = signers.find(({ signer }) => compareBytes(signer.address, address) === 0);
      return { validator, signature: (own as (typeof signers)[number]).signer.sign(message) };
    });
    return { header, certificate: { height, view: 0, blockHash: blockHash(header), signatures } };
  };
  const handover = (height: number, by: ValidatorSet, next: ValidatorSet): Handover => ({
    at: certified(height, by, next),
    nextValidators: [...next],
  });
  const [four, five, other] = [setOf('abcd'), setOf('abcde'), setOf('cdefg')];
  const trust = new TrustChain(chainId, four, engine);
  const first = handover(10, four, five);
  const second = handover(20, five, other);

  t.match(trust.extend(second), { ok: false, code: 'WRONG_VALIDATOR_SET' }, 'a step is left out');
  t.match(trust.extend(handover(10, four, four)), { ok: false, code: 'NO_HANDOVER' });
  t.match(trust.extend({ ...first, nextValidators: [...other] }), { ok: false, code: 'WRONG_VALIDATOR_SET' });
  const few = { ...first.at.certificate, signatures: first.at.certificate.signatures.slice(1) };
  t.match(trust.extend({ ...first, at: { ...first.at, certificate: few } }), { ok: false, code: 'CERTIFICATE_QUORUM' });
  const view = { ...first.at.certificate, view: 1 };
  t.match(trust.extend({ ...first, at: { ...first.at, certificate: view } }), {
    ok: false,
    code: 'CERTIFICATE_SIGNATURE',
  });
  const elsewhere = certified(10, four, five, { chainId: new Uint8Array(32) });
  t.match(trust.extend({ ...first, at: elsewhere }), { ok: false, code: 'CHAIN_ID_MISMATCH' });
  t.equal(trust.next, 1, 'nothing of it counted');

  t.match(trust.verify(certified(15, five, five), 15), { ok: false, code: 'WRONG_VALIDATOR_SET' }, 'not yet');
  t.match(trust.extend(first), { ok: true });
  t.equal(trust.next, 11);
  t.match(trust.extend(first), { ok: false, code: 'HEADER_TOO_OLD' }, 'twice is no step');
  t.match(trust.extend(second), { ok: true });
  t.match(trust.verify(certified(15, five, five), 15), { ok: true });
  t.match(trust.verify(certified(10, four, five), 10), { ok: true }, 'the header that hands over is of the old set');
  t.match(
    trust.verify(certified(11, four, four), 11),
    { ok: false, code: 'WRONG_VALIDATOR_SET' },
    'the old set is over',
  );
  t.match(trust.verify(certified(20, five, other), 20), { ok: true });
  t.match(trust.verify(certified(21, five, five), 21), { ok: false, code: 'WRONG_VALIDATOR_SET' });
  t.match(trust.verify(certified(21, other, other), 21), { ok: true });
  t.match(trust.verify(certified(15, five, five), 0), { ok: false, code: 'HEADER_TOO_OLD' });
  t.same(
    [10, 11, 20, 21].map((height) => trust.before(height).length),
    [0, 1, 1, 2],
  );
  t.end();
});

const SPAN = 4;
const net = consortium({ params: { leaderDemotionBlocks: SPAN } });

async function chainOf(blocks: number, stateEvery = 1) {
  const kv = new SimulatedDisk().open();
  const store = await openChainStore(kv, net.genesis, () => genesisBlock(net.genesis), stateEvery);
  const executor = Executor.open(store);
  const history = await openStateHistory(kv, store.readers);
  const grow = async (more: number, onBlock: () => void = () => {}): Promise<void> => {
    for (let block = 0; block < more; block += 1) {
      await commitOne(net, store, executor, [enrolPatient(net)]);
      onBlock();
    }
  };
  await grow(blocks);
  return { store, executor, history, grow };
}

t.test('snapshots are made by themselves at multiples, the latest are kept, and what is fetched stays', async (t) => {
  const { store, executor, history, grow } = await chainOf(0);
  const inUse = new Set<number>();
  const failures: unknown[] = [];
  const keeper = new SnapshotKeeper({
    settings: { everyBlocks: 3, keep: 2 },
    history,
    head: () => executor.head,
    hasState: (height) => store.stateRootAt(height) !== null,
    storeHead: () => store.storeState(executor.head),
    isInUse: (height) => inUse.has(height),
    changed: () => {},
    failed: (error) => failures.push(error),
  });
  t.equal(await keeper.createLatest(), null, 'there is no block yet');
  await grow(3, () => keeper.committed());
  await keeper.stop();
  t.same(keeper.heights, [3]);
  inUse.add(3);
  for (let span = 0; span < 4; span += 1) {
    await grow(SPAN, () => keeper.committed());
    await keeper.stop();
  }
  t.same(keeper.heights, [3, 15, 19]);
  inUse.clear();
  await grow(3, () => keeper.committed());
  t.same(keeper.heights, [3, 15, 19]);
  await grow(1, () => keeper.committed());
  await keeper.stop();
  t.same(keeper.heights, [19, 23]);
  await grow(2);
  t.equal(await keeper.createLatest(), 23, 'it is there already');
  t.equal(await keeper.create(22), true, 'whoever asks for a height gets it');
  t.same(failures, []);
});

t.test(
  'a snapshot that is asked for brings the state of the head to disk, if a newcomer can begin with it',
  async (t) => {
    const { store, executor, history, grow } = await chainOf(7, 100);
    const keeper = new SnapshotKeeper({
      settings: { everyBlocks: 0, keep: 2 },
      history,
      head: () => executor.head,
      hasState: (height) => store.stateRootAt(height) !== null,
      storeHead: () => store.storeState(executor.head),
      isInUse: () => false,
      changed: () => {},
      failed: (error) => t.fail(`${error}`),
    });
    t.equal(store.stateHeight, 0);
    t.equal(await keeper.createLatest(), 7);
    t.equal(store.stateHeight, 7);
    await grow(2);
    t.equal(await keeper.createLatest(), 7, 'nobody can begin with the one of 9');
    t.equal(store.stateHeight, 7);
    t.same(keeper.heights, [7]);
  },
);

t.test('the server shows what is there, and refuses what nobody can ask for', async (t) => {
  const { store, history } = await chainOf(9);
  const handlers: ((from: Member, payload: Uint8Array, signal: AbortSignal) => AsyncIterable<Uint8Array>)[] = [];
  const clock = new ManualClock(1_000);
  const server = new SnapshotServer({
    network: { onRequest: (_protocol, handler) => void handlers.push(handler) },
    store,
    history,
    clock,
    monotonicMs: () => 0,
  });
  server.start();
  const [handler] = handlers;
  const ask = async (payload: Uint8Array): Promise<Uint8Array[]> => {
    const frames: Uint8Array[] = [];
    const answer = handler?.({} as Member, payload, new AbortController().signal) ?? [];
    for await (const frame of answer) {
      frames.push(frame);
      clock.advance(1);
    }
    clock.advance(1);
    return frames;
  };
  const question = (request: SnapshotRequest): Promise<Uint8Array[]> => ask(encodeSnapshotRequest(request));
  const all = { gte: key(), lt: null };
  t.same(decodeOffers((await question({ kind: 'offers' }))[0] as Uint8Array), { ok: true, value: [] });
  await history.pin(7);
  while (await history.step(9));
  const offers = decodeOffers((await question({ kind: 'offers' }))[0] as Uint8Array);
  t.match(offers, { ok: true, value: [{ height: 7, blockHash: store.headerAt(7)?.hash }] });
  const [block, ...receipts] = await question({ kind: 'block', height: 7 });
  t.match(decodeCertifiedBlock(block as Uint8Array), { ok: true });
  t.equal(receipts.length, 2);
  t.same(await question({ kind: 'handovers', from: 1 }), []);
  t.equal(server.isInUse(7), false);
  const entries = decodeEntries((await question({ kind: 'entries', height: 7, range: all }))[0] as Uint8Array);
  if (!entries.ok) throw new Error(entries.message);
  const root = store.headerAt(7)?.header.stateRoot as Uint8Array;
  t.match(verifyRange(root, all, entries.value.proof), { ok: true });
  t.equal(server.isInUse(7), true);
  clock.advance(60_000);
  t.equal(server.isInUse(7), false);

  const refused = async (what: string, code: string, asked: Promise<unknown>): Promise<void> => {
    const error = await asked.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    t.ok(error instanceof EmrError, `${what}: an answer to the peer, no fault of the node`);
    t.match(error, { code }, what);
  };
  for (const height of [6, 8, 10, 2 ** 53 - 1]) {
    await refused(`state ${height}`, 'SNAPSHOT_GONE', question({ kind: 'entries', height, range: all }));
  }
  for (const height of [0, 10, 2 ** 53 - 1]) {
    await refused(`block ${height}`, 'SNAPSHOT_GONE', question({ kind: 'block', height }));
  }
  for (const range of [
    { gte: key(5), lt: key(5) },
    { gte: key(6), lt: key(5) },
  ]) {
    await refused('a range that is none', 'STATE_RANGE_INVALID', question({ kind: 'entries', height: 7, range }));
  }
  const asked = encodeSnapshotRequest({ kind: 'entries', height: 7, range: { gte: key(1), lt: key(2) } });
  for (let bit = 0; bit < asked.length * 8; bit += 1) {
    await ask(flipBit(asked, bit)).catch((error: unknown) => t.ok(error instanceof EmrError, `bit ${bit}`));
  }
});

/** Makes and commits blocks without consensus: a quorum of the consortium signs what is built. */
import { bytesToHex } from '../../common/bytes.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import type { Certificate } from '../../common/protocol/block.ts';
import { voteSigningHash } from '../../common/protocol/signing.ts';
import { quorumSize } from '../../common/protocol/validator-set.ts';
import { leaderOf, leaderOrder } from '../../consensus/leader-order.ts';
import type { ProposedBlock } from '../../consensus/messages.ts';
import type { ExecutedBlock, Executor } from '../../node/execution/executor.ts';
import type { ChainStore, CommittedBlock } from '../../node/storage/chain-store.ts';
import { TransactionChecker } from '../../node/verification/transaction-checker.ts';
import { Verifier } from '../../node/verification/verifier.ts';
import type { CheckedTransaction } from '../../vm/types.ts';
import type { Consortium, TestTransaction } from './node-consortium.ts';

const verifier = new Verifier(createWasmEngine());
const checkers = new Map<string, TransactionChecker>();

export async function checkedOf(net: Consortium, txs: readonly TestTransaction[]): Promise<CheckedTransaction[]> {
  const name = bytesToHex(net.chainId);
  const checker = checkers.get(name) ?? new TransactionChecker(net.chainId, verifier);
  checkers.set(name, checker);
  const verdicts = await checker.checkMany(
    txs.map(({ bytes }) => ({ bytes, sidecar: null })),
    'pool',
  );
  return verdicts.map((verdict) => {
    if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.message}`);
    return verdict.value;
  });
}

/** A certificate by the first validators that make a quorum. */
export function certify(net: Consortium, proposal: ProposedBlock, view = 0): Certificate {
  const { height } = proposal.header;
  const message = voteSigningHash(net.chainId, 'commit', height, view, proposal.hash);
  const signers = net.hospitals.slice(0, quorumSize(net.hospitals.length));
  const signatures = signers.map(({ validator }, index) => ({ validator: index, signature: validator.sign(message) }));
  return { height, view, blockHash: proposal.hash, signatures };
}

/** The next block on the head, as its leader in view 0 would build it. */
export async function buildNext(
  net: Consortium,
  executor: Executor,
  txs: readonly TestTransaction[],
  timestampMs = executor.head.header.timestampMs + 1,
): Promise<ProposedBlock> {
  const { head } = executor;
  const leader = leaderOf(leaderOrder(head.height + 1, head.validators.length, head.leaders), 0);
  const proposer = (head.validators[leader] as { readonly address: Uint8Array }).address;
  const built = await executor.build({ view: 0, proposer, timestampMs, candidates: await checkedOf(net, txs) });
  const [rejected] = built.rejected;
  if (rejected !== undefined) throw new Error(`${rejected.code}: ${rejected.message}`);
  return built.proposal;
}

export async function commitOne(
  net: Consortium,
  store: ChainStore,
  executor: Executor,
  txs: readonly TestTransaction[],
): Promise<CommittedBlock> {
  const proposal = await buildNext(net, executor, txs);
  const executed = executor.executed(proposal.hash) as ExecutedBlock;
  const committed = executor.toCommit(executed, certify(net, proposal));
  await store.commitBlock(committed);
  executor.advance(executed);
  return committed;
}

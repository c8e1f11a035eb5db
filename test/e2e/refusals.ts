/** What every refusal must be: the same stable code and a sentence from every node, and nothing changed by it. */
import type { Test } from 'tap';
import { ClientError } from '../../client/index.ts';
import { hexOf } from '../../client/hex.ts';
import type { SignedBytes } from '../../client/transactions.ts';
import type { RpcClient } from '../../client/index.ts';
import type { Consortium } from './consortium.ts';

/** A capital or a name in front, several words, a full stop. */
const SENTENCE = /^\S+ \S.{8,}[.!?…]$/s;

/** The refusal of an action. Fails when it succeeds. */
export async function refusalOf(action: () => Promise<unknown>): Promise<ClientError> {
  try {
    const result = await action();
    throw new Error(`not refused: ${JSON.stringify(result)?.slice(0, 200)}`);
  } catch (error) {
    if (error instanceof ClientError) return error;
    throw error;
  }
}

/** The action is refused with this code and a sentence. */
export async function refused(t: Test, code: string, what: string, action: () => Promise<unknown>): Promise<void> {
  const error = await refusalOf(action);
  t.equal(error.code, code, `${what}: ${error.message}`);
  t.match(error.message, SENTENCE, 'says why in a sentence');
}

export const submitTo = (rpc: RpcClient, raw: Uint8Array, sidecar: Uint8Array | null = null) =>
  rpc.call(
    'tx_submit',
    { raw: hexOf(raw), sidecar: sidecar && hexOf(sidecar), mode: 'committed', timeoutMs: 5_000 },
    { timeoutMs: 10_000 },
  );

/** Every node refuses these bytes with this code, and has no such transaction afterwards. */
export async function refusedByAll(
  t: Test,
  consortium: Consortium,
  code: string,
  what: string,
  signed: Pick<SignedBytes, 'raw' | 'hash'>,
  sidecar: Uint8Array | null = null,
): Promise<void> {
  const refusals = await Promise.all(
    consortium.nodes.map(async (_, index) => {
      const rpc = consortium.rpc(index);
      const error = await refusalOf(() => submitTo(rpc, signed.raw, sidecar));
      const left = await refusalOf(() => rpc.call('tx_get', { hash: hexOf(signed.hash) }));
      return { code: error.code, isSentence: SENTENCE.test(error.message), left: left.code };
    }),
  );
  const expected = { code, isSentence: true, left: 'NOT_FOUND' };
  t.same(
    refusals,
    refusals.map(() => expected),
    `${what}: ${code} from every node`,
  );
}

/** Whatever `act` tries, no block has a transaction because of it, and the state is what it was. */
export async function unchanged(t: Test, consortium: Consortium, act: () => Promise<void>): Promise<void> {
  const before = await consortium.settled();
  await act();
  const after = await consortium.settled();
  // While grants are active, empty blocks come by themselves.
  let transactions = 0;
  for (let height = before.height + 1; height <= after.height; height += 1) {
    transactions += (await consortium.admin(0).view.rpc.call('chain_getBlock', { height })).txs.length;
  }
  t.equal(transactions, 0, 'no transaction was committed');
  if (after.height === before.height) t.equal(after.stateRoot, before.stateRoot, 'the state is the same everywhere');
}

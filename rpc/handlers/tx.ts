/** tx_*. */
import { concatBytes, readU32be, readU64be, u32be, u64be } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { merkleProof } from '../../common/crypto/merkle.ts';
import type { Verdict } from '../../common/errors.ts';
import { certificate, encodeHeader } from '../../common/protocol/block.ts';
import type { Hash } from '../../common/protocol/primitives.ts';
import { encodeReceipt } from '../../common/protocol/receipt.ts';
import { txHash } from '../../common/protocol/transaction.ts';
import type { BlockView } from '../blocks.ts';
import { notFound, outOfScope, RpcError, type RpcErrorName } from '../errors.ts';
import { toHex, toJson } from '../json.ts';
import type { ParamsOf, ResultOf } from '../methods.ts';
import { DEFAULT_PAGE } from '../methods/shapes.ts';
import { DEFAULT_COMMIT_WAIT_MS } from '../methods/tx.ts';
import { atHead, bytesOf, type Call, type Handlers, type MethodsOf, type Service } from '../service.ts';
import { atOf } from '../state-reads.ts';
import { txSummary } from '../views.ts';

/** Blocks that one page of tx_list looks at: most blocks of an idle chain are empty. */
const LISTED_BLOCKS = 200;

type SubmitResult = ResultOf<'tx_submit'>;

export function txHandlers(service: Service): Handlers<MethodsOf<'tx'>> {
  const { ports, blocks } = service;

  /** A committed transaction in the caller's scope. @throws RpcError NOT_FOUND, FORBIDDEN */
  async function visible(hash: Hash, call: Call): Promise<{ block: BlockView; index: number }> {
    const found = await blocks.find(hash);
    if (found === null) throw notFound('There is no committed transaction with this hash.');
    const sender = found.block.decoded[found.index]?.body.account;
    if (sender === undefined || !(await call.scope.transaction(sender, found.block.receipts[found.index]))) {
      throw outOfScope('This transaction');
    }
    return found;
  }

  return {
    tx_submit: (params, call) => submit(service, params, call),
    async tx_simulate({ raw, sidecar }) {
      const { at, verdict } = await ports.transactions.simulate(bytesOf(raw), sidecar ? bytesOf(sidecar) : null);
      // Whoever holds the signed bytes could submit them: what they would do is no secret to them.
      return verdict.ok
        ? {
            accepted: true,
            code: null,
            message: null,
            events: verdict.value.map((event) => toJson(event)),
            ...atOf(at),
          }
        : { accepted: false, code: verdict.code, message: verdict.message, events: [], ...atOf(at) };
    },
    async tx_get({ hash }, { scope }) {
      const found = await blocks.find(bytesOf(hash));
      return found === null ? pendingView(service, hash) : committedView(service, found, scope);
    },
    async tx_getReceipt({ hash }, call) {
      const { block, index } = await visible(bytesOf(hash), call);
      const receipt = block.receipts[index];
      if (receipt === undefined) throw new RpcError('PRUNED', 'The receipts of this block are not kept any more.');
      // All of it: whoever sees the transaction sees what it did.
      return {
        hash,
        height: block.header.height,
        blockHash: toHex(block.hash),
        receipt: toJson(receipt),
        ...atHead(service),
      };
    },
    async tx_getProof({ hash }, call) {
      const { block, index } = await visible(bytesOf(hash), call);
      const proof = await ports.chain.certificate(block.header.height);
      const receipt = block.receipts[index];
      const raw = block.txs[index];
      if (proof === null || receipt === undefined || raw === undefined) {
        throw new RpcError('PRUNED', 'The proof of this block is not kept any more.');
      }
      const receipts = block.receipts.map(encodeReceipt);
      return {
        hash,
        height: block.header.height,
        raw: toHex(raw),
        headerBytes: toHex(encodeHeader(block.header)),
        certificateBytes: toHex(encode(certificate, proof)),
        txProof: { index, total: block.txs.length, path: merkleProof(block.txs, index).map(toHex) },
        receiptBytes: toHex(encodeReceipt(receipt)),
        receiptProof: { index, total: receipts.length, path: merkleProof(receipts, index).map(toHex) },
        ...atHead(service),
      };
    },
    tx_list: (params, call) => listTransactions(service, params, call),
    async tx_pending({ limit = DEFAULT_PAGE, cursor }, { scope }) {
      const after = cursor === undefined ? null : service.cursors.open('tx_pending', cursor);
      const some = ports.transactions.pending({ limit, after });
      const items = [];
      for (const { hash, sizeBytes, receivedMs, account, callKind } of some) {
        const seen = await scope.pendingTransaction(account);
        items.push({
          hash: toHex(hash),
          sizeBytes,
          receivedMs,
          account: seen ? toHex(account) : null,
          callKind: seen ? callKind : null,
        });
      }
      const last = some.length === limit ? some[some.length - 1] : undefined;
      return { items, nextCursor: last ? service.cursors.seal('tx_pending', last.hash) : null, ...atHead(service) };
    },
    tx_poolStatus() {
      const { rejected, transactions, bytes, maxTransactions, maxBytes } = ports.transactions.poolStatus();
      return { transactions, bytes, maxTransactions, maxBytes, rejected: Object.fromEntries(rejected) };
    },
  };
}

/** What the pool says when it has the very same bytes already: for a client that tries again, success. */
const KNOWN: ReadonlySet<string> = new Set(['ALREADY_PENDING', 'ALREADY_COMMITTED']);

/** Refusals that are about the moment, not about the transaction. */
const REFUSED_FOR_NOW: ReadonlyMap<string, RpcErrorName> = new Map([
  ['POOL_FULL', 'POOL_FULL'],
  ['NOT_READY', 'NOT_READY'],
  ['ACCOUNT_QUOTA', 'RATE_LIMITED'],
]);

function refuse(verdict: Verdict<unknown>): never {
  if (verdict.ok) throw new RangeError('an accepted transaction is not refused');
  throw RpcError.of(REFUSED_FOR_NOW.get(verdict.code) ?? 'TX_INVALID', verdict);
}

async function submit(service: Service, params: ParamsOf<'tx_submit'>, call: Call): Promise<SubmitResult> {
  const { ports, waiters } = service;
  const raw = bytesOf(params.raw);
  const sidecar = params.sidecar ? bytesOf(params.sidecar) : null;
  const hash = txHash(raw);
  if (params.mode !== 'committed') {
    const verdict = await ports.transactions.submit(raw, sidecar);
    if (!verdict.ok && verdict.code === 'ALREADY_COMMITTED') return whereCommitted(service, hash);
    if (!verdict.ok && !KNOWN.has(verdict.code)) refuse(verdict);
    return { hash: toHex(hash), status: 'accepted', height: null, index: null, receipt: null };
  }

  const waiter = waiters.begin(hash, params.timeoutMs ?? DEFAULT_COMMIT_WAIT_MS, call.signal);
  try {
    const verdict = await ports.transactions.submit(raw, sidecar);
    if (!verdict.ok && verdict.code === 'ALREADY_COMMITTED') return await whereCommitted(service, hash);
    if (!verdict.ok && !KNOWN.has(verdict.code)) refuse(verdict);
    const outcome = await waiter.outcome;
    if (outcome.kind === 'dropped') throw RpcError.of('TX_INVALID', outcome);
    if (outcome.kind === 'timeout') {
      throw new RpcError(
        'COMMIT_TIMEOUT',
        'The transaction was accepted, and no block has it yet; ask tx_get, or submit it again.',
      );
    }
    return await committedResult(service, hash, outcome.height, outcome.index);
  } finally {
    waiter.cancel();
  }
}

async function whereCommitted(service: Service, hash: Hash): Promise<SubmitResult> {
  const place = await service.ports.chain.locateTransaction(hash);
  if (place === null) throw new RpcError('PRUNED', 'The transaction was committed; its block is not kept any more.');
  return committedResult(service, hash, place.height, place.index);
}

async function committedResult(service: Service, hash: Hash, height: number, index: number): Promise<SubmitResult> {
  const block = await service.blocks.load(height);
  const receipt = block.receipts[index];
  return { hash: toHex(hash), status: 'committed', height, index, receipt: receipt ? toJson(receipt) : null };
}

const HIDDEN = {
  visible: false,
  account: null,
  publicKey: null,
  signature: null,
  validUntilMs: null,
  call: null,
  raw: null,
  sidecar: null,
} as const;

async function pendingView(service: Service, hash: ParamsOf<'tx_get'>['hash']): Promise<ResultOf<'tx_get'>> {
  const status = await service.ports.transactions.status(bytesOf(hash));
  if (status.kind === 'dropped') {
    throw RpcError.of('NOT_FOUND', { code: status.code, message: `The transaction left the pool: ${status.message}` });
  }
  if (status.kind !== 'pending') throw notFound('There is no such transaction here.');
  const place = { height: null, index: null, blockHash: null, timestampMs: null, sizeBytes: null };
  return { hash, status: 'pending', ...place, ...HIDDEN, ...atHead(service) };
}

async function committedView(
  service: Service,
  { block, index }: { readonly block: BlockView; readonly index: number },
  scope: Call['scope'],
): Promise<ResultOf<'tx_get'>> {
  const tx = block.decoded[index];
  if (tx === undefined) throw notFound('There is no such transaction here.');
  const place = {
    hash: toHex(tx.hash),
    status: 'committed' as const,
    height: block.header.height,
    index,
    blockHash: toHex(block.hash),
    timestampMs: block.header.timestampMs,
    sizeBytes: tx.bytes.length,
    ...atHead(service),
  };
  if (!(await scope.transaction(tx.body.account, block.receipts[index]))) return { ...place, ...HIDDEN };
  const sidecar = block.sidecars[index] ?? null;
  return {
    ...place,
    visible: true,
    account: toHex(tx.body.account),
    publicKey: toHex(tx.signed.publicKey),
    signature: toHex(tx.signed.signature),
    validUntilMs: tx.body.validUntilMs,
    call: toJson(tx.body.call),
    raw: toHex(tx.bytes),
    sidecar: sidecar && toHex(sidecar),
  };
}

/** Newest first: from the transaction before the cursor's, down at most `LISTED_BLOCKS` blocks. */
async function listTransactions(
  service: Service,
  params: ParamsOf<'tx_list'>,
  call: Call,
): Promise<ResultOf<'tx_list'>> {
  const { ports, blocks, cursors } = service;
  const { account, callKind, limit = DEFAULT_PAGE } = params;
  const question = `tx_list ${account ?? ''} ${callKind ?? ''}`;
  const position = params.cursor === undefined ? null : cursors.open(question, params.cursor);
  let height = position === null ? ports.chain.head().height : (readU64be(position, 0) ?? 0);
  let below = position === null ? Infinity : (readU32be(position, 8) ?? 0);
  const end = Math.max(ports.chain.lowestHeight(), height - LISTED_BLOCKS + 1);
  const items = [];

  for (; height >= end && !call.signal.aborted; height -= 1, below = Infinity) {
    const block = await blocks.load(height);
    for (let index = Math.min(below, block.decoded.length) - 1; index >= 0; index -= 1) {
      const body = block.decoded[index]?.body;
      if (account !== undefined && (body === undefined || toHex(body.account) !== account)) continue;
      if (callKind !== undefined && body?.call.kind !== callKind) continue;
      const summary = await txSummary(block, index, call.scope);
      // A filter must not tell what a transaction out of scope is.
      if (summary.account === null && (account !== undefined || callKind !== undefined)) continue;
      items.push(summary);
      if (items.length === limit) {
        return {
          items,
          nextCursor: cursors.seal(question, concatBytes(u64be(height), u32be(index))),
          ...atHead(service),
        };
      }
    }
  }
  const more = height >= ports.chain.lowestHeight();
  const next = more ? cursors.seal(question, concatBytes(u64be(height), u32be(0xffff_ffff))) : null;
  return { items, nextCursor: next, ...atHead(service) };
}

/** Refused before anybody looks at what they ask for: transactions, and bytes that are none. */
import type { Test } from 'tap';
import { randomBytes } from 'node:crypto';
import { concatBytes, equalBytes } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import { MAX_TX_BYTES } from '../../common/protocol/primitives.ts';
import { txSigningHash } from '../../common/protocol/signing.ts';
import { decodeTransaction, signedTransaction, txHash } from '../../common/protocol/transaction.ts';
import { hexOf } from '../../client/hex.ts';
import { type SignedBytes, signTransaction } from '../../client/transactions.ts';
import type { Cast } from './refusals-cast.ts';
import { refused, refusedByAll, submitTo, unchanged } from './refusals.ts';
import { DEADLINE_MS, until } from './until.ts';

const MINUTE_MS = 60_000;

const signedBytes = (raw: Uint8Array): Pick<SignedBytes, 'raw' | 'hash'> => ({ raw, hash: txHash(raw) });

function partsOf(raw: Uint8Array) {
  const decoded = decodeTransaction(raw);
  if (!decoded.ok) throw new Error(decoded.message);
  return decoded.value.signed;
}

/** The same transaction in other bytes: dag-cbor writes the length of an array of three in one byte, this in two. */
function longerEncoding(raw: Uint8Array): Uint8Array {
  if (raw[0] !== 0x83) throw new Error('an array of three was expected');
  return concatBytes(Uint8Array.of(0x98, 3), raw.subarray(1));
}

const flipped = (bytes: Uint8Array, at: number): Uint8Array =>
  bytes.map((byte, index) => (index === at ? byte ^ 1 : byte));

export async function refusedEnvelopes(t: Test, { consortium, mei, chen, wang }: Cast): Promise<void> {
  /** Something that Mei may do, but for its envelope. */
  const harmless = {
    kind: 'attending.set' as const,
    relation: { patient: mei.account, physician: chen.account, expiresAtMs: Date.now() + 90 * 86_400_000 },
    countersignature: null,
  };

  await t.test('a transaction that was executed is not executed again', async (t) => {
    const signed = mei.sign(harmless);
    const first = await submitTo(consortium.rpc(0), signed.raw);
    t.equal(first.status, 'committed');
    await unchanged(t, consortium, async () => {
      const again = await Promise.all(consortium.nodes.map((_, i) => submitTo(consortium.rpc(i), signed.raw)));
      for (const answer of again) t.equal(answer.height, first.height, 'the same bytes: where they were committed');
      // A second signature makes other bytes, hence another hash, of the same transaction.
      const { body, publicKey } = partsOf(signed.raw);
      const signature = mei.signer.sign(txSigningHash(mei.view.node.chainId, body));
      const resigned = encode(signedTransaction, { body, publicKey, signature });
      t.notOk(equalBytes(resigned, signed.raw), 'other bytes');
      await refusedByAll(t, consortium, 'TX_REPLAYED', 'signed again', signedBytes(resigned));
      const { nonce, validUntilMs } = decodedBody(signed.raw);
      const other = mei.sign(
        { kind: 'attending.end', patient: mei.account, physician: chen.account },
        { nonce, validUntilMs },
      );
      await refusedByAll(t, consortium, 'TX_REPLAYED', 'another call under the same nonce', other);
    });
  });

  await t.test('times, chain, keys and signatures', async (t) => {
    const soon = Date.now() + 500;
    const withheld = mei.sign(harmless, { validUntilMs: soon });
    await until('the transaction is past its time', () => Date.now() > soon + 5);
    const { nodes } = consortium;
    await unchanged(t, consortium, async () => {
      await refusedByAll(t, consortium, 'TX_EXPIRED', 'past its valid-until time', withheld);
      const { txValidityMs, maxClockDriftMs } = DEFAULT_CHAIN_PARAMS;
      const hoarded = mei.sign(harmless, { validUntilMs: Date.now() + txValidityMs + maxClockDriftMs + MINUTE_MS });
      await refusedByAll(t, consortium, 'TX_VALIDITY_TOO_LONG', 'valid for too long', hoarded);
      const elsewhere = mei.sign(harmless, { chainId: new Uint8Array(32).fill(7) });
      await refusedByAll(t, consortium, 'CHAIN_ID_MISMATCH', 'for another chain', elsewhere);

      const { body, publicKey, signature } = partsOf(mei.sign(harmless).raw);
      const forged = encode(signedTransaction, { body, publicKey, signature: flipped(signature, 40) });
      await refusedByAll(t, consortium, 'BAD_SIGNATURE', 'one bit of the signature', signedBytes(forged));
      const byWang = wang.signer.sign(txSigningHash(mei.view.node.chainId, body));
      const impostor = encode(signedTransaction, { body, publicKey, signature: byWang });
      await refusedByAll(t, consortium, 'BAD_SIGNATURE', "somebody else's signature", signedBytes(impostor));
      const ownKey = encode(signedTransaction, { body, publicKey: wang.key.publicKey, signature: byWang });
      await refusedByAll(t, consortium, 'KEY_NOT_CURRENT', "somebody else's key", signedBytes(ownKey));
      // What was valid on the way, with one byte of what it says changed.
      const changed = encode(signedTransaction, { body: flipped(body, body.length - 3), publicKey, signature });
      await refusedByAll(t, consortium, 'BAD_SIGNATURE', 'one bit of what was signed', signedBytes(changed));

      const stranger = selectSm2Engine().createSigner(newPrivateKey());
      const unknown = { account: stranger.address, signer: stranger };
      const nobody = signTransaction((nodes[0] as (typeof nodes)[number]).chainId, unknown, harmless, {
        validUntilMs: Date.now() + MINUTE_MS,
      });
      await refusedByAll(t, consortium, 'ACCOUNT_UNKNOWN', 'of nobody', nobody);
    });
  });

  await t.test('bytes that are not one canonical transaction', async (t) => {
    const { raw } = mei.sign(harmless);
    const { body, publicKey, signature } = partsOf(raw);
    await unchanged(t, consortium, async () => {
      await refusedByAll(t, consortium, 'NOT_CANONICAL', 'a longer length', signedBytes(longerEncoding(raw)));
      const tail = concatBytes(raw, Uint8Array.of(0));
      await refusedByAll(t, consortium, 'MALFORMED', 'a byte behind the end', signedBytes(tail));
      await refusedByAll(t, consortium, 'MALFORMED', 'cut off', signedBytes(raw.subarray(0, raw.length - 1)));
      await refusedByAll(t, consortium, 'MALFORMED', 'noise', signedBytes(new Uint8Array(randomBytes(400))));
      const inner = longerBody(body);
      const hidden = encode(signedTransaction, {
        body: inner,
        publicKey,
        signature: mei.signer.sign(txSigningHash(mei.view.node.chainId, inner)),
      });
      await refusedByAll(t, consortium, 'NOT_CANONICAL', 'inside, and signed so', signedBytes(hidden));
      const nested = new Uint8Array(MAX_TX_BYTES).fill(0x81);
      await refusedByAll(t, consortium, 'MALFORMED', 'thousands of levels', signedBytes(nested));
      const full = encode(signedTransaction, { body: new Uint8Array(MAX_TX_BYTES - 150), publicKey, signature });
      await refusedByAll(t, consortium, 'MALFORMED', 'the largest that is looked at', signedBytes(full));
      await refused(t, 'INVALID_PARAMS', 'larger', () => submitTo(consortium.rpc(1), new Uint8Array(MAX_TX_BYTES + 1)));
    });
  });

  await t.test('sidecars that the call does not commit to', async (t) => {
    await unchanged(t, consortium, async () => {
      const sidecar = new Uint8Array(100);
      await refusedByAll(t, consortium, 'SIDECAR_UNEXPECTED', 'a call without one', mei.sign(harmless), sidecar);
    });
  });

  await t.test('bodies of calls that are none', async (t) => {
    const call = { jsonrpc: '2.0', id: 1, method: 'tx_submit', params: { raw: hexOf(mei.sign(harmless).raw) } };
    const cases: readonly (readonly [what: string, status: number, reason: string, init: RequestInit])[] = [
      ['no JSON', 400, 'NOT_JSON', json('{"jsonrpc":')],
      ['an empty body', 400, 'NOT_JSON', json('')],
      ['more than a MiB', 413, 'BODY_TOO_LARGE', json(JSON.stringify({ ...call, pad: 'x'.repeat(1_100_000) }))],
      [
        'another type',
        415,
        'WRONG_CONTENT_TYPE',
        { ...json(JSON.stringify(call)), headers: { 'content-type': 'text/plain' } },
      ],
      ['deep nesting', 400, 'JSON_TOO_DEEP', json(`${'['.repeat(5_000)}${']'.repeat(5_000)}`)],
    ];
    await unchanged(t, consortium, async () => {
      for (const [what, status, reason, init] of cases) {
        const signal = AbortSignal.timeout(DEADLINE_MS);
        const response = await fetch(`${consortium.hospital(0).rpcUrl}/rpc`, { method: 'POST', ...init, signal });
        const body = (await response.json()) as { error: { message: string; data: { reason: string } } };
        t.same({ status: response.status, reason: body.error.data.reason }, { status, reason }, what);
        t.match(body.error.message, /\S+ \S+.*\.$/, 'says why in a sentence');
      }
    });
  });
}

const json = (body: string): RequestInit => ({ headers: { 'content-type': 'application/json' }, body });

function decodedBody(raw: Uint8Array) {
  const decoded = decodeTransaction(raw);
  if (!decoded.ok) throw new Error(decoded.message);
  return decoded.value.body;
}

/** As `longerEncoding`, of a body: an array of six. */
function longerBody(body: Uint8Array): Uint8Array {
  if (body[0] !== 0x86) throw new Error('an array of six was expected');
  return concatBytes(Uint8Array.of(0x98, 6), body.subarray(1));
}

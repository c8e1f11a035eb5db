/**
 * Receipts of holders: taken from others when they verify, told to others, asked for by who missed them.
 */
import { equalBytes } from '../../common/bytes.ts';
import { accept, reject, type Verdict } from '../../common/errors.ts';
import { replicaReceiptSigningHash } from '../../common/protocol/signing.ts';
import { type BlobContext, isFault } from './blob-context.ts';
import { askForReceipts, tellHeld } from './blob-protocol.ts';
import type { BlobName, StoredReceipt } from './blob-records.ts';

export class ReplicaReceipts {
  readonly #context: BlobContext;
  /** Brings what is known of committed records up to the head. */
  readonly #noteBlocks: () => Promise<void>;

  constructor(context: BlobContext, noteBlocks: () => Promise<void>) {
    this.#context = context;
    this.#noteBlocks = noteBlocks;
  }

  /** Signs that this node holds the whole of a blob, durably. Only the caller knows that it is so. */
  async sign({ cid, dataDigest }: BlobName): Promise<StoredReceipt> {
    const { records, signer, chainId, orgId, nowMs } = this.#context;
    const signature = signer.sign(replicaReceiptSigningHash(chainId, cid, dataDigest, signer.address));
    const receipt = { orgId, holder: signer.address, signature, atMs: nowMs() };
    await records.addReceipt({ cid, dataDigest }, receipt);
    return receipt;
  }

  /** Keeps a receipt if a validator of the current set signed it for this ciphertext. */
  async take(name: BlobName, receipt: StoredReceipt): Promise<Verdict> {
    const { chain, engine, chainId, records, nowMs } = this.#context;
    if (!(await records.isNamed(name))) {
      await this.#noteBlocks();
      if (!(await records.isNamed(name))) {
        return reject('RECEIPT_UNKNOWN', 'no committed record names this ciphertext');
      }
    }
    const set = await chain.validatorsAt(chain.head().height + 1);
    const member = set?.find((v) => equalBytes(v.address, receipt.holder));
    if (member === undefined || member.orgId !== receipt.orgId) {
      return reject('RECEIPT_UNKNOWN', 'the holder is no validator');
    }
    // The same holder's is good already: another signature of it says nothing new, and would cost a verification each.
    const known = await records.receipts(name);
    if (known.some((r) => equalBytes(r.holder, receipt.holder))) return accept(undefined);
    const message = replicaReceiptSigningHash(chainId, name.cid, name.dataDigest, receipt.holder);
    if (!engine.verify(member.publicKey, message, receipt.signature)) {
      return reject('RECEIPT_INVALID', 'the signature does not verify');
    }
    // Its time is not signed, so what others say of it counts for nothing.
    await records.addReceipt(name, { ...receipt, atMs: nowMs() });
    return accept(undefined);
  }

  /** Tells every connected member, and learns what they know. Who is away learns it by asking. */
  async spread(name: BlobName, receipt: StoredReceipt): Promise<void> {
    const { network, stopped, slots } = this.#context;
    await this.#withPeers(async (peerId) => {
      await slots.run(peerId, () => tellHeld(network, peerId, name, receipt, stopped));
      await this.#takeFrom(peerId, name);
    });
  }

  /** Asks every connected member which receipts it knows. */
  async collect(name: BlobName): Promise<void> {
    await this.#withPeers((peerId) => this.#takeFrom(peerId, name));
  }

  async #takeFrom(peerId: string, name: BlobName): Promise<void> {
    const { network, stopped, slots } = this.#context;
    const told = await slots.run(peerId, () => askForReceipts(network, peerId, name, stopped));
    for (const receipt of told) await this.take(name, receipt);
  }

  async #withPeers(work: (peerId: string) => Promise<void>): Promise<void> {
    const connected = this.#context.network.peers().filter((p) => p.connected);
    await Promise.all(
      connected.map(({ peerId }) =>
        work(peerId).catch((error: unknown) => {
          // A peer that is away or does not answer as it should: the next time, or another peer.
          if (isFault(error)) throw error;
        }),
      ),
    );
  }
}

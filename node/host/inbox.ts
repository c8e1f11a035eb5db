/**
 * Consensus messages on their way in: strict decoding, the checks that need no state, and every signature, nested ones
 * included. Only what passed all of them becomes `Verified` and reaches the core. Bounded for each sender, so that
 * nobody crowds out anybody else.
 */
import type { Hash, Height } from '../../common/protocol/primitives.ts';
import type { ValidatorSet } from '../../common/protocol/validator-set.ts';
import { decodeMessage, type SignedMessage } from '../../consensus/messages.ts';
import type { Verified } from '../../consensus/types.ts';
import { owedChecks, verifiedMessage } from '../../consensus/verification.ts';
import type { Member } from '../network/types.ts';
import type { Verifier } from '../verification/verifier.ts';

/**
 * Messages of one sender that are being verified or wait for the core. In a round a sender has some ten; retransmission
 * and view changes may double that.
 */
const MAX_WAITING_PER_SENDER = 64;
/** And their bytes: three of the largest proposals. */
const MAX_WAITING_BYTES_PER_SENDER = 16 * 1024 * 1024;

export interface InboxPorts {
  readonly chainId: Hash;
  readonly verifier: Verifier;
  /** The set that certifies the height that is being decided, and the committed height below it. */
  current(): { readonly validators: ValidatorSet; readonly validatorsHash: Hash; readonly committed: Height };
  /** `done` is to be called when the core has taken the message. */
  deliver(message: Verified<SignedMessage>, validatorsHash: Hash, done: () => void): void;
  /** For metrics and logs. */
  refused(from: Member, code: string): void;
  /** A bug of ours: the node stops. */
  failed(error: unknown): void;
}

interface Waiting {
  messages: number;
  bytes: number;
}

export class Inbox {
  readonly #ports: InboxPorts;
  readonly #waiting = new Map<string, Waiting>();

  constructor(ports: InboxPorts) {
    this.#ports = ports;
  }

  /** @param from the member whose connection it came by; it need not be the signer */
  receive(from: Member, bytes: Uint8Array): void {
    const { validators } = this.#ports.current();
    if (!validators.some((validator) => validator.peerId === from.peerId))
      return this.#ports.refused(from, 'NOT_A_VALIDATOR');
    const waiting = this.#waiting.get(from.peerId) ?? { messages: 0, bytes: 0 };
    if (waiting.messages >= MAX_WAITING_PER_SENDER || waiting.bytes + bytes.length > MAX_WAITING_BYTES_PER_SENDER) {
      return this.#ports.refused(from, 'INBOX_FULL');
    }
    const message = decodeMessage(bytes);
    if (!message.ok) return this.#ports.refused(from, message.code);
    if (this.#isLate(message.value)) return;
    waiting.messages += 1;
    waiting.bytes += bytes.length;
    this.#waiting.set(from.peerId, waiting);
    const done = (): void => {
      waiting.messages -= 1;
      waiting.bytes -= bytes.length;
      if (waiting.messages === 0) this.#waiting.delete(from.peerId);
    };
    this.#verify(from, message.value, done).catch((error: unknown) => this.#ports.failed(error));
  }

  /** Votes for the block just committed come late as a rule, and say nothing any more: not worth a verification. */
  #isLate({ body }: SignedMessage): boolean {
    if (body.kind !== 'prePrepare' && body.kind !== 'prepare' && body.kind !== 'commit') return false;
    return body.height === this.#ports.current().committed;
  }

  async #verify(from: Member, message: SignedMessage, done: () => void): Promise<void> {
    const { chainId, verifier } = this.#ports;
    const { validators, validatorsHash } = this.#ports.current();
    const owed = owedChecks(message, { chainId, validators });
    const results = owed.ok ? await verifier.verify(owed.value, 'consensus').results : [];
    const verified = owed.ok ? verifiedMessage(message, results) : owed;
    if (verified.ok) return this.#ports.deliver(verified.value, validatorsHash, done);
    done();
    this.#ports.refused(from, verified.code);
  }
}

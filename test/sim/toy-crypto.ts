/**
 * Signatures for the simulator: a keyed hash in place of SM2, some hundred times faster. Nobody in a simulation can
 * make one without the signer object, and the engine knows the secrets only to compare, as a MAC's verifier does.
 * For simulations whose subject is not the signature scheme; everything else uses SM2.
 *
 * Members have numbers that outlive their keys and their places in a set: 0 to n - 1 are the founders in the order of
 * the first set, so that there a member's number is its index; those above are not in it, and may be voted in.
 */
import { bytesToHex, concatBytes, equalBytes, u32be, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { type Sm2Engine, type Sm2Signer, sm2Address, verifyEach } from '../../common/crypto/sm2.ts';
import {
  sortedValidatorSet,
  type Validator,
  type ValidatorSet,
  validatorSetHash,
} from '../../common/protocol/validator-set.ts';

/** A validator set, and who of the members is which of its validators, with which of its keys. */
export interface ToySet {
  readonly hash: Uint8Array;
  readonly validators: ValidatorSet;
  /** By validator index. */
  readonly seats: readonly Seat[];
  /** Validator index of a member; null when it is not in the set. */
  indexOf(member: number): number | null;
}

export interface Seat {
  readonly member: number;
  /** 0 is the member's first key; each rotation takes the next. */
  readonly key: number;
}

interface ToyKey {
  readonly validator: Validator;
  readonly signer: Sm2Signer;
}

const MAX_MEMBERS = 32;

const sign = (secret: Uint8Array, message: Uint8Array): Uint8Array => {
  const tag = H('sim/signature', secret, message);
  return concatBytes(tag, tag);
};

export class ToyConsortium {
  readonly chainId: Uint8Array;
  /** The founders. */
  readonly validators: ValidatorSet;
  readonly validatorsHash: Uint8Array;
  /** Of the founders, by validator index. */
  readonly signers: readonly Sm2Signer[];
  readonly engine: Sm2Engine;
  readonly founders: ToySet;
  /** By public key in hex, and by the very array where that is at hand. */
  readonly #secrets = new Map<string | Uint8Array, Uint8Array>();
  readonly #keys = new Map<string, ToyKey>();
  readonly #sets = new Map<string, ToySet>();
  /** Member number -> what its keys are made of: founders are numbered in the order of their set. */
  readonly #origins: number[];

  constructor(count: number) {
    this.#origins = Array.from({ length: MAX_MEMBERS }, (_, i) => i);
    const founders = this.#origins.slice(0, count);
    const inOrder = sortedValidatorSet(founders.map((member) => this.key(member, 0).validator));
    const origins = inOrder.map((v) => founders.find((member) => this.key(member, 0).validator === v) as number);
    this.#keys.clear();
    this.#origins.splice(0, count, ...origins);
    this.chainId = H('sim/chain', utf8(`${count}`));
    this.founders = this.setOf(founders.map((member) => ({ member, key: 0 })));
    this.validators = this.founders.validators;
    this.validatorsHash = this.founders.hash;
    this.signers = founders.map((member) => this.key(member, 0).signer);
    const verify = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean => {
      const secret = this.#secrets.get(publicKey) ?? this.#secrets.get(bytesToHex(publicKey));
      return secret !== undefined && equalBytes(sign(secret, message), signature);
    };
    this.engine = { name: 'toy', verify, verifyBatch: (items) => verifyEach(verify, items) };
  }

  /** The `key`-th key of a member. */
  key(member: number, key: number): ToyKey {
    const name = `${member}/${key}`;
    const known = this.#keys.get(name);
    if (known !== undefined) return known;
    const origin = this.#origins[member];
    if (origin === undefined) throw new Error(`no member ${member}`);
    const secret = H('sim/secret', u32be(origin), u32be(key));
    const publicKey = concatBytes(H('sim/public/x', secret), H('sim/public/y', secret));
    this.#secrets.set(bytesToHex(publicKey), secret).set(publicKey, secret);
    const address = sm2Address(publicKey);
    const peerId = `peer${'123456789'[origin % 9]}${'abcdefgh'[Math.floor(origin / 9)]}`;
    const made: ToyKey = {
      validator: { orgId: `hospital-${origin}`, publicKey, address, peerId },
      signer: { publicKey, address, sign: (message) => sign(secret, message) },
    };
    this.#keys.set(name, made);
    return made;
  }

  setOf(seats: readonly Seat[]): ToySet {
    const validators = sortedValidatorSet(seats.map(({ member, key }) => this.key(member, key).validator));
    const hash = validatorSetHash(validators);
    const name = bytesToHex(hash);
    const known = this.#sets.get(name);
    if (known !== undefined) return known;
    const inOrder = validators.map(
      (v) => seats.find(({ member, key }) => this.key(member, key).validator === v) as Seat,
    );
    const indices = new Map(inOrder.map(({ member }, index) => [member, index]));
    const made: ToySet = { hash, validators, seats: inOrder, indexOf: (member) => indices.get(member) ?? null };
    this.#sets.set(name, made);
    return made;
  }

  /** The set that headers call by this hash; undefined if nobody made it. */
  namedSet(hash: Uint8Array): ToySet | undefined {
    return this.#sets.get(bytesToHex(hash));
  }
}

export const toyConsortium = (count: number): ToyConsortium => new ToyConsortium(count);

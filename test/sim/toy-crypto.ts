/**
 * Signatures for the simulator: a keyed hash in place of SM2, some hundred times faster. Nobody in a simulation can
 * make one without the signer object, and the engine knows the secrets only to compare, as a MAC's verifier does.
 * For simulations whose subject is not the signature scheme; everything else uses SM2.
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

export interface ToyConsortium {
  readonly chainId: Uint8Array;
  readonly validators: ValidatorSet;
  readonly validatorsHash: Uint8Array;
  /** By validator index. */
  readonly signers: readonly Sm2Signer[];
  readonly engine: Sm2Engine;
}

const sign = (secret: Uint8Array, message: Uint8Array): Uint8Array => {
  const tag = H('sim/signature', secret, message);
  return concatBytes(tag, tag);
};

export function toyConsortium(count: number): ToyConsortium {
  const secrets = new Map<string, Uint8Array>();
  const members: { validator: Validator; signer: Sm2Signer }[] = [];
  for (let i = 0; i < count; i += 1) {
    const secret = H('sim/secret', u32be(i));
    const publicKey = concatBytes(H('sim/public/x', secret), H('sim/public/y', secret));
    secrets.set(bytesToHex(publicKey), secret);
    const address = sm2Address(publicKey);
    const validator = {
      orgId: `hospital-${i}`,
      publicKey,
      address,
      peerId: `peer${'123456789'[i % 9]}${'abcdefgh'[Math.floor(i / 9)]}`,
    };
    members.push({ validator, signer: { publicKey, address, sign: (message) => sign(secret, message) } });
  }
  const validators = sortedValidatorSet(members.map((m) => m.validator));
  const signers = validators.map((v) => {
    const member = members.find((m) => m.validator.publicKey === v.publicKey);
    if (member === undefined) throw new Error('the set was sorted, not changed');
    return member.signer;
  });
  const verify = (publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean => {
    const secret = secrets.get(bytesToHex(publicKey));
    return secret !== undefined && equalBytes(sign(secret, message), signature);
  };
  const engine: Sm2Engine = { name: 'toy', verify, verifyBatch: (items) => verifyEach(verify, items) };
  return {
    chainId: H('sim/chain', utf8(`${count}`)),
    validators,
    validatorsHash: validatorSetHash(validators),
    signers,
    engine,
  };
}

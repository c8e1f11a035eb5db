/** A small consortium to test nodes with: keys, genesis, and signed transactions that anybody in it may send. */
import { utf8 } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { H } from '../../common/crypto/hash.ts';
import { type Sm2Signer, sm2Address } from '../../common/crypto/sm2.ts';
import { createOpensslSigner } from '../../common/native/sm2-openssl.ts';
import { type ChainParams, DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import { type Genesis, genesisHash } from '../../common/protocol/genesis.ts';
import { sortedValidatorSet } from '../../common/protocol/validator-set.ts';
import {
  type Call,
  type Enrolment,
  signedTransaction,
  transactionBody,
  txHash,
} from '../../common/protocol/transaction.ts';
import { enrolmentPossessionHash } from '../../common/protocol/statements.ts';
import { txSigningHash } from '../../common/protocol/signing.ts';

/** Keys that are the same in every run. */
export const signerFor = (name: string): Sm2Signer => createOpensslSigner(H('test-key', utf8(name)));

/** Text that looks like a peer id; the in-memory network asks for no more. */
export const peerIdFor = (name: string): string => `12D3KooW${name.replace(/[^a-z]/g, '')}`;

export interface Hospital {
  readonly orgId: string;
  readonly validator: Sm2Signer;
  readonly admin: Sm2Signer;
  readonly peerId: string;
}

export interface Consortium {
  readonly genesis: Genesis;
  readonly chainId: Uint8Array;
  /** In the order of the validator set: index i leads views by that number. */
  readonly hospitals: readonly Hospital[];
}

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];

export function consortium(
  options: {
    readonly size?: number;
    readonly params?: Partial<ChainParams>;
    readonly timeMs?: number;
    readonly salt?: number;
    /** Real peer ids, where the network is real; by hospital in order of name. */
    readonly peerIds?: readonly string[];
    /** Public keys of custodians, by organisation. */
    readonly custodians?: ReadonlyMap<string, Uint8Array>;
  } = {},
): Consortium {
  const founders = NAMES.slice(0, options.size ?? 4).map((name, index) => {
    const orgId = `hospital-${name}`;
    return {
      orgId,
      validator: signerFor(`validator/${orgId}`),
      admin: signerFor(`admin/${orgId}`),
      peerId: options.peerIds?.[index] ?? peerIdFor(name),
    };
  });
  const genesis: Genesis = {
    version: 1,
    network: 'test',
    timeMs: options.timeMs ?? Date.now() - 1_000,
    params: { ...DEFAULT_CHAIN_PARAMS, roleCoolingMs: 0, ...options.params },
    organisations: founders.map(({ orgId }) => ({
      orgId,
      name: orgId,
      custodianKey: options.custodians?.get(orgId) ?? null,
    })),
    validators: sortedValidatorSet(
      founders.map(({ orgId, validator, peerId }) => ({
        orgId,
        publicKey: validator.publicKey,
        address: validator.address,
        peerId,
      })),
    ),
    accounts: founders.map(({ orgId, admin }) => ({
      publicKey: admin.publicKey,
      orgId,
      personTag: H('test-person', utf8(orgId)),
      roles: ['org_admin', 'registrar', 'physician'],
    })),
    observers: [],
    salt: new Uint8Array(16).fill(options.salt ?? 1),
  };
  const hospitals = genesis.validators.map((v) => founders.find((f) => f.orgId === v.orgId) as Hospital);
  return { genesis, chainId: genesisHash(genesis), hospitals };
}

let nonces = 0;

export interface TestTransaction {
  readonly bytes: Uint8Array;
  readonly hash: Uint8Array;
}

/** A signed transaction, by default with a nonce of its own. */
export function signCall(
  chainId: Uint8Array,
  by: Sm2Signer,
  call: Call,
  options: { readonly validUntilMs?: number; readonly account?: Uint8Array; readonly nonce?: Uint8Array } = {},
): TestTransaction {
  nonces += 1;
  const body = encode(transactionBody, {
    version: 1,
    chainId,
    account: options.account ?? sm2Address(by.publicKey),
    nonce: options.nonce ?? H('test-nonce', utf8(`${nonces}`)).slice(0, 16),
    validUntilMs: options.validUntilMs ?? Date.now() + 60_000,
    call,
  });
  const bytes = encode(signedTransaction, {
    body,
    publicKey: by.publicKey,
    signature: by.sign(txSigningHash(chainId, body)),
  });
  return { bytes, hash: txHash(bytes) };
}

let patients = 0;

/** Enrols a new patient: a transaction that always succeeds, from the administrator of a hospital. */
export function enrolPatient(
  of: Consortium,
  index = 0,
  options: { readonly validUntilMs?: number } = {},
): TestTransaction {
  const { orgId, admin } = of.hospitals[index] as Hospital;
  patients += 1;
  const patient = signerFor(`patient/${orgId}/${patients}`);
  const enrolment: Enrolment = {
    publicKey: patient.publicKey,
    orgId,
    kind: 'patient',
    personTag: null,
    custodial: false,
  };
  const possession = patient.sign(enrolmentPossessionHash(of.chainId, enrolment));
  return signCall(of.chainId, admin, { kind: 'account.enrol', enrolment, possession, countersignature: null }, options);
}

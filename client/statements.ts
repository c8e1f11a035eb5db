/**
 * Statements that two or three people sign before one of them submits: enrolments, recoveries, attending relations. A
 * file goes from hand to hand; each adds a signature over the statement's canonical bytes, having read what it says.
 */
import { encode, type TypeOf } from '../common/codec.ts';
import { equalBytes } from '../common/bytes.ts';
import type { Sm2Engine } from '../common/crypto/sm2.ts';
import { sm2Address } from '../common/crypto/sm2.ts';
import {
  attendingCountersignHash,
  enrolmentCountersignHash,
  enrolmentPossessionHash,
  recoveryCountersignHash,
  recoveryPossessionHash,
} from '../common/protocol/statements.ts';
import {
  attendingRelation,
  type Call,
  countersignature,
  type Countersignature,
  enrolment,
  type Enrolment,
  recovery,
} from '../common/protocol/transaction.ts';
import { bytesField, codecField, type DocumentFields, readDocument, writeDocument } from './documents.ts';
import { ClientError } from './errors.ts';
import { hexOf } from './hex.ts';
import { time } from './text.ts';
import type { Sender } from './transactions.ts';

type Recovery = TypeOf<typeof recovery>;
type Relation = TypeOf<typeof attendingRelation>;

export type Statement =
  | { readonly kind: 'enrolment'; readonly enrolment: Enrolment }
  | { readonly kind: 'recovery'; readonly recovery: Recovery }
  | { readonly kind: 'attending'; readonly relation: Relation };

/** A statement with the signatures that it has so far. */
export interface SignedStatement {
  readonly chainId: Uint8Array;
  readonly statement: Statement;
  /** By the new key; null for attending relations, which have none. */
  readonly possession: Uint8Array | null;
  readonly countersignature: Countersignature | null;
}

const FORMATS = {
  enrolment: 'emrchain-enrolment',
  recovery: 'emrchain-recovery',
  attending: 'emrchain-attending',
} as const;
const MAX_STATEMENT_BYTES = 1024;

/** The message that the new key signs. */
function possessionHash(chainId: Uint8Array, statement: Statement): Uint8Array | null {
  switch (statement.kind) {
    case 'enrolment':
      return enrolmentPossessionHash(chainId, statement.enrolment);
    case 'recovery':
      return recoveryPossessionHash(chainId, statement.recovery);
    case 'attending':
      return null;
  }
}

/** The message that the second party signs. */
function countersignHash(chainId: Uint8Array, statement: Statement): Uint8Array {
  switch (statement.kind) {
    case 'enrolment':
      return enrolmentCountersignHash(chainId, statement.enrolment);
    case 'recovery':
      return recoveryCountersignHash(chainId, statement.recovery);
    case 'attending':
      return attendingCountersignHash(chainId, statement.relation);
  }
}

function encoded(statement: Statement): Uint8Array {
  switch (statement.kind) {
    case 'enrolment':
      return encode(enrolment, statement.enrolment);
    case 'recovery':
      return encode(recovery, statement.recovery);
    case 'attending':
      return encode(attendingRelation, statement.relation);
  }
}

/** A statement of a person about the own new key, with its proof of possession. */
export function possessed(chainId: Uint8Array, statement: Statement, signer: Sender['signer']): SignedStatement {
  const message = possessionHash(chainId, statement);
  const possession = message === null ? null : signer.sign(message);
  return { chainId, statement, possession, countersignature: null };
}

/** @throws ClientError ALREADY_COUNTERSIGNED, OWN_STATEMENT */
export function countersigned(signed: SignedStatement, party: Sender): SignedStatement {
  if (signed.countersignature !== null) {
    throw new ClientError('ALREADY_COUNTERSIGNED', 'The file has a second signature already.', 'Pass it on as it is.');
  }
  const { publicKey } = party.signer;
  if (signed.statement.kind === 'enrolment' && equalBytes(publicKey, signed.statement.enrolment.publicKey)) {
    throw new ClientError('OWN_STATEMENT', 'Nobody countersigns the own enrolment.', 'Pass it to a second party.');
  }
  const signature = party.signer.sign(countersignHash(signed.chainId, signed.statement));
  return { ...signed, countersignature: { account: party.account, publicKey, signature } };
}

/** The call that an administrator (for attending relations an author) submits. */
export function callOf(signed: SignedStatement): Call {
  const { statement, possession } = signed;
  switch (statement.kind) {
    case 'enrolment':
      return {
        kind: 'account.enrol',
        enrolment: statement.enrolment,
        possession: possession ?? new Uint8Array(64),
        countersignature: signed.countersignature,
      };
    case 'recovery':
      return {
        kind: 'account.recover',
        recovery: statement.recovery,
        possession: possession ?? new Uint8Array(64),
        countersignature: signed.countersignature,
      };
    case 'attending':
      return { kind: 'attending.set', relation: statement.relation, countersignature: signed.countersignature };
  }
}

/** What a statement says, for the person who signs it and for `--json`. Account ids are hex. */
export function describeStatement(statement: Statement): readonly (readonly [string, string | null])[] {
  switch (statement.kind) {
    case 'enrolment': {
      const { publicKey, orgId, kind, personTag, custodial } = statement.enrolment;
      return [
        ['statement', 'enrol an account'],
        ['account', hexOf(sm2Address(publicKey))],
        ['organisation', orgId],
        ['kind', kind],
        ['person tag', personTag && hexOf(personTag)],
        ['custodial', custodial ? 'yes: the hospital keeps this key' : null],
      ];
    }
    case 'recovery':
      return [
        ['statement', 'replace the lost key of an account'],
        ['account', hexOf(statement.recovery.account)],
        ['new key', hexOf(sm2Address(statement.recovery.newPublicKey))],
      ];
    case 'attending':
      return [
        ['statement', 'a physician attends a patient'],
        ['patient', hexOf(statement.relation.patient)],
        ['physician', hexOf(statement.relation.physician)],
        ['until', time(statement.relation.expiresAtMs)],
      ];
  }
}

export async function writeStatement(path: string, signed: SignedStatement): Promise<void> {
  const { chainId, statement, possession, countersignature: second } = signed;
  await writeDocument(path, FORMATS[statement.kind], {
    says: Object.fromEntries(describeStatement(statement).filter(([, value]) => value !== null)),
    chainId: hexOf(chainId),
    statement: hexOf(encoded(statement)),
    possession: possession && hexOf(possession),
    countersignature: second && hexOf(encode(countersignature, second)),
  });
}

function readOne(path: string, format: string, content: DocumentFields): Statement {
  const field = 'statement';
  if (format === FORMATS.enrolment) {
    return { kind: 'enrolment', enrolment: codecField(path, content, field, enrolment, MAX_STATEMENT_BYTES) };
  }
  if (format === FORMATS.recovery) {
    return { kind: 'recovery', recovery: codecField(path, content, field, recovery, MAX_STATEMENT_BYTES) };
  }
  return { kind: 'attending', relation: codecField(path, content, field, attendingRelation, MAX_STATEMENT_BYTES) };
}

/**
 * Reads a statement that somebody handed over and checks the signatures in it.
 * @throws ClientError DOCUMENT_MALFORMED, CHAIN_ID_MISMATCH, BAD_POSSESSION, BAD_COUNTERSIGNATURE
 */
export async function readStatement(
  path: string,
  chainId: Uint8Array,
  engine: Sm2Engine,
  kinds: readonly Statement['kind'][] = ['enrolment', 'recovery', 'attending'],
): Promise<SignedStatement> {
  const { format, content } = await readDocument(
    path,
    kinds.map((kind) => FORMATS[kind]),
  );
  if (!equalBytes(bytesField(path, content, 'chainId', 32), chainId)) {
    throw new ClientError(
      'CHAIN_ID_MISMATCH',
      `${path} is for another chain.`,
      'Check --rpc URL, or ask for a new file.',
    );
  }
  const statement = readOne(path, format, content);
  const possession = statement.kind === 'attending' ? null : bytesField(path, content, 'possession', 64);
  const second =
    content['countersignature'] === null
      ? null
      : codecField(path, content, 'countersignature', countersignature, MAX_STATEMENT_BYTES);
  const refuse = (code: string, what: string): ClientError =>
    new ClientError(code, `${path}: ${what} does not verify.`, 'The file was changed: ask for it again.');
  const message = possessionHash(chainId, statement);
  const key = statement.kind === 'enrolment' ? statement.enrolment.publicKey : null;
  const newKey = statement.kind === 'recovery' ? statement.recovery.newPublicKey : key;
  if (message !== null && (newKey === null || possession === null || !engine.verify(newKey, message, possession))) {
    throw refuse('BAD_POSSESSION', 'the proof that the new key is held');
  }
  if (second !== null && !engine.verify(second.publicKey, countersignHash(chainId, statement), second.signature)) {
    throw refuse('BAD_COUNTERSIGNATURE', "the second party's signature");
  }
  return { chainId, statement, possession, countersignature: second };
}

/**
 * Checks what a node answered against the same table that the node validates requests with, before anything reads it.
 * Properties that a newer node added are dropped. Loaded with the first call only: compiling schemas takes some
 * milliseconds.
 */
import { Ajv, type ValidateFunction } from 'ajv';
import { type MethodDefinition, type MethodName, METHODS, type ResultOf } from '../rpc/methods.ts';
import { ClientError } from './errors.ts';
import { clean } from './text.ts';

const ajv = new Ajv({ allErrors: false, strict: true, removeAdditional: true, meta: false, validateSchema: false });
/** At most one for each method. */
const compiled = new Map<MethodName, ValidateFunction>();

/** @throws ClientError RESPONSE_INVALID */
export function checkResult<M extends MethodName>(method: M, result: unknown): ResultOf<M> {
  let validate = compiled.get(method);
  if (validate === undefined) {
    const { result: schema }: MethodDefinition = METHODS[method];
    validate = ajv.compile(schema.json);
    compiled.set(method, validate);
  }
  if (!validate(result)) {
    const first = validate.errors?.[0];
    throw new ClientError(
      'RESPONSE_INVALID',
      `The node's answer to ${method} has not the promised shape: ${clean(`${first?.instancePath ?? ''} ${first?.message ?? ''}`).trim()}.`,
      'Use a client of the same version as the node, or another node (--rpc URL).',
      { method },
    );
  }
  return result as ResultOf<M>;
}

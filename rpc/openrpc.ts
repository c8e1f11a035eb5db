/** The OpenRPC document, made from the table of methods and the table of errors. */
import { RPC_ERRORS } from './errors.ts';
import { type MethodDefinition, type MethodName, METHODS } from './methods.ts';
import { isOptional } from './schema.ts';

/** Version of this interface: the first number changes when a caller must change. */
export const RPC_VERSION = '1.0.0';

export interface OpenRpcDocument extends Readonly<Record<string, unknown>> {
  readonly openrpc: string;
  readonly methods: readonly object[];
}

export function openRpcDocument(disabled: ReadonlySet<MethodName>): OpenRpcDocument {
  const errors = Object.values(RPC_ERRORS).map(({ code, meaning }) => ({ code, message: meaning }));
  const entries = Object.entries(METHODS) as readonly (readonly [MethodName, MethodDefinition])[];
  return {
    openrpc: '1.3.2',
    info: {
      title: 'emrchain',
      version: RPC_VERSION,
      description:
        'Ledger of medical records. Bytes are 0x-prefixed lower-case hex, times are milliseconds since 1970.',
    },
    methods: entries
      .filter(([name]) => !disabled.has(name))
      .map(([name, definition]) => methodObject(name, definition)),
    components: { errors: Object.fromEntries(Object.keys(RPC_ERRORS).map((name, i) => [name, errors[i]])) },
  };
}

function methodObject(name: string, { summary, access, transport, params, result }: MethodDefinition): object {
  return {
    name,
    summary,
    paramStructure: 'either',
    params: Object.entries(params).map(([param, value]) => ({
      name: param,
      required: !isOptional(value),
      schema: value.json,
    })),
    result: { name: 'result', schema: result.json },
    'x-access': access,
    'x-transport': transport,
  };
}

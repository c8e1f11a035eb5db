/**
 * Traces of model/pbft.qnt: from the simulator's file to what the replay needs, and in the short form in which
 * model/traces keeps them, one line of JSON for each step. A step changes one replica, so only that one is kept.
 */
import assert from 'node:assert';

/** A vote of one kind or a prepared certificate; view and block are -1 where there is none. */
export interface ModelVote {
  readonly view: number;
  readonly block: number;
}
export interface ModelAsked {
  readonly from: number;
  readonly view: number;
  readonly prepared: ModelVote;
}
export type ModelMessage =
  | { readonly tag: 'PrePrepare' | 'Prepare' | 'Commit'; readonly value: ModelVote & { readonly from: number } }
  | { readonly tag: 'ViewChange'; readonly value: ModelAsked }
  | {
      readonly tag: 'NewView';
      readonly value: { readonly from: number; readonly view: number; readonly viewChanges: readonly ModelAsked[] };
    };

/** What of a replica can be seen from outside the core. */
export interface ModelReplica {
  readonly view: number;
  readonly mode: string;
  readonly record: {
    readonly view: number;
    readonly prePrepare: ModelVote;
    readonly prepare: ModelVote;
    readonly commit: ModelVote;
    readonly prepared: ModelVote;
  };
  readonly decided: ModelVote;
  readonly viewChanges: readonly ModelAsked[];
}

export interface ModelStep {
  readonly kind: 'deliver' | 'propose' | 'timeout' | 'restart' | 'sign';
  readonly at: number;
  readonly message: ModelMessage | null;
  /** Of the replica at `at` after the step; null where a faulty one signed. */
  readonly after: ModelReplica | null;
  /** What was signed in this step. */
  readonly signed: readonly ModelMessage[];
}

export interface ModelTrace {
  readonly count: number;
  readonly faulty: readonly number[];
  readonly steps: readonly ModelStep[];
}

/** Values of the Informal Trace Format to plain ones; sets to lists in a fixed order, so that equal ones look equal. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const fields = value as Record<string, unknown>;
  if ('#bigint' in fields) return Number(fields['#bigint']);
  if ('#set' in fields) return ordered((fields['#set'] as unknown[]).map(plain));
  if ('#map' in fields) return (fields['#map'] as unknown[]).map(plain);
  if ('#tup' in fields) return (fields['#tup'] as unknown[]).map(plain);
  return Object.fromEntries(
    Object.keys(fields)
      .sort()
      .map((name) => [name, plain(fields[name])]),
  );
}

const ordered = (values: readonly unknown[]): unknown[] =>
  values
    .map((v) => ({ v, text: JSON.stringify(v) }))
    .sort((a, b) => (a.text < b.text ? -1 : 1))
    .map(({ v }) => v);

interface State {
  readonly replicas: readonly (readonly [number, ModelReplica])[];
  readonly sent: readonly ModelMessage[];
  readonly last: { readonly kind: ModelStep['kind']; readonly at: number; readonly message: readonly ModelMessage[] };
}

/** @param text a trace as the simulator writes it, of an instance with `count` validators */
export function parseItf(text: string, count: number): ModelTrace {
  const itf = JSON.parse(text) as { readonly states: readonly Record<string, unknown>[] };
  const states = itf.states.map((state): State => {
    const named = new Map(Object.keys(state).map((name) => [name.split('::').at(-1), plain(state[name])]));
    return Object.fromEntries(named) as State;
  });
  const first = states[0];
  assert(first !== undefined, 'a trace begins somewhere');
  const honest = first.replicas.map(([at]) => at);
  const steps = states.slice(1).map((state, index): ModelStep => {
    const before = states[index] as State;
    const { kind, at, message } = state.last;
    const changed = state.replicas.filter(([i, r], n) => i !== at && !same(r, before.replicas[n]?.[1]));
    assert(changed.length === 0, 'a step changes one replica');
    const known = new Set(before.sent.map((m) => JSON.stringify(m)));
    return {
      kind,
      at,
      message: message[0] ?? null,
      after: visible(state.replicas.find(([i]) => i === at)?.[1]),
      signed: state.sent.filter((m) => !known.has(JSON.stringify(m))),
    };
  });
  return { count, faulty: Array.from({ length: count }, (_, i) => i).filter((i) => !honest.includes(i)), steps };
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

function visible(replica: ModelReplica | undefined): ModelReplica | null {
  if (replica === undefined) return null;
  const { view, mode, record, decided, viewChanges } = replica;
  return { view, mode, record, decided, viewChanges };
}

export function parseKept(text: string): ModelTrace {
  const [head, ...steps] = text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
  return { ...(head as Omit<ModelTrace, 'steps'>), steps: steps as ModelStep[] };
}

export function printKept({ count, faulty, steps }: ModelTrace): string {
  return [{ count, faulty }, ...steps].map((line) => `${JSON.stringify(line)}\n`).join('');
}

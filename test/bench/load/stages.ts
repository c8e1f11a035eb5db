/**
 * A node's processor time by stage. Each sample counts for the innermost function whose file belongs to a stage, so that
 * what a library does counts for whoever asked for it, unless the library is a stage of its own.
 */

export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** The first that matches a file's address; order matters where one folder lies in another. */
const STAGES: readonly (readonly [stage: string, file: RegExp])[] = [
  ['signatures', /common\/crypto\/(sm2|sm2-engine|curve|public-arithmetic)|common\/native\/sm2|node\/verification/u],
  ['hashing (SM3)', /common\/crypto\/(sm3|hash|merkle)/u],
  ['encoding, decoding', /common\/(codec|cbor-reader|bytes)|common\/protocol|@ipld|cborg/u],
  ['state tree', /vm\/state-tree|node\/execution\/node-(?:cache|table)/u],
  ['execution of rules', /\/vm\//u],
  ['execution: blocks', /node\/execution/u],
  ['pool and gossip', /node\/mempool/u],
  ['consensus core', /\/consensus\//u],
  ['consensus host', /node\/host|node\/membership|node\/custody|node\/alarms/u],
  [
    'storage',
    /node\/storage|node_modules\/(level|classic-level|abstract-level)|node\/process\/watched-store|measured-store/u,
  ],
  ['network', /node\/network|node_modules\/(@?libp2p|@chainsafe|@libp2p|it-|uint8|@multiformats|protons|@noble)/u],
  ['RPC', /\/rpc\/|node\/rpc-ports|node_modules\/(ws|fastify|@fastify|ajv)/u],
  ['replication, snapshots', /node\/(replication|snapshot|ipfs)/u],
  ['logs, metrics', /node\/(log|metrics)|node_modules\/(pino|prom-client)/u],
];
const GARBAGE = 'garbage collection';
const NATIVE = 'native code, system calls';
const REST = 'everything else';

export interface StageShare {
  readonly stage: string;
  /** Of the busy time. */
  readonly share: number;
}

/** @returns largest first, idle time left out */
export function stagesOf({ nodes, samples, timeDeltas }: CpuProfile): readonly StageShare[] {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)));
  const stages = new Map<number, string | null>();
  const stageOf = (id: number): string | null => {
    const known = stages.get(id);
    if (known !== undefined) return known;
    const { functionName, url } = (byId.get(id) as (typeof nodes)[number]).callFrame;
    const parent = parents.get(id);
    let stage: string | null = STAGES.find(([, file]) => file.test(url))?.[0] ?? null;
    if (functionName === '(garbage collector)') stage = GARBAGE;
    else if (functionName === '(program)') stage = NATIVE;
    else if (functionName === '(idle)') stage = '';
    else stage ??= parent === undefined ? REST : stageOf(parent);
    stages.set(id, stage);
    return stage;
  };
  const times = new Map<string, number>();
  samples.forEach((id, index) => {
    const stage = stageOf(id);
    if (stage === null || stage === '') return;
    times.set(stage, (times.get(stage) ?? 0) + (timeDeltas[index] ?? 0));
  });
  const busy = [...times.values()].reduce((sum, time) => sum + time, 0);
  return [...times].map(([stage, time]) => ({ stage, share: time / busy })).sort((a, b) => b.share - a.share);
}

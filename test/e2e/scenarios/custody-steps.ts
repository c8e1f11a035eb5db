/** Carries out the steps of a scenario that are about custodians, their shares, and records under the shared key. */
import { ClientError, RpcClient } from '../../../client/index.ts';
import { unreachable } from '../../../common/errors.ts';
import { until } from '../until.ts';
import { Records } from './records.ts';
import type { CustodyStep } from './scenario.ts';
import type { Stage } from './stage.ts';
import type { StageNode } from './stage-node.ts';

/** The longest phase of a session that waits for somebody has 60 s. */
const DEADLINE_MS = 120_000;

type Note = (figure: string | undefined, value: number) => void;
type Only<Do extends CustodyStep['do']> = Extract<CustodyStep, { readonly do: Do }>;

export class CustodySteps {
  readonly #stage: Stage;
  readonly #note: Note;
  /** Public key of the first epoch: it never changes. */
  #key: string | null = null;
  #threshold = 0;
  #records: Records | null = null;

  constructor(stage: Stage, note: Note) {
    this.#stage = stage;
    this.#note = note;
  }

  async step(step: CustodyStep): Promise<void> {
    const node = (index: number): StageNode => this.#stage.node(index);
    switch (step.do) {
      case 'custodians':
        await Promise.all(step.nodes.map((index) => node(index).custodian.run(step.run)));
        return;
      case 'keepShares':
        return node(step.node).custodian.keepShares();
      case 'swapShares':
        return node(step.node).custodian.swapShares();
      case 'sharedKey':
        return this.#sharedKey(step);
      case 'convicted':
        return this.#convicted(step);
      case 'write':
        return (await this.#cast()).write(step.record);
      case 'read':
        return this.#read(step);
      case 'notReleased':
        return this.#notReleased(step);
      case 'shareRefused':
        return this.#shareRefused(step);
      default:
        return unreachable(step);
    }
  }

  async #cast(): Promise<Records> {
    this.#records ??= await Records.open(this.#stage);
    return this.#records;
  }

  async #sharedKey({ nodes, epoch, threshold, figure }: Only<'sharedKey'>): Promise<void> {
    const sinceMs = performance.now();
    const holders = nodes.map((index) => this.#stage.node(index).name).sort(byText);
    for (const index of nodes) {
      const { name, hospital } = this.#stage.node(index);
      const found = await until(
        `${name} shows epoch ${epoch} of the shared key, and no session`,
        async () => {
          const status = await new RpcClient(hospital.rpcUrl).call('custody_getStatus', {});
          return status.epoch?.epoch === epoch && status.session === null ? status.epoch : null;
        },
        DEADLINE_MS,
      );
      this.#key ??= found.key;
      const shown = found.holders.map(({ orgId }) => orgId).sort(byText);
      const { key, threshold: needed } = found;
      if (key !== this.#key) throw new Error(`${name} shows another key: ${key}`);
      if (needed !== threshold) throw new Error(`${name} shows a threshold of ${needed}`);
      if (shown.join() !== holders.join()) throw new Error(`${name} shows shares of ${shown.join()}`);
    }
    this.#threshold = threshold;
    this.#note(figure, performance.now() - sinceMs);
  }

  async #convicted({ nodes }: Only<'convicted'>): Promise<void> {
    const wanted = nodes.map((index) => this.#stage.node(index).name).sort(byText);
    const rpc = new RpcClient(this.#stage.node(0).hospital.rpcUrl);
    const { height: head } = await rpc.call('chain_getHeight', {});
    const found: string[] = [];
    for (let height = 1; height <= head; height += 1) {
      const { receipts } = await rpc.call('chain_getBlockResults', { height });
      const events = receipts.flatMap((receipt) => receipt.events);
      for (const { type, orgId } of events) if (type === 'custody.disqualified') found.push(String(orgId));
    }
    const shown = found.sort(byText).join(', ');
    if (shown !== wanted.join(', ')) throw new Error(`convicted are ${shown || 'none'}, not ${wanted.join(', ')}`);
  }

  async #read({ record, at, figure }: Only<'read'>): Promise<void> {
    const { isEqual, from, tookMs } = await (await this.#cast()).read(record, this.#stage.node(at));
    if (!isEqual) throw new Error(`what was read is not the record ${record}`);
    const given = from.split(', ').length;
    if (given !== this.#threshold) throw new Error(`the key came from ${from}, not from ${this.#threshold}`);
    this.#note(figure, tookMs);
  }

  async #notReleased({ record, at }: Only<'notReleased'>): Promise<void> {
    try {
      await (await this.#cast()).read(record, this.#stage.node(at));
    } catch (error) {
      if (error instanceof ClientError && error.code === 'KEY_NOT_RELEASED') return;
      throw error;
    }
    throw new Error(`${record} was read, with too few custodians`);
  }

  async #shareRefused({ node: index, record, code }: Only<'shareRefused'>): Promise<void> {
    const node = this.#stage.node(index);
    const others = this.#stage.nodes.find((one) => one.isRunning && one !== node) as StageNode;
    const replies = await (await this.#cast()).answers(record, others);
    const own = replies.find(({ orgId }) => orgId === node.name);
    if (own?.code !== code) throw new Error(`${node.name} is answered for with ${own?.code}, not with ${code}`);
  }
}

const byText = (a: string, b: string): number => (a < b ? -1 : 1);

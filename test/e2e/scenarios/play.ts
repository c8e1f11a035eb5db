/**
 * Plays a scenario: carries out its steps on a stage of real processes, collects its figures, and at the end has
 * everything checked that must hold whatever was done.
 */
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pass } from 'node:timers/promises';
import { RpcClient } from '../../../client/index.ts';
import { lastLines } from '../../../scripts/devnet/processes.ts';
import { until } from '../until.ts';
import { checkAll } from './checks.ts';
import { CustodySteps } from './custody-steps.ts';
import { joinByVote, leaveByVote } from './joining.ts';
import { brokenLimits, type Figures, spread } from './figures.ts';
import type { Scenario, Step, Who } from './scenario.ts';
import { Stage } from './stage.ts';
import type { StageNode } from './stage-node.ts';

/** For whatever must come about: a node that starts on a busy machine takes longer than any figure may show. */
const DEADLINE_MS = 120_000;
const BLOCKS_IN_DEADLINE = 100;
/** Blocks come while one looks: who is at most this far behind the highest is level with it. */
const LEVEL_WITHIN = 2;
/** As scenario-node.ts has it. */
const CLOCK_FILE = 'clock-offset-ms';

export interface Outcome {
  readonly figures: Figures;
  /** What was not as it must be: a sentence each; none when all is well. */
  readonly failures: readonly string[];
}

export interface PlayOptions {
  /** Factor for the limits of figures: above 1 where other work shares the machine. */
  readonly slack: number;
  readonly say: (text: string) => void;
}

class Play {
  readonly #stage: Stage;
  readonly #scenario: Scenario;
  readonly #figures = new Map<string, number[]>();
  readonly #mayEndWith: ReadonlySet<string>;
  readonly #custody: CustodySteps;
  #markMs = 0;

  constructor(stage: Stage, scenario: Scenario) {
    this.#stage = stage;
    this.#scenario = scenario;
    this.#mayEndWith = new Set(scenario.mayEndWith);
    this.#custody = new CustodySteps(stage, (figure, value) => this.#note(figure, value));
  }

  get figures(): Figures {
    return this.#figures;
  }

  #note(figure: string | undefined, value: number): void {
    if (figure === undefined) return;
    const values = this.#figures.get(figure) ?? [];
    values.push(value);
    this.#figures.set(figure, values);
  }

  #nodes(indices: readonly number[]): readonly StageNode[] {
    return indices.map((index) => this.#stage.node(index));
  }

  async #who(who: Who): Promise<readonly StageNode[]> {
    if (who !== 'leader') return this.#nodes(who);
    const asked = this.#stage.nodes.find(({ isActive }) => isActive);
    if (asked === undefined) throw new Error('no node runs');
    const { leaderOrg } = await new RpcClient(asked.hospital.rpcUrl).call('node_status', {});
    return this.#stage.nodes.filter(({ hospital }) => hospital.orgId === leaderOrg);
  }

  /** Waits; a node that ends by itself meanwhile is a failure unless the scenario says that it may. */
  async #until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    await until(
      what,
      () => {
        if (this.#mayEndWith.size === 0) for (const node of this.#stage.nodes) node.requireRunning();
        return condition();
      },
      DEADLINE_MS,
    );
  }

  async step(step: Step): Promise<void> {
    const stage = this.#stage;
    switch (step.do) {
      case 'start':
        for (const node of this.#nodes(step.nodes)) node.start();
        return;
      case 'recover':
        return this.#recover(step);
      case 'level':
        return this.#level(step);
      case 'kill':
        await Promise.all((await this.#who(step.nodes)).map((node) => node.kill()));
        return;
      case 'stop':
        await Promise.all(this.#nodes(step.nodes).map((node) => node.stop()));
        return;
      case 'freeze':
        for (const node of await this.#who(step.nodes)) node.freeze(true);
        return;
      case 'thaw':
        for (const node of this.#nodes(step.nodes)) node.freeze(false);
        return;
      case 'load':
        stage.load.start({ at: stage.nodes.map(({ index }) => index), ...step });
        return;
      case 'quiet':
        return stage.load.stop();
      case 'pass':
        return pass(step.ms);
      case 'blocks':
        return this.#blocks(step);
      case 'longestPause':
        return this.#longestPause(step);
      case 'mark':
        this.#markMs = performance.now();
        return;
      case 'longestPauseSinceMark':
        return this.#notePause(step.figure, this.#markMs);
      case 'rate':
        return this.#rate(step);
      case 'expectNoBlock':
        return this.#expectNoBlock(step);
      case 'alarm':
        return this.#alarm(step);
      case 'partition':
        return stage.wires.partition(step.groups);
      case 'disconnect':
        return stage.wires.disconnect(step.node);
      case 'heal':
        return stage.wires.heal();
      case 'slow':
        return stage.wires.slow(step.node, step.link);
      case 'clock':
        return this.#clock(step);
      case 'catchUp':
        return this.#catchUp(step);
      case 'fillDisk':
        return stage.node(step.node).disk.fill();
      case 'freeDisk':
        return stage.node(step.node).disk.free();
      case 'ended':
        return this.#ended(step);
      case 'backUp':
        return stage.node(step.node).backUp();
      case 'restore':
        return stage.node(step.node).restore();
      case 'startTwin':
        return stage.startTwin(step.node);
      case 'endTwin':
        return stage.endTwin();
      case 'join':
        return this.#vote(step, joinByVote);
      case 'leave':
        return this.#vote(step, leaveByVote);
      case 'meanwhile':
        await Promise.all([this.step(step.whole), this.#steps(step.steps)]);
        return;
      default:
        return this.#custody.step(step);
    }
  }

  async #steps(steps: readonly Step[]): Promise<void> {
    for (const step of steps) await this.step(step);
  }

  #recover({ nodes: wanted, figure }: Extract<Step, { do: 'recover' }>): Promise<void> {
    const ended = this.#stage.nodes.filter(({ isRunning }) => !isRunning).map(({ index }) => index);
    const nodes = wanted === 'ended' ? ended : wanted;
    for (const node of this.#nodes(nodes)) node.start();
    return this.#level({ do: 'level', nodes, ...(figure === undefined ? {} : { figure }) });
  }

  async #level({ nodes, figure }: Extract<Step, { do: 'level' }>): Promise<void> {
    const sinceMs = performance.now();
    const stage = this.#stage;
    const wanted = stage.height;
    const waiting = this.#nodes(nodes);
    const names = waiting.map(({ name }) => name).join(', ');
    await this.#until(`${names} ready, level with the others, and a block above ${wanted}`, async () => {
      if (stage.load.isRunning && stage.height <= wanted) return false;
      const isBehind = ({ watch }: StageNode): boolean =>
        !watch.isOpen || watch.height < wanted || watch.height + LEVEL_WITHIN < stage.height;
      if (waiting.some(isBehind)) return false;
      return (await Promise.all(waiting.map(isReady))).every((ready) => ready);
    });
    this.#note(figure, performance.now() - sinceMs);
  }

  async #blocks({ count, figure }: Extract<Step, { do: 'blocks' }>): Promise<void> {
    const sinceMs = performance.now();
    const wanted = this.#stage.height + count;
    // The deadline is for the next few of them: ten thousand take their time.
    while (this.#stage.height < wanted) {
      const next = Math.min(wanted, this.#stage.height + BLOCKS_IN_DEADLINE);
      await this.#until(`block ${next}`, () => this.#stage.height >= next);
    }
    // When it was seen, and not when this loop looked.
    this.#note(figure, (this.#stage.sights.get(wanted) ?? performance.now()) - sinceMs);
  }

  async #longestPause({ ms, figure }: Extract<Step, { do: 'longestPause' }>): Promise<void> {
    const sinceMs = performance.now();
    await pass(ms);
    this.#notePause(figure, sinceMs);
  }

  #notePause(figure: string, sinceMs: number): void {
    // What had not come by now is counted up to now.
    const instants = [sinceMs, ...this.#sightsSince(sinceMs), performance.now()];
    this.#note(figure, Math.max(...instants.slice(1).map((at, i) => at - (instants[i] as number))));
  }

  #sightsSince(sinceMs: number): readonly number[] {
    return [...this.#stage.sights.values()].filter((at) => at >= sinceMs).sort((a, b) => a - b);
  }

  async #rate({ ms, figure }: Extract<Step, { do: 'rate' }>): Promise<void> {
    const { load } = this.#stage;
    const sinceMs = performance.now();
    const before = { txs: load.reported.length, height: this.#stage.height };
    await pass(ms);
    const seconds = (performance.now() - sinceMs) / 1_000;
    this.#note(`${figure}, transactions a second`, (load.reported.length - before.txs) / seconds);
    this.#note(`${figure}, blocks a second`, (this.#stage.height - before.height) / seconds);
  }

  async #expectNoBlock({ settleMs, ms }: Extract<Step, { do: 'expectNoBlock' }>): Promise<void> {
    await pass(settleMs);
    const before = this.#stage.height;
    await pass(ms);
    const after = this.#stage.height;
    if (after > before) throw new Error(`blocks ${before + 1} to ${after} were committed without a quorum`);
  }

  async #alarm({ nodes, codes }: Extract<Step, { do: 'alarm' }>): Promise<void> {
    const asked = nodes.map((node) => (node === 'twin' ? this.#stage.twin : this.#stage.node(node)));
    const names = asked.map(({ name }) => name).join(' or ');
    await this.#until(`${names} raises one of ${codes.join(', ')}`, async () => {
      const raised = await Promise.all(asked.map(alarmsOf));
      return raised.flat().some((code) => codes.includes(code));
    });
  }

  async #catchUp({ node: index, figure }: Extract<Step, { do: 'catchUp' }>): Promise<void> {
    const stage = this.#stage;
    const node = stage.node(index);
    const behind = { from: node.watch.height, to: stage.height };
    node.start();
    await this.#until(`${node.name} answers`, () => node.watch.isOpen);
    const began = { atMs: performance.now(), height: stage.height, own: node.watch.height };
    await this.#until(`${node.name} level with the others`, () => node.watch.height + LEVEL_WITHIN >= stage.height);
    const seconds = (performance.now() - began.atMs) / 1_000;
    this.#note(`${figure}: blocks behind`, behind.to - behind.from);
    this.#note(`${figure}: seconds`, seconds);
    this.#note(`${figure}: blocks a second`, (node.watch.height - began.own) / seconds);
    this.#note(`${figure}: blocks a second of the others meanwhile`, (stage.height - began.height) / seconds);
  }

  async #vote({ nodes, figure }: Extract<Step, { do: 'join' | 'leave' }>, by: typeof joinByVote): Promise<void> {
    const sinceMs = performance.now();
    await this.#stage.meet();
    await by(this.#stage, nodes);
    this.#note(figure, performance.now() - sinceMs);
  }

  async #ended({ node: index, exitCode, error }: Extract<Step, { do: 'ended' }>): Promise<void> {
    const node = this.#stage.node(index);
    await this.#until(`${node.name} ends by itself`, () => !node.isRunning);
    const said = lastLines(node.logFile);
    if (node.exitCode === exitCode && said.includes(`error ${error}: `)) return;
    throw new Error(`${node.name} ended with ${node.exitCode}, not with ${exitCode} and ${error}:\n${said}`);
  }

  async #clock({ nodes, offsetMs }: Extract<Step, { do: 'clock' }>): Promise<void> {
    for (const { hospital } of this.#nodes(nodes)) {
      const file = join(hospital.dir, CLOCK_FILE);
      // Renamed into place: the node must not read half of it.
      await writeFile(`${file}.new`, String(offsetMs));
      await rename(`${file}.new`, file);
    }
  }

  /** Ends the load, and has those that ought to be level become so. */
  async settle(): Promise<void> {
    const { load, nodes } = this.#stage;
    await load.stop();
    const running = nodes.filter(({ isRunning }) => isRunning);
    await this.#until('all nodes at one height', () => {
      return running.every(({ watch }) => watch.height === this.#stage.height);
    });
  }
}

async function alarmsOf({ hospital }: StageNode): Promise<readonly string[]> {
  const status = await new RpcClient(hospital.rpcUrl).call('node_status', {}).catch(() => null);
  if (status === null) return [];
  const { stalledReason, warnings } = status;
  return [...(stalledReason === null ? [] : [stalledReason]), ...warnings].map(({ code }) => code);
}

async function isReady({ hospital }: StageNode): Promise<boolean> {
  try {
    return (await fetch(`${hospital.rpcUrl}/readyz`, { signal: AbortSignal.timeout(2_000) })).ok;
  } catch {
    return false;
  }
}

/** Plays a scenario from its first step to the last check. @throws Error when a step does not come about */
export async function play(scenario: Scenario, { slack, say }: PlayOptions): Promise<Outcome> {
  const stage = await Stage.open({
    nodes: scenario.nodes,
    wired: scenario.network === 'wired',
    custodians: scenario.custodians === true,
    smallDisks: scenario.smallDisks ?? [],
  });
  try {
    const playing = new Play(stage, scenario);
    for (const [at, step] of scenario.steps.entries()) {
      try {
        await playing.step(step);
      } catch (cause) {
        throw new Error(
          `step ${at + 1}, ${JSON.stringify(step)}: ${(cause as Error).message}
${ends(stage)}`,
          { cause },
        );
      }
    }
    await playing.settle();
    const { failures, checked } = await checkAll(stage, scenario);
    const { figures } = playing;
    for (const [figure, values] of figures) say(`${figure}: ${spread(values)}`);
    for (const line of checked) say(line);
    return { figures, failures: [...failures, ...brokenLimits(scenario.limits, figures, slack)] };
  } finally {
    await stage.close();
  }
}

/** The last that each node said, for whoever has to find out what went wrong. */
const ends = (stage: Stage): string =>
  stage.nodes.map(({ hospital, logFile }) => `--- ${hospital.orgId}\n${lastLines(logFile)}`).join('\n');

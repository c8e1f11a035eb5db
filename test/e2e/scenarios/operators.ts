/** Operators of hospitals at their custodians: each confirms a set of receivers once its own custodian asks for it. */
import { setTimeout as pass } from 'node:timers/promises';
import { ClientError, RpcClient } from '../../../client/index.ts';
import { hexToBytes } from '../../../common/bytes.ts';
import { confirmSet } from '../../../common/native/custody-confirmed.ts';
import type { Stage } from './stage.ts';
import type { StageNode } from './stage-node.ts';

/** Between two looks at all custodians. */
const LOOK_MS = 200;

/** While this is under way, operators look after their custodians. @throws Error when one asks for a set of strangers */
export async function confirming(stage: Stage, underWay: Promise<void>): Promise<void> {
  const over = new AbortController();
  const ended = underWay.finally(() => over.abort());
  // Both are awaited below; what one fails with must not be lost while the other goes on.
  ended.catch(() => undefined);
  if (stage.hasCustodians) await attend(stage, over.signal);
  await ended;
}

async function attend(stage: Stage, over: AbortSignal): Promise<void> {
  while (!over.aborted) {
    const known = new Set(stage.nodes.map(({ name }) => name));
    for (const node of stage.nodes.filter(({ isRunning, custodian }) => isRunning && custodian.isRunning)) {
      await look(node, known);
    }
    await pass(LOOK_MS, undefined, { signal: over }).catch(() => undefined);
  }
}

async function look({ name, hospital }: StageNode, known: ReadonlySet<string>): Promise<void> {
  try {
    const { session, custodian } = await new RpcClient(hospital.rpcUrl).call('custody_getStatus', {});
    if (session === null || custodian.waitsFor?.includes(session.setHash) !== true) return;
    const strangers = session.receivers.filter(({ orgId }) => !known.has(orgId));
    if (strangers.length > 0) throw new Error(`${name} is to hand its share on to ${strangers[0]?.orgId}`);
    await confirmSet(hospital.dir, hexToBytes(session.setHash.slice(2)));
  } catch (error) {
    // A node that starts, or ends: its operator looks again.
    if (!(error instanceof ClientError)) throw error;
  }
}

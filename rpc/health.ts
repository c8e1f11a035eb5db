/** /healthz, /readyz, /metrics and /openrpc.json: for supervisors, balancers and monitoring. Nothing about patients. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RpcError } from './errors.ts';
import type { Service } from './service.ts';
import { type AlarmView, alarmView } from './views.ts';

const LOOPBACK = /^(?:127\.|::1$|::ffff:127\.|localhost$)/;

interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly value: number;
  readonly wanted: number;
}

const MAX_WANTED = Number.MAX_SAFE_INTEGER;

/** @throws RpcError INVALID_PARAMS */
function wanted(query: unknown, name: string): number | undefined {
  const value = (query as Readonly<Record<string, unknown>>)[name];
  if (value === undefined) return undefined;
  const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : -1;
  if (number < 0 || number > MAX_WANTED)
    throw new RpcError('INVALID_PARAMS', `${name} must be a whole number, given once.`);
  return number;
}

function readiness(
  service: Service,
  query: unknown,
): { ready: boolean; checks: readonly Check[]; stalledReason: AlarmView | null } {
  const { node, chain, network } = service.ports;
  const { highestKnownHeight, stalledReason, syncing } = node.status();
  const head = chain.head();
  const peers = network.peers().filter(({ connected }) => connected).length;
  const behind = Math.max(0, highestKnownHeight - head.height);
  const ageMs = Math.max(0, node.nowMs() - head.timestampMs);
  const checks: Check[] = [];
  const minPeers = wanted(query, 'minPeers');
  const maxBehind = wanted(query, 'maxBlocksBehind');
  const maxAge = wanted(query, 'maxBlockAgeMs');
  if (minPeers !== undefined) checks.push({ name: 'minPeers', ok: peers >= minPeers, value: peers, wanted: minPeers });
  if (maxBehind !== undefined)
    checks.push({ name: 'maxBlocksBehind', ok: behind <= maxBehind, value: behind, wanted: maxBehind });
  if (maxAge !== undefined) checks.push({ name: 'maxBlockAgeMs', ok: ageMs <= maxAge, value: ageMs, wanted: maxAge });
  // Who has not heard from the others yet cannot know what it lacks.
  if (stalledReason?.code === 'STARTING') checks.push({ name: 'heardFromQuorum', ok: false, value: 0, wanted: 1 });
  // Without a wish of its own the question is whether the node has what the others have.
  if (maxBehind === undefined) checks.push({ name: 'synced', ok: !syncing, value: behind, wanted: 0 });
  return { ready: checks.every(({ ok }) => ok), checks, stalledReason: stalledReason && alarmView(stalledReason) };
}

export function healthRoutes(app: FastifyInstance, service: Service): void {
  app.get('/healthz', () => ({ status: 'ok' }));

  app.get('/readyz', (request: FastifyRequest, reply: FastifyReply) => {
    const result = readiness(service, request.query);
    return reply.code(result.ready ? 200 : 503).send(result);
  });

  app.get('/metrics', async (_request: FastifyRequest, reply: FastifyReply) => {
    const { openMetrics, host } = service.config;
    if (!openMetrics && !LOOPBACK.test(host)) {
      throw new RpcError('FORBIDDEN', 'Metrics are not open on this interface; set rpc.openMetrics.', 'METRICS_CLOSED');
    }
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(await service.ports.metrics.text());
  });

  app.get('/openrpc.json', () => service.openRpc);
}

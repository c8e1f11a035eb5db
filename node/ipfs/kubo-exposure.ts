/**
 * Is a Kubo daemon open to the world? Ciphertext in one that is can be fetched by anybody who learns its CID, and the
 * daemon announces to strangers what it holds. A daemon made with `ipfs init` is open in every one of these ways.
 *
 * The configuration is read over the RPC API. That says nothing of a swarm key, so this is tried out: a connection is
 * opened to the daemon's own listen address, and a daemon that negotiates in clear text has none.
 */

import { connect } from 'node:net';
import type { KuboRpc } from './kubo-rpc.ts';

export interface KuboFinding {
  readonly code:
    | 'BOOTSTRAP_NOT_EMPTY'
    | 'ROUTING_ON'
    | 'NO_PRIVATE_NETWORK'
    | 'PRIVATE_NETWORK_UNPROVEN'
    | 'API_EXPOSED'
    | 'GATEWAY_EXPOSED'
    | 'TELEMETRY_ON';
  /** What is wrong, and the command that puts it right. */
  readonly remedy: string;
}

export interface KuboReport {
  readonly version: string;
  /** Why the daemon counts as open to the world; empty when it does not. */
  readonly findings: readonly KuboFinding[];
  /** Not a matter of exposure, but the operator should know: for the log. */
  readonly warnings: readonly string[];
}

type Json = unknown;

/** What is at `path` in a configuration that somebody else wrote. */
function at(value: Json, ...path: readonly string[]): Json {
  let here = value;
  for (const key of path) {
    if (typeof here !== 'object' || here === null || Array.isArray(here)) return undefined;
    here = (here as Record<string, Json>)[key];
  }
  return here;
}

/** The strings of a setting that may be one, several or none. */
function strings(value: Json): string[] {
  const items: readonly Json[] = Array.isArray(value) ? value : [value];
  return items.filter((item) => typeof item === 'string' && item !== '') as string[];
}

function isLoopback(multiaddr: string): boolean {
  return /^\/ip4\/127\.|^\/ip6\/::1\/|^\/dns[46]?\/localhost\/|^\/unix\//.test(multiaddr);
}

/** Kubo sends usage data to its makers from this version on, unless told not to. */
function hasTelemetry(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 0 || minor >= 37;
}

function configFindings(config: Json, version: string): KuboFinding[] {
  const findings: KuboFinding[] = [];
  if (strings(at(config, 'Bootstrap')).length > 0) {
    findings.push({ code: 'BOOTSTRAP_NOT_EMPTY', remedy: 'it calls strangers: `ipfs bootstrap rm --all`' });
  }
  if (at(config, 'Routing', 'Type') !== 'none') {
    findings.push({ code: 'ROUTING_ON', remedy: 'it announces what it has: `ipfs config Routing.Type none`' });
  }
  const hasApiTokens = Object.keys(at(config, 'API', 'Authorizations') ?? {}).length > 0;
  if (!hasApiTokens && !strings(at(config, 'Addresses', 'API')).every(isLoopback)) {
    findings.push({
      code: 'API_EXPOSED',
      remedy: 'its API takes orders from the network: `ipfs config Addresses.API /ip4/127.0.0.1/tcp/5001`',
    });
  }
  if (!strings(at(config, 'Addresses', 'Gateway')).every(isLoopback)) {
    findings.push({
      code: 'GATEWAY_EXPOSED',
      remedy: 'its gateway serves files to the network: `ipfs config Addresses.Gateway /ip4/127.0.0.1/tcp/8080`',
    });
  }
  const telemetry = at(config, 'Plugins', 'Plugins', 'telemetry');
  const isTelemetryOff = at(telemetry, 'Disabled') === true || at(telemetry, 'Config', 'Mode') === 'off';
  if (hasTelemetry(version) && !isTelemetryOff) {
    findings.push({
      code: 'TELEMETRY_ON',
      remedy: 'it reports to its makers: `ipfs config Plugins.Plugins.telemetry.Config.Mode off`',
    });
  }
  return findings;
}

function configWarnings(config: Json): string[] {
  const mounts = at(config, 'Datastore', 'Spec', 'mounts');
  const isUnsynced = (Array.isArray(mounts) ? mounts : []).some(
    (mount: Json) => at(mount, 'type') === 'flatfs' && at(mount, 'sync') !== true,
  );
  return isUnsynced
    ? ['the block datastore is not synced (Datastore.Spec, "sync": false): a loss of power may lose pinned files']
    : [];
}

const MULTISTREAM = '\x13/multistream/1.0.0\n';

/** Opening words of a libp2p connection without a swarm key; long enough to pass for the 24-byte nonce of one with. */
const CLEAR_HELLO = Buffer.from(`${MULTISTREAM}\x07/noise\n`, 'latin1');
const NONCE_BYTES = 24;
const PROBE_TIMEOUT_MS = 3_000;

export type SwarmProbe = 'clear' | 'private' | 'unknown';

/** What a swarm listener answers to a stranger who has no key. */
export function probeSwarm(host: string, port: number): Promise<SwarmProbe> {
  const { promise, resolve } = Promise.withResolvers<SwarmProbe>();
  let seen = Buffer.alloc(0);
  const socket = connect({ host, port, timeout: PROBE_TIMEOUT_MS });
  const settle = (answer: SwarmProbe): void => {
    socket.destroy();
    resolve(answer);
  };
  socket.on('connect', () => socket.write(CLEAR_HELLO));
  socket.on('data', (data: Buffer) => {
    seen = Buffer.concat([seen, data]);
    if (seen.toString('latin1').startsWith(MULTISTREAM)) settle('clear');
    else if (seen.length >= NONCE_BYTES) settle('private');
  });
  socket.on('timeout', () => settle('unknown'));
  socket.on('error', () => settle('unknown'));
  socket.on('close', () => settle('unknown'));
  return promise;
}

/** At most so many listen addresses are tried: a machine with more interfaces has the same daemon on all of them. */
const MAX_PROBES = 8;

async function privateNetworkFinding(addresses: readonly string[], apiHost: string): Promise<KuboFinding | undefined> {
  const none: KuboFinding = {
    code: 'NO_PRIVATE_NETWORK',
    remedy: 'any libp2p node may connect: put a swarm.key into its repository and start it with LIBP2P_FORCE_PNET=1',
  };
  // These transports cannot be used with a swarm key at all.
  if (addresses.some((address) => /\/quic|\/webtransport|\/webrtc/.test(address))) return none;
  const listeners = addresses.flatMap((address) => {
    const match = /^\/ip[46]\/([^/]+)\/tcp\/(\d+)$/.exec(address.replace(/\/p2p\/[^/]+$/, ''));
    return match === null ? [] : [{ host: String(match[1]), port: Number(match[2]), loopback: isLoopback(address) }];
  });
  const isLocal = /^(localhost|127\.|\[::1\])/.test(apiHost);
  // The loopback address of another machine is ours: a probe there would ask somebody else.
  const reachable = listeners.filter(({ loopback }) => isLocal || !loopback).slice(0, MAX_PROBES);
  const answers = await Promise.all(reachable.map(({ host, port }) => probeSwarm(host, port)));
  if (answers.includes('clear')) return none;
  if (answers.includes('private') || addresses.length === 0) return undefined;
  return {
    code: 'PRIVATE_NETWORK_UNPROVEN',
    remedy: 'no swarm address answered, so a swarm key could not be shown: let this node reach one over TCP',
  };
}

/**
 * Looks at a daemon from all these sides. Changes nothing.
 * @throws EmrError IPFS_UNAVAILABLE, IPFS_FAILED
 */
export async function inspectKubo(rpc: KuboRpc, signal?: AbortSignal): Promise<KuboReport> {
  const { version } = await rpc.call((client, call) => client.version({ signal: call.signal }), signal);
  const config: Json = await rpc.call((client, call) => client.config.getAll({ signal: call.signal }), signal);
  const addresses = await rpc.call((client, call) => client.swarm.localAddrs({ signal: call.signal }), signal);
  const findings = configFindings(config, version);
  const network = await privateNetworkFinding(
    addresses.map((address) => address.toString()).filter((address) => !address.includes('/p2p-circuit')),
    rpc.host,
  );
  if (network !== undefined) findings.push(network);
  return { version, findings, warnings: configWarnings(config) };
}

/** Puts the ports of rpc/ports.ts together. */
import type { Sm2Engine } from '../../common/crypto/sm2.ts';
import type { Address, OrgId, TimeMs } from '../../common/protocol/primitives.ts';
import type {
  BlobPort,
  ChainPort,
  CustodyPort,
  LogPort,
  MetricsPort,
  NetworkPort,
  NodePort,
  RpcPorts,
  StatePort,
} from '../../rpc/ports.ts';
import type { Clock } from '../clock.ts';
import type { Executor } from '../execution/executor.ts';
import type { Mempool } from '../mempool/mempool.ts';
import type { Network } from '../network/types.ts';
import { createAccessPort } from './access-port.ts';
import { ConsensusView } from './consensus-view.ts';
import type { HostView } from './host-view.ts';
import { createTransactionPort, type TransactionPortParts } from './transaction-port.ts';

export { createChainPort } from './chain-port.ts';
export type { HostView } from './host-view.ts';
export { hostViewOf } from './node-host-view.ts';
export { createStatePort } from './state-port.ts';

export interface RpcPortParts {
  readonly identity: {
    /** Version of the software. */
    readonly version: string;
    readonly orgId: OrgId;
    /** Address of the node's SM2 key, 20 bytes. */
    readonly address: Address;
    readonly startedMs: TimeMs;
  };
  readonly clock: Clock;
  /** Of `createChainPort` and `createStatePort`: the services below have the same ones. */
  readonly chain: ChainPort;
  readonly state: StatePort;
  readonly executor: Pick<Executor, 'head' | 'state'>;
  readonly mempool: Mempool;
  readonly store: TransactionPortParts['store'];
  readonly network: Pick<Network, 'peerId' | 'peers' | 'listenAddresses'>;
  readonly host: HostView;
  readonly blobs: BlobPort & TransactionPortParts['blobs'];
  readonly custody: CustodyPort;
  readonly metrics: MetricsPort;
  readonly sm2: Sm2Engine;
  readonly log: LogPort;
}

export function createRpcPorts(parts: RpcPortParts): RpcPorts {
  const { chain, state, executor, clock, blobs, custody, metrics, sm2, log, mempool, network, host } = parts;
  const consensus = new ConsensusView({ executor, host, network, self: parts.identity.address });
  return {
    node: nodePort(parts, consensus),
    chain,
    state,
    access: createAccessPort(executor, clock),
    transactions: createTransactionPort({
      mempool,
      executor,
      blobs,
      store: parts.store,
      isCurrent: () => consensus.isCurrent(),
    }),
    consensus,
    network: networkPort(network),
    blobs,
    custody,
    metrics,
    sm2,
    log,
  };
}

function nodePort({ identity, clock, network }: RpcPortParts, consensus: ConsensusView): NodePort {
  const { version, orgId, address, startedMs } = identity;
  return {
    nowMs: () => clock.nowMs(),
    info: () => ({
      version,
      orgId,
      role: consensus.isValidator ? 'validator' : 'observer',
      nodeId: address,
      peerId: network.peerId,
      listenAddresses: network.listenAddresses(),
      startedMs,
    }),
    status: () => consensus.status(),
  };
}

function networkPort(network: Pick<Network, 'peers'>): NetworkPort {
  return {
    peers: () =>
      network.peers().flatMap(({ peerId, member, connected, direction, addresses, bytesIn, bytesOut }) => {
        const { orgId, role, address } = member;
        // Peers that only help a stale node to catch up are no members.
        if (role === 'bootstrap') return [];
        return [{ peerId, orgId, role, address, connected, direction, addresses, bytesIn, bytesOut }];
      }),
  };
}

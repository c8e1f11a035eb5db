/** node_*, consensus_*, net_*, rpc.discover. */
import { evidenceEntry, statePrefix } from '../../common/protocol/state-entries.ts';
import { faultTolerance, quorumSize } from '../../common/protocol/validator-set.ts';
import { notFound, RpcError } from '../errors.ts';
import { toHex, toJson } from '../json.ts';
import { RPC_VERSION } from '../openrpc.ts';
import { page } from '../pages.ts';
import { atHead, type Handlers, type MethodsOf, type Service } from '../service.ts';
import { alarmView, validatorsView } from '../views.ts';

export function nodeHandlers(service: Service): Handlers<MethodsOf<'node'> | 'rpc.discover'> {
  const { ports, config } = service;
  return {
    node_info() {
      const { version, orgId, role, nodeId, peerId, startedMs } = ports.node.info();
      const { network } = ports.chain.genesis();
      const chainId = toHex(ports.chain.chainId());
      return {
        version,
        network,
        chainId,
        orgId,
        role,
        nodeId: toHex(nodeId),
        peerId,
        startedMs,
        openReads: config.openReads,
      };
    },
    async node_status() {
      const head = ports.chain.head();
      const { height, view, leader, phase } = ports.consensus.state();
      const liveness = ports.consensus.validators();
      const { syncing, highestKnownHeight, stalledReason, warnings } = ports.node.status();
      const set = await ports.chain.validatorsAt(head.height + 1);
      const leading = set?.find(({ address }) => toHex(address) === toHex(leader));
      return {
        height: head.height,
        hash: toHex(head.hash),
        timestampMs: head.timestampMs,
        lastBlockAgeMs: Math.max(0, ports.node.nowMs() - head.timestampMs),
        decidingHeight: height,
        view,
        leader: toHex(leader),
        leaderOrg: leading?.orgId ?? null,
        phase,
        role: ports.node.info().role,
        syncing,
        highestKnownHeight,
        stalledReason: stalledReason && alarmView(stalledReason),
        warnings: warnings.map(alarmView),
        validators: liveness.length,
        validatorsUp: liveness.filter(({ connected }) => connected).length,
        quorum: quorumSize(liveness.length),
        pendingTransactions: ports.transactions.poolStatus().transactions,
        ...atHead(service),
      };
    },
    node_version: () => ({ version: ports.node.info().version, rpcVersion: RPC_VERSION, nodejs: process.version }),
    'rpc.discover': () => service.openRpc,
  };
}

export function consensusHandlers(service: Service): Handlers<MethodsOf<'consensus'>> {
  const { ports } = service;
  return {
    consensus_getState() {
      const { height, view, leader, phase } = ports.consensus.state();
      const validators = ports.consensus.validators().length;
      const { stalledReason } = ports.node.status();
      return {
        height,
        view,
        leader: toHex(leader),
        phase,
        stalledReason: stalledReason && alarmView(stalledReason),
        validators,
        faultTolerance: faultTolerance(validators),
        quorum: quorumSize(validators),
        ...atHead(service),
      };
    },
    async consensus_getValidators({ height }, { caller }) {
      const next = ports.chain.head().height + 1;
      const certified = height === undefined || height === 'latest' ? next : height;
      if (certified > next) throw notFound(`The set for height ${certified} is not decided yet.`, 'HEIGHT_AHEAD');
      const set = await ports.chain.validatorsAt(certified);
      if (set === null) throw new RpcError('PRUNED', `The set for height ${certified} is not kept any more.`);
      const seen = new Map(ports.consensus.validators().map((one) => [toHex(one.address), one]));
      const validators = validatorsView(set).map((member) => {
        const one = caller.reads && certified === next ? seen.get(member.address) : undefined;
        if (one === undefined) return { ...member, liveness: null };
        const { connected, lastSignedHeight, lastSeenMs, executedHeight } = one;
        return { ...member, liveness: { connected, lastSignedHeight, lastSeenMs, executedHeight } };
      });
      return { height: certified, quorum: quorumSize(set.length), validators, ...atHead(service) };
    },
    consensus_getEvidence: ({ limit, cursor }, call) =>
      page(service, call, {
        question: 'consensus_getEvidence',
        prefix: statePrefix.evidence(),
        codec: evidenceEntry,
        limit,
        cursor,
        whole: true,
        item: ({ key, value }) => ({ validator: toHex(key.subarray(1, 21)), ...toJson(value) }),
      }),
  };
}

export function netHandlers({ ports }: Service): Handlers<MethodsOf<'net'>> {
  return {
    net_info() {
      const { peerId, listenAddresses } = ports.node.info();
      const peers = ports.network.peers();
      return {
        peerId,
        listenAddresses,
        members: peers.length,
        connected: peers.filter((peer) => peer.connected).length,
      };
    },
    net_peers: () => ({
      peers: ports.network
        .peers()
        .map(({ peerId, orgId, role, address, connected, direction, addresses, bytesIn, bytesOut }) => ({
          peerId,
          orgId,
          role,
          address: toHex(address),
          connected,
          direction,
          addresses,
          bytesIn,
          bytesOut,
        })),
    }),
  };
}

/** chain_*. */
import { encode } from '../../common/codec.ts';
import { certificate, encodeHeader } from '../../common/protocol/block.ts';
import { genesis } from '../../common/protocol/genesis.ts';
import type { Height } from '../../common/protocol/primitives.ts';
import { paramsEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { validatorSet, type ValidatorSet } from '../../common/protocol/validator-set.ts';
import { notFound, RpcError } from '../errors.ts';
import { toHex, toJson } from '../json.ts';
import { MAX_BUNDLE_HANDOVERS } from '../methods/chain.ts';
import { DEFAULT_PAGE } from '../methods/shapes.ts';
import type { StoredHeader } from '../ports.ts';
import type { Hex } from '../schema.ts';
import { atHead, bytesOf, type Handlers, type MethodsOf, type Service } from '../service.ts';
import { atOf, getProven } from '../state-reads.ts';
import { certificateView, headerView, receiptView, txSummary, validatorsView } from '../views.ts';

interface Which {
  readonly height?: number | 'latest' | undefined;
  readonly hash?: Hex | undefined;
}

export function chainHandlers(service: Service): Handlers<MethodsOf<'chain' | 'light'>> {
  const { ports, blocks, reads } = service;

  const resolve = ({ height, hash }: Which): Promise<Height> =>
    blocks.resolve({ height, hash: hash === undefined ? undefined : bytesOf(hash) });

  async function storedHeader(which: Which): Promise<StoredHeader> {
    const height = await resolve(which);
    const stored = await ports.chain.header(height);
    if (stored === null) throw new RpcError('PRUNED', `Block ${height} is not kept any more.`);
    return stored;
  }

  async function setAt(height: Height): Promise<ValidatorSet> {
    const set = await ports.chain.validatorsAt(height);
    if (set === null) throw new RpcError('PRUNED', `The set for height ${height} is not kept any more.`);
    return set;
  }

  return {
    chain_getGenesis() {
      const document = ports.chain.genesis();
      return {
        chainId: toHex(ports.chain.chainId()),
        bytes: toHex(encode(genesis, document)),
        genesis: toJson(document),
      };
    },
    chain_getHeight() {
      const { height, hash, timestampMs } = ports.chain.head();
      return { height, hash: toHex(hash), timestampMs, lowestHeight: ports.chain.lowestHeight(), ...atHead(service) };
    },
    async chain_getBlock(which, { scope }) {
      const block = await blocks.load(await resolve(which));
      const { height } = block.header;
      const [proof, set] = await Promise.all([ports.chain.certificate(height), setAt(height)]);
      const txs = [];
      for (let index = 0; index < block.decoded.length; index += 1) txs.push(await txSummary(block, index, scope));
      return {
        hash: toHex(block.hash),
        header: headerView(block.header),
        txs,
        certificate: proof && certificateView(proof, set),
        sizeBytes: block.sizeBytes,
        ...atHead(service),
      };
    },
    async chain_getHeader(which) {
      const { header, hash } = await storedHeader(which);
      return { hash: toHex(hash), header: headerView(header), bytes: toHex(encodeHeader(header)), ...atHead(service) };
    },
    async chain_getHeaders({ fromHeight, limit = DEFAULT_PAGE }) {
      const from = await resolve({ height: fromHeight });
      const to = Math.min(ports.chain.head().height, from + limit - 1);
      const headers = [];
      for (let height = from; height <= to; height += 1) {
        const stored = await ports.chain.header(height);
        if (stored === null) throw new RpcError('PRUNED', `Block ${height} is not kept any more.`);
        headers.push({ hash: toHex(stored.hash), header: headerView(stored.header) });
      }
      return { headers, ...atHead(service) };
    },
    async chain_getCommit(which) {
      const { header, hash } = await storedHeader(which);
      const [proof, set] = await Promise.all([ports.chain.certificate(header.height), setAt(header.height)]);
      if (proof === null && header.height > 0) throw notFound(`Block ${header.height} has no certificate here.`);
      return {
        hash: toHex(hash),
        header: headerView(header),
        headerBytes: toHex(encodeHeader(header)),
        certificate: proof && certificateView(proof, set),
        certificateBytes: proof && toHex(encode(certificate, proof)),
        validators: validatorsView(set),
        ...atHead(service),
      };
    },
    async light_getBundle({ fromHeight }) {
      const { height } = ports.chain.head();
      const found = await ports.chain.handovers(fromHeight, MAX_BUNDLE_HANDOVERS + 1);
      const [head, proof] = await Promise.all([ports.chain.header(height), ports.chain.certificate(height)]);
      return {
        handovers: found.slice(0, MAX_BUNDLE_HANDOVERS).map(({ at, nextValidators }) => ({
          header: toHex(at.header),
          certificate: toHex(encode(certificate, at.certificate)),
          nextValidators: toHex(encode(validatorSet, nextValidators)),
        })),
        more: found.length > MAX_BUNDLE_HANDOVERS,
        head:
          head === null || proof === null
            ? null
            : { header: toHex(encodeHeader(head.header)), certificate: toHex(encode(certificate, proof)) },
        ...atHead(service),
      };
    },
    async chain_getBlockResults(which, { scope }) {
      const block = await blocks.load(await resolve(which));
      const receipts = [];
      for (const receipt of block.receipts) receipts.push(await receiptView(receipt, scope));
      return { height: block.header.height, hash: toHex(block.hash), receipts, ...atHead(service) };
    },
    async chain_getParams({ prove = false }) {
      const { at, results } = await reads.read(getProven(paramsEntry, stateKey.params(), prove));
      const { value, proof } = results[0];
      if (value === null) throw new RpcError('NOT_READY', 'The state is not there yet.');
      return { params: toJson(value), proof: proof && toHex(proof), ...atOf(at) };
    },
  };
}

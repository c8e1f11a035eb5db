/** What several views show of the chain's last minutes: kept in one place, renewed by every block. */

/** Blocks that are remembered: five minutes of a busy devnet, and two charts' width of an idle one. */
const KEPT_BLOCKS = 600;

export class Chain {
  /** Ascending: { height, hash, timestampMs, proposer, txs, intervalMs }. */
  blocks = [];
  validators = [];
  status = null;

  constructor(api) {
    this.api = api;
  }

  async load() {
    const [status, set] = await this.api.many([['node_status'], ['consensus_getValidators']]);
    if (status instanceof Error) throw status;
    this.status = status;
    this.validators = set instanceof Error ? [] : set.validators;
    const first = Math.max(0, status.height - 59);
    const calls = [];
    for (let height = first; height <= status.height; height += 1) calls.push(['chain_getBlock', { height }]);
    const loaded = await this.api.many(calls);
    this.blocks = [];
    for (const block of loaded) {
      if (block instanceof Error) continue;
      this.add(block.header, block.hash, block.txs.length);
    }
  }

  /** Renews what moves between blocks too. */
  async refresh() {
    const [status, set] = await this.api.many([['node_status'], ['consensus_getValidators']]);
    if (!(status instanceof Error)) this.status = status;
    if (!(set instanceof Error)) this.validators = set.validators;
  }

  add(header, hash, txs) {
    const before = this.blocks[this.blocks.length - 1];
    if (before && header.height <= before.height) return;
    const { height, timestampMs, proposer } = header;
    const intervalMs =
      before && before.height === height - 1 && before.height > 0 ? timestampMs - before.timestampMs : null;
    this.blocks.push({ height, hash, timestampMs, proposer, txs, intervalMs });
    if (this.blocks.length > KEPT_BLOCKS) this.blocks.shift();
  }

  /** Organisation that runs the validator with this address; null if none of the set does. */
  orgOf(address) {
    return this.validators.find((validator) => validator.address === address)?.orgId ?? null;
  }

  /** Median time between the last blocks; null with fewer than two. An idle hour does not count as slowness. */
  intervalMs(count = 20) {
    const known = this.blocks.slice(-count).flatMap(({ intervalMs }) => (intervalMs === null ? [] : [intervalMs]));
    known.sort((left, right) => left - right);
    return known[Math.floor(known.length / 2)] ?? null;
  }

  /** Transactions per second in each of `count` buckets of `bucketMs`, the last one ending at `nowMs`. */
  rates(nowMs, bucketMs, count) {
    const rates = new Array(count).fill(0);
    for (const { timestampMs, txs } of this.blocks) {
      const index = count - 1 - Math.floor((nowMs - timestampMs) / bucketMs);
      if (index >= 0 && index < count) rates[index] += txs / (bucketMs / 1_000);
    }
    return rates;
  }
}

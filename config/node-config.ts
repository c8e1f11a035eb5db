/**
 * Configuration of one node: where it listens, where its keys and data are. Nothing here affects consensus: every
 * such parameter is on chain (common/protocol/chain-params.ts), so that no local setting can split or stop the network.
 */
import { isAbsolute, join } from 'node:path';
import { isListenAddress, isMemberAddress, NOT_AN_ADDRESS } from './addresses.ts';
import { type Checked, checkDocument, ConfigError, type Problem, type Schema } from './document.ts';

export const NODE_CONFIG_FILE = 'config.yaml';

export interface NodeConfig {
  /** Of the node's own organisation; null where the genesis names the node. */
  readonly organisation: string | null;
  readonly network: {
    /** Multiaddrs to listen on. */
    readonly listen: readonly string[];
    /** Multiaddrs of other members, with /p2p/<peer id>. */
    readonly peers: readonly string[];
  };
  readonly rpc: {
    readonly host: string;
    readonly port: number;
    readonly openReads: boolean;
    readonly openMetrics: boolean;
    readonly allowedOrigins: readonly string[];
    readonly publicOrigins: readonly string[];
    readonly tls: { readonly certFile: string; readonly keyFile: string } | null;
    readonly requestsPerMinute: number;
  };
  readonly keys: { readonly validator: string; readonly peer: string };
  readonly storage: {
    readonly dir: string;
    readonly minFreeMiB: number;
    readonly archive: boolean;
    readonly keepStates: number;
  };
  readonly snapshots: { readonly everyBlocks: number; readonly keep: number; readonly joinFromBlocks: number };
  /** `api` and `allowOpenDaemon` are read with `kubo` only. */
  readonly ipfs: { readonly kind: 'embedded' | 'kubo'; readonly api: string; readonly allowOpenDaemon: boolean };
  readonly custodian: { readonly socket: string } | null;
  readonly uploads: { readonly maxFileMiB: number; readonly maxStagedMiB: number; readonly stagedMinutes: number };
  readonly mempool: { readonly maxTransactions: number; readonly maxMiB: number };
  readonly log: { readonly level: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' };
}

/** `sun_path` holds 108 bytes on Linux and 104 elsewhere, with a final zero. */
const MAX_SOCKET_PATH = 103;

const MULTIADDR = '^/(ip4|ip6|dns4|dns6|dns)/[^/]+/tcp/[0-9]{1,5}$';

const section = (description: string, properties: Schema, extra: Schema = {}): Schema => ({
  type: 'object',
  description,
  additionalProperties: false,
  default: {},
  properties,
  ...extra,
});

export const nodeConfigSchema: Schema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    organisation: {
      description:
        'Organisation that runs this node: for a node that joins, or changes its keys, by vote. Null where the genesis names it.',
      default: null,
      anyOf: [
        { type: 'null' },
        {
          type: 'string',
          pattern: '^[a-z0-9]([a-z0-9-]*[a-z0-9])?$',
          maxLength: 32,
          remedy: 'write null, or a short lower-case name such as hospital-e',
        },
      ],
    },
    network: section('Connections to the other members. Only members of the on-chain set can connect.', {
      listen: {
        type: 'array',
        description: 'Addresses to listen on. The default is loopback only.',
        items: { type: 'string', pattern: MULTIADDR, remedy: 'write e.g. /ip4/0.0.0.0/tcp/7600' },
        minItems: 1,
        maxItems: 8,
        default: ['/ip4/127.0.0.1/tcp/7600'],
      },
      peers: {
        type: 'array',
        description:
          'Addresses of the other members, each with its peer id; asked for blocks while no quorum of known members is there.',
        items: {
          type: 'string',
          pattern: MULTIADDR.replace('$', '/p2p/[1-9A-HJ-NP-Za-km-z]+$'),
          remedy: 'write e.g. /dns4/hospital-b.example/tcp/7600/p2p/12D3KooW…',
        },
        maxItems: 200,
        default: [],
      },
    }),
    rpc: section('JSON-RPC, WebSocket, explorer and metrics.', {
      host: {
        type: 'string',
        description: 'Interface to bind. The default is loopback only.',
        default: '127.0.0.1',
        minLength: 1,
        maxLength: 255,
      },
      port: {
        type: 'integer',
        description: 'TCP port; 0 takes a free one.',
        minimum: 0,
        maximum: 65535,
        default: 8545,
      },
      openReads: {
        type: 'boolean',
        description:
          'Lets anybody who reaches the port read ledger metadata without a token. For demonstrations on loopback.',
        default: false,
      },
      openMetrics: {
        type: 'boolean',
        description:
          'Lets anybody who reaches the port read /metrics; else it answers only where rpc.host is loopback.',
        default: false,
      },
      allowedOrigins: {
        type: 'array',
        description: 'Origins (scheme://host:port) of web pages that may call, beside the explorer of this node.',
        items: { type: 'string', pattern: '^https?://[^/]+$', remedy: 'write e.g. https://ehr.hospital-a.example' },
        maxItems: 32,
        default: [],
      },
      publicOrigins: {
        type: 'array',
        description: 'Origins under which clients reach this node by a name or through a proxy; addresses need none.',
        items: { type: 'string', pattern: '^https?://[^/]+$', remedy: 'write e.g. https://emr.hospital-a.example' },
        maxItems: 32,
        default: [],
      },
      tls: {
        description: 'PEM files; null serves without TLS, which is for loopback or behind a proxy that adds it.',
        default: null,
        anyOf: [
          { type: 'null' },
          {
            type: 'object',
            additionalProperties: false,
            required: ['certFile', 'keyFile'],
            remedy: 'write null, or certFile: and keyFile: with paths below it',
            properties: { certFile: { type: 'string', minLength: 1 }, keyFile: { type: 'string', minLength: 1 } },
          },
        ],
      },
      requestsPerMinute: {
        type: 'integer',
        description: 'Calls of one address or account each minute.',
        minimum: 10,
        maximum: 10_000_000,
        default: 6000,
      },
    }),
    keys: section(
      'Key files. Passphrases never stand in a configuration: see EMRCHAIN_PASSPHRASE_FILE and EMRCHAIN_PASSPHRASE_COMMAND.',
      {
        validator: {
          type: 'string',
          description: 'Keystore file of the SM2 validator key.',
          default: 'keys/validator.json',
          minLength: 1,
        },
        peer: {
          type: 'string',
          description: 'Keystore file of the libp2p key.',
          default: 'keys/peer.json',
          minLength: 1,
        },
      },
    ),
    storage: section('The database and, with embedded IPFS, the ciphertext blocks.', {
      dir: { type: 'string', description: 'Folder for data.', default: 'data', minLength: 1 },
      minFreeMiB: {
        type: 'integer',
        description: 'Below this much free disk the node takes no more uploads.',
        minimum: 16,
        maximum: 1_048_576,
        default: 256,
      },
      archive: {
        type: 'boolean',
        description: 'Keeps the state after every block for ever. Blocks themselves always stay.',
        default: false,
      },
      keepStates: {
        type: 'integer',
        description:
          'Without `archive`: of so many of the last blocks the states are kept that came to disk (each 128th at least).',
        minimum: 16,
        maximum: 10_000_000,
        default: 512,
      },
    }),
    snapshots: section('States that are kept for members that begin without any.', {
      everyBlocks: {
        type: 'integer',
        description:
          'One at least every so many blocks; 0 keeps none. The same number everywhere serves newcomers best.',
        minimum: 0,
        maximum: 1_000_000_000,
        default: 10_000,
      },
      keep: {
        type: 'integer',
        description: 'How many of the latest are kept.',
        minimum: 1,
        maximum: 8,
        default: 2,
      },
      joinFromBlocks: {
        type: 'integer',
        description: 'A node that has no state yet begins with a snapshot of this height or more; 0 takes none.',
        minimum: 0,
        maximum: 1_000_000_000,
        default: 10_000,
      },
    }),
    ipfs: {
      description: 'Where ciphertext is kept.',
      default: { kind: 'embedded' },
      type: 'object',
      required: ['kind'],
      additionalProperties: false,
      properties: {
        kind: {
          enum: ['embedded', 'kubo'],
          description: '`embedded` stores blocks in the data folder; `kubo` uses a daemon.',
        },
        api: {
          type: 'string',
          pattern: '^https?://[^/]+$',
          description: 'RPC address of the Kubo daemon.',
          default: 'http://127.0.0.1:5001',
          remedy: 'write e.g. http://127.0.0.1:5001',
        },
        allowOpenDaemon: {
          type: 'boolean',
          description: 'Accepts a daemon that is connected to the public IPFS network.',
          default: false,
        },
      },
    },
    custodian: {
      description: 'Socket of the key custodian, a process apart; null if this hospital runs none.',
      default: null,
      anyOf: [
        { type: 'null' },
        {
          type: 'object',
          additionalProperties: false,
          required: ['socket'],
          remedy: 'write null, or socket: and a path below it',
          properties: { socket: { type: 'string', minLength: 1, maxLength: 100 } },
        },
      ],
    },
    uploads: section('Ciphertext that clients send before its record is on chain.', {
      maxFileMiB: {
        type: 'integer',
        description: 'Largest ciphertext; the layout of files in IPFS holds no more than the upper bound.',
        minimum: 1,
        maximum: 30_276,
        default: 4096,
      },
      maxStagedMiB: {
        type: 'integer',
        description: 'All uploads that no record refers to yet.',
        minimum: 1,
        maximum: 1_048_576,
        default: 16_384,
      },
      stagedMinutes: {
        type: 'integer',
        description: 'How long such an upload is kept.',
        minimum: 1,
        maximum: 10_080,
        default: 60,
      },
    }),
    mempool: section('Transactions that wait for a block.', {
      maxTransactions: { type: 'integer', description: 'How many.', minimum: 10, maximum: 1_000_000, default: 20_000 },
      maxMiB: { type: 'integer', description: 'How much.', minimum: 1, maximum: 4096, default: 64 },
    }),
    log: section('Logging, in JSON lines on standard output.', {
      level: {
        enum: ['fatal', 'error', 'warn', 'info', 'debug', 'trace'],
        description: 'Least level that is written.',
        default: 'info',
      },
    }),
  },
};

/**
 * Checks a node configuration. Relative paths in the result are resolved against `dir`.
 * @param source YAML text
 * @throws ConfigError naming each line and remedy
 */
export function parseNodeConfig(file: string, source: string, dir: string): NodeConfig {
  const checked: Checked<NodeConfig> = checkDocument(file, source, nodeConfigSchema);
  const { value } = checked;
  const resolve = (path: string): string => (isAbsolute(path) ? path : join(dir, path));
  const problems: Problem[] = [];
  const need = (ok: boolean, path: readonly (string | number)[], message: string): void => {
    if (!ok) problems.push(checked.problem(path, message));
  };
  value.network.listen.forEach((address, i) => {
    need(isListenAddress(address), ['network', 'listen', i], `${NOT_AN_ADDRESS}, or 0 for any, and no /p2p/`);
  });
  value.network.peers.forEach((address, i) => {
    need(isMemberAddress(address), ['network', 'peers', i], `${NOT_AN_ADDRESS}, and /p2p/ with the member's peer id`);
  });
  need(
    !value.rpc.openReads || ['127.0.0.1', '::1', 'localhost'].includes(value.rpc.host),
    ['rpc', 'openReads'],
    'ledger metadata must not be open to a network; set openReads: false and use tokens, or bind rpc.host to 127.0.0.1',
  );
  need(
    value.custodian === null || Buffer.byteLength(resolve(value.custodian.socket)) <= MAX_SOCKET_PATH,
    ['custodian', 'socket'],
    `the path is longer than ${MAX_SOCKET_PATH} bytes, which sockets cannot have; write a shorter absolute path`,
  );
  if (problems.length > 0) throw new ConfigError(problems);
  return {
    ...value,
    rpc: {
      ...value.rpc,
      tls: value.rpc.tls && { certFile: resolve(value.rpc.tls.certFile), keyFile: resolve(value.rpc.tls.keyFile) },
    },
    keys: { validator: resolve(value.keys.validator), peer: resolve(value.keys.peer) },
    storage: { ...value.storage, dir: resolve(value.storage.dir) },
    custodian: value.custodian && { socket: resolve(value.custodian.socket) },
  };
}

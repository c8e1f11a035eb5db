/**
 * The folder of a node that joins a network by vote, or takes the place of one whose keys are to change: its keys, its
 * configuration, the genesis, and the card to be proposed, which its new SM2 key signs.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { bytesToHex0x } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { type Genesis, genesisHash } from '../../common/protocol/genesis.ts';
import { type NodeCard, nodeCard } from '../../common/protocol/member.ts';
import { admissionHash, memberRotationHash } from '../../common/protocol/statements.ts';
import { formatGenesisFile, GENESIS_FILE } from '../../config/genesis-file.ts';
import { NODE_CONFIG_FILE, parseNodeConfig } from '../../config/node-config.ts';
import { generatePeerKey } from '../network/peer-key.ts';
import { newSm2Key, refuseExisting, writeKeys, writeNew } from './hospital.ts';

export const NODE_CARD_FILE = 'node-card.json';

export interface JoinOptions {
  readonly dir: string;
  readonly orgId: string;
  readonly genesis: Genesis;
  /** Where others dial it, without peer id. */
  readonly publicAddress: string;
  readonly listen: string;
  readonly rpcPort: number;
  /** Addresses of members to begin with, each with its peer id. */
  readonly peers: readonly string[];
  readonly custodian: boolean;
  /** Address of the SM2 key that this node takes the place of; null for a node that is new. */
  readonly replaces: Uint8Array | null;
  readonly passphrase: Uint8Array;
}

export interface Joined {
  readonly card: NodeCard;
  readonly custodianKey: Uint8Array | null;
}

/**
 * Writes the folder; nothing is overwritten.
 * @throws ConfigError when the configuration would not load; EmrError INIT_EXISTS, SECRET_FILE_EXISTS
 */
export async function initJoining(options: JoinOptions): Promise<Joined> {
  const { dir, orgId, genesis, replaces } = options;
  const config = stringify({
    organisation: orgId,
    network: { listen: [options.listen], peers: [...options.peers] },
    rpc: { port: options.rpcPort },
    ...(options.custodian ? { custodian: { socket: 'custodian.sock' } } : {}),
  });
  parseNodeConfig(NODE_CONFIG_FILE, config, dir);
  const validator = newSm2Key();
  const peer = await generatePeerKey();
  const custodian = options.custodian ? newSm2Key() : null;
  try {
    const { publicKey } = validator.identity;
    const card: NodeCard = {
      orgId,
      publicKey,
      peerId: peer.peerId,
      addresses: [`${options.publicAddress}/p2p/${peer.peerId}`],
    };
    const chainId = genesisHash(genesis);
    const statement = replaces === null ? admissionHash(chainId, card) : memberRotationHash(chainId, replaces, card);
    const possession = selectSm2Engine().createSigner(validator.secret).sign(statement);
    const text = `${JSON.stringify(
      {
        format: 'emrchain-node-card',
        version: 1,
        network: genesis.network,
        organisation: orgId,
        peerId: card.peerId,
        addresses: card.addresses,
        chainId: bytesToHex0x(chainId),
        replaces: replaces === null ? null : bytesToHex0x(replaces),
        card: bytesToHex0x(encode(nodeCard, card)),
        possession: bytesToHex0x(possession),
      },
      null,
      2,
    )}\n`;
    await mkdir(join(dir, 'keys'), { recursive: true, mode: 0o700 });
    for (const name of [NODE_CONFIG_FILE, GENESIS_FILE, NODE_CARD_FILE]) await refuseExisting(join(dir, name));
    await writeKeys(options, { validator, peerSecret: peer.secret, custodian });
    await writeNew(join(dir, NODE_CONFIG_FILE), config);
    await writeNew(join(dir, GENESIS_FILE), formatGenesisFile(genesis));
    await writeNew(join(dir, NODE_CARD_FILE), text);
    return { card, custodianKey: custodian?.identity.publicKey ?? null };
  } finally {
    for (const secret of [validator.secret, peer.secret, custodian?.secret]) secret?.fill(0);
  }
}

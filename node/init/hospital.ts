/**
 * Sets up the folder of one hospital's node: its keys, its configuration, and the card that the other members need.
 *
 *   DIR/keys/validator.json   SM2 key that votes          DIR/config.yaml    configuration of the node
 *   DIR/keys/peer.json        libp2p key                  DIR/member.yaml    public: goes into the genesis
 *   DIR/keys/custodian.json   SM2 key of the custodian    DIR/genesis.yaml   comes later, the same for all members
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { bytesToHex0x } from '../../common/bytes.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { EmrError } from '../../common/errors.ts';
import { PEER_KEY_KIND, SM2_KEY_KIND, writeKeystore } from '../../common/native/keystore.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';
import { memberCardSchema, type MemberCard } from '../../config/member-card.ts';
import { NODE_CONFIG_FILE, parseNodeConfig } from '../../config/node-config.ts';
import { checkDocument } from '../../config/document.ts';
import { generatePeerKey } from '../network/peer-key.ts';

export const MEMBER_FILE = 'member.yaml';

export interface HospitalOptions {
  readonly dir: string;
  readonly orgId: string;
  readonly name: string;
  /** Address that others dial, without peer id: /ip4/…/tcp/… or /dns4/…/tcp/… */
  readonly publicAddress: string;
  /** Node configuration beside the defaults; the listen address among it. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The first administrator: a person's account key, made by that person. */
  readonly admin: { readonly publicKey: Uint8Array; readonly personTag: Uint8Array };
  /** Null: the hospital runs no custodian, and no policy can have one for its records. */
  readonly custodian: boolean;
  readonly passphrase: Uint8Array;
}

/**
 * Writes the folder. Never overwrites a key.
 * @throws EmrError SECRET_FILE_EXISTS when the folder has keys already, CONFIG_INVALID when the result would not load
 */
export async function initHospital(options: HospitalOptions): Promise<MemberCard> {
  const { dir, passphrase } = options;
  const config = stringify(options.config);
  parseNodeConfig(NODE_CONFIG_FILE, config, dir);
  await mkdir(join(dir, 'keys'), { recursive: true, mode: 0o700 });
  const validator = newSm2Key();
  const peer = await generatePeerKey();
  const custodian = options.custodian ? newSm2Key() : null;
  await writeKeystore(
    join(dir, 'keys', 'validator.json'),
    { kind: SM2_KEY_KIND, ...validator.identity },
    validator.secret,
    passphrase,
  );
  await writeKeystore(
    join(dir, 'keys', 'peer.json'),
    { kind: PEER_KEY_KIND, ...validator.identity },
    peer.secret,
    passphrase,
  );
  if (custodian !== null) {
    await writeKeystore(
      join(dir, 'keys', 'custodian.json'),
      { kind: SM2_KEY_KIND, ...custodian.identity },
      custodian.secret,
      passphrase,
    );
  }
  const card: MemberCard = {
    orgId: options.orgId,
    name: options.name,
    address: `${options.publicAddress}/p2p/${peer.peerId}`,
    validator: { publicKey: bytesToHex0x(validator.identity.publicKey), peerId: peer.peerId },
    ...(custodian === null ? {} : { custodianKey: bytesToHex0x(custodian.identity.publicKey) }),
    admin: { publicKey: bytesToHex0x(options.admin.publicKey), personTag: bytesToHex0x(options.admin.personTag) },
  };
  const text = stringify(card, { lineWidth: 0 });
  checkDocument(MEMBER_FILE, text, memberCardSchema);
  await writeNew(join(dir, NODE_CONFIG_FILE), config);
  await writeNew(join(dir, MEMBER_FILE), text);
  return card;
}

function newSm2Key() {
  const secret = newPrivateKey();
  const publicKey = publicKeyOf(secret);
  return { secret, identity: { publicKey, address: sm2Address(publicKey) } };
}

async function writeNew(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text, { flag: 'wx', mode: 0o600 });
  } catch (cause) {
    throw new EmrError(
      'INIT_EXISTS',
      `${path} cannot be written: ${(cause as Error).message}; choose an empty folder`,
      {},
      { cause },
    );
  }
}

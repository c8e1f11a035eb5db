/**
 * Sets up the folder of one hospital's node: its keys, its configuration, and the card that the other members need.
 *
 *   DIR/keys/validator.json   SM2 key that votes          DIR/config.yaml    configuration of the node
 *   DIR/keys/peer.json        libp2p key                  DIR/member.yaml    public: goes into the genesis
 *   DIR/keys/custodian.json   SM2 key of the custodian    DIR/genesis.yaml   comes later, the same for all members
 */
import { lstat, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { bytesToHex0x } from '../../common/bytes.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { EmrError } from '../../common/errors.ts';
import { PEER_KEY_KIND, SM2_KEY_KIND, writeKeystores } from '../../common/native/keystore.ts';
import { newPrivateKey } from '../../common/native/sm2-select.ts';
import { type MemberCard, parseMemberCard } from '../../config/member-card.ts';
import { NODE_CONFIG_FILE, parseNodeConfig } from '../../config/node-config.ts';
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
  /** False: the hospital runs no custodian, and no policy can have one for its records. As `config.custodian` says. */
  readonly custodian: boolean;
  readonly passphrase: Uint8Array;
}

/**
 * Writes the folder. What is wrong with the options is found before anything is written, and nothing is overwritten.
 * @throws ConfigError when config or card would not load; EmrError INIT_EXISTS, SECRET_FILE_EXISTS when the folder is
 *   in use already, and those of secret files
 */
export async function initHospital(options: HospitalOptions): Promise<MemberCard> {
  const { dir } = options;
  const config = stringify(options.config);
  if ((parseNodeConfig(NODE_CONFIG_FILE, config, dir).custodian !== null) !== options.custodian) {
    throw new EmrError(
      'INIT_CUSTODIAN',
      `the key of a custodian and its socket come together; ${options.custodian ? 'set' : 'leave out'} custodian.socket`,
    );
  }
  const validator = newSm2Key();
  const peer = await generatePeerKey();
  const custodian = options.custodian ? newSm2Key() : null;
  try {
    const card = cardOf(options, { validator, custodian, peerId: peer.peerId });
    const text = stringify(card, { lineWidth: 0 });
    parseMemberCard(MEMBER_FILE, text);
    await mkdir(join(dir, 'keys'), { recursive: true, mode: 0o700 });
    for (const name of [NODE_CONFIG_FILE, MEMBER_FILE]) await refuseExisting(join(dir, name));
    await writeKeys(options, { validator, peerSecret: peer.secret, custodian });
    await writeNew(join(dir, NODE_CONFIG_FILE), config);
    await writeNew(join(dir, MEMBER_FILE), text);
    return card;
  } finally {
    for (const secret of [validator.secret, peer.secret, custodian?.secret]) secret?.fill(0);
  }
}

type Sm2Key = ReturnType<typeof newSm2Key>;

function cardOf(
  options: HospitalOptions,
  keys: { readonly validator: Sm2Key; readonly custodian: Sm2Key | null; readonly peerId: string },
): MemberCard {
  const { validator, custodian, peerId } = keys;
  return {
    orgId: options.orgId,
    name: options.name,
    address: `${options.publicAddress}/p2p/${peerId}`,
    validator: { publicKey: bytesToHex0x(validator.identity.publicKey), peerId },
    ...(custodian === null ? {} : { custodianKey: bytesToHex0x(custodian.identity.publicKey) }),
    admin: { publicKey: bytesToHex0x(options.admin.publicKey), personTag: bytesToHex0x(options.admin.personTag) },
  };
}

export async function writeKeys(
  { dir, passphrase }: { readonly dir: string; readonly passphrase: Uint8Array },
  keys: { readonly validator: Sm2Key; readonly peerSecret: Uint8Array; readonly custodian: Sm2Key | null },
): Promise<void> {
  const { validator, peerSecret, custodian } = keys;
  const file = (name: string, kind: string, { identity }: Sm2Key, secret: Uint8Array) => ({
    path: join(dir, 'keys', `${name}.json`),
    identity: { kind, ...identity },
    secret,
  });
  const files = [
    file('validator', SM2_KEY_KIND, validator, validator.secret),
    file('peer', PEER_KEY_KIND, validator, peerSecret),
  ];
  if (custodian !== null) files.push(file('custodian', SM2_KEY_KIND, custodian, custodian.secret));
  await writeKeystores(files, passphrase);
}

export function newSm2Key() {
  const secret = newPrivateKey();
  const publicKey = publicKeyOf(secret);
  return { secret, identity: { publicKey, address: sm2Address(publicKey) } };
}

const inUse = (path: string, cause: unknown): EmrError =>
  new EmrError(
    'INIT_EXISTS',
    `${path} cannot be written: ${(cause as Error).message}; choose an empty folder`,
    { path },
    { cause },
  );

export async function refuseExisting(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw inUse(path, error);
  });
  if (found !== null) throw inUse(path, new Error('it exists already'));
}

export async function writeNew(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text, { flag: 'wx', mode: 0o600 });
  } catch (cause) {
    throw inUse(path, cause);
  }
}

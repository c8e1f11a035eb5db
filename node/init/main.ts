/**
 * Setting up, as a process: `main.ts hospital …` makes a hospital's folder, `main.ts genesis …` a genesis out of cards,
 * `main.ts join …` the folder of a node that joins by vote, `main.ts check --dir DIR` says whether a folder would start.
 * Called by `emrchain init`, `emrchain genesis` and `emrchain node join`.
 */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { bytesToHex0x, equalBytes, parseHex0x } from '../../common/bytes.ts';
import { decode } from '../../common/codec.ts';
import { EmrError } from '../../common/errors.ts';
import { readKeystore } from '../../common/native/keystore.ts';
import { choosePassphraseSource, readPassphrase } from '../../common/native/passphrase.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import { genesis as genesisDocument, genesisHash, MAX_GENESIS_BYTES } from '../../common/protocol/genesis.ts';
import { formatGenesisFile, GENESIS_FILE, parseGenesisFile } from '../../config/genesis-file.ts';
import { genesisFromCards, type MemberCard, parseMemberCard } from '../../config/member-card.ts';
import { NODE_CONFIG_FILE, parseNodeConfig } from '../../config/node-config.ts';
import { initHospital, MEMBER_FILE } from './hospital.ts';
import { initJoining, NODE_CARD_FILE } from './join.ts';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function hexOption(text: string, lengthBytes: number, option: string): Uint8Array {
  const bytes = parseHex0x(text, lengthBytes);
  if (bytes === undefined) {
    throw new EmrError('USAGE', `${option} takes 0x and ${lengthBytes * 2} lower-case hex digits`);
  }
  return bytes;
}

async function hospital(args: string[]): Promise<void> {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args,
    options: {
      ...{ org: text, dir: text, name: text, address: text, listen: text, 'rpc-port': text },
      ...{ 'admin-key': text, 'admin-tag': text, 'no-custodian': { type: 'boolean' } as const },
    },
  });
  const { org, dir, name, address } = values;
  if (org === undefined || dir === undefined || name === undefined || address === undefined) {
    throw new EmrError('USAGE', '--org, --dir, --name and --address are needed');
  }
  const custodian = values['no-custodian'] !== true;
  const passphrase = await readPassphrase(choosePassphraseSource(undefined, process.env), {
    prompt: `Passphrase for the keys of ${org}`,
    fresh: true,
  });
  const listen = values.listen ?? (/^\/ip[46]\//.test(address) ? address : '/ip4/127.0.0.1/tcp/7600');
  const card = await initHospital({
    dir,
    orgId: org,
    name,
    publicAddress: address,
    config: {
      network: { listen: [listen], peers: [] },
      rpc: { port: Number(values['rpc-port'] ?? 8545) },
      ...(custodian ? { custodian: { socket: 'custodian.sock' } } : {}),
    },
    admin: {
      publicKey: hexOption(values['admin-key'] ?? '', 64, '--admin-key'),
      personTag: hexOption(values['admin-tag'] ?? '', 32, '--admin-tag'),
    },
    custodian,
    passphrase,
  });
  say(`made ${dir} for ${org}; its peer id is ${card.validator.peerId}`);
  say(
    `Next: send ${join(dir, MEMBER_FILE)} to whoever makes the genesis (emrchain genesis create), put the genesis.yaml`,
  );
  say(`that comes back into ${dir}, write the others' addresses under network.peers in ${NODE_CONFIG_FILE}, and check`);
  say(`it with: emrchain genesis check ${dir}`);
}

async function joining(args: string[]): Promise<void> {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args,
    options: {
      ...{ genesis: text, org: text, dir: text, address: text, listen: text, 'rpc-port': text, replaces: text },
      ...{ peer: { type: 'string', multiple: true } as const, 'no-custodian': { type: 'boolean' } as const },
    },
  });
  const { org, dir, address, genesis: path, replaces } = values;
  if (path === undefined || org === undefined || dir === undefined || address === undefined) {
    throw new EmrError('USAGE', '--genesis, --org, --dir and --address are needed');
  }
  // The canonical bytes, as a client keeps them once it has checked that their hash is the chain id.
  const document = decode(genesisDocument, await readFile(path), MAX_GENESIS_BYTES);
  if (!document.ok) throw new EmrError('GENESIS_INVALID', `${path} holds no genesis: ${document.message}`);
  const passphrase = await readPassphrase(choosePassphraseSource(undefined, process.env), {
    prompt: `Passphrase for the keys of ${org}`,
    fresh: true,
  });
  const { card, custodianKey } = await initJoining({
    dir,
    orgId: org,
    genesis: document.value,
    publicAddress: address,
    listen: values.listen ?? (/^\/ip[46]\//.test(address) ? address : '/ip4/127.0.0.1/tcp/7600'),
    rpcPort: Number(values['rpc-port'] ?? 8545),
    peers: values.peer ?? [],
    custodian: values['no-custodian'] !== true && replaces === undefined,
    replaces: replaces === undefined ? null : hexOption(replaces, 20, '--replaces'),
    passphrase,
  });
  const file = join(dir, NODE_CARD_FILE);
  say(`made ${dir} for ${org}; its peer id is ${card.peerId}`);
  if (custodianKey !== null) say(`custodian key ${bytesToHex0x(custodianKey)}`);
  say(`chain id ${bytesToHex0x(genesisHash(document.value))}: compare it with what another member says`);
  if (replaces === undefined) {
    say(`Next: an administrator of a member proposes ${file}: emrchain gov propose admit-observer ${file}`);
    say(`Start the node with: emrchain node start --dir ${dir}. It fetches the chain once it is admitted.`);
  } else {
    say(`Next: an administrator of ${org} proposes it: emrchain gov propose rotate-member ${file}`);
    say('When it takes effect, stop the old node and start this one; its data folder may be moved over.');
  }
}

async function genesis(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { network: { type: 'string' }, out: { type: 'string' } },
  });
  const { network, out } = values;
  if (network === undefined || out === undefined) throw new EmrError('USAGE', '--network and --out are needed');
  const cards: MemberCard[] = [];
  for (const file of positionals) {
    cards.push(parseMemberCard(file, await readFile(file, 'utf8')));
  }
  const text = formatGenesisFile(
    genesisFromCards(cards, {
      name: network,
      timeMs: Date.now(),
      params: DEFAULT_CHAIN_PARAMS,
      salt: new Uint8Array(randomBytes(16)),
    }),
  );
  const checked = parseGenesisFile(out, text);
  await writeFile(out, text, { flag: 'wx', mode: 0o644 });
  say(`made ${out}: ${cards.length} members, chain id ${bytesToHex0x(genesisHash(checked))}`);
  for (const card of cards) say(`  ${card.orgId}: ${card.address}`);
  say('Every member compares this chain id with the others before starting.');
}

async function check(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { dir: { type: 'string' } } });
  const dir = values.dir ?? '.';
  const config = parseNodeConfig(join(dir, NODE_CONFIG_FILE), await readFile(join(dir, NODE_CONFIG_FILE), 'utf8'), dir);
  const found = parseGenesisFile(join(dir, GENESIS_FILE), await readFile(join(dir, GENESIS_FILE), 'utf8'));
  const key = await readKeystore(config.keys.validator);
  const member = [...found.validators, ...found.observers].find((m) => equalBytes(m.publicKey, key.publicKey));
  if (member === undefined) {
    throw new EmrError(
      'VALIDATOR_KEY_UNKNOWN',
      `${config.keys.validator} is the key of no member of this genesis; is it the right genesis.yaml?`,
    );
  }
  say(`chain id   ${bytesToHex0x(genesisHash(found))} (${found.network})`);
  say(`member     ${member.orgId}, peer id ${member.peerId}`);
  say(`listens    ${config.network.listen.join(', ')}; RPC ${config.rpc.host}:${config.rpc.port}`);
  for (const other of found.validators) {
    if (other.orgId === member.orgId) continue;
    const address = config.network.peers.find((p) => p.endsWith(`/p2p/${other.peerId}`));
    say(`dials      ${other.orgId}: ${address ?? 'no address in network.peers; it must dial this node'}`);
  }
}

const PROGRAMS: Readonly<Record<string, (args: string[]) => Promise<void>>> = {
  hospital,
  join: joining,
  genesis,
  check,
};

const [program = '', ...args] = process.argv.slice(2);
try {
  const run = PROGRAMS[program];
  if (run === undefined) throw new EmrError('USAGE', `usage: ${Object.keys(PROGRAMS).join('|')} …`);
  await run(args);
} catch (error) {
  const known = error instanceof EmrError;
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`error ${known ? error.code : 'IO'}: ${message}\n`);
  process.exitCode = 1;
}

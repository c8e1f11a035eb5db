/** Files that people write or pass on, text that clients and nodes send: YAML, JSON, tokens, addresses. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { formatBundle, verifyBundle } from '../../client/chain-bundle.ts';
import { parsePolicyFile } from '../../client/policy-file.ts';
import { readConsent, readOffer } from '../../client/record-offer.ts';
import { parseRpcUrl, readAnswer } from '../../client/rpc-client.ts';
import { readStatement } from '../../client/statements.ts';
import { parseDuration } from '../../client/text.ts';
import { bytesToHex0x, parseUtf8, utf8 } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { encryptKeystore, parseKeystore, SM2_KEY_KIND } from '../../common/native/keystore.ts';
import { certificate, encodeHeader } from '../../common/protocol/block.ts';
import { genesis as genesisCodec } from '../../common/protocol/genesis.ts';
import { policyDocument } from '../../common/protocol/policy.ts';
import { sectionClass } from '../../common/protocol/record.ts';
import { formatRpcToken, parseRpcToken, rpcToken } from '../../common/protocol/rpc-token.ts';
import {
  attendingRelation,
  call,
  countersignature,
  enrolment,
  recordContent,
  recovery,
  sidecarHash,
} from '../../common/protocol/transaction.ts';
import { formatGenesisFile, parseGenesisFile } from '../../config/genesis-file.ts';
import { parseMemberCard } from '../../config/member-card.ts';
import { parseNodeConfig } from '../../config/node-config.ts';
import { parseMemberAddress } from '../../node/network/member-address.ts';
import { readRange } from '../../rpc/blobs.ts';
import { parseJson } from '../../rpc/json-text.ts';
import { ChainWorld, testNode, testServer } from '../integration/rpc-fixture.ts';
import { inventBytes } from './generate.ts';
import { chain } from './sample-chain.ts';
import { draw, engine, type FunctionTarget, maybe, must, net, PEER_IDS, textOf, verdict } from './parts.ts';

const [PEER_ID] = PEER_IDS;
const PUBLIC_KEYS = net.genesis.validators.map(({ publicKey }) => bytesToHex0x(publicKey));

const POLICY = `organisation: hospital-a
custodian: true
rules:
  - purposes: [TREAT, ETREAT]
    requesters:
      - role: physician
      - { role: nurse, from: org:hospital-b, department: cardiology }
    categories: [imaging, "0x${'ab'.repeat(32)}"]
    for-at-most: 72h
    approvals:
      all:
        - owner
        - attending
        - at-least: 2
          of:
            - { role: department_head, from: writer }
            - { role: ethics_board }
            - person: "0x${'11'.repeat(20)}"
changed-by: owner
`;

const CARD = stringify({
  orgId: 'hospital-a',
  name: 'Hospital A',
  address: `/dns4/a.example/tcp/7600/p2p/${PEER_ID}`,
  validator: { publicKey: PUBLIC_KEYS[0], peerId: PEER_ID },
  custodianKey: PUBLIC_KEYS[1],
  admin: { publicKey: PUBLIC_KEYS[2], personTag: `0x${'22'.repeat(32)}` },
});

const CONFIG = `network:
  listen: [/ip4/0.0.0.0/tcp/7600]
  peers: [/ip4/192.0.2.7/tcp/7600/p2p/${PEER_ID}]
rpc: { host: 127.0.0.1, port: 8545, openReads: true }
storage: { dir: data, minFreeMiB: 256 }
mempool: { maxTransactions: 1000, maxMiB: 8 }
log: { level: info }
`;

const fileTargets: readonly FunctionTarget[] = [
  {
    name: 'genesis file',
    covers: ['parseGenesisFile'],
    form: 'text',
    costUs: 4_000,
    sample: () => utf8(formatGenesisFile(net.genesis)),
    decode(bytes) {
      const parsed = parseGenesisFile('genesis.yaml', textOf(bytes));
      // What people may write in several ways has one canonical form, which always can be encoded.
      encode(genesisCodec, parsed);
      return { ok: true, again: null };
    },
  },
  {
    name: 'member card',
    covers: ['parseMemberCard'],
    form: 'text',
    costUs: 2_500,
    sample: () => utf8(CARD),
    decode(bytes) {
      parseMemberCard('member.yaml', textOf(bytes));
      return { ok: true, again: null };
    },
  },
  {
    name: 'node configuration',
    covers: ['parseNodeConfig'],
    form: 'text',
    costUs: 2_500,
    sample: () => utf8(CONFIG),
    decode(bytes) {
      parseNodeConfig('config.yaml', textOf(bytes), '/srv/emrchain');
      return { ok: true, again: null };
    },
  },
  {
    name: 'policy file',
    covers: ['parsePolicyFile'],
    form: 'text',
    costUs: 3_000,
    sample: () => utf8(POLICY),
    decode(bytes) {
      const token = new Uint8Array(32).fill(9);
      const nonce = new Uint8Array(16).fill(1);
      encode(
        policyDocument,
        parsePolicyFile('policy.yaml', textOf(bytes), nonce, () => token),
      );
      return { ok: true, again: null };
    },
  },
  {
    name: 'keystore file',
    covers: ['parseKeystore'],
    form: 'text',
    costUs: 150,
    sample: () => KEYSTORE,
    decode: (bytes) => verdict(parseKeystore(parseUtf8(bytes) ?? '')),
  },
];

const KEYSTORE = await (async () => {
  const secret = new Uint8Array(32).fill(1);
  const publicKey = publicKeyOf(secret);
  const identity = { kind: SM2_KEY_KIND, address: sm2Address(publicKey), publicKey };
  return utf8(await encryptKeystore(identity, secret, utf8('a passphrase for fuzzing')));
})();

// ----------------------------------------------------------------------------------------------------- documents

const folder = mkdtempSync(join(tmpdir(), 'emrchain-fuzz-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

/** Documents that clients exchange are read from files. */
function onDisk(bytes: Uint8Array): string {
  const path = join(folder, 'document');
  writeFileSync(path, bytes);
  return path;
}

const document = (format: string, fields: Readonly<Record<string, unknown>>): Uint8Array =>
  utf8(JSON.stringify({ format, version: 1, chainId: bytesToHex0x(net.chainId), ...fields }, null, 2));

const documentTargets: readonly FunctionTarget[] = [
  {
    name: 'offer of a record',
    covers: [],
    form: 'text',
    costUs: 300,
    sample(random) {
      const wraps = draw(40, random);
      const content = { ...must(recordContent, random), sidecarHash: sidecarHash(wraps) };
      const made = {
        kind: 'record.create',
        owner: draw(20, random),
        hospital: 'hospital-a',
        nonce: draw(16, random),
        sectionClass: must(sectionClass, random),
        content,
      } as const;
      return document('emrchain-record-offer', {
        writer: bytesToHex0x(draw(20, random)),
        call: bytesToHex0x(encode(call, made)),
        sidecar: bytesToHex0x(wraps),
      });
    },
    async decode(bytes) {
      await readOffer(onDisk(bytes), net.chainId);
      return { ok: true, again: null };
    },
  },
  {
    name: 'consent to a record',
    covers: [],
    form: 'text',
    costUs: 300,
    sample: (random) =>
      document('emrchain-record-consent', {
        message: bytesToHex0x(draw(32, random)),
        publicKey: bytesToHex0x(draw(64, random)),
        signature: bytesToHex0x(draw(64, random)),
      }),
    async decode(bytes) {
      await readConsent(onDisk(bytes));
      return { ok: true, again: null };
    },
  },
  {
    name: 'statement of a person',
    covers: [],
    form: 'text',
    costUs: 300,
    sample(random) {
      const [format, statement] = random.pick([
        ['emrchain-enrolment', inventBytes(enrolment, random)],
        ['emrchain-recovery', inventBytes(recovery, random)],
        ['emrchain-attending', inventBytes(attendingRelation, random)],
      ] as const);
      return document(format, {
        statement: bytesToHex0x(statement),
        possession: bytesToHex0x(draw(64, random)),
        countersignature: random.chance(500) ? null : bytesToHex0x(inventBytes(countersignature, random)),
      });
    },
    async decode(bytes) {
      await readStatement(onDisk(bytes), net.chainId, engine);
      return { ok: true, again: null };
    },
    mayRefuseSamples: true,
  },
  {
    name: 'bundle of headers',
    covers: [],
    form: 'text',
    costUs: 600,
    sample(random) {
      const blocks = chain.committed.slice(0, random.between(1, 3)).map(({ header, certificate: proof }) => ({
        header: bytesToHex0x(encodeHeader(header)) as `0x${string}`,
        certificate: bytesToHex0x(encode(certificate, proof as NonNullable<typeof proof>)) as `0x${string}`,
      }));
      return utf8(formatBundle(encode(genesisCodec, net.genesis), blocks));
    },
    async decode(bytes) {
      await verifyBundle(onDisk(bytes), undefined, engine);
      return { ok: true, again: null };
    },
  },
];

// ----------------------------------------------------------------------------------------------------------- RPC

const REQUESTS = [
  { jsonrpc: '2.0', id: 1, method: 'node_status', params: {} },
  { jsonrpc: '2.0', id: 'a', method: 'chain_getBlock', params: { height: 'latest' } },
  { jsonrpc: '2.0', id: 2, method: 'tx_submit', params: { tx: `0x${'00'.repeat(80)}`, wait: 'accepted' } },
  { jsonrpc: '2.0', id: 3, method: 'chain_getHeaders', params: { fromHeight: 0, limit: 10 } },
  { jsonrpc: '2.0', id: 4, method: 'state_get', params: { key: '0x01', prove: true } },
  { jsonrpc: '2.0', id: 5, method: 'acl_getAuditTrail', params: { recordId: `0x${'11'.repeat(32)}`, limit: 5 } },
  { jsonrpc: '2.0', method: 'rpc.discover' },
];
const server = testServer(testNode(new ChainWorld()), { openReads: true });

/** Answers of JSON-RPC that say "our own bug". */
const INTERNAL = -32_603;

const rpcTargets: readonly FunctionTarget[] = [
  {
    name: 'body of a JSON-RPC call',
    covers: [],
    form: 'text',
    costUs: 2_500,
    sample: (random) => {
      const one = random.pick(REQUESTS);
      return utf8(JSON.stringify(random.chance(250) ? [one, random.pick(REQUESTS)] : one));
    },
    async decode(bytes) {
      const response = await server.app.inject({
        method: 'POST',
        url: '/rpc',
        headers: { 'content-type': 'application/json', host: 'localhost' },
        payload: Buffer.from(bytes),
      });
      if (response.statusCode >= 500) throw new Error(`HTTP status ${response.statusCode}: ${response.body}`);
      if (response.body === '') return { ok: true, again: null };
      const answers = [response.json<unknown>()].flat() as { readonly error?: { readonly code: number } }[];
      if (answers.some(({ error }) => error?.code === INTERNAL)) throw new Error(`an internal error: ${response.body}`);
      return answers.every(({ error }) => error === undefined)
        ? { ok: true, again: null }
        : { ok: false, code: 'ERRORS' };
    },
    mayRefuseSamples: true,
  },
  {
    name: 'JSON text',
    covers: ['parseJson'],
    form: 'text',
    sample: (random) => utf8(JSON.stringify(random.pick(REQUESTS))),
    decode: (bytes) => verdict(parseJson(textOf(bytes), 32)),
  },
  {
    name: 'answer of a node',
    covers: [],
    form: 'text',
    sample: (random) => utf8(JSON.stringify({ jsonrpc: '2.0', id: 7, result: { height: random.between(0, 9) } })),
    decode(bytes) {
      readAnswer(textOf(bytes), 200, 7);
      return { ok: true, again: null };
    },
  },
  {
    name: 'token of a reader',
    covers: ['parseRpcToken'],
    form: 'text',
    sample: (random) => utf8(formatRpcToken(must(rpcToken, random))),
    decode: (bytes) => verdict(parseRpcToken(textOf(bytes)), (token) => utf8(formatRpcToken(token))),
  },
  {
    name: 'range of bytes',
    covers: [],
    form: 'text',
    sample: (random) => utf8(`bytes=${random.between(0, 50)}-${random.pick(['', '99', '40'])}`),
    decode(bytes) {
      const range = readRange(textOf(bytes), 100);
      return maybe(range);
    },
    mayRefuseSamples: true,
  },
  {
    name: 'address of a node',
    covers: ['parseRpcUrl', 'parseDuration'],
    form: 'text',
    sample: (random) => utf8(random.pick(['http://127.0.0.1:8545', 'https://node.example/', '1d12h'])),
    decode(bytes) {
      parseDuration(textOf(bytes));
      parseRpcUrl(textOf(bytes));
      return { ok: true, again: null };
    },
    mayRefuseSamples: true,
  },
  {
    name: 'address of a member',
    covers: ['parseMemberAddress'],
    form: 'text',
    costUs: 60,
    sample: (random) => utf8(`/${random.pick(['ip4/192.0.2.7', 'dns4/a.example'])}/tcp/7600/p2p/${PEER_ID}`),
    decode(bytes) {
      parseMemberAddress(textOf(bytes));
      return { ok: true, again: null };
    },
  },
];

export const textTargets: readonly FunctionTarget[] = [...fileTargets, ...documentTargets, ...rpcTargets];

/**
 * Release of a key as it happens in a hospital: the custodian is a process of its own, made by `initHospital` and started
 * as an operator starts it; nodes of two hospitals ask it over its socket and over libp2p.
 */
import '../untraced.ts';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { bytesToHex, u32be } from '../../common/bytes.ts';
import { decode, encode } from '../../common/codec.ts';
import { sm2Decrypt, sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import { publicKeyOf, type Sm2Signer } from '../../common/crypto/sm2.ts';
import { openKeystore } from '../../common/native/keystore.ts';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import { encodeHeader } from '../../common/protocol/block.ts';
import { DEFAULT_CHAIN_PARAMS } from '../../common/protocol/chain-params.ts';
import { keyCheckOf, wrapPlaintext } from '../../common/protocol/record.ts';
import {
  type CustodianAnswer,
  type CustodianDemand,
  releaseAnswer,
  releaseCall,
} from '../../common/protocol/release.ts';
import { releaseSigningHash } from '../../common/protocol/signing.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import { formatGenesisFile, parseGenesisFile } from '../../config/genesis-file.ts';
import { genesisFromCards } from '../../config/member-card.ts';
import { demandFromCustodian } from '../../node/custodian/socket.ts';
import { CustodyNotes } from '../../node/custody/custody-notes.ts';
import { OwnCustodian } from '../../node/custody/own-custodian.ts';
import { ReleaseService } from '../../node/custody/release-service.ts';
import { initHospital } from '../../node/init/hospital.ts';
import { Libp2pNetwork } from '../../node/network/libp2p-network.ts';
import type { Member } from '../../node/network/types.ts';
import type { ReleaseReply } from '../../rpc/ports.ts';
import { MemoryChain, type Person, Story } from './memory-chain.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'node', 'custodian', 'main.ts');
const PASSPHRASE = 'a passphrase for tests';
const DEADLINE_MS = 20_000;
// Each key file takes 128 MiB and most of a second to open, on a machine that is doing nothing else.
t.setTimeout(120_000);
const { createSigner, engine, random } = selectSm2Engine();
const newSigner = (): Sm2Signer => createSigner(newPrivateKey());

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A custodian process and everything that it ever wrote. */
class CustodianProcess {
  readonly child: ChildProcess;
  output = '';

  constructor(args: readonly string[], passphraseFile: string) {
    const env = { ...process.env, EMRCHAIN_PASSPHRASE_FILE: passphraseFile };
    this.child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    }
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** @returns its exit code, null when a signal ended it */
  async ended(): Promise<number | null> {
    if (this.running) await once(this.child, 'exit');
    return this.child.exitCode;
  }

  async end(signal: NodeJS.Signals): Promise<number | null> {
    this.child.kill(signal);
    return this.ended();
  }
}

function accepts(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

async function setUp(t: Test) {
  const dir = await mkdtemp(join(tmpdir(), 'emr-'));
  const passphraseFile = join(dir, 'passphrase');
  await writeFile(passphraseFile, `${PASSPHRASE}\n`, { mode: 0o600 });
  const passphrase = new TextEncoder().encode(PASSPHRASE);
  const admins = [newSigner(), newSigner()];
  const cards = await Promise.all(
    admins.map((admin, i) =>
      initHospital({
        dir: join(dir, 'ab'.charAt(i)),
        orgId: `hospital-${'ab'.charAt(i)}`,
        name: `Hospital ${'AB'.charAt(i)}`,
        publicAddress: `/ip4/127.0.0.1/tcp/${7600 + i}`,
        config: i === 0 ? { custodian: { socket: 'custodian.sock' } } : {},
        admin: { publicKey: admin.publicKey, personTag: new Uint8Array(32).fill(i + 1) },
        custodian: i === 0,
        passphrase,
      }),
    ),
  );
  const founded = genesisFromCards(cards, {
    name: 'custody-test',
    timeMs: Date.now() - 600_000,
    params: { ...DEFAULT_CHAIN_PARAMS, roleCoolingMs: 0 },
    salt: new Uint8Array(16).fill(5),
  });
  // So that nobody has to be enrolled first.
  const accounts = founded.accounts.map((a) => ({ ...a, roles: [...a.roles, 'physician' as const] }));
  const text = formatGenesisFile({ ...founded, accounts });
  await writeFile(join(dir, 'a', 'genesis.yaml'), text);
  const genesis = parseGenesisFile('genesis.yaml', text);

  const keyOf = async (i: number, name: string): Promise<Uint8Array> =>
    (await openKeystore(join(dir, 'ab'.charAt(i), 'keys', `${name}.json`), passphrase)).secret;
  const [validators, peers, custodianSecret] = await Promise.all([
    Promise.all([0, 1].map(async (i) => createSigner(await keyOf(i, 'validator')))),
    Promise.all([0, 1].map((i) => keyOf(i, 'peer'))),
    keyOf(0, 'custodian'),
  ]);
  const chain = new MemoryChain(genesis, validators);
  const people = admins.map((signer, i): Person => ({ orgId: `hospital-${'ab'.charAt(i)}`, signer }));
  const members = genesis.validators.map(({ peerId, orgId, address }): Member => ({
    peerId,
    orgId,
    address,
    role: 'validator',
  }));
  const faults: Error[] = [];
  const networks: Libp2pNetwork[] = [];
  for (const peerSecret of peers) {
    const addresses = networks.flatMap((n) => n.listenAddresses());
    const onFault = (error: Error) => faults.push(error);
    const options = { peerSecret, chainId: chain.chainId(), listen: ['/ip4/127.0.0.1/tcp/0'], addresses, onFault };
    networks.push(new Libp2pNetwork(options));
    await networks.at(-1)?.start();
  }
  const socket = join(dir, 'a', 'custodian.sock');
  const services = networks.map(
    (network, i) =>
      new ReleaseService({
        orgId: `hospital-${'ab'.charAt(i)}`,
        own: new OwnCustodian({
          orgId: `hospital-${'ab'.charAt(i)}`,
          socket: i === 0 ? socket : null,
          chain,
          state: chain,
        }),
        chain,
        state: chain,
        network,
        engine,
        status: () => new CustodyNotes().status,
      }),
  );
  for (const network of networks) network.setMembers(members);
  await until(() => networks.every((n) => n.peers()[0]?.connected === true), 'the two nodes are connected');

  const processes: CustodianProcess[] = [];
  const run = (args: readonly string[], file = passphraseFile): CustodianProcess => {
    const started = new CustodianProcess(args, file);
    processes.push(started);
    return started;
  };
  const start = async (): Promise<CustodianProcess> => {
    const started = run(['--dir', join(dir, 'a')]);
    await until(() => !started.running || accepts(socket), 'the custodian listens');
    if (!started.running) throw new Error(started.output);
    return started;
  };
  t.teardown(async () => {
    for (const each of processes) await each.end('SIGKILL');
    await Promise.all(networks.map((n) => n.stop()));
    await rm(dir, { recursive: true });
  });
  const [serviceA, serviceB] = services as [ReleaseService, ReleaseService];
  const [networkA, networkB] = networks as [Libp2pNetwork, Libp2pNetwork];
  const [writer, reader] = people as [Person, Person];
  return {
    dir,
    passphraseFile,
    chain,
    writer,
    reader,
    serviceA,
    serviceB,
    networkA,
    networkB,
    socket,
    custodianSecret,
    faults,
    processes,
    run,
    start,
  };
}

type Setting = Awaited<ReturnType<typeof setUp>>;

/** A record of the writer whose key, wrapped to the custodian, a reader has asked for and been granted. */
function grantedRecord({ custodianSecret, reader }: Setting, story: Story) {
  const nonce = new Uint8Array(random(16));
  const recordId = story.recordId(nonce);
  const key = newPrivateKey();
  const plain = wrapPlaintext(key, recordId, 1);
  const custodianWrap = sm2Encrypt(publicKeyOf(custodianSecret), plain, random);
  const blob = { cid: Uint8Array.from([1, 0x55, 0x12, 32, ...nonce, ...nonce]), sizeBytes: 4096, dataDigest: recordId };
  const tx = story.record(blob, { nonce, keyCheck: keyCheckOf(recordId, 1, key), custodianWrap });
  story.chain.commit([tx]);
  const requestKey = newPrivateKey();
  const grantId = story.grant(recordId, reader, publicKeyOf(requestKey));
  return { recordId, key, plain, sidecar: tx.sidecar, requestKey, grantId };
}
type Granted = ReturnType<typeof grantedRecord>;

async function releaseBy(service: ReleaseService, { grantId }: Pick<Granted, 'grantId'>): Promise<ReleaseReply> {
  const replies: ReleaseReply[] = [];
  for await (const reply of service.release(grantId, AbortSignal.timeout(DEADLINE_MS))) replies.push(reply);
  if (replies.length !== 1) throw new Error(`${replies.length} replies`);
  return replies[0] as ReleaseReply;
}
const codeOf = (reply: ReleaseReply | CustodianAnswer): string =>
  reply.kind === 'refused' ? reply.code : reply.kind === 'wrap' ? 'RELEASED' : reply.kind.toUpperCase();

type Demand = Extract<CustodianDemand, { readonly kind: 'release' }>;

/** What an honest node shows, of any height: the material of a dishonest one. */
async function evidence({ chain, reader }: Setting, of: Granted, height = chain.head().height): Promise<Demand> {
  const keys = [
    stateKey.request(of.grantId),
    stateKey.recordVersion(of.recordId, 1),
    stateKey.account(reader.signer.address),
    stateKey.organisation(reader.orgId),
    stateKey.params(),
  ];
  const { answers } = await chain.read(
    keys.map((key) => ({ kind: 'get', key, prove: true })),
    height,
  );
  const [request, recordVersion, requester, requesterOrg, params] = answers.map(
    (answer) => (answer.kind === 'get' ? answer.proof : null) ?? new Uint8Array(1),
  ) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  const header = encodeHeader((await chain.header(height))!.header);
  const certificate = (await chain.certificate(height))!;
  const head = { handovers: [], head: { header, certificate } };
  return {
    kind: 'release',
    grantId: of.grantId,
    head,
    request,
    recordVersion,
    requester,
    requesterOrg,
    params,
    sidecar: of.sidecar,
  };
}

/** Sends bytes to the custodian as they are, and waits until it has had enough. */
function sendRaw(path: string, bytes: Uint8Array, hangUp: boolean): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.write(bytes);
      if (hangUp) socket.end();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve());
    socket.resume();
  });
}

t.test('a key is released by the custodian process, and by nobody else', async (t) => {
  const setting = await setUp(t);
  const { serviceA, serviceB, chain, socket, start } = setting;
  const story = new Story(chain, setting.writer, newSigner(), { custodian: true });
  const granted = grantedRecord(setting, story);
  const first = await start();

  await t.test('over the socket, to the fresh key of the request', async (t) => {
    const reply = await releaseBy(serviceA, granted);
    if (reply.kind !== 'wrap') throw new Error(codeOf(reply));
    const opened = sm2Decrypt(granted.requestKey, reply.wrapped);
    t.same(opened, { ok: true, value: granted.plain }, 'the requester opens it');
    t.equal(sm2Decrypt(setting.custodianSecret, reply.wrapped).ok, false, 'not even the custodian could again');
    const signed = releaseSigningHash(chain.chainId(), granted.grantId, 'hospital-a', reply.wrapped);
    t.ok(engine.verify(reply.custodianKey, signed, reply.signature), 'signed');
    t.same(await releaseBy(serviceA, granted), reply, 'the same bytes each time');
    t.same(await releaseBy(serviceB, granted), reply, "and through the other hospital's node");
    t.equal((await stat(socket)).mode & 0o777, 0o600, 'the socket is for its owner alone');
    const nothing = { grantId: new Uint8Array(32) };
    t.equal(codeOf(await releaseBy(serviceA, nothing)), 'GRANT_NOT_FOUND');
    t.equal(codeOf(await releaseBy(serviceB, nothing)), 'GRANT_NOT_FOUND');
  });

  await t.test('garbage on the socket', async (t) => {
    const demand = encode(releaseAnswer, { kind: 'refused', orgId: 'x', code: 'X', message: 'x' });
    const noise: Uint8Array[] = [
      new Uint8Array(0),
      Uint8Array.of(1, 2, 3),
      u32be(0),
      u32be(2 ** 32 - 1),
      u32be(2 * 1024 * 1024),
      Buffer.concat([u32be(1000), new Uint8Array(999)]),
      Buffer.concat([u32be(demand.length), demand]),
      Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
      new Uint8Array(random(100_000)),
      new Uint8Array(3_000_000),
    ];
    await Promise.all(noise.map((bytes) => sendRaw(socket, bytes, true)));
    // More than it serves at a time, none of which says anything.
    const idle = Array.from({ length: 100 }, () => connect(socket).on('error', () => undefined));
    await Promise.all(noise.slice(1).map((bytes) => sendRaw(socket, bytes, true)));
    for (const each of idle) each.destroy();
    await until(async () => codeOf(await releaseBy(serviceA, granted)) === 'RELEASED', 'it answers as before');
    t.equal(first.running, true);
  });

  await t.test('a node that lies', async (t) => {
    const ask = async (demand: Demand): Promise<string> =>
      codeOf(await demandFromCustodian(socket, demand, DEADLINE_MS));
    const honest = await evidence(setting, granted);
    const { head } = honest.head;
    const [signature] = head.certificate.signatures;
    const signatures = head.certificate.signatures;
    const forged = { ...signature!, signature: new Uint8Array(64).fill(1) };
    const before = chain.head().height - 1;
    const earlier = await evidence(setting, granted, before);
    const withHead = (change: Partial<typeof head>): Demand['head'] => ({
      handovers: [],
      head: { ...head, ...change },
    });
    const header = (await chain.header(before))!.header;
    const later = encodeHeader({ ...header, height: 1_000 });
    const other = grantedRecord(setting, story);
    const now = await evidence(setting, other);
    const cases: [string, Demand, string][] = [
      ['a state from before what it has seen', earlier, 'CUSTODIAN_ROLLBACK'],
      ['a block that nobody signed', { ...now, head: withHead({ header: later }) }, 'CERTIFICATE_MISMATCH'],
      ['proofs of an earlier state', { ...now, request: earlier.request }, 'STATE_PROOF_MISMATCH'],
      ['proofs of something else', { ...now, recordVersion: now.params }, 'STATE_PROOF_MISMATCH'],
      ['no proofs', { ...now, requesterOrg: Uint8Array.of(0) }, 'STATE_PROOF_MALFORMED'],
      ['the sidecar of another record', { ...now, sidecar: granted.sidecar }, 'SIDECAR_MISMATCH'],
      ["the proof of another's grant", { ...now, grantId: granted.grantId }, 'STATE_PROOF_MISMATCH'],
    ];
    for (const [name, demand, code] of cases) t.equal(await ask(demand), code, name);
    const faked = [forged, ...signatures.slice(1)];
    const top = await evidence(setting, other);
    chain.commit([]);
    const fresh = await evidence(setting, other);
    const headOf = (certificate: typeof head.certificate): Demand => ({
      ...fresh,
      head: { handovers: [], head: { ...fresh.head.head, certificate } },
    });
    const { certificate } = fresh.head.head;
    t.equal(await ask(headOf({ ...certificate, signatures: [] })), 'CERTIFICATE_QUORUM', 'no signatures');
    t.equal(await ask(headOf({ ...certificate, signatures: faked })), 'CERTIFICATE_SIGNATURE', 'forged ones');
    t.equal(await ask(headOf({ ...certificate, view: 1 })), 'CERTIFICATE_SIGNATURE', 'signed for another view');
    t.equal(await ask(top), 'RELEASED', 'what was not proven was not remembered');
    t.equal(await ask(fresh), 'RELEASED');
    t.equal(await ask(top), 'CUSTODIAN_ROLLBACK', 'and what was is');
  });

  await t.test('one member cannot use up what is there for all', async (t) => {
    const { networkB, networkA } = setting;
    const options = { maxFrames: 1, maxFrameBytes: 1024, idleTimeoutMs: 5_000 };
    const ask = async (): Promise<string> => {
      const call = encode(releaseCall, { grantId: granted.grantId });
      let code = 'NOTHING';
      for await (const frame of networkB.request(networkA.peerId, 'release', call, options)) {
        const answer = decode(releaseAnswer, frame, 1024);
        if (answer.ok) code = codeOf(answer.value);
      }
      return code;
    };
    const codes = new Set<string>();
    await until(async () => {
      for (const code of await Promise.all(Array.from({ length: 16 }, ask))) codes.add(code);
      return codes.has('RATE_LIMITED');
    }, 'slowed down');
    t.same(codes, new Set(['RELEASED', 'RATE_LIMITED']), 'answered or slowed down, and nothing else');
    t.equal(codeOf(await releaseBy(serviceA, granted)), 'RELEASED', "the hospital's own readers are not");
  });

  await t.test('two on one socket, wrong passphrases, wrong folders', async (t) => {
    const { dir, run } = setting;
    const wrong = join(dir, 'wrong');
    await writeFile(wrong, 'not the passphrase', { mode: 0o600 });
    const file = join(dir, 'precious');
    await writeFile(file, 'what somebody needs');
    const config = await readFile(join(dir, 'a', 'config.yaml'), 'utf8');
    const misled = join(dir, 'c');
    await initMisled(misled, setting, config.replace('custodian.sock', file));
    const cases: [string, CustodianProcess, string][] = [
      ['a second custodian', run(['--dir', join(dir, 'a')]), 'CUSTODIAN_SOCKET'],
      ['a wrong passphrase', run(['--dir', join(dir, 'a')], wrong), 'KEYSTORE_UNLOCK_FAILED'],
      ['a file in place of the socket', run(['--dir', misled]), 'CUSTODIAN_SOCKET'],
      ['a hospital without custodian', run(['--dir', join(dir, 'b')]), 'CONFIG_INVALID'],
      ['no such folder', run(['--dir', join(dir, 'nowhere')]), 'CONFIG_UNREADABLE'],
      ['no folder', run([]), 'USAGE'],
      ['an option that there is not', run(['--passphrase', 'x']), 'USAGE'],
    ];
    for (const [name, started, code] of cases) {
      t.equal(await started.ended(), 1, `${name}: exit code`);
      t.equal(/^error ([A-Z_]+):/m.exec(started.output)?.[1], code, name);
      t.notMatch(started.output, /\n\s+at /, 'no stack trace');
    }
    t.equal(await readFile(file, 'utf8'), 'what somebody needs', 'a file that was named by mistake is left alone');
    t.equal(codeOf(await releaseBy(serviceA, granted)), 'RELEASED', 'the first goes on');
  });

  await t.test('killed and started again, it remembers what it has seen', async (t) => {
    const old = await evidence(setting, granted);
    chain.commit([]);
    t.equal(codeOf(await releaseBy(serviceA, granted)), 'RELEASED');
    await first.end('SIGKILL');
    for (const service of [serviceA, serviceB]) {
      const reply = await releaseBy(service, granted);
      t.match(
        reply,
        { kind: 'refused', orgId: 'hospital-a', code: 'CUSTODIAN_UNAVAILABLE' },
        'down: nobody has the key',
      );
      t.notMatch(JSON.stringify(reply), setting.dir, 'and nobody learns folders');
    }
    const second = await start();
    t.equal(codeOf(await demandFromCustodian(socket, old, DEADLINE_MS)), 'CUSTODIAN_ROLLBACK', 'no way back');
    t.equal(codeOf(await releaseBy(serviceA, granted)), 'RELEASED', 'the left-over socket is no hindrance');

    await second.end('SIGKILL');
    await writeFile(join(setting.dir, 'a', 'custodian-height'), '', { mode: 0o600 });
    const third = setting.run(['--dir', join(setting.dir, 'a')]);
    t.equal(await third.ended(), 1, 'a memory that was emptied is no memory');
    t.match(third.output, /CUSTODIAN_MEMORY/);
    await writeFile(join(setting.dir, 'a', 'custodian-height'), String(chain.head().height), { mode: 0o600 });
  });

  await t.test('a revocation ends it, and the hospital that is away takes its key along', async (t) => {
    const last = await start();
    const before = await evidence(setting, granted);
    story.revoke(granted.grantId);
    for (const service of [serviceA, serviceB]) t.equal(codeOf(await releaseBy(service, granted)), 'GRANT_REVOKED');
    const revoked = await evidence(setting, granted);
    t.equal(codeOf(await demandFromCustodian(socket, revoked, DEADLINE_MS)), 'GRANT_REVOKED');
    t.equal(
      codeOf(await demandFromCustodian(socket, before, DEADLINE_MS)),
      'CUSTODIAN_ROLLBACK',
      'seen once is enough',
    );

    const another = grantedRecord(setting, story);
    t.equal(codeOf(await releaseBy(serviceB, another)), 'RELEASED');
    await setting.networkA.stop();
    await until(() => setting.networkB.peers()[0]?.connected === false, 'hospital-a is away');
    t.match(await releaseBy(serviceB, another), {
      kind: 'refused',
      orgId: 'hospital-a',
      code: 'CUSTODIAN_UNAVAILABLE',
      message: /hospital-a.*cannot be reached.*replicas.*key is not/,
    });
    chain.commit([], chain.head().timestampMs + 60_000);
    t.equal(codeOf(await releaseBy(serviceA, another)), 'CUSTODIAN_STALE_STATE', 'no state from the future');
    t.equal(await last.end('SIGTERM'), 0, 'ends in good order');
    await t.rejects(stat(socket), { code: 'ENOENT' }, 'and takes its socket away');
  });

  const written = setting.processes.map(({ output }) => output).join('');
  const secrets = [setting.custodianSecret, granted.key, granted.plain, granted.requestKey];
  for (const secret of secrets)
    t.notOk(written.toLowerCase().includes(bytesToHex(secret)), 'no secret was ever written');
  t.notOk(written.includes(PASSPHRASE));
  t.notOk(written.includes(bytesToHex(granted.recordId)), 'nor whose record it was');
  t.same(setting.faults, []);
});

/** A folder that differs from the hospital's in its configuration alone. */
async function initMisled(dir: string, { dir: all }: Setting, config: string): Promise<void> {
  await cp(join(all, 'a', 'keys'), join(dir, 'keys'), { recursive: true });
  await cp(join(all, 'a', 'genesis.yaml'), join(dir, 'genesis.yaml'));
  await writeFile(join(dir, 'config.yaml'), config);
}

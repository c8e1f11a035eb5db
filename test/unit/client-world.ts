/**
 * A node for the tests of client/: the small chain of the RPC's tests behind a real server on a loopback port, which
 * checks signatures as a node does and commits what it accepts at once. People get clients of their own.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { ChainView } from '../../client/chain-view.ts';
import { main } from '../../client/cli/command-line.ts';
import { Home } from '../../client/home.ts';
import type { UnlockKey } from '../../client/cli/session.ts';
import { showKey, unlockAccountKey, type UnlockedKey } from '../../client/keys.ts';
import { meetNode } from '../../client/network.ts';
import { authorizer } from '../../client/reader-token.ts';
import { RpcClient } from '../../client/rpc-client.ts';
import { equalBytes, utf8 } from '../../common/bytes.ts';
import { H } from '../../common/crypto/hash.ts';
import { sm2Decrypt, sm2Encrypt } from '../../common/crypto/sm2-encrypt.ts';
import { publicKeyOf, sm2Address } from '../../common/crypto/sm2.ts';
import { assert, reject } from '../../common/errors.ts';
import { createWasmEngine } from '../../common/crypto/sm2-engine/engine.ts';
import { createOpensslSigner, systemRandom } from '../../common/native/sm2-openssl.ts';
import { writeKeystore } from '../../common/native/keystore.ts';
import { replicaReceiptSigningHash, releaseSigningHash } from '../../common/protocol/signing.ts';
import { recordVersionEntry, requestEntry, stateKey } from '../../common/protocol/state-entries.ts';
import { decode } from '../../common/codec.ts';
import { decodeSidecar, decodeTransaction } from '../../common/protocol/transaction.ts';
import { CID } from 'multiformats/cid';
import type { ReleaseReply, RpcPorts } from '../../rpc/index.ts';
import { obligations } from '../../vm/index.ts';
import { type ChainWorld, testNode, testServer, type TestConfig } from '../integration/rpc-fixture.ts';

/** Private keys of the test world are the same in every run. */
export function privateKeyOf(publicKey: Uint8Array): Uint8Array {
  for (let index = 1; index < 2_000; index += 1) {
    const privateKey = H('test-key', Uint8Array.of(index >> 8, index & 0xff));
    if (equalBytes(publicKeyOf(privateKey), publicKey)) return privateKey;
  }
  throw new Error('not a key of the test world');
}

export const PASSPHRASE = 'correct horse battery';

export class ClientWorld {
  readonly world: ChainWorld;
  readonly node: ReturnType<typeof testNode>;
  readonly #folders: string[] = [];
  #server: ReturnType<typeof testServer> | undefined;
  /** Organisations that answer for a copy, by index of the validator. */
  replicaHolders = [1];
  url = '';

  constructor(world: ChainWorld) {
    this.world = world;
    this.node = testNode(world);
    this.node.knobs.release = () => this.custodian();
  }

  readonly nowMs = (): number => this.world.now;

  async start(config: TestConfig = {}): Promise<void> {
    const ports = { ...this.node.ports, transactions: this.#strictPool(), blobs: this.#replicating() };
    this.#server = testServer({ ...this.node, ports }, config);
    await this.#server.start();
    this.url = this.#server.address;
  }

  async stop(): Promise<void> {
    await this.#server?.stop();
    for (const folder of this.#folders) rmSync(folder, { recursive: true, force: true });
  }

  folder(): string {
    const folder = mkdtempSync(join(tmpdir(), 'emrchain-client-'));
    this.#folders.push(folder);
    return folder;
  }

  /** The pool of the fixture does not discharge obligations: here every signature counts, and a block comes at once. */
  #strictPool(): RpcPorts['transactions'] {
    const { transactions } = this.node.ports;
    const engine = createWasmEngine();
    return {
      ...transactions,
      submit: async (bytes, sidecar) => {
        const tx = decodeTransaction(bytes);
        if (!tx.ok) return tx;
        for (const owed of obligations(this.world.chainId, tx.value)) {
          if (!engine.verify(owed.publicKey, owed.message, owed.signature)) return reject(owed.code, 'does not verify');
        }
        const verdict = await transactions.submit(bytes, sidecar);
        if (verdict.ok) setImmediate(() => this.node.mine());
        return verdict;
      },
    };
  }

  #replicating(): RpcPorts['blobs'] {
    const { blobs } = this.node.ports;
    return {
      ...blobs,
      receipts: async (cid) => {
        const blob = this.node.blobs.get(cid);
        if (blob === undefined) return [];
        const { dataDigest } = (await this.#blobSummary(cid)) ?? { dataDigest: new Uint8Array(32) };
        return this.replicaHolders.map((index) => {
          const { orgId, publicKey, address } = this.world.genesis.validators[index]!;
          const message = replicaReceiptSigningHash(this.world.chainId, CID.parse(cid).bytes, dataDigest, address);
          const signature = createOpensslSigner(privateKeyOf(publicKey)).sign(message);
          return { orgId, holder: address, signature, atMs: this.world.now };
        });
      },
    };
  }

  async #blobSummary(cid: string): Promise<{ dataDigest: Uint8Array } | undefined> {
    const { sm3 } = await import('../../common/crypto/sm3.ts');
    const blob = this.node.blobs.get(cid);
    return blob && { dataDigest: sm3(blob.bytes) };
  }

  /** The custodian of hospital A as it should be: wraps the record's key to the request's key. */
  async *custodian(alter: (wrapped: Uint8Array) => Uint8Array = (same) => same): AsyncGenerator<ReleaseReply> {
    const grantId = this.grantId;
    assert(grantId !== undefined, 'the test says which grant is asked for');
    const request = this.entry(requestEntry, stateKey.request(grantId));
    const { recordId, version, requesterKey } = request.request;
    const record = this.entry(recordVersionEntry, stateKey.recordVersion(recordId, version));
    const org = this.world.genesis.organisations.find(({ orgId }) => orgId === record.orgId)!;
    const key = privateKeyOf(org.custodianKey!);
    const opened = sm2Decrypt(key, this.custodianWrap(recordId));
    assert(opened.ok, "the custodian opens the writer's wrap");
    const wrapped = alter(sm2Encrypt(requesterKey, opened.value, systemRandom));
    const signature = createOpensslSigner(key).sign(
      releaseSigningHash(this.world.chainId, grantId, record.orgId, wrapped),
    );
    yield { kind: 'wrap', orgId: record.orgId, wrapped, signature, custodianKey: org.custodianKey! };
  }

  /** Which grant the custodian is asked for: the port of the fixture does not say. */
  grantId: Uint8Array | undefined;

  custodianWrap(recordId: Uint8Array): Uint8Array {
    for (const block of this.world.blocks) {
      for (const bytes of block.sidecars) {
        const sidecar = bytes === null ? undefined : decodeSidecar(bytes);
        if (sidecar?.ok !== true || sidecar.value.kind !== 'wraps') continue;
        const wrap = sidecar.value.wraps.find(({ to }) => to.kind === 'custodian');
        if (
          wrap !== undefined &&
          block.receipts.some(({ events }) => events.some((e) => e.recordId && equalBytes(e.recordId, recordId)))
        ) {
          return wrap.ciphertext;
        }
      }
    }
    throw new Error('no custodian wrap for the record');
  }

  entry<T>(codec: Parameters<typeof decode<T>>[0], key: Uint8Array): T {
    const value = this.world.state.get(key);
    assert(value !== undefined, 'the entry is there');
    const decoded = decode(codec, value, 65_536);
    assert(decoded.ok, 'the entry decodes');
    return decoded.value;
  }

  /** An open key of somebody of the world, without the time that a keystore takes. */
  key(name: string): UnlockedKey {
    const { id, privateKey, publicKey } = this.world.who(name);
    return {
      name,
      kind: 'sm2-key',
      address: sm2Address(publicKey),
      account: id,
      publicKey,
      path: '',
      privateKey,
      signer: createOpensslSigner(privateKey),
    };
  }

  /** The chain as somebody sees it, from a home of their own. */
  async client(name: string, url = this.url): Promise<{ key: UnlockedKey; view: ChainView; home: Home }> {
    const home = new Home(this.folder());
    const key = this.key(name);
    const node = await meetNode(home, new RpcClient(url));
    const rpc = new RpcClient(url, { authorize: authorizer(node, key.signer, this.nowMs) });
    return { key, view: new ChainView(rpc, node, createWasmEngine()), home };
  }

  /** Puts the key of somebody into a home under the test's passphrase. */
  async keystore(home: string, name: string): Promise<void> {
    const { privateKey, publicKey } = this.world.who(name);
    const file = new Home(home);
    await file.ensure('keys');
    const identity = { kind: 'sm2-key', address: sm2Address(publicKey), publicKey };
    await writeKeystore(file.file('keys', `${name}.json`), identity, privateKey, utf8(PASSPHRASE));
  }
}

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** stdout as JSON. */
  readonly json: Record<string, unknown>;
  /** `error` of stderr as JSON. */
  readonly error: { readonly code: string; readonly message: string; readonly remedy: string };
}

function sink(): { stream: Writable; text: () => string } {
  let text = '';
  const stream = new Writable({
    write(chunk: Buffer | string, _encoding, done) {
      text += chunk.toString();
      done();
    },
  });
  return { stream, text: () => text };
}

const parsed = (text: string): Record<string, unknown> => {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
};

/** Keys that commands of this process have opened: a keystore takes half a second. */
const opened = new Map<string, Promise<UnlockedKey>>();

const keepOpen: UnlockKey = async (home, name, passphrase) => {
  const { path } = await showKey(home, name);
  const known = opened.get(path) ?? unlockAccountKey(home, name, await passphrase(name));
  opened.set(path, known);
  // Whose account the key signs for may have changed since.
  return { ...(await known), account: (await showKey(home, name)).account };
};

/** Runs a command line in this process. */
export async function cli(
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
  nowMs?: () => number,
): Promise<Ran> {
  const [out, err] = [sink(), sink()];
  const streams = { out: out.stream, err: err.stream };
  const code = await main(args, {
    environment,
    streams,
    unlockKey: keepOpen,
    ...(nowMs === undefined ? {} : { nowMs }),
  });
  return {
    code,
    out: out.text(),
    err: err.text(),
    json: parsed(out.text()),
    error: (parsed(err.text())['error'] ?? { code: '', message: '', remedy: '' }) as Ran['error'],
  };
}

/** A server that answers as a test says. */
export async function rogue(
  answer: (request: IncomingMessage, body: string, response: ServerResponse) => void | Promise<void>,
): Promise<{ url: string; calls: string[]; close: () => Promise<void> }> {
  const calls: string[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('latin1');
    });
    request.on('end', () => {
      calls.push(body);
      void answer(request, body, response);
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    calls,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** The code of what a promise throws. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return String((error as { code?: unknown }).code ?? error);
  }
  return 'no error';
}

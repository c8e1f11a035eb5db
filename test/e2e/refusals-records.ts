/** Records that are not what they say, and ciphertext that is not what a record says. */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import type { Test } from 'tap';
import { decodePoint } from '../../common/crypto/curve.ts';
import { encodeLabel, sealCapsule } from '../../common/crypto/custody/capsule.ts';
import { assert } from '../../common/errors.ts';
import { systemRandom } from '../../common/native/sm2-openssl.ts';
import { computeCid } from '../../common/native/unixfs-cid.ts';
import { splitCapsule } from '../../common/protocol/custody.ts';
import { decodeSidecar, encodeSidecar, type RecordContent, sidecarHash } from '../../common/protocol/transaction.ts';
import { cidText } from '../../client/cid-text.ts';
import { authorizer, ChainView, RpcClient } from '../../client/index.ts';
import { labelOf } from '../../client/custody.ts';
import { awaitReplicas, verifiedReplicas } from '../../client/record-add.ts';
import { fetchRecord, findGrant, grantedKey, provenRecord } from '../../client/record-get.ts';
import { type RecordOffer, subjectOf } from '../../client/record-offer.ts';
import type { Consortium } from './consortium.ts';
import { type Person, signedBy } from './people.ts';
import { until } from './until.ts';
import { LyingProxy } from './lying-proxy.ts';
import type { Cast } from './refusals-cast.ts';
import { refusalOf, refused, submitTo, unchanged } from './refusals.ts';

const HOSTILE_NODE = join(import.meta.dirname, 'hostile-node.ts');
const MIB = 1024 * 1024;

export async function refusedRecords(t: Test, cast: Cast): Promise<void> {
  await t.test('ciphertext that was changed on the way never becomes a file', (t) => tampered(t, cast));
  await t.test('a node takes no record that its ciphertext contradicts', (t) => contradicted(t, cast));
  await t.test('the ciphertext of a hospital that lies is kept by nobody', (t) => lyingHospital(t, cast));
}

/** The offer with something else in it, sealed for what it says now, which its patient signs as well. */
function saying(offer: RecordOffer, patient: Person, lies: Partial<RecordContent>) {
  const content = { ...offer.call.content, ...lies };
  const sealed = lies.dataDigest === undefined ? { content, sidecar: offer.sidecar } : resealed(offer, content);
  const lied = { ...offer, sidecar: sealed.sidecar, call: { ...offer.call, content: sealed.content } } as RecordOffer;
  return { offer: lied, call: signedBy(patient, lied) };
}

/** Some key, under a label with what the content says: whoever lies about a record seals it to fit. */
function resealed({ chainId, sidecar, ...offer }: RecordOffer, content: RecordContent) {
  const opened = decodeSidecar(sidecar);
  const X = content.capsule.kind === 'threshold' ? content.capsule.key : new Uint8Array(0);
  const point = decodePoint(X);
  assert(opened.ok && opened.value.kind === 'sealed' && point !== undefined, 'the key of the offer is sealed');
  const label = labelOf(chainId, { ...subjectOf(offer), owner: offer.call.owner }, content);
  const capsule = sealCapsule(point, encodeLabel(label), new Uint8Array(randomBytes(32)), systemRandom);
  const { sealed, c } = splitCapsule(X, capsule);
  const bytes = encodeSidecar({ ...opened.value, c });
  return {
    content: {
      ...content,
      capsule: { kind: 'threshold' as const, ...sealed, recovery: null },
      sidecarHash: sidecarHash(bytes),
    },
    sidecar: bytes,
  };
}

async function cidOfNothing(): Promise<Uint8Array> {
  const bytes = new Uint8Array(randomBytes(500));
  return (
    await computeCid(
      (async function* () {
        yield bytes;
      })(),
    )
  ).cid.bytes;
}

async function contradicted(t: Test, { consortium, chen, mei, file, strict }: Cast): Promise<void> {
  const { offer, call } = await consortium.offer(chen, mei, file, strict);
  const { content } = call;
  const nowhere = await cidOfNothing();
  await unchanged(t, consortium, async () => {
    const cases: readonly (readonly [what: string, code: string, lies: Partial<RecordContent>])[] = [
      ['an unknown CID', 'BLOB_UNKNOWN', { cid: nowhere }],
      ['another size', 'BLOB_SIZE_MISMATCH', { sizeBytes: content.sizeBytes - 1 }],
      ['another digest', 'BLOB_DIGEST_MISMATCH', { dataDigest: new Uint8Array(32).fill(3) }],
      ['no byte', 'EMPTY_RECORD', { sizeBytes: 0 }],
      ['a CID that is none of ours', 'BAD_CID', { cid: Uint8Array.of(1, 0x55, 0, 32, ...new Uint8Array(32)) }],
    ];
    for (const [what, code, lies] of cases) {
      const lied = saying(offer, mei, lies);
      const { raw } = chen.sign(lied.call);
      await refused(t, code, what, () => submitTo(consortium.rpc(0), raw, lied.offer.sidecar));
    }
    const { raw } = chen.sign(call);
    await refused(t, 'WRONG_HOSPITAL', "at another hospital's node", () =>
      submitTo(consortium.rpc(1), raw, offer.sidecar),
    );
    await refused(t, 'SIDECAR_MISSING', 'without its wraps', () => submitTo(consortium.rpc(0), raw));
    const otherWraps = offer.sidecar.map((byte, at) => (at === 80 ? byte ^ 1 : byte));
    await refused(t, 'SIDECAR_MISMATCH', 'with other wraps', () => submitTo(consortium.rpc(0), raw, otherWraps));
    const unsigned = chen.sign({ ...call, content: { ...content, sizeBytes: content.sizeBytes + 1 } });
    await refused(t, 'BAD_OWNER_SIGNATURE', 'what the patient did not sign', () =>
      submitTo(consortium.rpc(0), unsigned.raw, offer.sidecar),
    );
    for (const [index] of consortium.nodes.entries()) {
      const { rpc } = consortium.viewAt(chen, index);
      const [none, noCid] = await Promise.all([get(rpc, cidText(nowhere)), get(rpc, 'bafyqqqq')]);
      t.same(none, { status: 404, reason: 'NOT_FOUND' }, `node ${index}: ciphertext that nobody has`);
      t.same(noCid, { status: 404, reason: 'NOT_FOUND' }, 'and what is no CID');
    }
  });
}

/** Status and reason of a download, after all of it has come. */
async function get(rpc: RpcClient, cid: string): Promise<{ status: number; reason: string | null }> {
  const response = await fetch(`${rpc.base}/blob/${cid}`, {
    headers: { authorization: rpc.authorization() ?? '' },
    signal: AbortSignal.timeout(30_000),
  });
  try {
    const body = await response.text();
    return { status: response.status, reason: response.ok ? null : reasonIn(body) };
  } catch {
    return { status: response.status, reason: 'BROKEN_OFF' };
  }
}

function reasonIn(body: string): string {
  const { error } = JSON.parse(body) as { error: { data: { reason: string } } };
  return error.data.reason;
}

/** Submits through the changed node, as a record of its own hospital. */
async function writeLie(
  consortium: Consortium,
  writer: Person,
  patient: Person,
  path: string,
  cast: Cast,
  lies: Partial<RecordContent>,
) {
  const { offer } = await consortium.offer(writer, patient, path, cast.strict);
  const lied = saying(offer, patient, lies);
  await writer.do(lied.call, lied.offer.sidecar);
  return { ...subjectOf(lied.offer), content: lied.call.content };
}

async function lyingHospital(t: Test, cast: Cast): Promise<void> {
  const { consortium } = cast;
  const { devnet } = consortium;
  const hostile = consortium.hospital(3);
  const [ding, dora] = await Promise.all([consortium.staff('ding', 3, ['physician']), consortium.patient('dora', 3)]);
  await devnet.killNode(hostile.orgId);
  devnet.startNode(hostile.orgId, HOSTILE_NODE);
  await devnet.waitReady([hostile.orgId]);
  const honest = [0, 1, 2];
  const before = await Promise.all(honest.map((i) => ciphertextBytes(consortium, i)));

  const large = join(devnet.dir, 'large.bin');
  await writeFile(large, randomBytes(8 * MIB));
  const expanding = await writeLie(consortium, ding, dora, large, cast, { sizeBytes: MIB + 1 });
  const absent = await writeLie(consortium, ding, dora, cast.file, cast, { cid: await cidOfNothing() });
  const forged = await writeLie(consortium, ding, dora, cast.file, cast, { dataDigest: new Uint8Array(32).fill(5) });
  await consortium.settled();

  for (const index of honest) {
    // Whoever may read it makes the node fetch it now, whatever turn replication would have given it.
    const { rpc } = consortium.viewAt(ding, index);
    for (const [what, { content }] of Object.entries({ expanding, absent })) {
      const found = await get(rpc, cidText(content.cid));
      t.same(found, { status: 503, reason: 'BLOB_UNAVAILABLE' }, `node ${index}: ${what}`);
    }
  }
  for (const { content } of [expanding, absent, forged]) {
    const cid = cidText(content.cid);
    for (const index of honest) {
      const view = consortium.viewAt(ding, index);
      const held = await until(`node ${index} holds nothing of it`, async () => {
        const found = await view.rpc.call('blob_getReceipts', { cid });
        return !found.local && found;
      });
      const others = held.receipts.filter(({ orgId }) => orgId !== hostile.orgId);
      t.same(others, [], `node ${index}: no other hospital signed that it holds ${cid}`);
      t.same(await verifiedReplicas(view, { ...content, hospital: hostile.orgId }), [], 'nor does a client count one');
    }
  }
  const after = await Promise.all(honest.map((i) => ciphertextBytes(consortium, i)));
  for (const index of honest) {
    const grown = (after[index] as number) - (before[index] as number);
    t.ok(grown <= 2 * MIB, `node ${index} keeps ${grown} bytes for it, not what it expands to`);
  }
  await goesOn(t, cast);
}

/** Bytes of ciphertext on the disk of a node. */
async function ciphertextBytes(consortium: Consortium, index: number): Promise<number> {
  const folder = join(consortium.hospital(index).dir, 'data', 'blobs');
  const files = await readdir(folder, { recursive: true, withFileTypes: true });
  const sizes = files
    .filter((entry) => entry.isFile())
    .map((entry) => stat(join(entry.parentPath, entry.name)).catch(() => ({ size: 0 })));
  return (await Promise.all(sizes)).reduce((sum, { size }) => sum + size, 0);
}

/** An honest record finds its copy as before. */
async function goesOn(t: Test, { consortium, chen, mei, file, strict }: Cast): Promise<void> {
  const { offer, call } = await consortium.offer(chen, mei, file, strict);
  await chen.do(call, offer.sidecar);
  const { replicas } = await awaitReplicas(chen.view, offer);
  t.ok(replicas.length >= 1, `an honest record is copied, by ${replicas.map(({ orgId }) => orgId).join(', ')}`);
}

async function tampered(t: Test, cast: Cast): Promise<void> {
  const { consortium, wang, mei, chen, li, strictRecord, file } = cast;
  const request = await wang.ask(strictRecord);
  await Promise.all([mei, chen, li].map((person) => person.decide(request)));
  await wang.caughtUp();
  const now = Date.now();
  const own = await findGrant(wang.view, wang.home, wang.account, strictRecord, { hash: request, nowMs: now });
  const proven = await provenRecord(wang.view, strictRecord);

  const proxy = await LyingProxy.open(t, wang.view.node.origin);
  const node = { ...wang.view.node, origin: proxy.origin };
  const view = new ChainView(new RpcClient(proxy.origin, { authorize: authorizer(node, wang.signer) }), node);
  const { key } = await grantedKey(view, wang.key, own, proven);
  const out = join(consortium.devnet.dir, 'read.bin');
  const cases = [
    ['one bit', 'CIPHERTEXT_TAMPERED'],
    ['something else', 'CIPHERTEXT_TAMPERED'],
    ['cut off', 'TRANSFER_BROKEN'],
  ] as const;
  for (const [lie, code] of cases) {
    proxy.tell(lie);
    const error = await refusalOf(() => fetchRecord(view, wang.home, proven, key, out));
    t.equal(error.code, code, `${lie}: ${error.message}`);
    t.notOk(existsSync(out), 'no file has appeared');
  }
  proxy.tell('none');
  await fetchRecord(view, wang.home, proven, key, out);
  t.ok((await readFile(out)).equals(await readFile(file)), 'and unchanged it is the file');
}

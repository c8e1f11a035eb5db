// The one layout of files: its arithmetic against what the importer builds, and the CIDs that are taken for a blob's.

import { CID } from 'multiformats/cid';
import { create as createDigest } from 'multiformats/hashes/digest';
import t from 'tap';
import { EmrError, InvariantError } from '../../common/errors.ts';
import { computeCid } from '../../common/native/unixfs-cid.ts';
import {
  CHUNK_SIZE_BYTES,
  MAX_BLOB_SIZE_BYTES,
  MAX_CHILDREN,
  checkBlobCid,
  dagLimitsFor,
  dagShape,
  isBlobSize,
  nodeShape,
  parseBlobCid,
} from '../../common/unixfs-layout.ts';
import { fileOf } from '../contract/ipfs-files.ts';

const EMPTY_FILE = 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku';
const CHUNK = CHUNK_SIZE_BYTES;

t.test('the shape of a DAG follows from the size of the file', async (t) => {
  // computeCid itself stops when the importer's blocks and bytes are not those of dagShape.
  for (const sizeBytes of [0, 1, 127, 128, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5]) {
    const { cid, dataDigest, ...shape } = await computeCid(fileOf(sizeBytes));
    t.same(shape, dagShape(sizeBytes), `${sizeBytes} bytes`);
    t.equal(cid.toString().slice(0, 4), sizeBytes > CHUNK ? 'bafy' : 'bafk');
    t.equal(dataDigest.length, 32);
  }
  const full = MAX_CHILDREN * CHUNK;
  t.match(dagShape(full), { blockCount: MAX_CHILDREN + 1, depth: 1 });
  t.match(dagShape(full + 1), { blockCount: MAX_CHILDREN + 4, depth: 2 }, 'two nodes under a root, 175 leaves');
  t.same(dagLimitsFor(full + 1), { maxSizeBytes: full + 1, maxBlocks: MAX_CHILDREN + 4, maxDepth: 2 });
  t.match(dagShape(MAX_BLOB_SIZE_BYTES), { blockCount: 1 + MAX_CHILDREN + MAX_CHILDREN ** 2, depth: 2 });
  t.equal(nodeShape(2, full + 1).lastChild.sizeBytes, 1);
});

t.test('the figures of a gigabyte, both levels full, against the importer', async (t) => {
  async function* zeros(sizeBytes: number): AsyncGenerator<Uint8Array> {
    const piece = new Uint8Array(CHUNK);
    for (let left = sizeBytes; left > 0; left -= CHUNK) yield piece.subarray(0, Math.min(left, CHUNK));
  }
  const sizeBytes = 2 * MAX_CHILDREN * CHUNK + 17;
  const summary = await computeCid(zeros(sizeBytes));
  t.match(summary, { ...dagShape(sizeBytes), blockCount: 2 * MAX_CHILDREN + 1 + 3 + 1 });
});

t.test('sizes that the layout cannot hold', async (t) => {
  for (const size of [-1, 0.5, Number.NaN, MAX_BLOB_SIZE_BYTES + 1, Number.POSITIVE_INFINITY]) {
    t.notOk(isBlobSize(size), String(size));
    t.throws(() => dagShape(size), InvariantError);
  }
  t.ok(isBlobSize(0));
  t.ok(isBlobSize(MAX_BLOB_SIZE_BYTES));
});

t.test('only the CIDs that the layout makes are a blob', async (t) => {
  const good = parseBlobCid(EMPTY_FILE);
  t.ok(good.ok && good.value.toString() === EMPTY_FILE);
  const sha256 = CID.parse(EMPTY_FILE).multihash;
  const refused: [string, string][] = [
    ['', 'CID_MALFORMED'],
    ['x'.repeat(59), 'CID_MALFORMED'],
    [EMPTY_FILE.toUpperCase(), 'CID_MALFORMED'],
    [` ${EMPTY_FILE}`, 'CID_MALFORMED'],
    [`${EMPTY_FILE.slice(0, -1)}v`, 'CID_MALFORMED'],
    ['QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o', 'CID_MALFORMED'],
    [CID.createV1(0x71, sha256).toString(), 'CID_UNSUPPORTED'],
    [CID.createV1(0x55, createDigest(0x16, sha256.digest)).toString(), 'CID_UNSUPPORTED'],
  ];
  for (const [text, code] of refused) t.match(parseBlobCid(text), { ok: false, code }, text);
  const identity = CID.createV1(0x55, createDigest(0x00, new Uint8Array(32)));
  t.match(checkBlobCid(identity), { ok: false, code: 'CID_UNSUPPORTED' }, 'an identity CID carries data past limits');
  t.match(checkBlobCid(CID.createV0(CID.parse(EMPTY_FILE).multihash as never)), { ok: false, code: 'CID_UNSUPPORTED' });
});

t.test('a stream that is too long, that fails, or that stalls', async (t) => {
  await t.rejects(computeCid(fileOf(CHUNK + 1), { maxSizeBytes: CHUNK }), { code: 'BLOB_TOO_LARGE' });
  await t.resolves(computeCid(fileOf(CHUNK), { maxSizeBytes: CHUNK }));
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(10);
    throw new EmrError('SOURCE_BROKE', 'broken');
  }
  await t.rejects(computeCid(broken()), { code: 'SOURCE_BROKE' });

  const stop = new AbortController();
  async function* stalled(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(10);
    setImmediate(() => stop.abort(new EmrError('STOPPED', 'stopped')));
    await new Promise(() => {});
  }
  await t.rejects(computeCid(stalled(), { signal: stop.signal }), { code: 'STOPPED' });
});

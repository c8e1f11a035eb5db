import { createHash } from 'node:crypto';
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { bytesToHex, concatBytes, hexToBytes } from '../../common/bytes.ts';
import { tlv } from '../../common/crypto/hash.ts';
import * as format from '../../common/crypto/sm4-format.ts';
import { EmrError, InvariantError } from '../../common/errors.ts';
import { openChunks, sealChunks } from '../../common/native/sm4-chunks.ts';
import type { ByteSource, OpenParameters } from '../../common/native/sm4-chunks.ts';
import { decryptToFile, encryptStream } from '../../common/native/sm4-file.ts';
import type { Verdict } from '../../common/errors.ts';

const vectors = JSON.parse(readFileSync(new URL('../vectors/crypto/sm4-file.json', import.meta.url), 'utf8')) as {
  key: string;
  iv: string;
  recordId: string;
  version: number;
  sectionClass: string;
  keyCheck: string;
  smallBlob: string;
  padme: [number, number][];
  chunks: { frameBytes: number; blobBytes: number; dataDigest: string; lastTag: string }[];
  files: { name: string; contentType: string; sizeBytes: number; blobBytes: number; dataDigest: string }[];
};

const MIB = 1024 * 1024;
const secret = { key: hexToBytes(vectors.key), iv: hexToBytes(vectors.iv) };
const binding = {
  recordId: hexToBytes(vectors.recordId),
  version: vectors.version,
  sectionClass: vectors.sectionClass,
};
const sealing = { ...secret, ...binding };

const pattern = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => i * 31 + (i >> 8) * 17 + (i >> 16) * 5);
const digestOf = (bytes: Uint8Array): Uint8Array => Uint8Array.from(createHash('sm3').update(bytes).digest());

/** In pieces whose sizes have nothing to do with chunks. */
function* pieces(bytes: Uint8Array, size: number): Generator<Uint8Array> {
  yield new Uint8Array(0);
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size);
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part.slice());
  return concatBytes(...parts);
}

async function seal(frame: Uint8Array, pieceSize = 70_001): Promise<Uint8Array> {
  return collect(sealChunks(pieces(frame, pieceSize), frame.length, sealing));
}

const opening = (blob: Uint8Array): OpenParameters => ({
  ...binding,
  key: secret.key,
  blobBytes: blob.length,
  dataDigest: digestOf(blob),
});

async function unseal(
  source: ByteSource,
  parameters: OpenParameters,
): Promise<{ verdict: Verdict; bytes: Uint8Array }> {
  const parts: Uint8Array[] = [];
  const chunks = openChunks(source, parameters);
  for (;;) {
    const next = await chunks.next();
    if (next.done === true) return { verdict: next.value, bytes: concatBytes(...parts) };
    parts.push(next.value.slice());
  }
}

t.test('format', async (t) => {
  t.equal(bytesToHex(format.keyCheck(binding.recordId, binding.version, secret.key)), vectors.keyCheck);
  for (const [size, padded] of vectors.padme) t.equal(format.padme(size), padded, `padme ${size}`);
  let worst = 0;
  let previous = 0;
  for (let size = 4096; size < 3_000_000; size += 997) {
    const padded = format.padme(size);
    if (padded < size || padded < previous || format.padme(padded) !== padded) t.fail(`padme ${size}`);
    previous = padded;
    worst = Math.max(worst, (padded - size) / size);
  }
  t.ok(worst < 0.12, `at most 12 %: ${worst}`);

  for (const frame of [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB, 2 ** 36]) {
    t.equal(format.frameSizeOfBlob(format.blobSize(frame)), frame);
  }
  const unit = MIB + 32;
  for (const blob of [0, 12, 43, 12 + unit + 1, 12 + unit + 32, 2 ** 37, -1, 0.5, NaN, Infinity]) {
    t.equal(format.frameSizeOfBlob(blob), undefined, `no frame has a blob of ${blob}`);
  }
  t.equal(format.frameSizeOfBlob(format.blobSize(2 ** 36) + 100), undefined, 'beyond 64 GiB the counter would wrap');
  t.throws(() => format.frameSize({ name: '', contentType: '', sizeBytes: 2 ** 36 }), { code: 'FILE_TOO_LARGE' });
  t.throws(() => format.frameSize({ name: '', contentType: '', sizeBytes: -1 }), { code: 'FILE_META_INVALID' });
});

t.test('file header', async (t) => {
  const meta = { name: '影像 1.dcm', contentType: 'application/dicom', sizeBytes: 12 };
  const header = format.encodeFileHeader(meta);
  t.same(format.parseFileHeader(concatBytes(header, new Uint8Array(5000))), {
    ok: true,
    value: { meta, headerBytes: header.length },
  });
  const longest = format.encodeFileHeader({ name: 'n'.repeat(255), contentType: 'a/b', sizeBytes: 0 });
  t.ok(longest.length <= format.MAX_HEADER_BYTES && format.MAX_HEADER_BYTES < format.MIN_FRAME_BYTES);
  for (const name of ['a/b', '..', '.', 'a\\b', 'a\u0000', 'a\nb', 'n'.repeat(256), '\u202egpj.exe', '\ud800']) {
    t.throws(() => format.encodeFileHeader({ ...meta, name }), { code: 'FILE_META_INVALID' });
    if (name.isWellFormed()) {
      const hostile = tlv('file', new TextEncoder().encode(name), new Uint8Array(0), new Uint8Array(8));
      t.match(format.parseFileHeader(hostile), { ok: false, code: 'FILE_HEADER_INVALID' }, JSON.stringify(name));
    }
  }
  for (const contentType of ['text', 'text/', 'a b/c', 'a/b; c=d', `a/${'b'.repeat(128)}`]) {
    t.throws(() => format.encodeFileHeader({ ...meta, contentType }), { code: 'FILE_META_INVALID' });
  }
  for (let cut = 0; cut < header.length; cut++) t.notOk(format.parseFileHeader(header.subarray(0, cut)).ok);
});

t.test('chunk layer: known answers of a second implementation', async (t) => {
  t.equal(bytesToHex(await seal(pattern(16))), vectors.smallBlob);
  for (const known of vectors.chunks) {
    const frame = pattern(known.frameBytes);
    const sealed = sealChunks(pieces(frame, 65_521), frame.length, sealing);
    const parts: Uint8Array[] = [];
    let next = await sealed.next();
    for (; next.done !== true; next = await sealed.next()) parts.push(next.value);
    const blob = concatBytes(...parts);
    t.same(next.value, { dataDigest: digestOf(blob), blobBytes: blob.length });
    t.equal(blob.length, known.blobBytes);
    t.equal(bytesToHex(digestOf(blob)), known.dataDigest, `${known.frameBytes} bytes`);
    t.equal(bytesToHex(blob.subarray(-32)), known.lastTag);
    for (const size of [50_000, MIB + 32, blob.length]) {
      const opened = await unseal(pieces(blob, size), opening(blob));
      t.ok(opened.verdict.ok);
      t.ok(Buffer.from(opened.bytes).equals(frame));
    }
  }
});

t.test('chunk layer: refuses what is not the blob', async (t) => {
  const frame = pattern(2 * MIB + 777);
  const blob = await seal(frame);
  const unit = MIB + 32;
  const chunk = (index: number): Uint8Array =>
    blob.slice(12 + index * unit, Math.min(12 + (index + 1) * unit, blob.length));
  const refused = async (name: string, code: string, bytes: Uint8Array, change: Partial<OpenParameters> = {}) => {
    const opened = await unseal(pieces(bytes, 99_991), { ...opening(bytes), ...change });
    t.match(opened.verdict, { ok: false, code }, name);
  };
  for (const at of [0, 11, 12, 5000, 12 + MIB, 12 + MIB + 31, 12 + unit, blob.length - 33, blob.length - 1]) {
    const changed = blob.slice();
    changed[at]! ^= 0x80;
    await refused(`byte ${at}`, 'CIPHERTEXT_TAMPERED', changed);
  }
  const iv = blob.slice(0, 12);
  await refused('chunks swapped', 'CIPHERTEXT_TAMPERED', concatBytes(iv, chunk(1), chunk(0), chunk(2)));
  await refused('chunk doubled', 'CIPHERTEXT_TAMPERED', concatBytes(iv, chunk(0), chunk(0), chunk(1), chunk(2)));
  await refused('chunk left out', 'CIPHERTEXT_TAMPERED', concatBytes(iv, chunk(0), chunk(2)));
  await refused('cut at a chunk, size to match', 'CIPHERTEXT_TRUNCATED', concatBytes(iv, chunk(0), chunk(1)));
  await refused('appended, size to match', 'CIPHERTEXT_TAMPERED', concatBytes(blob, new Uint8Array(500)));
  const declared = { blobBytes: blob.length };
  for (const length of [0, 5, 12, 100, 12 + unit, blob.length - 1]) {
    await refused(`cut to ${length}`, 'CIPHERTEXT_TRUNCATED', blob.subarray(0, length), declared);
  }
  await refused('appended', 'CIPHERTEXT_EXTENDED', concatBytes(blob, Uint8Array.of(0)), declared);
  await refused('other digest', 'CIPHERTEXT_DIGEST_MISMATCH', blob, { dataDigest: new Uint8Array(32) });
  await refused('impossible size', 'CIPHERTEXT_SIZE_INVALID', blob, { blobBytes: 43 });
  await refused('other key', 'CIPHERTEXT_TAMPERED', blob, { key: new Uint8Array(32) });
  await refused('other record', 'CIPHERTEXT_TAMPERED', blob, { recordId: new Uint8Array(32) });
  await refused('other version', 'CIPHERTEXT_TAMPERED', blob, { version: 8 });
  await refused('other class', 'CIPHERTEXT_TAMPERED', blob, { sectionClass: 'psychiatry' });

  // A whole first chunk that says "last", then more: made with the right keys, so only the flag is wrong.
  const short = await seal(frame.subarray(0, MIB));
  await refused('goes on after the last chunk', 'CIPHERTEXT_EXTENDED', concatBytes(short, chunk(1)));

  let pulled = 0;
  function* endless(): Generator<Uint8Array> {
    yield blob;
    for (;;) {
      pulled++;
      yield new Uint8Array(1000);
    }
  }
  t.match((await unseal(endless(), opening(blob))).verdict, { ok: false, code: 'CIPHERTEXT_EXTENDED' });
  t.equal(pulled, 1, 'an endless source is read no further than the declared size');
});

t.test('files', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'sm4-file-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const out = join(dir, 'out.bin');
  const encrypt = (content: Uint8Array, meta = {}): ReturnType<typeof encryptStream> =>
    encryptStream(pieces(content, 60_000), {
      ...sealing,
      meta: { name: 'a.bin', contentType: 'application/octet-stream', sizeBytes: content.length, ...meta },
    });

  t.test('known answers and round trips', async (t) => {
    for (const { dataDigest, blobBytes, ...meta } of vectors.files) {
      const content = pattern(meta.sizeBytes);
      const stream = encrypt(content, meta);
      t.equal(stream.blobBytes, blobBytes);
      t.throws(() => stream.summary(), InvariantError, 'no digest before the end');
      const blob = await collect(stream);
      t.same(stream.summary(), { dataDigest: hexToBytes(dataDigest), blobBytes });
      t.same(digestOf(blob), hexToBytes(dataDigest));
      t.same(await decryptToFile(pieces(blob, 70_000), out, opening(blob)), { ok: true, value: meta });
      t.ok((await readFile(out)).equals(content));
      t.equal((await stat(out)).mode & 0o777, 0o600);
    }
  });

  t.test('contents of all sizes near a bucket and a chunk', async (t) => {
    const sizes = new Set<number>();
    for (const size of [0, 1, 3000, 4095, 4096, 4097, MIB - 4096, MIB - 1, MIB, MIB + 1, 2 * MIB + 5]) {
      const content = pattern(size);
      const blob = await collect(encrypt(content));
      sizes.add(blob.length);
      const verdict = await decryptToFile(pieces(blob, 100_003), out, opening(blob));
      t.ok(verdict.ok && verdict.value.sizeBytes === size);
      t.ok((await readFile(out)).equals(content), `${size} bytes`);
    }
    t.equal(Math.min(...sizes), 12 + 4096 + 32);
  });

  t.test('the name and the type are nowhere in the blob', async (t) => {
    const blob = Buffer.from(await collect(encrypt(pattern(10), { name: 'SECRETNAME', contentType: 'secret/type' })));
    t.equal(blob.indexOf('SECRETNAME'), -1);
    t.equal(blob.indexOf('secret/type'), -1);
  });

  t.test('a refused blob leaves nothing behind and replaces nothing', async (t) => {
    await writeFile(out, 'older');
    const content = pattern(MIB + 100_000);
    const blob = await collect(encrypt(content));
    const header = format.encodeFileHeader({ name: 'a', contentType: '', sizeBytes: 10 });
    const frameOf = (change: (frame: Uint8Array) => void, size = 4096): Uint8Array => {
      const frame = new Uint8Array(size);
      frame.set(header);
      change(frame);
      return frame;
    };
    const late = blob.slice();
    late[blob.length - 1]! ^= 1;
    const nextBucket = 4096 + 256;
    const cases: [string, string, Uint8Array][] = [
      ['tag of the last chunk', 'CIPHERTEXT_TAMPERED', late],
      ['padding not zero', 'FILE_PADDING_INVALID', await seal(frameOf((frame) => frame.fill(1, 4095)))],
      [
        'padding not zero right after the content',
        'FILE_PADDING_INVALID',
        await seal(frameOf((f) => (f[header.length + 10] = 1))),
      ],
      ['more padding than the bucket', 'FILE_PADDING_INVALID', await seal(frameOf(() => undefined, nextBucket))],
      ['less than the bucket', 'FILE_PADDING_INVALID', await seal(frameOf(() => undefined, 4000))],
      ['no header', 'FILE_HEADER_INVALID', await seal(new Uint8Array(4096))],
      ['empty frame', 'FILE_HEADER_INVALID', await seal(new Uint8Array(0))],
      [
        'declares more than there is',
        'FILE_PADDING_INVALID',
        await seal(frameOf((frame) => frame.set([1], header.length - 3))),
      ],
    ];
    for (const [name, code, bytes] of cases) {
      t.match(await decryptToFile(pieces(bytes, 99_999), out, opening(bytes)), { ok: false, code }, name);
    }
    const truncated = await decryptToFile(pieces(blob.subarray(0, MIB), 9999), out, opening(blob));
    t.match(truncated, { ok: false, code: 'CIPHERTEXT_TRUNCATED' });
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield blob.slice(0, MIB + 5000);
      throw new EmrError('IPFS_FETCH_FAILED', 'gone');
    }
    await t.rejects(decryptToFile(failing(), out, opening(blob)), { code: 'IPFS_FETCH_FAILED' });
    t.equal(await readFile(out, 'utf8'), 'older');
    t.same(await readdir(dir), ['out.bin'], 'no partial file is left');
    await t.rejects(decryptToFile(pieces(blob, MIB), join(dir, 'none', 'x'), opening(blob)), {
      code: 'FILE_WRITE_FAILED',
    });
  });

  t.test('a source that is not what was declared', async (t) => {
    for (const sizeBytes of [9, 11, 200_000]) {
      await t.rejects(collect(encrypt(pattern(10), { sizeBytes })), { code: 'FILE_SIZE_CHANGED' });
    }
    let closed = false;
    async function* source(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield new Uint8Array(1000);
      } finally {
        closed = true;
      }
    }
    const meta = { name: '', contentType: '', sizeBytes: 10 * MIB };
    const stream = encryptStream(source(), { ...sealing, meta });
    for await (const part of stream) if (part.length > 12) break;
    t.ok(closed, 'a reader who leaves lets go of the source');
    await t.rejects(collect(stream), InvariantError, 'iterated twice');
  });
});

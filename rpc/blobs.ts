/** PUT /blob and GET /blob/:cid: ciphertext as streams. Nothing large is held in memory or goes through JSON. */
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { bytesToHex } from '../common/bytes.ts';
import type { Caller } from './auth.ts';
import { notFound, RpcError } from './errors.ts';
import { requireBlob } from './handlers/records.ts';
import { toHex } from './json.ts';
import { Scope } from './scope.ts';
import type { Service } from './service.ts';

/** Text of a CIDv1 with sha2-256. */
const CID_TEXT = /^b[a-z2-7]{58}$/;

/** Uploads and downloads that run, of all and of each account: every one holds a few chunks of 1 MiB. */
class Transfers {
  readonly #perAccount: number;
  readonly #all: number;
  readonly #running = new Map<string, number>();
  #count = 0;

  constructor(perAccount: number, all: number) {
    this.#perAccount = perAccount;
    this.#all = all;
  }

  /** @returns what ends it, to be called once or more @throws RpcError RATE_LIMITED */
  begin(key: string): () => void {
    const own = this.#running.get(key) ?? 0;
    if (own >= this.#perAccount || this.#count >= this.#all) {
      throw new RpcError('RATE_LIMITED', 'Too many transfers at a time; wait for one to end.', 'TOO_MANY_TRANSFERS');
    }
    this.#running.set(key, own + 1);
    this.#count += 1;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#count -= 1;
      const left = (this.#running.get(key) ?? 1) - 1;
      if (left === 0) this.#running.delete(key);
      else this.#running.set(key, left);
    };
  }
}

/** Verdict codes of an upload -> the error that says so. */
function refuseUpload(refusal: { readonly code: string; readonly message: string }): never {
  const { code } = refusal;
  if (code === 'BLOB_QUOTA') throw RpcError.of('FORBIDDEN', refusal);
  if (code === 'DISK_FULL' || code === 'IPFS_STORAGE_FULL') throw RpcError.of('NOT_READY', refusal);
  throw RpcError.of('INVALID_PARAMS', refusal);
}

interface ByteRange {
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/**
 * One range of bytes (RFC 9110 section 14). Undefined: the whole; several ranges and other units are ignored, as the RFC allows.
 * @throws RpcError INVALID_PARAMS with RANGE_NOT_SATISFIABLE
 */
export function readRange(header: string | undefined, sizeBytes: number): ByteRange | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '');
  const [, first = '', last = ''] = match ?? [];
  if (match === null || (first === '' && last === '')) return undefined;
  if (first !== '' && last !== '' && Number(last) < Number(first)) return undefined;
  const start = first === '' ? Math.max(0, sizeBytes - Number(last)) : Number(first);
  const end = first === '' || last === '' ? sizeBytes : Math.min(sizeBytes, Number(last) + 1);
  if (start >= sizeBytes || start >= end) {
    throw new RpcError('INVALID_PARAMS', `The range is outside of the ${sizeBytes} bytes.`, 'RANGE_NOT_SATISFIABLE');
  }
  return { start, end };
}

export function blobRoutes(
  app: FastifyInstance,
  service: Service,
  callerOf: (request: FastifyRequest) => Promise<Caller>,
): void {
  const { limits } = service.config;
  const transfers = new Transfers(limits.maxTransfersPerAccount, limits.maxTransfers);

  // Any type: the body is taken as it comes, and never read as anything.
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
  app.put('/blob', (request, reply) =>
    upload(request, reply).catch((error: unknown) => {
      // What was not read must neither be waited for nor be taken for the next request.
      reply.header('connection', 'close');
      throw error;
    }),
  );
  app.route({ method: ['GET', 'HEAD'], url: '/blob/:cid', handler: (request, reply) => download(request, reply) });

  async function upload(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { account } = await callerOf(request);
    if (account === null)
      throw new RpcError('FORBIDDEN', 'An upload needs the token of an enrolled account.', 'TOKEN_REQUIRED');
    if (account.kind === 'patient') {
      throw new RpcError('FORBIDDEN', 'Records are written by the staff of a hospital.', 'NOT_STAFF');
    }
    const end = transfers.begin(bytesToHex(account.id));
    const gone = new AbortController();
    // The request also closes when it was read to its end; the reply closes when the client is gone.
    reply.raw.once('close', () => gone.abort());
    try {
      const length = request.headers['content-length'];
      const source = (request.body as Readable | undefined) ?? Readable.from([]);
      const verdict = await service.ports.blobs.put(
        withIdleLimit(source, limits.idleTimeoutMs, gone),
        { account: account.id, orgId: account.orgId, declaredBytes: length === undefined ? null : Number(length) },
        gone.signal,
      );
      if (!verdict.ok) refuseUpload(verdict);
      const { cid, sizeBytes, dataDigest } = verdict.value;
      return await reply
        .code(201)
        .header('location', `/blob/${cid}`)
        .send({ cid, sizeBytes, dataDigest: toHex(dataDigest) });
    } finally {
      end();
    }
  }

  async function download(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const caller = await callerOf(request);
    if (!caller.reads)
      throw new RpcError('FORBIDDEN', 'A download needs the token of an enrolled account.', 'TOKEN_REQUIRED');
    const { cid } = request.params as { readonly cid: string };
    const stat = CID_TEXT.test(cid) ? await service.ports.blobs.stat(cid) : null;
    if (stat === null) throw notFound('No ciphertext with this CID is stored or named by a record.');
    await requireBlob(service, { scope: new Scope(caller, service.facts, service.reads) }, stat);

    const etag = `"${cid}"`;
    reply.headers({
      etag,
      'accept-ranges': 'bytes',
      'content-type': 'application/octet-stream',
      'cache-control': 'private, no-store',
    });
    const condition = request.headers['if-range'];
    const range = condition === undefined || condition === etag ? rangeOf(request, reply, stat.sizeBytes) : undefined;
    const { start, end } = range ?? { start: 0, end: stat.sizeBytes };
    reply.header('content-length', end - start);
    if (range !== undefined) reply.code(206).header('content-range', `bytes ${start}-${end - 1}/${stat.sizeBytes}`);
    if (request.method === 'HEAD') return reply.send();

    const finish = transfers.begin(caller.account ? bytesToHex(caller.account.id) : request.ip);
    const gone = new AbortController();
    // 'close' comes after the last byte too: the one place where every transfer ends.
    reply.raw.once('close', () => {
      gone.abort();
      finish();
    });
    return reply.send(Readable.from(service.ports.blobs.read(cid, { start, end }, gone.signal), { objectMode: false }));
  }

  function rangeOf(request: FastifyRequest, reply: FastifyReply, sizeBytes: number): ByteRange | undefined {
    try {
      return readRange(request.headers.range, sizeBytes);
    } catch (error) {
      reply.header('content-range', `bytes */${sizeBytes}`);
      throw error;
    }
  }
}

/** Ends the upload when no byte comes for a while. */
async function* withIdleLimit(source: Readable, idleMs: number, gone: AbortController): AsyncGenerator<Uint8Array> {
  const timer = setTimeout(() => {
    gone.abort();
    source.destroy();
  }, idleMs);
  try {
    for await (const chunk of source) {
      timer.refresh();
      yield chunk as Uint8Array;
    }
  } finally {
    clearTimeout(timer);
  }
}

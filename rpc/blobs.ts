/** Routes of ciphertext, and GET /blob/:cid: streams. Nothing large is held in memory or goes through JSON. */
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { bytesToHex } from '../common/bytes.ts';
import type { Caller } from './auth.ts';
import { notFound, RpcError } from './errors.ts';
import { requireBlob } from './handlers/records.ts';
import { Scope } from './scope.ts';
import type { Service } from './service.ts';
import { Transfers } from './transfers.ts';
import { uploadRoutes } from './uploads.ts';

/** Text of a CIDv1 with sha2-256. */
const CID_TEXT = /^b[a-z2-7]{58}$/;

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
  uploadRoutes(app, service, callerOf, transfers);
  app.route({ method: ['GET', 'HEAD'], url: '/blob/:cid', handler: (request, reply) => download(request, reply) });

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

/**
 * Ciphertext that comes: PUT /blob in one request, or in as many as it takes. POST /blob opens an upload, PATCH brings
 * bytes from where the last request broke off, GET and HEAD say where that is, DELETE gives it up. The names of the
 * headers are those of tus 1.0 and of the IETF's draft-ietf-httpbis-resumable-upload.
 */
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { bytesToHex } from '../common/bytes.ts';
import type { AccountEntry } from '../common/protocol/state-entries.ts';
import type { Caller } from './auth.ts';
import { notFound, RpcError } from './errors.ts';
import { toHex } from './json.ts';
import { Lru } from './lru.ts';
import { OpenUpload } from './open-upload.ts';
import type { StoredBlob } from './ports.ts';
import type { Service } from './service.ts';
import type { Transfers } from './transfers.ts';

/** Uploads whose outcome is known, for clients whose connection broke before the answer: some 500 bytes each. */
const KEPT_OUTCOMES = 1_000;
const ID_BYTES = 16;
const UPLOADS = '/blob/uploads/';

/** Verdict codes of an upload -> the error that says so. */
function refuseUpload(refusal: { readonly code: string; readonly message: string }): never {
  const { code } = refusal;
  if (code === 'BLOB_QUOTA') throw RpcError.of('FORBIDDEN', refusal);
  if (code === 'DISK_FULL' || code === 'IPFS_STORAGE_FULL') throw RpcError.of('NOT_READY', refusal);
  throw RpcError.of('INVALID_PARAMS', refusal);
}

/** A header that counts bytes. @throws RpcError INVALID_PARAMS with UPLOAD_HEADER_INVALID */
function byteCount(request: FastifyRequest, name: 'content-length' | 'upload-length' | 'upload-offset'): number {
  const text = request.headers[name];
  if (typeof text === 'string' && /^\d{1,15}$/.test(text)) return Number(text);
  throw new RpcError('INVALID_PARAMS', `The header ${name} must give a number of bytes.`, 'UPLOAD_HEADER_INVALID');
}

const bodyOf = (request: FastifyRequest): Readable => (request.body as Readable | undefined) ?? Readable.from([]);

const answer = (reply: FastifyReply, { cid, sizeBytes, dataDigest }: StoredBlob): FastifyReply =>
  reply
    .code(201)
    .header('location', `/blob/${cid}`)
    .send({ cid, sizeBytes, dataDigest: toHex(dataDigest) });

export function uploadRoutes(
  app: FastifyInstance,
  service: Service,
  callerOf: (request: FastifyRequest) => Promise<Caller>,
  transfers: Transfers,
): void {
  const { limits } = service.config;
  /** By account and id, so that another's is as unknown as none. Each counts as a transfer: they are bounded. */
  const open = new Map<string, OpenUpload>();
  const outcomes = new Lru<OpenUpload>(KEPT_OUTCOMES);

  app.put('/blob', (request, reply) => putWhole(request, reply).catch(closing(reply)));
  app.post('/blob', (request, reply) => begin(request, reply).catch(closing(reply)));
  app.patch(`${UPLOADS}:id`, (request, reply) => append(request, reply).catch(closing(reply)));
  app.route({ method: ['GET', 'HEAD'], url: `${UPLOADS}:id`, handler: tell });
  app.delete(`${UPLOADS}:id`, giveUp);
  app.addHook('onClose', async () => {
    const running = [...open.values()];
    for (const upload of running) upload.giveUp();
    await Promise.all(running.map(({ settled }) => settled));
  });

  /** What was not read must neither be waited for nor be taken for the next request. */
  function closing(reply: FastifyReply) {
    return (error: unknown): never => {
      reply.header('connection', 'close');
      throw error;
    };
  }

  /** @throws RpcError FORBIDDEN */
  async function uploaderOf(request: FastifyRequest): Promise<AccountEntry> {
    const { account } = await callerOf(request);
    if (account === null)
      throw new RpcError('FORBIDDEN', 'An upload needs the token of an enrolled account.', 'TOKEN_REQUIRED');
    if (account.kind === 'patient') {
      throw new RpcError('FORBIDDEN', 'Records are written by the staff of a hospital.', 'NOT_STAFF');
    }
    return account;
  }

  async function putWhole(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const account = await uploaderOf(request);
    const end = transfers.begin(bytesToHex(account.id));
    const gone = new AbortController();
    // The request also closes when it was read to its end; the reply closes when the client is gone.
    reply.raw.once('close', () => gone.abort());
    try {
      const length = request.headers['content-length'];
      const verdict = await service.ports.blobs.put(
        withIdleLimit(bodyOf(request), limits.idleTimeoutMs, gone),
        { account: account.id, orgId: account.orgId, declaredBytes: length === undefined ? null : Number(length) },
        gone.signal,
      );
      return verdict.ok ? await answer(reply, verdict.value) : refuseUpload(verdict);
    } finally {
      end();
    }
  }

  async function begin(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const account = await uploaderOf(request);
    const declaredBytes = byteCount(request, 'upload-length');
    const owner = bytesToHex(account.id);
    const release = transfers.begin(owner);
    const id = bytesToHex(crypto.getRandomValues(new Uint8Array(ID_BYTES)));
    const key = `${owner}/${id}`;
    const upload = new OpenUpload(declaredBytes, limits.uploadIdleTimeoutMs, (source, signal) =>
      service.ports.blobs.put(source, { account: account.id, orgId: account.orgId, declaredBytes }, signal),
    );
    open.set(key, upload);
    void upload.settled.then(() => {
      release();
      open.delete(key);
      if (!upload.isGivenUp) outcomes.set(key, upload);
    });
    const verdict = await upload.begun();
    if (verdict?.ok === false) refuseUpload(verdict);
    return reply
      .code(201)
      .headers({ location: `${UPLOADS}${id}`, 'upload-offset': 0 })
      .send();
  }

  /** @throws RpcError NOT_FOUND with UPLOAD_UNKNOWN */
  async function uploadOf(request: FastifyRequest): Promise<{ readonly key: string; readonly upload: OpenUpload }> {
    const account = await uploaderOf(request);
    const key = `${bytesToHex(account.id)}/${(request.params as { readonly id: string }).id}`;
    const upload = open.get(key) ?? outcomes.get(key);
    if (upload === undefined || upload.isGivenUp) {
      throw notFound(
        'This node knows no such upload of yours: it was restarted meanwhile, or the upload stood still for too long.',
        'UPLOAD_UNKNOWN',
      );
    }
    return { key, upload };
  }

  async function append(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { upload } = await uploadOf(request);
    const [offset, length] = [byteCount(request, 'upload-offset'), byteCount(request, 'content-length')];
    await upload.interrupt();
    reply.header('upload-offset', upload.receivedBytes);
    if (offset !== upload.receivedBytes) {
      const message = `The upload goes on at byte ${upload.receivedBytes}.`;
      throw new RpcError('CONFLICT', message, 'UPLOAD_OFFSET_WRONG');
    }
    if (offset + length > upload.lengthBytes) {
      const message = `${upload.lengthBytes} bytes were declared, and more come`;
      throw RpcError.of('INVALID_PARAMS', { code: 'BLOB_SIZE_MISMATCH', message });
    }
    await upload.append(bodyOf(request));
    reply.header('upload-offset', upload.receivedBytes);
    if (upload.isSettled || upload.receivedBytes === upload.lengthBytes) {
      const verdict = await upload.stored;
      return verdict.ok ? answer(reply, verdict.value) : refuseUpload(verdict);
    }
    if (upload.receivedBytes !== offset + length) {
      throw RpcError.of('INVALID_PARAMS', { code: 'BLOB_ABORTED', message: 'the request ended before its last byte' });
    }
    return reply.code(204).send();
  }

  async function tell(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { upload } = await uploadOf(request);
    await upload.interrupt();
    if (upload.isSettled) {
      const verdict = await upload.stored;
      if (!verdict.ok) refuseUpload(verdict);
    }
    const { lengthBytes, receivedBytes } = upload;
    return reply.code(204).headers({ 'upload-length': lengthBytes, 'upload-offset': receivedBytes }).send();
  }

  async function giveUp(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { key, upload } = await uploadOf(request);
    upload.giveUp();
    await upload.settled;
    outcomes.delete(key);
    return reply.code(204).send();
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

/**
 * The local socket between node and custodian: one demand, one answer, length-prefixed. The socket's file mode lets
 * the owner of both processes in and nobody else.
 */
import { chmod, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { concatBytes, readU32be, u32be } from '../../common/bytes.ts';
import { decode, encode } from '../../common/codec.ts';
import { EmrError } from '../../common/errors.ts';
import {
  MAX_RELEASE_ANSWER_BYTES,
  MAX_RELEASE_DEMAND_BYTES,
  type ReleaseAnswer,
  releaseAnswer,
  releaseDemand,
  type ReleaseDemand,
} from '../../common/protocol/release.ts';

/** A demand is judged in milliseconds; who takes longer to send one is not our node. */
const IDLE_MS = 5_000;
/** Demands that wait; the custodian's own rate limit is far below what these can bring. */
const MAX_CONNECTIONS = 64;

function readFrame(socket: Socket, maxBytes: number, deadlineMs: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    let buffered: Uint8Array = new Uint8Array(0);
    const timer = setTimeout(() => fail('CUSTODIAN_TIMEOUT', 'no answer in time'), deadlineMs);
    const fail = (code: string, message: string): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(new EmrError(code, `custodian socket: ${message}`));
    };
    socket.on('error', (error) => fail('CUSTODIAN_UNAVAILABLE', error.message));
    socket.on('close', () => fail('CUSTODIAN_UNAVAILABLE', 'closed before the message was complete'));
    socket.on('data', (chunk) => {
      buffered = concatBytes(buffered, chunk);
      const length = readU32be(buffered, 0);
      if (length === undefined) return;
      if (length > maxBytes) return fail('CUSTODIAN_PROTOCOL', `${length} bytes announced, ${maxBytes} accepted`);
      if (buffered.length < 4 + length) return;
      clearTimeout(timer);
      resolve(buffered.subarray(4, 4 + length));
    });
  });
}

const framed = (payload: Uint8Array): Uint8Array => concatBytes(u32be(payload.length), payload);

/** Serves demands until closed. @throws EmrError CUSTODIAN_SOCKET when the path cannot be used */
export async function serveCustodian(
  path: string,
  answer: (demand: ReleaseDemand) => Promise<ReleaseAnswer>,
  onFault: (error: Error) => void,
): Promise<Server> {
  await removeStaleSocket(path);
  const server = createServer((socket) => {
    serveOne(socket, answer).catch((error: unknown) => {
      socket.destroy();
      if (!(error instanceof EmrError && error.code.startsWith('CUSTODIAN_'))) onFault(error as Error);
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  // The mask comes first: between listening and chmod nobody else may slip in.
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) =>
        reject(new EmrError('CUSTODIAN_SOCKET', `cannot listen on ${path}: ${cause.message}`, {}, { cause })),
      );
      server.listen(path, resolve);
    });
    await chmod(path, 0o600);
  } finally {
    process.umask(mask);
  }
  return server;
}

/** A socket file that nobody listens on is left over from a kill; one that answers is another custodian. */
async function removeStaleSocket(path: string): Promise<void> {
  const alive = await new Promise<boolean>((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(true);
    });
    probe.on('error', () => resolve(false));
  });
  if (alive) throw new EmrError('CUSTODIAN_SOCKET', `another custodian already listens on ${path}; stop it first`);
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw new EmrError('CUSTODIAN_SOCKET', `cannot remove ${path}: ${error.message}`);
  });
}

async function serveOne(socket: Socket, answer: (demand: ReleaseDemand) => Promise<ReleaseAnswer>): Promise<void> {
  const bytes = await readFrame(socket, MAX_RELEASE_DEMAND_BYTES, IDLE_MS);
  const demand = decode(releaseDemand, bytes, MAX_RELEASE_DEMAND_BYTES);
  if (!demand.ok) throw new EmrError('CUSTODIAN_PROTOCOL', `a demand that cannot be read: ${demand.code}`);
  socket.end(framed(encode(releaseAnswer, await answer(demand.value))));
}

/** The node's side. @throws EmrError CUSTODIAN_UNAVAILABLE, CUSTODIAN_TIMEOUT, CUSTODIAN_PROTOCOL */
export async function demandFromCustodian(
  path: string,
  demand: ReleaseDemand,
  timeoutMs: number,
): Promise<ReleaseAnswer> {
  const socket = connect(path);
  socket.write(framed(encode(releaseDemand, demand)));
  try {
    const answer = decode(
      releaseAnswer,
      await readFrame(socket, MAX_RELEASE_ANSWER_BYTES, timeoutMs),
      MAX_RELEASE_ANSWER_BYTES,
    );
    if (!answer.ok) throw new EmrError('CUSTODIAN_PROTOCOL', `an answer that cannot be read: ${answer.code}`);
    return answer.value;
  } finally {
    socket.destroy();
  }
}

/**
 * The local socket between node and custodian: one demand, one answer, length-prefixed. The socket's file mode lets
 * the owner of both processes in and nobody else.
 */
import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { concatBytes, u32be } from '../../common/bytes.ts';
import { decode, encode } from '../../common/codec.ts';
import { EmrError } from '../../common/errors.ts';
import {
  type CustodianAnswer,
  custodianAnswer,
  type CustodianDemand,
  custodianDemand,
  MAX_CUSTODIAN_ANSWER_BYTES,
  MAX_CUSTODIAN_DEMAND_BYTES,
} from '../../common/protocol/release.ts';
import { FrameDecoder } from '../frame-decoder.ts';

/** A demand is judged in milliseconds; who takes longer to send one, or to take its answer, is not our node. */
const IDLE_MS = 5_000;
/** Demands that wait; the custodian's own rate limit is far below what these can bring. */
const MAX_CONNECTIONS = 64;

/**
 * Reads one message; what comes after it is left to the system's buffer, which is small.
 * @param maxBytes of the message
 * @param deadlineMs from now to its last byte
 * @throws EmrError CUSTODIAN_TIMEOUT, CUSTODIAN_UNAVAILABLE, CUSTODIAN_PROTOCOL; the socket is destroyed then
 */
function readMessage(socket: Socket, maxBytes: number, deadlineMs: number): Promise<Uint8Array> {
  const decoder = new FrameDecoder(maxBytes, 'CUSTODIAN_PROTOCOL');
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(timer);
      socket.pause();
      socket.off('data', onData).off('error', onError).off('close', onClose);
      // An error without a listener would end the process.
      socket.on('error', () => undefined);
    };
    const fail = (error: Error): void => {
      settle();
      socket.destroy();
      reject(error);
    };
    const unavailable = (message: string, cause?: Error): void =>
      fail(new EmrError('CUSTODIAN_UNAVAILABLE', message, {}, { cause }));
    const onError = (error: Error): void =>
      unavailable('the custodian cannot be reached; its operator must start it', error);
    const onClose = (): void => unavailable('the custodian ended without an answer; its log says why');
    const onData = (chunk: Uint8Array): void => {
      try {
        for (const message of decoder.push(chunk)) {
          settle();
          return resolve(message);
        }
      } catch (error) {
        fail(error as Error);
      }
    };
    const timer = setTimeout(() => fail(new EmrError('CUSTODIAN_TIMEOUT', 'the custodian took too long')), deadlineMs);
    socket.on('data', onData).on('error', onError).on('close', onClose);
  });
}

const framed = (payload: Uint8Array): Uint8Array => concatBytes(u32be(payload.length), payload);

/**
 * Serves demands until closed.
 * @param onFault told of what the custodian cannot go on with
 * @throws EmrError CUSTODIAN_SOCKET when the path cannot be used
 */
export async function serveCustodian(
  path: string,
  answer: (demand: CustodianDemand) => Promise<CustodianAnswer>,
  onFault: (error: Error) => void,
): Promise<Server> {
  await removeStaleSocket(path);
  const server = createServer((socket) => {
    serveOne(socket, answer).catch((error: unknown) => {
      socket.destroy();
      if (!(error instanceof BadDemand)) onFault(error as Error);
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  // The mask comes first: between listening and chmod nobody else may slip in.
  const mask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    await chmod(path, 0o600);
  } catch (cause) {
    throw new EmrError('CUSTODIAN_SOCKET', `cannot listen on ${path}: ${(cause as Error).message}`, {}, { cause });
  } finally {
    process.umask(mask);
  }
  server.on('error', onFault);
  return server;
}

/**
 * A socket that nobody listens on is left over from a kill; one that somebody does is another custodian's. Whatever is
 * no socket was named by mistake, and is somebody's file.
 */
async function removeStaleSocket(path: string): Promise<void> {
  const refuse = (why: string): EmrError => new EmrError('CUSTODIAN_SOCKET', `${path} ${why}`, { path });
  const stat = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw refuse(`cannot be looked at (${error.code}); check custodian.socket in the configuration`);
  });
  if (stat === null) return;
  if (!stat.isSocket()) throw refuse('is not a socket; choose another path for custodian.socket');
  const heard = await new Promise<string>((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve('CONNECTED');
    });
    probe.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'UNKNOWN'));
  });
  // Refused means that nobody listens. Anything else, a full queue for one, may be a custodian that is busy.
  if (heard !== 'ECONNREFUSED') throw refuse(`is in use (${heard}); stop the other custodian first`);
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw refuse(`is left over and cannot be removed (${error.code})`);
  });
}

/** What came over the socket is no demand, or did not come whole: its sender's fault, and no reason to stop. */
class BadDemand extends Error {}

async function serveOne(socket: Socket, answer: (demand: CustodianDemand) => Promise<CustodianAnswer>): Promise<void> {
  const bytes = await readMessage(socket, MAX_CUSTODIAN_DEMAND_BYTES, IDLE_MS).catch((cause: unknown) => {
    throw new BadDemand('no demand came', { cause });
  });
  const demand = decode(custodianDemand, bytes, MAX_CUSTODIAN_DEMAND_BYTES);
  if (!demand.ok) throw new BadDemand(demand.code);
  const answered = framed(encode(custodianAnswer, await answer(demand.value)));
  socket.setTimeout(IDLE_MS, () => socket.destroy());
  socket.end(answered, () => socket.destroy());
}

/**
 * The node's side.
 * @param timeoutMs for the whole exchange
 * @throws EmrError CUSTODIAN_UNAVAILABLE, CUSTODIAN_TIMEOUT, CUSTODIAN_PROTOCOL
 */
export async function demandFromCustodian(
  path: string,
  demand: CustodianDemand,
  timeoutMs: number,
): Promise<CustodianAnswer> {
  const socket = connect(path);
  const answering = readMessage(socket, MAX_CUSTODIAN_ANSWER_BYTES, timeoutMs);
  socket.write(framed(encode(custodianDemand, demand)));
  try {
    const answer = decode(custodianAnswer, await answering, MAX_CUSTODIAN_ANSWER_BYTES);
    if (!answer.ok) throw new EmrError('CUSTODIAN_PROTOCOL', `an answer that cannot be read: ${answer.code}`);
    return answer.value;
  } finally {
    socket.destroy();
  }
}

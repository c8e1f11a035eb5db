/** Bytes on sockets as an attacker would send them, and what a process listens on. */
import { connect, type Socket } from 'node:net';
import { readdir, readFile, readlink } from 'node:fs/promises';

/** Longer than a node takes to refuse anything, shorter than its idle limits. */
const ANSWER_MS = 15_000;
const MAX_ANSWER_BYTES = 64 * 1024;

export type Target = { readonly port: number } | { readonly path: string };

const dial = (target: Target): Socket => ('port' in target ? connect(target.port, '127.0.0.1') : connect(target.path));

export interface Said {
  /** What came back, as Latin-1. */
  readonly text: string;
  /** The other side ended the connection. */
  readonly ended: boolean;
}

/** Sends all of it and listens until the other side ends, or the time is over. */
export function send(target: Target, pieces: readonly (string | Uint8Array)[], answerMs = ANSWER_MS): Promise<Said> {
  return new Promise((resolve) => {
    const socket = dial(target);
    let text = '';
    let ended = false;
    const timer = setTimeout(() => socket.destroy(), answerMs);
    socket.on('data', (piece: Buffer) => {
      if (text.length < MAX_ANSWER_BYTES) text += piece.toString('latin1');
    });
    socket.on('end', () => (ended = true));
    // Reset in the middle of our garbage: ended as well.
    socket.on('error', () => (ended = true));
    socket.on('close', () => {
      clearTimeout(timer);
      resolve({ text, ended });
    });
    for (const piece of pieces) socket.write(piece);
  });
}

/** Connections that are kept open, each with a few bytes sent and more dribbled in by `dribble`. */
export class HeldConnections {
  readonly #sockets: Socket[] = [];

  async open(target: Target, count: number, first: string | Uint8Array): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, async () => {
        const socket = dial(target);
        socket.on('error', () => undefined);
        this.#sockets.push(socket);
        await new Promise<void>((resolve) => {
          socket.once('connect', resolve);
          socket.once('close', () => resolve());
        });
        if (first.length > 0 && socket.writable) socket.write(first);
      }),
    );
  }

  dribble(piece: string): void {
    for (const socket of this.#sockets) if (socket.writable) socket.write(piece);
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

const LISTEN = '0A';

/** Addresses that a process listens on, as `address:port`. Linux alone tells; `undefined` elsewhere. */
export async function listeningOn(pid: number): Promise<readonly string[] | undefined> {
  if (process.platform !== 'linux') return undefined;
  const fds = await readdir(`/proc/${pid}/fd`);
  const links = await Promise.all(fds.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
  const inodes = new Set(links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? []));
  const found: string[] = [];
  for (const [table, addressOf] of [
    ['tcp', ipv4],
    ['tcp6', ipv6],
  ] as const) {
    const lines = (await readFile(`/proc/${pid}/net/${table}`, 'utf8')).split('\n').slice(1);
    for (const line of lines) {
      const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/);
      const [address = '', port = ''] = local.split(':');
      if (state === LISTEN && inodes.has(inode)) found.push(`${addressOf(address)}:${parseInt(port, 16)}`);
    }
  }
  return found;
}

/** The kernel prints the four bytes as one number of the machine's byte order: the first byte last. */
function ipv4(hex: string): string {
  return (hex.match(/../g) ?? [])
    .reverse()
    .map((byte) => parseInt(byte, 16))
    .join('.');
}

const ipv6 = (hex: string): string => `[${hex}]`;

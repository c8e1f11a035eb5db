/** The RPC's settings from the node's configuration; the TLS files are read here. */
import { readFile } from 'node:fs/promises';
import { EmrError } from '../../common/errors.ts';
import type { NodeConfig } from '../../config/node-config.ts';
import { DEFAULT_RPC_CONFIG, DEFAULT_RPC_LIMITS, type RpcConfig } from '../../rpc/index.ts';

/** @throws EmrError TLS_FILE_UNREADABLE */
export async function rpcConfigOf({ rpc }: NodeConfig): Promise<RpcConfig> {
  const { host, port, openReads, openMetrics, allowedOrigins, publicOrigins, requestsPerMinute, tls } = rpc;
  return {
    ...DEFAULT_RPC_CONFIG,
    host,
    port,
    openReads,
    openMetrics,
    allowedOrigins,
    publicOrigins,
    tls: tls && {
      cert: await readPem(tls.certFile, 'rpc.tls.certFile'),
      key: await readPem(tls.keyFile, 'rpc.tls.keyFile'),
    },
    limits: { ...DEFAULT_RPC_LIMITS, requestsPerMinute },
  };
}

async function readPem(path: string, setting: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new EmrError('TLS_FILE_UNREADABLE', `${setting}: ${path} cannot be read (${reason}).`, { path }, { cause });
  }
}

/** Serves the explorer's files: a fixed set, read once when the server starts. What they show comes from the JSON-RPC API. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { notFound } from '../errors.ts';

const TYPES: Readonly<Record<string, string>> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
};

/**
 * No script, style, font or picture but from here, none inline; no frames, no forms; and the browser itself refuses text
 * that would be made into elements (Trusted Types), so that nothing on the ledger can become code.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

interface Asset {
  readonly body: Buffer;
  readonly type: string;
  readonly etag: string;
}

function loadAssets(folder: URL): ReadonlyMap<string, Asset> {
  const assets = new Map<string, Asset>();
  for (const name of readdirSync(folder)) {
    const type = TYPES[name.slice(name.lastIndexOf('.') + 1)];
    if (type === undefined) continue;
    const body = readFileSync(new URL(name, folder));
    assets.set(name, { body, type, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"` });
  }
  return assets;
}

export function explorerRoutes(app: FastifyInstance): void {
  const assets = loadAssets(new URL('./web/', import.meta.url));

  function serve(name: string, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const asset = assets.get(name);
    if (asset === undefined) throw notFound('The explorer has no such file.', 'NO_SUCH_ROUTE');
    reply.headers({
      'content-type': asset.type,
      etag: asset.etag,
      'cache-control': 'no-cache',
      'content-security-policy': CONTENT_SECURITY_POLICY,
      'cross-origin-opener-policy': 'same-origin',
      'permissions-policy': 'camera=(), geolocation=(), microphone=()',
    });
    return request.headers['if-none-match'] === asset.etag ? reply.code(304).send() : reply.send(asset.body);
  }

  app.get('/', (_request, reply) => reply.redirect('/explorer/', 302));
  app.get('/explorer', (_request, reply) => reply.redirect('/explorer/', 302));
  app.get('/explorer/', (request, reply) => serve('index.html', request, reply));
  app.get('/explorer/:name', (request, reply) =>
    serve((request.params as { readonly name: string }).name, request, reply),
  );
}

/**
 * Whom a browser may speak for. A page of another site must not use a visitor's access to this node (cross-site
 * requests), and no foreign name may be made to point here and then count as this site (DNS rebinding).
 */
import { accept, reject, type Verdict } from '../common/errors.ts';

const IPV4 = /^(?:\d{1,3}\.){3}\d{1,3}$/;

export interface Dialled {
  /** Origins under which this request may have been dialled: what a token must be bound to. */
  readonly origins: readonly string[];
  /** Value for Access-Control-Allow-Origin; null where there is none to give. */
  readonly allowOrigin: string | null;
}

export class OriginGuard {
  readonly #scheme: 'http' | 'https';
  readonly #allowed: ReadonlySet<string>;
  /** Host (with port, if it is not the scheme's own) -> public origin. */
  readonly #public: ReadonlyMap<string, string>;

  constructor(options: {
    readonly tls: boolean;
    readonly allowedOrigins: readonly string[];
    readonly publicOrigins: readonly string[];
  }) {
    this.#scheme = options.tls ? 'https' : 'http';
    this.#allowed = new Set(options.allowedOrigins);
    this.#public = new Map(
      options.publicOrigins.map((origin) => [origin.replace(/^https?:\/\//, '').toLowerCase(), origin]),
    );
  }

  /** @returns HOST_NOT_ALLOWED, ORIGIN_NOT_ALLOWED */
  check(host: string | undefined, origin: string | undefined): Verdict<Dialled> {
    const origins = this.#originsOf((host ?? '').toLowerCase());
    if (origins === undefined) {
      return reject(
        'HOST_NOT_ALLOWED',
        'This node is not known under that name; its operator can add it to rpc.publicOrigins.',
      );
    }
    if (origin === undefined || origins.includes(origin)) return accept({ origins, allowOrigin: null });
    if (this.#allowed.has(origin)) return accept({ origins, allowOrigin: origin });
    return reject(
      'ORIGIN_NOT_ALLOWED',
      'Pages of this origin may not call; the operator can add it to rpc.allowedOrigins.',
    );
  }

  #originsOf(host: string): readonly string[] | undefined {
    const known = this.#public.get(host);
    if (known !== undefined) return [known];
    let url: URL;
    try {
      url = new URL(`${this.#scheme}://${host}`);
    } catch {
      return undefined;
    }
    // The parser must not have read anything but a host into it.
    if (url.pathname !== '/' || url.username !== '' || url.search !== '' || url.hash !== '' || host.endsWith('/'))
      return undefined;
    const { hostname } = url;
    // An attacker's DNS can make names point here, not addresses.
    const literal = hostname === 'localhost' || IPV4.test(hostname) || hostname.startsWith('[');
    return literal ? [url.origin] : undefined;
  }
}

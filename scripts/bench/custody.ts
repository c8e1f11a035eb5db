/** Threshold custody: what each step costs one process, for 4, 7 and 16 holders. */

import { randomBytes } from 'node:crypto';
import { type CurvePoint, GENERATOR } from '../../common/crypto/curve.ts';
import {
  checkCapsule,
  encodeLabel,
  keyCheckOf,
  openCapsule,
  sealCapsule,
} from '../../common/crypto/custody/capsule.ts';
import {
  checkDealing,
  deal,
  type Dealing,
  type EncryptionKey,
  openDealing,
  type Session,
} from '../../common/crypto/custody/dealing.ts';
import {
  checkReleaseShare,
  combineShares,
  createReleaseShare,
  parseReleaseShare,
  type ReleaseContext,
  type ReleaseShare,
  unmask,
} from '../../common/crypto/custody/release-share.ts';
import { generatedKey, resharedKey, secretShare, type SharedKey } from '../../common/crypto/custody/shared-key.ts';
import { hedgedScalar } from '../../common/crypto/sm2.ts';
import type { Verdict } from '../../common/errors.ts';
import { systemRandom } from '../../common/native/sm2-openssl.ts';
import { quorumSize } from '../../common/protocol/validator-set.ts';
import { type Bench, type Case, interleaved } from './measure.ts';

const SIZES = [4, 7, 16];
const ROUNDS = 10;

const bytes = (length: number): Uint8Array => new Uint8Array(randomBytes(length));
const scalar = (): bigint => hedgedScalar('bench', systemRandom);

function must<T>(verdict: Verdict<T>): T {
  if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.message}`);
  return verdict.value;
}

interface Holders {
  readonly session: Session;
  readonly keys: readonly EncryptionKey[];
  readonly secrets: readonly bigint[];
  readonly dealings: readonly Dealing[];
  readonly shared: SharedKey;
  /** x_1 .. x_n */
  readonly shares: readonly bigint[];
}

function sessionOf(n: number): Omit<Holders, 'dealings' | 'shared' | 'shares'> {
  const secrets = Array.from({ length: n }, scalar);
  const keys = secrets.map((p, k) => ({ index: k + 1, P: GENERATOR.multiply(p) }));
  return { session: { id: bytes(32), n, t: quorumSize(n) }, keys, secrets };
}

function generate(n: number): Holders {
  const begun = sessionOf(n);
  const { session, keys, secrets } = begun;
  const dealings = keys.map(({ index }) =>
    must(checkDealing(session, deal(session, index, null, keys, systemRandom), null)),
  );
  const shared = must(generatedKey(session, dealings));
  const dealers = dealings.map(({ dealer }) => dealer);
  const shares = keys.map((key, k) => {
    const parts = dealings.map((dealing) => must(openDealing(session, dealing, key, secrets[k] as bigint)));
    return secretShare(dealers, parts, 'sum', shared.holders[k] as CurvePoint);
  });
  return { ...begun, dealings, shared, shares };
}

function sessionCases(n: number, { session, keys, secrets, dealings, shared, shares }: Holders): Case[] {
  const encoded = deal(session, 1, null, keys, systemRandom);
  const again = sessionOf(n);
  const handedOn = shares.slice(0, session.t).map((x, k) => {
    const given = deal(again.session, k + 1, x, again.keys, systemRandom);
    return must(checkDealing(again.session, given, shared.holders[k] as CurvePoint));
  });
  const [own, dealing, p] = [keys[0] as EncryptionKey, dealings[0] as Dealing, secrets[0] as bigint];
  const named = (what: string): string => `n = ${n}: ${what}`;
  return [
    { name: named('deal'), operations: 1, run: () => deal(session, 1, null, keys, systemRandom) },
    {
      name: named('check a dealing (consensus)'),
      operations: 2,
      run: () => twice(() => must(checkDealing(session, encoded, null))),
    },
    {
      name: named('open the own part'),
      operations: 2,
      run: () => twice(() => must(openDealing(session, dealing, own, p))),
    },
    { name: named('finalise a generation'), operations: 1, run: () => must(generatedKey(session, dealings)) },
    {
      name: named('finalise a resharing'),
      operations: 1,
      run: () => must(resharedKey(again.session, handedOn, session.t, shared.X)),
    },
  ];
}

function twice(run: () => unknown): void {
  run();
  run();
}

function releaseCases(n: number, { session, shared, shares }: Holders): Case[] {
  const recordKey = bytes(32);
  const [recordId, version] = [bytes(32), 1];
  const label = {
    chainId: bytes(32),
    recordId,
    version,
    policyRef: bytes(32),
    ownerId: bytes(20),
    dataDigest: bytes(32),
    keyCheck: keyCheckOf(recordId, version, recordKey),
  };
  const encodedLabel = encodeLabel(label);
  const sealed = sealCapsule(shared.X, encodedLabel, recordKey, systemRandom);
  const capsule = must(checkCapsule(sealed, shared.X, encodedLabel));
  const q = scalar();
  const context: ReleaseContext = {
    use: 'custody',
    chainId: label.chainId,
    epoch: 1,
    grantId: bytes(32),
    U: capsule.U,
    Q: GENERATOR.multiply(q),
  };
  const holder = (k: number) => ({ index: k + 1, X: shared.holders[k] as CurvePoint });
  const share = (k: number): Uint8Array => createReleaseShare(context, holder(k), shares[k] as bigint, systemRandom);
  const given = Array.from({ length: session.t }, (_, k) => share(k));
  const parsed = (): ReleaseShare[] => given.map((one) => must(parseReleaseShare(one)));
  const named = (what: string): string => `n = ${n}: ${what}`;
  return [
    {
      name: named('seal a key'),
      operations: 1,
      run: () => sealCapsule(shared.X, encodedLabel, recordKey, systemRandom),
    },
    {
      name: named('check a capsule (consensus; 400 wanted)'),
      operations: 10,
      run: () => {
        for (let times = 0; times < 10; times += 1) must(checkCapsule(sealed, shared.X, encodedLabel));
      },
    },
    { name: named('create a share'), operations: 1, run: () => share(0) },
    {
      name: named('check a share'),
      operations: 10,
      run: () => {
        for (let times = 0; times < 10; times += 1) must(checkReleaseShare(given[0] as Uint8Array, context, holder(0)));
      },
    },
    {
      name: named(`combine ${session.t} shares and open`),
      operations: 1,
      run: () => must(openCapsule(capsule, unmask(combineShares(parsed()), q), shared.X, label)),
    },
  ];
}

export const custody: Bench = {
  says: 'one process; a threshold of n - f holders',
  run: async () => {
    const cases = SIZES.flatMap((n) => {
      const holders = generate(n);
      return [...sessionCases(n, holders), ...releaseCases(n, holders)];
    });
    return { rows: (await interleaved(cases, ROUNDS)).rows, ratios: [] };
  },
};

import { readdirSync, readFileSync } from 'node:fs';
import * as dagCbor from '@ipld/dag-cbor';
import t from 'tap';
import { bytesToHex, equalBytes } from '../../common/bytes.ts';
import { decode, encode } from '../../common/codec.ts';
import { createNobleEngine, createNobleSigner } from '../../common/crypto/sm2.ts';
import { sortedValidatorSet } from '../../common/protocol/validator-set.ts';
import { voteSigningHash } from '../../common/protocol/signing.ts';
import {
  decodeMessage,
  type Echo,
  encodeMessage,
  equivocation,
  MAX_MESSAGE_BYTES,
  type SignedMessage,
  signingHash,
  type UnsignedMessage,
} from '../../consensus/messages.ts';
import {
  bodiesOf,
  checkSuccession,
  MAX_SAFETY_RECORD_BYTES,
  permits,
  type SafetyRecord,
  safetyRecord,
} from '../../consensus/safety-record.ts';
import { owedChecks, verifiedMessage, verifyFetched, verifyMessage } from '../../consensus/verification.ts';
import { LoneReplica, signAs } from '../sim/lone-replica.ts';
import { Prng } from '../sim/prng.ts';
import { sealBlock } from '../sim/toy-chain.ts';

const lone = new LoneReplica();
const { consortium } = lone;
const signedBy = <B extends UnsignedMessage>(validator: number, body: B): B & { readonly signature: Uint8Array } => ({
  ...body,
  signature: signAs(consortium, validator, body).signature,
});
const block = lone.block(0, [Uint8Array.of(1, 2, 3), Uint8Array.of(4)]);
const prepared = lone.preparedBy([0, 1, 2], 0, block.hash);
const viewChanges = [lone.viewChangeOf(0, 1), lone.viewChangeOf(1, 1, prepared), lone.viewChangeOf(3, 1, prepared)];
const incarnation = new Uint8Array(16).fill(5);
const status = lone.status(7, 3);
/** What validator 1 signed at heights 1 and 2, on its way back to it. */
const echo: Echo = {
  kind: 'echo',
  height: 0,
  view: 0,
  to: 1,
  incarnation,
  promises: [
    ...(['preprepare', 'prepare', 'commit'] as const).map((vote) => {
      const digest = block.hash;
      const signature = consortium.signers[1]!.sign(voteSigningHash(consortium.chainId, vote, 2, 1, digest));
      return { kind: 'vote' as const, vote, height: 2, view: 1, digest, signature };
    }),
    signedBy(1, { kind: 'viewChange' as const, height: 1, view: 1, prepared }),
  ],
  status: signedBy(1, status),
};
const BODIES: readonly UnsignedMessage[] = [
  { kind: 'prePrepare', height: 1, view: 0, block },
  { kind: 'prepare', height: 1, view: 0, digest: block.hash },
  { kind: 'commit', height: 1, view: 2, digest: block.hash },
  { kind: 'viewChange', height: 1, view: 1, prepared: null },
  { kind: 'viewChange', height: 1, view: 1, prepared },
  { kind: 'newView', height: 1, view: 1, viewChanges },
  status,
  { kind: 'echo', height: 7, view: 1, to: 1, incarnation, promises: [], status: null },
  echo,
];

const verdictOf = (message: SignedMessage): string => {
  const verdict = verifyMessage(message, consortium, consortium.engine);
  return verdict.ok ? 'ok' : verdict.code;
};
const verdictOfBody = (body: UnsignedMessage, by = 2): string => verdictOf(signAs(consortium, by, body));

t.test('the wire [M1]', async (t) => {
  t.test('gives back what was sent, with the hash computed where the bytes are decoded', async (t) => {
    for (const body of BODIES) {
      const message = signAs(consortium, 2, body);
      const decoded = decodeMessage(encodeMessage(message));
      t.ok(decoded.ok && bytesToHex(encodeMessage(decoded.value)) === bytesToHex(encodeMessage(message)), body.kind);
      t.equal(decoded.ok && verdictOf(decoded.value), 'ok');
    }
    const lying = { ...BODIES[0], block: { ...block, hash: new Uint8Array(32) } } as UnsignedMessage;
    const decoded = decodeMessage(encodeMessage(signAs(consortium, 1, lying)));
    if (!decoded.ok || decoded.value.body.kind !== 'prePrepare') throw new Error('not decoded');
    t.ok(equalBytes(decoded.value.body.block.hash, block.hash));
    t.equal(verdictOf(decoded.value), 'BAD_SIGNATURE');
  });

  t.test('every bit of a byte that changes after signing is noticed [M2]', async (t) => {
    for (const body of BODIES) {
      const bytes = encodeMessage(signAs(consortium, 2, body));
      let accepted = 0;
      for (let at = 0; at < bytes.length; at += 1) {
        for (const mask of [0x01, 0x20, 0x80]) {
          const changed = bytes.slice();
          changed[at] = changed[at]! ^ mask;
          const decoded = decodeMessage(changed);
          if (decoded.ok && verdictOf(decoded.value) === 'ok') accepted += 1;
        }
      }
      t.equal(accepted, 0, `${body.kind}, ${bytes.length} bytes`);
    }
  });

  t.test('refuses numbers that are no views: negative, fractional, beyond 2^53', async (t) => {
    const signature = new Uint8Array(64);
    const digest = new Uint8Array(32);
    for (const view of [
      -1,
      1.5,
      2n ** 53n,
      2n ** 63n,
      -(2n ** 60n),
      '1',
      null,
      true,
      Number.NaN,
      Number.POSITIVE_INFINITY,
    ]) {
      for (const body of [
        ['prepare', [1, view, digest]],
        ['viewChange', [1, view, null]],
        ['status', [view, digest, 0, incarnation, false]],
        ['echo', [1, 0, view, incarnation, [], null]],
      ]) {
        let bytes: Uint8Array;
        try {
          bytes = dagCbor.encode([0, signature, body]);
        } catch {
          continue; // dag-cbor has no such number at all.
        }
        const decoded = decodeMessage(bytes);
        t.match(decoded, { ok: false, code: 'MALFORMED' }, `${String(body[0])} ${String(view)}`);
      }
    }
    const largest = encodeMessage({
      validator: 0,
      signature,
      body: { kind: 'prepare', height: 1, view: Number.MAX_SAFE_INTEGER, digest },
    });
    t.ok(decodeMessage(largest).ok);
  });

  t.test('refuses indices out of bounds, second encodings, too many bytes', async (t) => {
    const signature = new Uint8Array(64);
    const digest = new Uint8Array(32);
    for (const validator of [31, -1, 2 ** 32]) {
      t.match(decodeMessage(dagCbor.encode([validator, signature, ['prepare', [1, 0, digest]]])), {
        code: 'MALFORMED',
      });
    }
    t.match(decodeMessage(new Uint8Array(MAX_MESSAGE_BYTES + 1)), { code: 'TOO_LARGE' });
    const bytes = encodeMessage(signAs(consortium, 0, BODIES[1]!));
    t.match(decodeMessage(Uint8Array.of(...bytes, 0)), { ok: false });
    // The same array with its length in two bytes.
    t.match(decodeMessage(Uint8Array.of(0x98, 3, ...bytes.subarray(1))), { ok: false });
    const many = Array.from({ length: 32 }, () => [0, null, signature]);
    t.match(decodeMessage(dagCbor.encode([0, signature, ['newView', [1, 1, many]]])), { code: 'MALFORMED' });
  });

  t.test('garbage gives verdicts, never a throw', async (t) => {
    const prng = new Prng(1);
    const samples = BODIES.map((body) => encodeMessage(signAs(consortium, 2, body)));
    for (let i = 0; i < 3_000; i += 1) {
      const bytes =
        i % 3 === 0 ? new Uint8Array(prng.between(0, 200)) : prng.pick(samples).slice(0, prng.between(1, 900));
      for (let flips = prng.between(1, 6); flips > 0 && bytes.length > 0; flips -= 1) {
        bytes[prng.between(0, bytes.length - 1)] = prng.between(0, 255);
      }
      const decoded = decodeMessage(bytes);
      if (decoded.ok) verdictOf(decoded.value);
    }
    t.pass('3,000 times');
  });
});

t.test('what a signature covers [M2]', async (t) => {
  t.test('chain, kind, height, view and content: no two messages share a hash', async (t) => {
    const digest = block.hash;
    const hashes = new Set<string>();
    const bodies: UnsignedMessage[] = [
      ...BODIES,
      { kind: 'commit', height: 1, view: 0, digest },
      { kind: 'prepare', height: 2, view: 0, digest },
      { kind: 'prepare', height: 1, view: 1, digest },
      { kind: 'prepare', height: 1, view: 0, digest: new Uint8Array(32) },
      { ...status, view: 4 },
      { ...status, incarnation },
      { ...status, asking: true },
      { ...echo, to: 2 },
      { ...echo, incarnation: new Uint8Array(16) },
      { ...echo, promises: echo.promises.slice(1) },
      { kind: 'newView', height: 1, view: 1, viewChanges: viewChanges.slice(1) },
    ];
    for (const body of bodies) hashes.add(bytesToHex(signingHash(consortium.chainId, body)));
    for (const body of bodies) hashes.add(bytesToHex(signingHash(new Uint8Array(32), body)));
    t.equal(hashes.size, 2 * bodies.length);
  });

  t.test('with SM2 as it is, over a real signature', async (t) => {
    const engine = createNobleEngine();
    const signer = createNobleSigner(new Uint8Array(32).fill(3), (n) => new Uint8Array(n).fill(5));
    const others = consortium.validators.slice(1);
    const validators = sortedValidatorSet([
      ...others,
      { ...consortium.validators[0]!, publicKey: signer.publicKey, address: signer.address },
    ]);
    const validator = validators.findIndex((v) => v.publicKey === signer.publicKey);
    const body = BODIES[2]!;
    const message = { validator, signature: signer.sign(signingHash(consortium.chainId, body)), body };
    const context = { chainId: consortium.chainId, validators };
    t.ok(verifyMessage(message, context, engine).ok);
    t.match(verifyMessage({ ...message, body: { ...body, view: 3 } }, context, engine), {
      code: 'BAD_SIGNATURE',
    });
  });
});

t.test('structure and owed signatures [M3, M4]', async (t) => {
  t.test('a message owes its own signature and all nested ones, each once', async (t) => {
    const owed = BODIES.map((body) => {
      const checks = owedChecks(signAs(consortium, 2, body), consortium);
      return checks.ok ? checks.value.length : checks.code;
    });
    t.strictSame(owed, [1, 1, 1, 1, 4, 1 + 3 + 3, 1, 1, 1 + 3 + 1 + 1]);
  });

  t.test('one bad result refuses the whole, and none at all is no proof', async (t) => {
    const message = signAs(consortium, 2, BODIES[5]!);
    t.match(verifiedMessage(message, [true, true, false]), { code: 'BAD_SIGNATURE' });
    t.match(verifiedMessage(message, []), { code: 'BAD_SIGNATURE' });
  });

  t.test('each nested signature counts: forged ones are found wherever they are', async (t) => {
    const forged = new Uint8Array(64).fill(1);
    const inView = viewChanges.map((_, i) => viewChanges.map((p, j) => (i === j ? { ...p, signature: forged } : p)));
    for (const proofs of inView)
      t.equal(verdictOfBody({ kind: 'newView', height: 1, view: 1, viewChanges: proofs }), 'BAD_SIGNATURE');
    for (let i = 0; i < 3; i += 1) {
      const signatures = prepared.signatures.map((s, j) => (i === j ? { ...s, signature: forged } : s));
      const bad = { ...prepared, signatures };
      t.equal(verdictOfBody({ kind: 'viewChange', height: 1, view: 1, prepared: bad }), 'BAD_SIGNATURE');
      const proofs = viewChanges.map((p, j) => (j === 1 ? lone.viewChangeOf(1, 1, bad) : p));
      t.equal(verdictOfBody({ kind: 'newView', height: 1, view: 1, viewChanges: proofs }), 'BAD_SIGNATURE');
    }
    const stripped = viewChanges.map((p) => ({ ...p, prepared: null }));
    t.equal(
      verdictOfBody({ kind: 'newView', height: 1, view: 1, viewChanges: stripped }),
      'BAD_SIGNATURE',
      'proofs left out',
    );
    const otherView = [0, 1, 3].map((v) => lone.viewChangeOf(v, 2));
    t.equal(
      verdictOfBody({ kind: 'newView', height: 1, view: 1, viewChanges: otherView }),
      'BAD_SIGNATURE',
      'view changes for another view',
    );
    const commits = {
      ...prepared,
      signatures: [0, 1, 2].map((v) => ({
        validator: v,
        signature: signAs(consortium, v, { kind: 'commit', height: 1, view: 0, digest: block.hash }).signature,
      })),
    };
    t.equal(
      verdictOfBody({ kind: 'viewChange', height: 1, view: 1, prepared: commits }),
      'BAD_SIGNATURE',
      'Commits are no Prepares',
    );
  });

  t.test('signers are counted once, and must be a quorum of the set', async (t) => {
    const [first, second] = prepared.signatures;
    const certificates: readonly [string, typeof prepared.signatures][] = [
      ['REPEATED_SIGNER', [first!, first!, second!]],
      ['REPEATED_SIGNER', [...prepared.signatures].reverse()],
      ['NO_QUORUM', prepared.signatures.slice(1)],
      ['NO_QUORUM', []],
      ['UNKNOWN_VALIDATOR', [first!, second!, { validator: 4, signature: first!.signature }]],
    ];
    for (const [code, signatures] of certificates) {
      t.equal(verdictOfBody({ kind: 'viewChange', height: 1, view: 1, prepared: { ...prepared, signatures } }), code);
    }
    const proof = viewChanges[0]!;
    const proofs: readonly [string, typeof viewChanges][] = [
      ['REPEATED_SIGNER', [proof, proof, proof]],
      ['NO_QUORUM', viewChanges.slice(1)],
      ['NO_QUORUM', []],
      ['UNKNOWN_VALIDATOR', [...viewChanges, { ...proof, validator: 9 }]],
    ];
    for (const [code, list] of proofs)
      t.equal(verdictOfBody({ kind: 'newView', height: 1, view: 1, viewChanges: list }), code);
    t.equal(verdictOf({ ...signAs(consortium, 0, BODIES[1]!), validator: 4 }), 'UNKNOWN_VALIDATOR');
  });

  t.test('views and heights fit together', async (t) => {
    const later = { ...prepared, view: 1 };
    t.equal(
      verdictOfBody({ kind: 'viewChange', height: 1, view: 1, prepared: later }),
      'WRONG_VIEW',
      'prepared in the view asked for',
    );
    t.equal(verdictOfBody({ kind: 'viewChange', height: 1, view: 0, prepared: null }), 'WRONG_VIEW');
    t.equal(verdictOfBody({ kind: 'newView', height: 1, view: 0, viewChanges }), 'WRONG_VIEW');
    t.equal(verdictOfBody({ kind: 'prePrepare', height: 2, view: 0, block }), 'WRONG_HEIGHT');
    t.equal(verdictOfBody({ kind: 'prePrepare', height: 1, view: 0, block: lone.block(1) }), 'WRONG_VIEW');
    t.equal(verdictOfBody({ kind: 'commit', height: 0, view: 0, digest: block.hash }), 'GENESIS_HEIGHT');
  });

  t.test('a body belongs to its header', async (t) => {
    const propose = (changed: typeof block): string =>
      verdictOfBody({ kind: 'prePrepare', height: 1, view: 0, block: changed });
    t.equal(
      propose({ ...block, block: { ...block.block, txs: block.block.txs.slice(1), sidecars: [null] } }),
      'WRONG_BODY',
    );
    t.equal(propose({ ...block, block: { ...block.block, sidecars: [] } }), 'WRONG_BODY');
    t.equal(propose(sealBlock({ ...block.header, chainId: new Uint8Array(32) }, block.block.txs)), 'WRONG_CHAIN');
    t.match(verifyFetched(block, new Uint8Array(32), consortium.chainId), { code: 'WRONG_BODY' });
    t.match(verifyFetched({ ...block, block: { ...block.block, txs: [] } }, block.hash, consortium.chainId), {
      code: 'WRONG_BODY',
    });
    t.ok(verifyFetched(block, block.hash, consortium.chainId).ok);
  });
});

t.test('the safety record [R1]', async (t) => {
  const other = new Uint8Array(32).fill(9);
  const record: SafetyRecord = {
    height: 1,
    view: 2,
    votes: [
      { vote: 'prepare', view: 2, digest: other },
      { vote: 'commit', view: 0, digest: block.hash },
    ],
    prepared,
    abstainThrough: 0,
  };

  t.test('is small, whatever is in it', async (t) => {
    const signatures = Array.from({ length: 31 }, (_, validator) => ({ validator, signature: new Uint8Array(64) }));
    const view = Number.MAX_SAFE_INTEGER;
    const votes = (['preprepare', 'prepare', 'commit'] as const).map((vote) => ({ vote, view, digest: other }));
    const largest: SafetyRecord = {
      height: view,
      view,
      votes,
      prepared: { view, digest: other, signatures },
      abstainThrough: view,
    };
    const bytes = encode(safetyRecord, largest);
    t.ok(bytes.length <= MAX_SAFETY_RECORD_BYTES, `${bytes.length} bytes`);
    t.same(decode(safetyRecord, bytes, MAX_SAFETY_RECORD_BYTES), { ok: true, value: largest });
  });

  t.test('names the bodies that must stay', async (t) => {
    t.strictSame(bodiesOf(record).map(bytesToHex).sort(), [other, block.hash].map(bytesToHex).sort());
    t.equal(bodiesOf({ ...record, prepared: null, votes: [] }).length, 0);
  });

  t.test('permits what it promises and nothing else', async (t) => {
    const vote = (kind: 'prepare' | 'commit', view: number, digest: Uint8Array, height = 1): boolean =>
      permits(record, { kind, height, view, digest });
    t.ok(vote('prepare', 2, other));
    t.notOk(vote('prepare', 2, block.hash), 'a second digest');
    const abstaining = { ...record, abstainThrough: 1 };
    t.notOk(permits(abstaining, { kind: 'prepare', height: 1, view: 2, digest: other }), 'where it abstains');
    t.notOk(vote('prepare', 1, other), 'another view');
    t.notOk(vote('commit', 2, other), 'another kind');
    t.notOk(vote('prepare', 2, other, 2), 'another height');
    t.notOk(permits(record, { kind: 'prePrepare', height: 1, view: 2, block }));
    t.ok(permits(record, { kind: 'viewChange', height: 1, view: 2, prepared }));
    t.notOk(permits(record, { kind: 'viewChange', height: 1, view: 2, prepared: null }), 'a certificate left out');
    t.notOk(permits(record, { kind: 'viewChange', height: 1, view: 3, prepared }));
    t.ok(permits(record, { kind: 'newView', height: 1, view: 2, viewChanges }));
    t.notOk(permits(record, { kind: 'newView', height: 1, view: 1, viewChanges }));
    t.ok(permits(null, status));
    t.ok(permits(null, echo));
    t.notOk(permits(null, { kind: 'prepare', height: 1, view: 0, digest: other }));
  });

  t.test('is never followed by one that takes a promise back', async (t) => {
    const code = (next: Partial<SafetyRecord>): string => {
      const verdict = checkSuccession(record, { ...record, ...next });
      return verdict.ok ? 'ok' : verdict.code;
    };
    const [prepare, commit] = record.votes;
    t.equal(code({}), 'ok');
    t.equal(code({ height: 2, view: 0, votes: [], prepared: null }), 'ok');
    t.equal(checkSuccession({ ...record, abstainThrough: 3 }, { ...record, height: 2 }).ok, false, 'nor an abstention');
    t.equal(code({ height: 0 }), 'RECORD_HEIGHT');
    t.equal(code({ view: 1 }), 'RECORD_VIEW');
    t.equal(code({ votes: [prepare!] }), 'RECORD_VOTE_LOST');
    t.equal(code({ votes: [{ ...prepare!, digest: block.hash }, commit!] }), 'RECORD_DOUBLE_VOTE');
    t.equal(code({ votes: [prepare!, { ...commit!, view: 1 }] }), 'RECORD_VOTE_VIEW');
    t.equal(code({ votes: [prepare!, { ...commit!, view: 2, digest: other }] }), 'ok');
    t.equal(code({ votes: [...record.votes, { vote: 'preprepare', view: 1, digest: other }] }), 'RECORD_VOTE_VIEW');
    t.equal(code({ prepared: null }), 'RECORD_PREPARED_LOST');
    t.ok(checkSuccession(null, record).ok);
  });
});

t.test('evidence is two signatures that anybody can check', async (t) => {
  const here = new LoneReplica();
  const second = here.block(0, [Uint8Array.of(9)]);
  here.hearVotes('prepare', [1], 0, block.hash);
  here.hearVotes('prepare', [1], 0, second.hash);
  const [report] = here.reports('evidence');
  const found = report!.equivocation;
  t.ok(decode(equivocation, encode(equivocation, found), 1024).ok);
  for (const { digest, signature } of [found.first, found.second]) {
    const body: UnsignedMessage = { kind: 'prepare', height: found.height, view: found.view, digest };
    t.equal(verdictOf({ validator: found.validator, signature, body }), 'ok');
  }
});

t.test('docs/protocol.md and the code name the same steps', async (t) => {
  const root = new URL('../../', import.meta.url);
  const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');
  const citedIn = (text: string): string[] => {
    const steps: string[] = [];
    for (const [, inside] of text.matchAll(/\[([MLPVTSREF]\d(?:(?:-|, )[MLPVTSREF]\d)*)\]/g)) {
      for (const part of inside!.split(', ')) {
        const [first, last = first] = part.split('-');
        for (let i = Number(first![1]); i <= Number(last![1]); i += 1) steps.push(`${first![0]}${i}`);
      }
    }
    return steps;
  };
  const defined = [...read('docs/protocol.md').matchAll(/^[*-] \*\*\[([A-Z]\d)\]\*\*/gm)].map((m) => m[1]!);
  const filesIn = (folder: string, wanted: RegExp): string[] =>
    readdirSync(new URL(folder, root))
      .filter((name) => wanted.test(name))
      .map((name) => `${folder}${name}`);
  // What the host does for the protocol cites it too.
  const host = [...filesIn('node/host/', /\.ts$/), ...filesIn('node/mempool/', /\.ts$/)];
  const code = [...filesIn('consensus/', /\.ts$/), ...host];
  const inCode = new Set(code.flatMap((path) => citedIn(read(path))));
  const tests = [
    ...filesIn('test/unit/', /^(consensus-|fairness)/),
    ...filesIn('test/sim/', /\.test\.ts$/),
    ...filesIn('test/integration/', /^node-cluster\.test/),
  ];
  const inTests = new Set(tests.flatMap((path) => citedIn(read(path))));
  t.equal(new Set(defined).size, defined.length);
  t.strictSame([...inCode].sort(), [...defined].sort(), 'every step has its code, and every citation its step');
  t.strictSame([...inTests].sort(), [...defined].sort(), 'and its test');
  const elsewhere = ['model', 'node/host', 'test/model', 'test/sim'].flatMap((folder) =>
    readdirSync(new URL(`${folder}/`, root))
      .filter((name) => /\.(ts|qnt|md)$/.test(name))
      .flatMap((name) => citedIn(read(`${folder}/${name}`))),
  );
  t.strictSame(
    elsewhere.filter((step) => !defined.includes(step)),
    [],
    'what else cites the document cites what is there',
  );
  const modelled = new Set(['agreement.qnt', 'pbft.qnt'].flatMap((name) => citedIn(read(`model/${name}`))));
  const unmodelled = defined.filter((step) => /^[PV]/.test(step) && !modelled.has(step));
  t.strictSame(unmodelled, [], 'the phases and view change are modelled');
});

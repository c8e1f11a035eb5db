import t from 'tap';
import { bytesToHex, concatBytes, u32be, u64be, utf8 } from '../../common/bytes.ts';
import type { Address, Hash, OrgId } from '../../common/protocol/primitives.ts';
import { DEADLINE_KINDS, stateKey, statePrefix } from '../../common/protocol/state-entries.ts';
import { VOTE_KINDS } from '../../common/protocol/signing.ts';
import { InvariantError } from '../../common/errors.ts';

const filled = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => index * 7 + seed);
const [a, b] = [filled(20, 1), filled(20, 101)] as unknown as [Address, Address];
const [h, g] = [filled(32, 3), filled(32, 203)] as unknown as [Hash, Hash];
const org = 'hospital-03' as OrgId;
const times = [0, 1, 2 ** 32 - 1, 2 ** 32, 1_700_000_000_123, Number.MAX_SAFE_INTEGER];

/** The definition: a namespace byte, then the parts. */
const plain = (namespace: number, ...parts: readonly Uint8Array[]): Uint8Array =>
  concatBytes(Uint8Array.of(namespace), ...parts);
const prefixed = (text: string): Uint8Array => concatBytes(Uint8Array.of(utf8(text).length), utf8(text));

t.test('keys are their namespace and their parts, one after the other', async (t) => {
  const same = (key: Uint8Array, expected: Uint8Array): void => void t.equal(bytesToHex(key), bytesToHex(expected));
  same(stateKey.params(), plain(0x01));
  same(stateKey.account(a), plain(0x11, a));
  same(stateKey.decision(h, b), plain(0x42, h, b));
  same(stateKey.grant(h, a, g), plain(0x45, h, a, g));
  same(
    stateKey.role(a, 'physician', org, null),
    plain(0x13, a, prefixed('physician'), prefixed(org), new Uint8Array(32)),
  );
  same(stateKey.role(a, 'physician', org, g), plain(0x13, a, prefixed('physician'), prefixed(org), g));
  same(stateKey.recordVersion(h, 70_000), plain(0x31, h, u32be(70_000)));
  same(stateKey.custodyDealing(h, 3), plain(0x92, h, u32be(3)));
  for (const person of [a, h]) same(stateKey.openRequests(person), plain(0x43, Uint8Array.of(person.length), person));
  for (const at of times) {
    same(stateKey.replay(at, a, filled(16, 9)), plain(0x60, u64be(at), a, filled(16, 9)));
    same(stateKey.recordByOwner(a, at, h), plain(0x32, a, u64be(at), h));
    same(stateKey.requestByRecord(h, at, g), plain(0x41, h, u64be(at), g));
    same(stateKey.audit(h, at, 258), plain(0x48, h, u64be(at), u32be(258)));
    DEADLINE_KINDS.forEach((kind, index) => {
      same(stateKey.deadline(at, kind, h), plain(0x50, u64be(at), Uint8Array.of(index), h));
    });
    VOTE_KINDS.forEach((kind, index) => {
      same(stateKey.evidence(a, at, kind), plain(0x0b, a, u64be(at), Uint8Array.of(index)));
    });
  }
  same(statePrefix.grantsOf(h, a), plain(0x45, h, a));
  same(statePrefix.rolesNamed(a, 'nurse'), plain(0x13, a, prefixed('nurse')));
});

t.test('texts are UTF-8 after their length in bytes', async (t) => {
  for (const text of ['', 'a', org, 'x'.repeat(32), '12D3KooW'.repeat(6), 'é', 'a中b', '\u007f', '\u0080', '😀']) {
    t.same(stateKey.peer(text), plain(0x0c, prefixed(text)), text);
    t.same(stateKey.organisation(text), plain(0x10, prefixed(text)), text);
  }
  t.throws(() => stateKey.peer('\ud800'), InvariantError);
});

t.test('integers that are none stop', async (t) => {
  for (const at of [-1, 0.5, NaN, 2 ** 53]) t.throws(() => stateKey.replay(at, a, h), InvariantError);
});

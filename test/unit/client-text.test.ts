import t from 'tap';
import { ClientError, describeFailure } from '../../client/errors.ts';
import { parseId } from '../../client/hex.ts';
import { clean, duration, fields, parseDuration, size, table, time } from '../../client/text.ts';
import { InvariantError, EmrError } from '../../common/errors.ts';

t.test('text from outside is harmless on a terminal', (t) => {
  t.equal(clean('plain ü 心'), 'plain ü 心');
  t.equal(clean('\u001b[31mred\u0007'), '\\u{1b}[31mred\\u{7}');
  t.equal(clean('a\nb\tc\r'), 'a\\u{a}b\\u{9}c\\u{d}');
  t.equal(clean('\u009b2J'), '\\u{9b}2J', 'C1 controls too');
  t.equal(clean('abc\u202etxt.exe'), 'abc\\u{202e}txt.exe', 'no overrides of direction');
  t.equal(clean('\ud800'), '\ufffd', 'lone surrogates');
  t.equal(clean('x'.repeat(5_000)).length, 2_001, 'bounded');
  t.same(
    fields([
      ['name', 'a\u001bb'],
      ['none', null],
      ['count', 3],
    ]),
    ['name   a\\u{1b}b', 'count  3'],
  );
  t.end();
});

t.test('durations', (t) => {
  t.equal(parseDuration('24h'), 86_400_000);
  t.equal(parseDuration('1d12h'), 129_600_000);
  t.equal(parseDuration('90s'), 90_000);
  for (const bad of ['', '0h', '5', 'h', '-1h', '1.5h', '1 h', '1w', '9999999d']) {
    t.equal(parseDuration(bad), undefined, bad || 'empty');
  }
  t.equal(duration(86_400_000 + 7_200_000 + 5_000), '1d 2h');
  t.equal(duration(500), '0s');
  t.end();
});

t.test('columns, sizes, times', (t) => {
  t.same(
    table([
      ['A', 'LONG'],
      ['abc', 'x'],
    ]),
    ['A    LONG', 'abc  x'],
  );
  t.equal(size(999), '999 B');
  t.equal(size(1_572_864), '1.50 MiB');
  t.equal(time(0), '1970-01-01 00:00:00 UTC');
  t.equal(time(Number.MAX_SAFE_INTEGER), 'without end');
  t.end();
});

t.test('ids as people type them', (t) => {
  t.same(parseId('0xAB', 1, 'thing'), Uint8Array.of(0xab));
  t.same(parseId(' ab ', 1, 'thing'), Uint8Array.of(0xab));
  t.throws(() => parseId('0xabc', 1, 'thing'), { code: 'ID_INVALID' });
  t.throws(() => parseId('\u001b', 1, 'thing'), { message: '"\\u{1b}" is not the id of a thing.' });
  t.end();
});

t.test('every failure has a code, a sentence and a remedy', (t) => {
  t.same(describeFailure(new ClientError('A', 'b', 'c')), { code: 'A', message: 'b', remedy: 'c' });
  t.match(describeFailure(new EmrError('ROLE_MISSING', 'no')), { code: 'ROLE_MISSING', remedy: /role grant/ });
  t.match(describeFailure(new EmrError('SOMETHING_NEW', 'no')), { remedy: /emrchain help/ });
  t.match(describeFailure(new InvariantError('broken')), { code: 'INTERNAL', remedy: /report/ });
  t.match(describeFailure(Object.assign(new Error('x'), { code: 'ENOENT', path: '/a' })), { code: 'FILE_NOT_FOUND' });
  t.match(describeFailure('thrown text'), { code: 'INTERNAL', message: 'thrown text' });
  t.end();
});

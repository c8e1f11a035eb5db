import t from 'tap';
import { parsePolicyFile } from '../../client/policy-file.ts';
import { policyLines } from '../../client/policy-text.ts';
import { type ConfigError, formatProblem } from '../../config/document.ts';
import { encode } from '../../common/codec.ts';
import { policyDocument } from '../../common/protocol/policy.ts';

const NONCE = new Uint8Array(16).fill(1);
const TOKEN = new Uint8Array(32).fill(9);
const parse = (source: string, tokens = true) =>
  parsePolicyFile('policy.yaml', source, NONCE, () => (tokens ? TOKEN : undefined));

/** `line: path: message` of every problem. */
function problems(source: string, tokens = true): string[] {
  try {
    parse(source, tokens);
  } catch (error) {
    return (error as ConfigError).problems.map((p) => formatProblem(p).replace('policy.yaml:', ''));
  }
  return [];
}

const GOOD = `organisation: hospital-a
custodian: true
rules:
  - purposes: [TREAT, ETREAT]
    requesters:
      - role: physician
      - { role: nurse, from: org:hospital-b, department: cardiology }
    categories: [imaging, "0x${'ab'.repeat(32)}"]
    for-at-most: 72h
    approvals:
      all:
        - owner
        - attending
        - at-least: 2
          of:
            - { role: department_head, from: writer }
            - { role: ethics_board }
            - person: "0x${'11'.repeat(20)}"
changed-by: owner
`;

t.test('a policy as people write it', (t) => {
  const document = parse(GOOD);
  t.doesNotThrow(() => encode(policyDocument, document));
  t.match(document, {
    orgId: 'hospital-a',
    custodian: true,
    patientWrap: true,
    recovery: false,
    adminRule: { kind: 'owner' },
    rules: [
      {
        purposes: ['TREAT', 'ETREAT'],
        requesters: [
          { role: 'physician', scope: { kind: 'any' }, department: null },
          { role: 'nurse', scope: { kind: 'named', orgId: 'hospital-b' }, department: TOKEN },
        ],
        categories: [TOKEN, new Uint8Array(32).fill(0xab)],
        maxDurationMs: 72 * 3_600_000,
        approvals: {
          kind: 'threshold',
          k: 3,
          of: [{ kind: 'owner' }, { kind: 'attending' }, { kind: 'threshold', k: 2 }],
        },
      },
    ],
  });
  const text = policyLines(document).join('\n');
  for (const words of [
    'at most 3d',
    'all of:',
    'at least 2 of these 3:',
    'department_head of the writing hospital',
    'the owner (the patient)',
  ]) {
    t.match(text, words);
  }
  t.end();
});

t.test('`any` is one of, `all` is each', (t) => {
  const of = (approvals: string) =>
    parse(GOOD.replace(/approvals:[\s\S]*changed-by/, `approvals: ${approvals}\nchanged-by`));
  t.match(of('{ any: [owner, attending] }').rules[0], { approvals: { k: 1, of: [{}, {}] } });
  t.match(of('owner').rules[0], { approvals: { kind: 'owner' } });
  t.end();
});

t.test('what is wrong is said by line, with what to write', (t) => {
  const cases: [string, string, RegExp][] = [
    ['purposes: [TREAT, ETREAT]', 'purposes: [FUN]', /^4:16: rules\.0\.purposes\.0: must be one of TREAT/],
    ['role: physician', 'role: doctor', /^6:15: rules\.0\.requesters\.0\.role: must be one of/],
    ['from: org:hospital-b', 'from: there', /^7:30: .*write any, writer, requester or org:ID/],
    ['for-at-most: 72h', 'for-at-most: soon', /^9:18: rules\.0\.for-at-most: is no duration/],
    ['- owner\n', '- patient\n', /^12:11: rules\.0\.approvals\.all\.0: is no approval; write owner/],
    ['at-least: 2', 'at-least: 4', /^14:21: .*must be a number from 1 to 3/],
    ['role: ethics_board', 'role: board', /^17:23: .*\.of\.1\.role: must be one of/],
    ['person: "0x', 'person: "', /^18:23: .*must be an account/],
    ['role: ethics_board }', 'role: ethics_board, department: 5 }', /department: must be text/],
    ['{ role: ethics_board }', '{ nobody: 1 }', /is no approval; write role, person/],
    ['custodian: true', 'custodian: true\nname: x', /^3:7: name: there is no such setting/],
    ['changed-by: owner', '', /the setting "changed-by" is missing/],
    ['custodian: true', 'custodian: false\npatient-wrap: false', /nobody would hold the key/],
    [`0x${'ab'.repeat(32)}`, '0xab', /^8:27: .*is no token/],
  ];
  for (const [from, to, expected] of cases) {
    const found = problems(GOOD.replace(from, to));
    t.ok(
      found.some((line) => expected.test(line)),
      `${to}: ${found.join(' | ')}`,
    );
  }
  t.match(problems(GOOD, false), [/has no token keys/, /has no token keys/], 'words need token keys');
  t.match(problems('rules: ['), [/not valid YAML/]);
  const deep = '{ all: ['.repeat(6) + 'owner' + '] }'.repeat(6);
  t.match(problems(GOOD.replace(/approvals:[\s\S]*changed-by/, `approvals: ${deep}\nchanged-by`)), [
    /nested more than 4 deep/,
  ]);
  t.end();
});

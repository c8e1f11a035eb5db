/** `emrchain attending`: which physicians attend a patient. The patient says so, or an author and a second party. */
import { hexOf } from '../../hex.ts';
import { resolveAccount } from '../../keys.ts';
import { callOf, describeStatement, possessed, readStatement, writeStatement } from '../../statements.ts';
import { fields, requireDuration, time } from '../../text.ts';
import type { CommandDescriptor } from '../descriptor.ts';
import { submitCall, txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';

async function set(session: Session, options: { physician: string; for: string }): Promise<Result> {
  const expiresAtMs = session.nowMs() + requireDuration(options.for);
  const { account: patient } = await session.sender();
  const relation = { patient, physician: await resolveAccount(session.home, options.physician), expiresAtMs };
  const committed = await submitCall(session, { kind: 'attending.set', relation, countersignature: null });
  return {
    json: { patient: hexOf(patient), physician: hexOf(relation.physician), expiresAtMs, tx: txView(committed) },
    text: [
      'The physician attends you.',
      ...fields([['physician', hexOf(relation.physician)], ['until', time(expiresAtMs)], ...txFields(committed)]),
    ],
  };
}

async function propose(
  session: Session,
  options: { patient: string; physician: string; for: string; out: string },
): Promise<Result> {
  const node = await session.node();
  const sender = await session.sender();
  const relation = {
    patient: await resolveAccount(session.home, options.patient),
    physician: await resolveAccount(session.home, options.physician),
    expiresAtMs: session.nowMs() + requireDuration(options.for),
  };
  const signed = possessed(node.chainId, { kind: 'attending', relation }, sender.signer);
  await writeStatement(options.out, signed);
  return {
    json: {
      patient: hexOf(relation.patient),
      physician: hexOf(relation.physician),
      expiresAtMs: relation.expiresAtMs,
      file: options.out,
    },
    text: [
      ...fields(describeStatement(signed.statement)),
      `written to ${options.out}. Next: medical affairs or a department head runs account countersign, you run attending confirm.`,
    ],
  };
}

async function confirm(session: Session, _options: object, file: string): Promise<Result> {
  const node = await session.node();
  const { engine } = await session.publicView();
  const signed = await readStatement(file, node.chainId, engine, ['attending']);
  const committed = await submitCall(session, callOf(signed));
  return {
    json: { ...Object.fromEntries(describeStatement(signed.statement)), tx: txView(committed) },
    text: [
      'The relation is set.',
      ...fields([...describeStatement(signed.statement).slice(1), ...txFields(committed)]),
    ],
  };
}

async function end(session: Session, options: { patient?: string; physician?: string }): Promise<Result> {
  const { account } = await session.sender();
  const patient = options.patient === undefined ? account : await resolveAccount(session.home, options.patient);
  const physician = options.physician === undefined ? account : await resolveAccount(session.home, options.physician);
  const committed = await submitCall(session, { kind: 'attending.end', patient, physician });
  return {
    json: { patient: hexOf(patient), physician: hexOf(physician), tx: txView(committed) },
    text: [
      'The relation has ended.',
      ...fields([['patient', hexOf(patient)], ['physician', hexOf(physician)], ...txFields(committed)]),
    ],
  };
}

export const descriptor: CommandDescriptor = {
  build(command, run) {
    command
      .command('set')
      .description('as the patient: this physician attends me')
      .requiredOption('--physician <account>', 'who attends')
      .option('--for <duration>', 'how long', '90d')
      .action(run(set));
    command
      .command('propose')
      .description('as an author of a record of the patient: write the relation for a second party to countersign')
      .requiredOption('--patient <account>', 'who is attended')
      .requiredOption('--physician <account>', 'who attends')
      .option('--for <duration>', 'how long', '90d')
      .requiredOption('--out <file>', 'where to write it')
      .action(run(propose));
    command.command('confirm <file>').description('submit a countersigned relation').action(run(confirm));
    command
      .command('end')
      .description('end a relation, as patient, physician or medical affairs')
      .option('--patient <account>', 'the patient (default: you)')
      .option('--physician <account>', 'the physician (default: you)')
      .action(run(end));
  },
};

/**
 * What one replica answers to what it hears, as text: scenarios of Castro and Liskov (OSDI '99), each a file beside this
 * one. `EMRCHAIN_RECORD=1 node test/transcripts/transcripts.test.ts` writes them anew; the difference is then for people to
 * read.
 */
import t from 'tap';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { bytesToHex } from '../../common/bytes.ts';
import { messageDigest } from '../../consensus/messages.ts';
import type { Effect } from '../../consensus/types.ts';
import { LoneReplica } from '../sim/lone-replica.ts';

type Say = (input: string, act: () => void) => void;

/** Section of the paper, what happens, and the replica that it happens to: one of four, 1 leads view 0 of height 1. */
const SCENARIOS: Readonly<Record<string, (lone: LoneReplica, say: Say) => LoneReplica | void>> = {
  '4.2-normal-case': (lone, say) => {
    const block = lone.block();
    say('pre-prepare from 1', () => lone.hearProposal(block));
    say('prepare from 1', () => lone.hearVotes('prepare', [1], 0, block.hash));
    say('prepare from 2', () => lone.hearVotes('prepare', [2], 0, block.hash));
    say('commit from 1', () => lone.hearVotes('commit', [1], 0, block.hash));
    say('commit from 2', () => lone.hearVotes('commit', [2], 0, block.hash));
    say('stored', () => lone.commitTo(block));
  },
  '4.4-view-change-with-a-prepared-block': (lone, say) => {
    const block = lone.block();
    const prepared = lone.preparedBy([0, 1, 2], 0, block.hash);
    say('pre-prepare from 1', () => lone.hearProposal(block));
    say('prepare from 1 and 2', () => lone.hearVotes('prepare', [1, 2], 0, block.hash));
    say('the view timer fires', () => lone.fire('view'));
    say('new-view from 2, with the certificate', () => {
      const viewChanges = [lone.viewChangeOf(0, 1, prepared), lone.viewChangeOf(2, 1), lone.viewChangeOf(3, 1)];
      lone.hear(2, { kind: 'newView', height: 1, view: 1, viewChanges });
    });
    say('pre-prepare of another block', () => lone.hearProposal(lone.block(1), 1));
    say('pre-prepare of the same block', () => lone.hearProposal(block, 1));
  },
  '4.2-equivocating-leader': (lone, say) => {
    const [first, second] = [lone.block(0, [Uint8Array.of(1)]), lone.block(0, [Uint8Array.of(2)])];
    say('pre-prepare from 1', () => lone.hearProposal(first));
    say('another pre-prepare from 1', () => lone.hearProposal(second));
    say('prepare from 2 and 3 for the second', () => lone.hearVotes('prepare', [2, 3], 0, second.hash));
    say('prepare from 1 for the first', () => lone.hearVotes('prepare', [1], 0, first.hash));
    say('prepare from 1 for the second', () => lone.hearVotes('prepare', [1], 0, second.hash));
  },
  'restart-after-prepared': (lone, say) => {
    const block = lone.block();
    say('pre-prepare from 1', () => lone.hearProposal(block));
    say('prepare from 1 and 2', () => lone.hearVotes('prepare', [1, 2], 0, block.hash));
    return lone.restarted();
  },
};

function lineOf(effect: Effect): string {
  switch (effect.kind) {
    case 'persist': {
      const { view, votes, prepared } = effect.record;
      const cast = votes.map((v) => `${v.vote} ${short(v.digest)} in ${v.view}`).join(', ');
      return `persist view ${view}; ${cast || 'no votes'}; prepared ${prepared === null ? 'nothing' : short(prepared.digest)}`;
    }
    case 'broadcast': {
      const { message } = effect;
      const isVote = message.kind === 'prePrepare' || message.kind === 'prepare' || message.kind === 'commit';
      return `broadcast ${message.kind} in ${message.view}${isVote ? ` ${short(messageDigest(message))}` : ''}`;
    }
    case 'send':
      return `send ${effect.message.body.kind} to ${effect.to ?? 'all'}`;
    case 'setTimer':
      return `set ${effect.timer} timer, ${effect.afterMs} ms`;
    case 'cancelTimer':
      return `cancel ${effect.timer} timer`;
    case 'execute':
      return `execute ${short(effect.block.hash)}${effect.fresh ? ', fresh' : ''}`;
    case 'commit':
      return `commit ${short(effect.block.hash)}, decided in ${effect.certificate.view}`;
    case 'report':
      return `report ${effect.report.kind}${effect.report.kind === 'refused' ? ` ${effect.report.code}` : ''}${effect.report.kind === 'phase' ? ` ${effect.report.phase}` : ''}`;
    default:
      return effect.kind;
  }
}

const short = (hash: Uint8Array): string => bytesToHex(hash).slice(0, 6);

for (const [name, play] of Object.entries(SCENARIOS)) {
  t.test(name, async (t) => {
    const lone = new LoneReplica();
    const lines: string[] = [];
    const note = (input: string, effects: readonly Effect[]): void => {
      lines.push(input, ...effects.map((effect) => `    ${lineOf(effect)}`));
    };
    note('start', lone.take());
    const restarted = play(lone, (input, act) => {
      act();
      note(input, lone.take());
    });
    if (restarted !== undefined) note('restart', restarted.take());
    const file = join(import.meta.dirname, `${name}.txt`);
    const transcript = `${lines.join('\n')}\n`;
    if (process.env['EMRCHAIN_RECORD'] === '1') writeFileSync(file, transcript);
    t.equal(existsSync(file) ? readFileSync(file, 'utf8') : '', transcript);
  });
}

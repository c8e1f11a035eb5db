/** The part of `emrchain access` that is about keys: what the owner gives on the chain, and what custodians must. */
import { setTimeout as delay } from 'node:timers/promises';
import { deliver, type Demanded, demandedShares, demandShares, provenRequest } from '../../access.ts';
import type { ChainView } from '../../chain-view.ts';
import { ClientError } from '../../errors.ts';
import { hexOf, parseId } from '../../hex.ts';
import { clean, fields, time } from '../../text.ts';
import { txFields, txView } from '../execute.ts';
import type { Result } from '../output.ts';
import type { Session } from '../session.ts';
import { showBefore } from './access-shown.ts';

const POLL_MS = 300;
const DEFAULT_SHARES_DEADLINE_MS = 60_000;

export async function deliverKey(
  session: Session,
  options: { wrapKey?: string; yes?: boolean },
  id: string,
): Promise<Result> {
  const { ownKey, provenRecord } = await import('../../record-get.ts');
  const [view, key] = [await session.view(), await session.key()];
  const hash = parseId(id, 32, 'request');
  const { value: entry } = await provenRequest(view, hash);
  if (entry.status !== 'granted') {
    throw new ClientError(
      'NOT_GRANTED',
      `The request is ${entry.status}.`,
      'A key is delivered to an active grant only.',
    );
  }
  await showBefore(session, view, entry);
  await session.confirm('Deliver the key of this record to the requester?', options.yes);
  const proven = await provenRecord(view, entry.request.recordId, entry.request.version);
  const wrapKey =
    options.wrapKey === undefined ? key : { ...(await session.unlock(options.wrapKey)), account: key.account };
  const recordKey = await ownKey(view, wrapKey, proven);
  const committed = await deliver(view, key, entry, recordKey, session.submitOptions());
  recordKey.fill(0);
  session.out.progressDone();
  return {
    json: { requestHash: hexOf(hash), delivered: true, tx: txView(committed) },
    text: [
      'The key is on the chain, for the requester alone.',
      ...fields([['request', hexOf(hash)], ...txFields(committed)]),
    ],
  };
}

export async function demand(session: Session, options: { yes?: boolean }, id: string): Promise<Result> {
  const [view, key] = [await session.view(), await session.key()];
  const hash = parseId(id, 32, 'request');
  const { value: entry } = await provenRequest(view, hash);
  await showBefore(session, view, entry);
  await session.confirm('Call on the custodians to post their shares on the chain?', options.yes);
  const committed = await demandShares(view, key, entry, session.submitOptions());
  session.out.progressDone();
  const demanded = await awaitShares(session, view, hash);
  const { posted, missing, needed, untilMs } = demanded;
  return {
    json: { requestHash: hexOf(hash), ...demanded, tx: txView(committed) },
    text: [
      posted.length >= needed
        ? 'Enough shares are on the chain: emrchain record get RECORD --out FILE.'
        : `${posted.length} of the ${needed} shares that it takes are on the chain so far.`,
      ...fields([
        ['request', hexOf(hash)],
        ['posted by', posted.map((org) => clean(org)).join(', ') || 'nobody'],
        ['missing', missing.map((org) => clean(org)).join(', ') || 'nobody'],
        ['until', time(untilMs)],
        ...txFields(committed),
      ]),
      ...(missing.length === 0 ? [] : ['Whoever has posted none by then is named in the audit trail.']),
    ],
  };
}

/** Waits until enough shares are there, the demand is over, or the command's own deadline. */
async function awaitShares(session: Session, view: ChainView, hash: Uint8Array): Promise<Demanded> {
  const end = Date.now() + (session.deadlineMs ?? DEFAULT_SHARES_DEADLINE_MS);
  for (;;) {
    const demanded = await demandedShares(view, hash);
    if (demanded === null) {
      throw new ClientError(
        'DEMAND_OVER',
        'The custodians got new shares while this was demanded.',
        `Demand it again: emrchain access demand ${hexOf(hash)}.`,
      );
    }
    const { posted, needed, missing, untilMs } = demanded;
    const isOver = missing.length === 0 || session.nowMs() >= untilMs || Date.now() >= end;
    if (posted.length >= needed || isOver) {
      session.out.progressDone();
      return demanded;
    }
    session.out.progress(`shares on the chain: ${posted.length} of ${needed}`);
    await delay(POLL_MS);
  }
}

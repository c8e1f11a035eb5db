/**
 * Asking as many as it takes, and the others only when one of these does not help: who answers costs its own machine, and
 * what nobody waits for is work for nothing.
 */
import { asTheyCome } from './as-they-come.ts';

export interface Order {
  /** So many good answers are wanted, and so many are asked at first. */
  readonly wanted: number;
  /** The others are asked after this long, or once an answer is not good. */
  readonly spareAfterMs: number;
  readonly signal: AbortSignal;
}

interface Answer<A> {
  readonly answer: A;
  readonly good: boolean;
}

/**
 * Answers as they come. Who stops listening ends what is still asked.
 * @param ask never fails; null once its signal is aborted, since nobody listens then
 */
export async function* askInTurn<H, A>(
  holders: readonly H[],
  { wanted, spareAfterMs, signal }: Order,
  ask: (holder: H, until: AbortSignal) => Promise<Answer<A> | null>,
): AsyncGenerator<A> {
  const enough = new AbortController();
  const until = AbortSignal.any([signal, enough.signal]);
  const spares = new AbortController();
  const answers = holders.map(async (holder, at) => {
    if (at >= wanted) await pause(spareAfterMs, AbortSignal.any([until, spares.signal]));
    return until.aborted ? null : ask(holder, until);
  });
  try {
    for await (const found of asTheyCome(answers)) {
      if (found === null) continue;
      if (!found.good) spares.abort();
      yield found.answer;
    }
  } finally {
    enough.abort();
  }
}

/** Ends at once when the signal does. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    const end = (): void => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener('abort', end, { once: true });
  });
}

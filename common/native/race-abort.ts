/** Waiting for something that may never come, without outliving the caller's patience. */

/**
 * `work`, or the signal's reason as soon as it aborts. What `work` does later is ignored, a rejection included.
 * The listener goes away with the wait, so that a long-lived signal does not collect them.
 */
export async function raceAbort<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  if (signal.aborted) {
    work.catch(() => {});
    throw signal.reason;
  }
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/**
 * The items of `source`, ending with the signal's reason as soon as it aborts, even when the source has stalled.
 * The source is told to stop, but not waited for: a stalled one would never answer.
 */
export async function* untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal | undefined): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const step = await raceAbort(iterator.next(), signal);
      if (step.done === true) {
        ended = true;
        return;
      }
      yield step.value;
    }
  } finally {
    if (!ended) iterator.return?.().then(undefined, () => {});
  }
}

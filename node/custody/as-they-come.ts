/**
 * The values of promises in the order in which they come, each once. One that fails ends it with its error; whoever stops
 * listening leaves the rest to themselves.
 */
export async function* asTheyCome<T>(promises: readonly Promise<T>[]): AsyncGenerator<T> {
  const waiting = new Map(promises.map((promise, index) => [index, promise.then((value) => ({ index, value }))]));
  // What fails after nobody listens any more is nobody's concern.
  for (const each of waiting.values()) each.catch(() => undefined);
  while (waiting.size > 0) {
    const { index, value } = await Promise.race(waiting.values());
    waiting.delete(index);
    yield value;
  }
}

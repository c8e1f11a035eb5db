/**
 * A key-value store that tells when it has failed for good, whoever met the failure: a reader of an idle chain must not
 * be answered for days by a node that could not commit anything.
 */
import { EmrError } from '../../common/errors.ts';
import type { KeyValueStore } from '../storage/key-value-store.ts';

const FAILED: ReadonlySet<string> = new Set(['STORAGE_FAILED', 'DATA_CORRUPT']);

export function watchedStore(kv: KeyValueStore, onFailure: (error: EmrError) => void): KeyValueStore {
  function noted(error: unknown): unknown {
    if (error instanceof EmrError && FAILED.has(error.code)) onFailure(error);
    return error;
  }
  const watch = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw noted(error);
    }
  };
  return {
    getSync(key) {
      try {
        return kv.getSync(key);
      } catch (error) {
        throw noted(error);
      }
    },
    get: (key) => watch(kv.get(key)),
    scan: (range) => watch(kv.scan(range)),
    write: (writes, options) => watch(kv.write(writes, options)),
    close: () => kv.close(),
  };
}

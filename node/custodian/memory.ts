/**
 * What the custodian remembers over a restart: the newest height that it has seen proven, in a file of its own. Without
 * it, restarting the custodian would be a way to show it a state from before a revocation.
 */
import { readCustodianHeight, writeCustodianHeight } from '../../common/native/custodian-height.ts';

export interface CustodianMemory {
  readonly seenHeight: number;
  /** Resolves once this height, or a higher one, is durable. */
  remember(height: number): Promise<void>;
}

/** @throws EmrError CUSTODIAN_MEMORY when the file holds no height, and those of secret files */
export async function openMemory(path: string): Promise<CustodianMemory> {
  let seenHeight = await readCustodianHeight(path);
  let durable = seenHeight;
  let writing = Promise.resolve();
  return {
    get seenHeight() {
      return seenHeight;
    },
    remember(height) {
      seenHeight = Math.max(seenHeight, height);
      // One write for all heights that came while another was under way. After a failure all of them fail.
      writing = writing.then(async () => {
        if (durable >= height) return;
        const latest = seenHeight;
        await writeCustodianHeight(path, latest);
        durable = latest;
      });
      return writing;
    },
  };
}

/**
 * Records that a scenario writes and reads under the key that custodians share, as people do: a physician and a patient of
 * the first hospital, and a colleague who asks; each reading under a request of its own.
 */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Home, meetNode, RpcClient } from '../../../client/index.ts';
import { hexOf } from '../../../client/hex.ts';
import { awaitReplicas } from '../../../client/record-add.ts';
import { fetchRecord, findGrant, grantedKey, provenRecord } from '../../../client/record-get.ts';
import { subjectOf } from '../../../client/record-offer.ts';
import type { ResultOf } from '../../../rpc/methods.ts';
import { type People, Person } from '../people.ts';
import type { Stage } from './stage.ts';
import type { StageNode } from './stage-node.ts';

const RECORD_BYTES = 20_000;

interface Written {
  readonly recordId: Uint8Array;
  readonly original: Buffer;
}

/** A granted request, and its reader at the node through which it is used. */
interface Granted {
  readonly hash: Uint8Array;
  readonly reader: Person;
}

export interface ReadOutcome {
  readonly isEqual: boolean;
  /** Who gave the key. */
  readonly from: string;
  /** From the grant to the plaintext. */
  readonly tookMs: number;
}

interface Cast {
  readonly physician: Person;
  readonly patient: Person;
  readonly colleague: Person;
  readonly policy: Uint8Array;
}

export class Records {
  readonly #stage: Stage;
  readonly #people: People;
  readonly #cast: Cast;
  readonly #written = new Map<string, Written>();
  #reads = 0;

  private constructor(stage: Stage, people: People, cast: Cast) {
    this.#stage = stage;
    this.#people = people;
    this.#cast = cast;
  }

  static async open(stage: Stage): Promise<Records> {
    const people = await stage.people();
    const [physician, patient, colleague, policy] = await Promise.all([
      people.staff('chen', 0, ['physician']),
      people.patient('mei', 0),
      people.staff('wang', 0, ['physician']),
      people.policy({ kind: 'owner' }),
    ]);
    return new Records(stage, people, { physician, patient, colleague, policy });
  }

  /** Resolves once replicas have signed that they hold it. */
  async write(name: string): Promise<void> {
    const { physician, patient, policy } = this.#cast;
    const path = join(this.#stage.dir, `${name}.bin`);
    const original = randomBytes(RECORD_BYTES);
    await writeFile(path, original);
    const { offer, call } = await this.#people.offer(physician, patient, path, policy);
    if (offer.call.content.capsule.kind !== 'threshold') throw new Error(`${name} is not sealed under the shared key`);
    await physician.do(call, offer.sidecar);
    await awaitReplicas(physician.view, offer);
    this.#written.set(name, { recordId: subjectOf(offer).recordId, original });
  }

  #record(name: string): Written {
    const found = this.#written.get(name);
    if (found === undefined) throw new Error(`no record ${name} was written`);
    return found;
  }

  /** A new request of the colleague's for the record, granted by its owner. */
  async #granted(name: string, { hospital }: StageNode): Promise<Granted> {
    const { colleague, patient } = this.#cast;
    const hash = await colleague.ask(this.#record(name).recordId);
    await patient.decide(hash);
    const node = await meetNode(new Home(join(this.#stage.dir, 'people', 'everybody')), new RpcClient(hospital.rpcUrl));
    const reader = new Person(colleague.name, colleague.key, this.#stage, hospital, node);
    await reader.caughtUp();
    return { hash, reader };
  }

  /** @throws ClientError as the client has them */
  async read(name: string, at: StageNode): Promise<ReadOutcome> {
    const { hash, reader } = await this.#granted(name, at);
    const sinceMs = performance.now();
    const { recordId, original } = this.#record(name);
    const { view, home, account, key } = reader;
    const own = await findGrant(view, home, account, recordId, { hash, nowMs: Date.now() });
    const proven = await provenRecord(view, recordId);
    const released = await grantedKey(view, key, own, proven);
    const out = join(this.#stage.dir, `read-${(this.#reads += 1)}.bin`);
    await fetchRecord(view, home, proven, released.key, out);
    const tookMs = performance.now() - sinceMs;
    return { isEqual: (await readFile(out)).equals(original), from: released.from, tookMs };
  }

  /** What all holders answer to a new grant, as this node passes it on. */
  async answers(name: string, at: StageNode): Promise<ResultOf<'custody_getShare'>['replies']> {
    const { hash, reader } = await this.#granted(name, at);
    return (await reader.view.rpc.call('custody_getShare', { grantId: hexOf(hash), timeoutMs: 10_000 })).replies;
  }
}

/**
 * Custody sessions among custodians in one process, over states that a quorum has certified: a few lines that do with the
 * session's entry what the chain does with what is said in it. The chain's own rules are tested where they are.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { bytesToHex0x } from '../../common/bytes.ts';
import { encode } from '../../common/codec.ts';
import { decodePoint, encodePoint } from '../../common/crypto/curve.ts';
import { checkDealing, checkEncryptionKey, judge, parseComplaint } from '../../common/crypto/custody/dealing.ts';
import { checkShareProof, generatedKey, resharedKey } from '../../common/crypto/custody/shared-key.ts';
import type { Sm2Signer } from '../../common/crypto/sm2.ts';
import { newPrivateKey, selectSm2Engine } from '../../common/native/sm2-select.ts';
import {
  custodyAnnounceHash,
  custodyDealingEntry,
  type CustodyEpochEntry,
  custodyEpochEntry,
  type CustodySessionEntry,
  custodySessionEntry,
  custodySetHash,
  custodyThreshold,
} from '../../common/protocol/custody.ts';
import type { CustodianAnswer, CustodianDemand, CustodyStep } from '../../common/protocol/release.ts';
import { stateKey } from '../../common/protocol/state-entries.ts';
import { sortedValidatorSet } from '../../common/protocol/validator-set.ts';
import { Custodian } from '../../node/custodian/custodian.ts';
import { Seal } from '../../common/native/custody-seal.ts';
import { SealedStore } from '../../common/native/custody-store.ts';
import { certifiedState, type CertifiedState } from './certified-state.ts';

export const { engine, createSigner, random } = selectSm2Engine();
export const CHAIN = new Uint8Array(32).fill(3);
export const NOW = 1_790_000_000_000;

const signers = ['a', 'b', 'c', 'd'].map(() => createSigner(newPrivateKey()));
const validators = sortedValidatorSet(
  signers.map((s, i) => ({
    orgId: `hospital-${'abcd'[i]}`,
    publicKey: s.publicKey,
    address: s.address,
    peerId: `12D3KooW${'abcd'[i]}`,
  })),
);

export interface Hospital {
  readonly orgId: string;
  readonly secret: Uint8Array;
  readonly signer: Sm2Signer;
  readonly dir: string;
  readonly confirmed: Set<string>;
  /** Why the list of confirmed sets cannot be read. */
  listFault: Error | null;
  seenHeight: number;
  custodian: Custodian;
}

/** As started anew from what is on disk. */
export async function start(hospital: Omit<Hospital, 'custodian'>): Promise<Custodian> {
  const { orgId, secret, signer, dir, confirmed } = hospital;
  const memory = {
    get seenHeight() {
      return hospital.seenHeight;
    },
    remember(height: number) {
      hospital.seenHeight = Math.max(hospital.seenHeight, height);
      return Promise.resolve();
    },
  };
  return new Custodian({
    orgId,
    trusted: { chainId: CHAIN, fromHeight: 1, validators },
    privateKey: secret,
    signer,
    engine,
    random,
    memory,
    genesis: null,
    store: await SealedStore.open(dir, new Seal(CHAIN, secret, random)),
    confirmedSets: () =>
      hospital.listFault === null ? Promise.resolve(confirmed) : Promise.reject(hospital.listFault),
    nowMs: () => NOW,
  });
}

export async function hospitalOf(t: Test, name: string): Promise<Hospital> {
  const dir = await mkdtemp(join(tmpdir(), 'emr-custody-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const secret = newPrivateKey();
  const blank = {
    orgId: `hospital-${name}`,
    secret,
    signer: createSigner(secret),
    dir,
    confirmed: new Set<string>(),
    listFault: null,
    seenHeight: 0,
  };
  const hospital: Hospital = { ...blank, custodian: undefined as unknown as Custodian };
  hospital.custodian = await start(hospital);
  return hospital;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class Ledger {
  height = 10;
  session: Mutable<CustodySessionEntry> | null = null;
  epoch: CustodyEpochEntry | null = null;
  readonly dealings = new Map<number, Uint8Array>();
  readonly more: (readonly [Uint8Array, Uint8Array])[] = [];

  open(receivers: readonly Hospital[]): string {
    const named = receivers.map(({ orgId, signer }) => ({ orgId, custodianKey: signer.publicKey }));
    this.dealings.clear();
    this.session = {
      id: new Uint8Array(32).fill(this.height),
      kind: this.epoch === null ? 'genesis' : 'reshare',
      epoch: (this.epoch?.epoch ?? 0) + 1,
      phase: 'announce',
      threshold: custodyThreshold(named.length),
      receivers: named,
      keys: named.map(() => null),
      dealt: [],
      disqualified: [],
      falseAccusers: [],
      result: null,
      confirmed: [],
      override: false,
      openedHeight: this.height,
      openedMs: 1,
      deadlineMs: null,
      proposalId: null,
    };
    return bytesToHex0x(custodySetHash(named));
  }

  /** The state as it is now, certified; each call is a new block. */
  state(): CertifiedState {
    this.height += 1;
    const entries = [...this.more];
    if (this.session !== null) entries.push([stateKey.custodySession(), encode(custodySessionEntry, this.session)]);
    if (this.epoch !== null) entries.push([stateKey.custodyEpoch(), encode(custodyEpochEntry, this.epoch)]);
    const id = this.session?.id ?? this.epoch?.sessionId ?? new Uint8Array(32);
    for (const [dealer, dealing] of this.dealings)
      entries.push([stateKey.custodyDealing(id, dealer), encode(custodyDealingEntry, { dealing })]);
    entries.push([stateKey.activeGrants(), Uint8Array.of(0)]);
    return certifiedState({
      chainId: CHAIN,
      validators,
      signers,
      entries,
      height: this.height,
      timestampMs: NOW - 1_000,
    });
  }

  demand(state = this.state()): Extract<CustodianDemand, { kind: 'session' }> {
    const dealt = this.session?.dealt ?? [];
    return {
      kind: 'session',
      head: { handovers: [], head: state.head },
      session: state.proof(stateKey.custodySession()),
      epoch: state.proof(stateKey.custodyEpoch()),
      dealings: dealt.map((dealer) => ({
        dealer,
        proof: state.proof(stateKey.custodyDealing(this.session!.id, dealer)),
      })),
    };
  }

  /** What a hospital's custodian wants to say now. */
  async ask(hospital: Hospital): Promise<Extract<CustodianAnswer, { kind: 'steps' }>> {
    const answer = await hospital.custodian.answer(this.demand());
    if (answer.kind !== 'steps') throw new Error(answer.kind === 'refused' ? answer.code : answer.kind);
    return answer;
  }

  get #formula() {
    const { id, receivers, threshold } = this.session!;
    return { id, n: receivers.length, t: threshold };
  }

  #key(index: number) {
    return { index, P: decodePoint(this.session!.keys[index - 1]!)! };
  }

  #promised(dealer: number) {
    return this.epoch === null ? null : decodePoint(this.epoch.holders[dealer - 1]!.share)!;
  }

  /** As the chain takes what a node brings. @throws Error where it would refuse */
  say(hospital: Pick<Hospital, 'orgId' | 'signer'>, step: CustodyStep): void {
    const session = this.session!;
    const index = session.receivers.findIndex(({ orgId }) => orgId === hospital.orgId) + 1;
    const require = (held: boolean): void => {
      if (!held) throw new Error(`the chain refuses ${step.kind} of ${hospital.orgId}`);
    };
    switch (step.kind) {
      case 'announce': {
        const P = decodePoint(step.key)!;
        require(checkEncryptionKey(this.#formula, { index, P }, step.proof));
        const signed = custodyAnnounceHash(session.id, hospital.orgId, step.key);
        require(engine.verify(hospital.signer.publicKey, signed, step.signature));
        session.keys = session.keys.map((key, k) => (k + 1 === index ? step.key : key));
        if (!session.keys.includes(null)) session.phase = 'deal';
        return;
      }
      case 'deal': {
        const dealer = (step.dealing[0]! << 8) | step.dealing[1]!;
        require(checkDealing(this.#formula, step.dealing, this.#promised(dealer)).ok && !this.dealings.has(dealer));
        this.dealings.set(dealer, step.dealing);
        session.dealt = [...this.dealings.keys()].sort((a, b) => a - b);
        return;
      }
      case 'complain': {
        const { accuser, dealer } = parseComplaint(step.complaint)!;
        const dealing = checkDealing(this.#formula, this.dealings.get(dealer)!, this.#promised(dealer));
        const judged = judge(
          this.#formula,
          dealing.ok ? dealing.value : undefined!,
          this.#key(accuser),
          step.complaint,
        );
        require(judged.ok);
        if (judged.ok && judged.value === 'dealer') session.disqualified = [...session.disqualified, dealer];
        else session.falseAccusers = [...session.falseAccusers, accuser];
        return;
      }
      case 'confirm': {
        const { key, shares } = session.result!;
        const X = decodePoint(key)!;
        require(checkShareProof(this.#formula, index, X, decodePoint(shares[index - 1]!)!, step.proof));
        session.confirmed = [...session.confirmed, index].sort((a, b) => a - b);
        return;
      }
    }
  }

  /** Adds up what was dealt. */
  finalise(): void {
    const session = this.session!;
    const qualified = session.dealt
      .filter((dealer) => !session.disqualified.includes(dealer))
      .map((dealer) => {
        const checked = checkDealing(this.#formula, this.dealings.get(dealer)!, this.#promised(dealer));
        if (!checked.ok) throw new Error(checked.code);
        return checked.value;
      });
    const made =
      this.epoch === null
        ? generatedKey(this.#formula, qualified)
        : resharedKey(this.#formula, qualified, this.epoch.threshold, decodePoint(this.epoch.key)!);
    if (!made.ok) throw new Error(made.code);
    session.phase = 'confirm';
    session.confirmed = [];
    session.result = { key: encodePoint(made.value.X), shares: made.value.holders.map(encodePoint) };
  }

  activate(): CustodyEpochEntry {
    const { id, epoch, threshold, receivers, result } = this.session!;
    const holders = receivers.map(({ orgId }, k) => ({ orgId, share: result!.shares[k]! }));
    this.epoch = {
      epoch,
      sessionId: id,
      key: result!.key,
      threshold,
      holders,
      sinceHeight: 1,
      sinceMs: 1,
      refreshMs: 1,
    };
    this.session = null;
    this.dealings.clear();
    return this.epoch;
  }

  /** Everybody says what the own custodian wants, until nobody has anything left to say in this phase. */
  async round(hospitals: readonly Hospital[]): Promise<void> {
    for (const hospital of hospitals) {
      const { steps } = await this.ask(hospital);
      for (const step of steps) this.say(hospital, step);
    }
  }

  /** A session from its opening to the epoch, in which everybody is honest and there. */
  async complete(hospitals: readonly Hospital[]): Promise<CustodyEpochEntry> {
    await this.round(hospitals);
    await this.round(hospitals);
    this.finalise();
    await this.round(hospitals);
    return this.activate();
  }
}

/**
 * Scenarios as data: what is done to a network of real processes, in which order, and which figures it must show. A list
 * of steps can be read, written and drawn from a seed without knowing how any of them is carried out (`play.ts`).
 */

/** Nodes are numbered from 0; `leader` is whoever leads the height that is being decided at that moment. */
export type Who = readonly number[] | 'leader';

export type Step =
  /** Starts processes and goes on at once. */
  | { readonly do: 'start'; readonly nodes: readonly number[] }
  /**
   * Starts processes and waits until they are ready, have every block that any node had by then, and a further one has
   * come. `ended`: whichever do not run. With `figure`: how long that took.
   */
  | { readonly do: 'recover'; readonly nodes: readonly number[] | 'ended'; readonly figure?: string }
  /** The same of nodes that run already. */
  | { readonly do: 'level'; readonly nodes: readonly number[]; readonly figure?: string }
  /** kill -9: no goodbye, nothing flushed. */
  | { readonly do: 'kill'; readonly nodes: Who }
  /** SIGTERM, and waits for the end. */
  | { readonly do: 'stop'; readonly nodes: readonly number[] }
  | { readonly do: 'freeze'; readonly nodes: Who }
  | { readonly do: 'thaw'; readonly nodes: readonly number[] }
  /** Transactions from now on: so many under way at a time, and no more than so many a second. */
  | {
      readonly do: 'load';
      readonly inFlight: number;
      readonly perSecond?: number;
      readonly at?: readonly number[];
    }
  /** No new transactions; those under way are waited for. */
  | { readonly do: 'quiet' }
  /** Lets time pass: a fault lasts, or strikes at an instant of its own. */
  | { readonly do: 'pass'; readonly ms: number }
  /** Waits for this many further blocks. With `figure`: how long that took. */
  | { readonly do: 'blocks'; readonly count: number; readonly figure?: string }
  /** The longest time without a new block, while this much time passes. */
  | { readonly do: 'longestPause'; readonly ms: number; readonly figure: string }
  /** The longest time without a new block in all of the steps from the last `mark` to here. */
  | { readonly do: 'mark' }
  | { readonly do: 'longestPauseSinceMark'; readonly figure: string }
  /** Committed transactions and blocks a second, while this much time passes. */
  | { readonly do: 'rate'; readonly ms: number; readonly figure: string }
  /** No node may commit anything; what was under way when the fault struck is given `settleMs`. */
  | { readonly do: 'expectNoBlock'; readonly settleMs: number; readonly ms: number }
  /** Waits until one of these nodes raises one of these alarms (docs/runbook.md). */
  | { readonly do: 'alarm'; readonly nodes: readonly (number | 'twin')[]; readonly codes: readonly string[] }
  /** No byte passes between the groups; connections stay open, as they do when a cable is cut. */
  | { readonly do: 'partition'; readonly groups: readonly (readonly number[])[] }
  /** Connections of this node are closed, and refused from then on. */
  | { readonly do: 'disconnect'; readonly node: number }
  | { readonly do: 'heal' }
  /** Every link of this node, in both directions. */
  | { readonly do: 'slow'; readonly node: number; readonly link: Link }
  /** The clock of this node is off by so much from now on. */
  | { readonly do: 'clock'; readonly nodes: readonly number[]; readonly offsetMs: number }
  /** Starts a node that is far behind, and compares how fast it comes on with how fast the others do meanwhile. */
  | { readonly do: 'catchUp'; readonly node: number; readonly figure: string }
  /** The disk of this node, one of `smallDisks`, has no room left. */
  | { readonly do: 'fillDisk'; readonly node: number }
  | { readonly do: 'freeDisk'; readonly node: number }
  /** Waits until the process has ended by itself, with this exit code and this error (docs/operations.md). */
  | { readonly do: 'ended'; readonly node: number; readonly exitCode: number; readonly error: string }
  /** Copies the data of a node that does not run, and puts the copy back in its place. */
  | { readonly do: 'backUp' | 'restore'; readonly node: number }
  /** A second process with the keys of this node, on a copy of its folder and ports of its own. */
  | { readonly do: 'startTwin'; readonly node: number }
  | { readonly do: 'endTwin' }
  /** Organisations that were not there come in by vote, each with a node that becomes a validator; or go. */
  | { readonly do: 'join' | 'leave'; readonly nodes: readonly number[]; readonly figure?: string }
  /** The steps, one after the other, while the whole is under way. */
  | { readonly do: 'meanwhile'; readonly whole: Step; readonly steps: readonly Step[] }
  | CustodyStep;

/** What custodians are done to, and what must come of it; only where the scenario has `custodians`. */
export type CustodyStep =
  /** kill -9 of the custodians that run at these hospitals, and this in their place; waits until it listens. */
  | { readonly do: 'custodians'; readonly nodes: readonly number[]; readonly run: CustodianProgram }
  /** Waits until each of these nodes shows this epoch and no session; the public key is that of the first epoch. */
  | {
      readonly do: 'sharedKey';
      readonly nodes: readonly number[];
      readonly epoch: number;
      /** How many of the nodes' hospitals release a key. */
      readonly threshold: number;
      readonly figure?: string;
    }
  /** The chain has convicted the dealers of these hospitals since the genesis, each as often as it is named, and no others. */
  | { readonly do: 'convicted'; readonly nodes: readonly number[] }
  /** A record is written at the hospital of node 0, sealed under the shared key, and replicated. */
  | { readonly do: 'write'; readonly record: string }
  /** Asked for, approved, opened by as many shares as the threshold says, and compared; all of the reading through this node. */
  | { readonly do: 'read'; readonly record: string; readonly at: number; readonly figure?: string }
  /** The same request comes to nothing: too few custodians release the key. */
  | { readonly do: 'notReleased'; readonly record: string; readonly at: number }
  /** A new grant; of this hospital's custodian, another's node says this. Only where it takes all that run. */
  | { readonly do: 'shareRefused'; readonly node: number; readonly record: string; readonly code: string }
  /** Copies the custodian's sealed folder; or puts the copy in its place, and keeps what was there. */
  | { readonly do: 'keepShares' | 'swapShares'; readonly node: number };

/** `own` is the product's; the others are hostile, and speak the same protocol. */
export type CustodianProgram = 'own' | 'cheating dealer' | 'superseded share' | 'none';

/** What a slow link does to what passes. TCP hides loss: what is lost comes late, with all that is behind it. */
export interface Link {
  readonly delayMs: number;
  readonly bytesPerSecond: number;
  /** In so many of 1,000 pieces, `LOSS_DELAY_MS` more. */
  readonly lostPerMille: number;
}

/** What a figure must show. Times are in milliseconds. */
export type Limit =
  | { readonly figure: string; readonly atMost: number }
  /** Of the sums of two figures. */
  | { readonly figure: string; readonly per: string; readonly atLeast: number };

export interface Scenario {
  readonly name: string;
  readonly nodes: number;
  /** `direct`: nodes dial each other. `wired`: through something that can be cut and slowed down. */
  readonly network: 'direct' | 'wired';
  /** Hospitals that join run custodians too, and each hospital's operator confirms the sets of those that vote. */
  readonly custodians?: true;
  /** Nodes whose data lies on a small disk of its own: a mount, which takes root. */
  readonly smallDisks?: readonly number[];
  readonly steps: readonly Step[];
  readonly limits: readonly Limit[];
  /** Errors of docs/operations.md with which a node may end in this scenario. */
  readonly mayEndWith?: readonly string[];
}

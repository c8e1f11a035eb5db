/** Scenarios with custodians: what seven hospitals do together, and how shares move when hospitals come and go. */
import type { Scenario } from './scenario.ts';

const FOUR = [0, 1, 2, 3] as const;
const SEVEN = [...FOUR, 4, 5, 6] as const;
const READING = 'from the grant to the plaintext, ms';

/** Two of seven may be away, whether as custodians alone or as hospitals; three may not. */
export const sevenFounders: Scenario = {
  name: 'seven hospitals make a key by themselves, and any five of them release a record',
  nodes: 7,
  network: 'direct',
  custodians: true,
  steps: [
    { do: 'custodians', nodes: SEVEN, run: 'own' },
    { do: 'recover', nodes: SEVEN },
    { do: 'sharedKey', nodes: SEVEN, epoch: 1, threshold: 5, figure: 'the key, once all seven are ready, ms' },
    { do: 'write', record: 'scan' },
    { do: 'read', record: 'scan', at: 0, figure: READING },
    { do: 'custodians', nodes: [2, 5], run: 'none' },
    { do: 'read', record: 'scan', at: 1, figure: READING },
    { do: 'custodians', nodes: [6], run: 'none' },
    { do: 'notReleased', record: 'scan', at: 1 },
    { do: 'custodians', nodes: [6], run: 'own' },
    { do: 'kill', nodes: [2, 5] },
    { do: 'read', record: 'scan', at: 4, figure: READING },
    { do: 'custodians', nodes: [2, 5], run: 'own' },
    { do: 'recover', nodes: 'ended' },
  ],
  limits: [
    { figure: 'the key, once all seven are ready, ms', atMost: 15_000 },
    { figure: READING, atMost: 5_000 },
  ],
};

const PAUSE = 'longest pause between blocks, ms';

/**
 * One public key throughout. While three come in, a founder's custodian is in wrong hands and deals one receiver a false
 * part, three times; it is convicted each time, and the rest of the dealers are enough. Then a founder goes whose custodian
 * is dead: nobody waits for its dealing longer than a minute, in which records are read. Shares from before are worth nothing.
 */
export const membersWithShares: Scenario = {
  name: 'from four hospitals to seven and back under one key, with a dealer that cheats and one that is absent',
  nodes: 4,
  network: 'direct',
  custodians: true,
  steps: [
    { do: 'custodians', nodes: FOUR, run: 'own' },
    { do: 'load', inFlight: 4, perSecond: 3, at: [0] },
    { do: 'recover', nodes: FOUR },
    { do: 'sharedKey', nodes: FOUR, epoch: 1, threshold: 3 },
    { do: 'write', record: 'of four' },
    { do: 'read', record: 'of four', at: 1, figure: READING },
    { do: 'keepShares', node: 0 },
    { do: 'custodians', nodes: [2], run: 'cheating dealer' },
    { do: 'mark' },
    { do: 'join', nodes: [4, 5, 6], figure: 'from four to seven, ms' },
    { do: 'sharedKey', nodes: SEVEN, epoch: 4, threshold: 5 },
    { do: 'convicted', nodes: [2, 2, 2] },
    { do: 'custodians', nodes: [2, 3], run: 'none' },
    { do: 'read', record: 'of four', at: 6, figure: READING },
    { do: 'custodians', nodes: [2], run: 'own' },
    {
      do: 'meanwhile',
      whole: { do: 'leave', nodes: [3], figure: 'one leaves whose custodian is dead, ms' },
      steps: [
        { do: 'write', record: 'of seven' },
        { do: 'read', record: 'of seven', at: 1, figure: READING },
        { do: 'read', record: 'of four', at: 5, figure: READING },
      ],
    },
    { do: 'sharedKey', nodes: [0, 1, 2, 4, 5, 6], epoch: 5, threshold: 4 },
    { do: 'leave', nodes: [1, 2], figure: 'two more leave, ms' },
    { do: 'sharedKey', nodes: [0, 4, 5, 6], epoch: 7, threshold: 3 },
    { do: 'longestPauseSinceMark', figure: PAUSE },
    { do: 'quiet' },
    { do: 'convicted', nodes: [2, 2, 2] },
    // Three are left, and it takes three: hospital 0 has to give the share that belongs to the others.
    { do: 'custodians', nodes: [5], run: 'none' },
    { do: 'swapShares', node: 0 },
    { do: 'custodians', nodes: [0], run: 'superseded share' },
    { do: 'shareRefused', node: 0, record: 'of four', code: 'SHARE_FALSE' },
    { do: 'notReleased', record: 'of four', at: 4 },
    { do: 'custodians', nodes: [0], run: 'own' },
    { do: 'shareRefused', node: 0, record: 'of four', code: 'CUSTODY_NO_SHARE' },
    { do: 'swapShares', node: 0 },
    { do: 'custodians', nodes: [0], run: 'own' },
    { do: 'read', record: 'of four', at: 0, figure: READING },
    { do: 'read', record: 'of seven', at: 4, figure: READING },
  ],
  limits: [
    { figure: PAUSE, atMost: 5_000 },
    { figure: READING, atMost: 5_000 },
  ],
};

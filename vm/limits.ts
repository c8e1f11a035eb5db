/** Bounds of execution that are not chain parameters: raising one changes what blocks are valid. */

/** Deadlines that one block brings about; the rest come with the next. Each is a request or proposal: some 30 us. */
export const MAX_DEADLINES_PER_BLOCK = 200;

/** Events that one of them causes: a demand names each holder of shares that has posted none, of which there are 31. */
export const MAX_EVENTS_PER_DEADLINE = 40;

/**
 * Entries of the replay set that a block prunes: this many, and two for each of its transactions, which add one. So the
 * set shrinks to what is still valid under any load, and no block pays for the load of others.
 */
export const PRUNED_PER_BLOCK = 64;
export const PRUNED_PER_TX = 2;

/** Roles of one account, over all departments. Eligibility reads them: some 5 us each. */
export const MAX_ROLES_PER_ACCOUNT = 32;

/** Approvals of one request that are looked at: with 12 slots the matching takes at most 24 * 2^12 * 12 steps, some 3 ms. */
export const MAX_APPROVALS_PER_REQUEST = 24;

/** Proposals of one organisation that are open or wait for their effect. */
export const MAX_PROPOSALS_PER_ORG = 8;

/** Conflicting votes of one validator that are kept: enough to decide by, whatever it signs. */
export const MAX_EVIDENCE_PER_VALIDATOR = 16;

/** Grants and requests of one person and record that `checkAccess` looks at. */
export const MAX_CHECKED_GRANTS = 100;

/** From the keys of a custody session on: after this long, dealers that have not dealt are not waited for. */
export const CUSTODY_DEAL_MS = 60_000;

/** An epoch of this age is refreshed: shares that were stolen one by one over more time than that do not add up. */
export const CUSTODY_REFRESH_MS = 90 * 24 * 60 * 60 * 1000;

/** How long the custodians have for a refresh that is due, and how long until the next attempt where it came to nothing. */
export const CUSTODY_REFRESH_RETRY_MS = 24 * 60 * 60 * 1000;

/** How long holders have to post the shares that a requester demands on the chain; then who did not is named. */
export const CUSTODY_DEMAND_MS = 60_000;

/**
 * Records of a block that are sealed under the shared key: each costs some 0.5 ms of curve arithmetic at a replica that has
 * not met it before. More than `MIN_CANDIDATES` of a leader, or it would seem to leave out what fits.
 */
export const MAX_CAPSULES_PER_BLOCK = 400;

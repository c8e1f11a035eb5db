/** What a profiled node and who profiles it agree on. */

/** The first starts, the second ends and writes. */
export const PROFILE_SIGNAL = 'SIGUSR2';
/** In the node's folder. */
export const PROFILE_FILE = 'node.cpuprofile';

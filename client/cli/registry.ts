/**
 * The commands of the first level: name, one line for the overview, and the module that has the rest. A module is loaded
 * when its command is typed, so that the others cost nothing.
 */
import type { CommandModule } from './descriptor.ts';

export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<CommandModule>;
}

export const COMMANDS: readonly CommandEntry[] = [
  { name: 'devnet', summary: 'a consortium on this machine', load: () => import('./commands/devnet.ts') },
  { name: 'init', summary: "make a hospital's folder", load: () => import('./commands/init.ts') },
  { name: 'genesis', summary: "a network out of its members' cards", load: () => import('./commands/genesis.ts') },
  { name: 'node', summary: 'run a node or a custodian, and see how one is', load: () => import('./commands/node.ts') },
  { name: 'keys', summary: 'make, list, copy keys of this home', load: () => import('./commands/keys.ts') },
  { name: 'account', summary: 'enrol, suspend, rotate, recover accounts', load: () => import('./commands/account.ts') },
  { name: 'role', summary: 'grant and revoke roles', load: () => import('./commands/role.ts') },
  { name: 'org', summary: 'organisations, and the tokens that hide words', load: () => import('./commands/org.ts') },
  { name: 'policy', summary: 'who may ask, and whose approval it takes', load: () => import('./commands/policy.ts') },
  { name: 'record', summary: 'write and read records', load: () => import('./commands/record.ts') },
  { name: 'access', summary: 'ask for records, decide on requests', load: () => import('./commands/access.ts') },
  { name: 'attending', summary: 'which physicians attend a patient', load: () => import('./commands/attending.ts') },
  { name: 'audit', summary: 'what happened to a record', load: () => import('./commands/audit.ts') },
  {
    name: 'chain',
    summary: 'blocks, transactions, validators; verify them',
    load: () => import('./commands/chain.ts'),
  },
  { name: 'gov', summary: 'proposals and votes of the members', load: () => import('./commands/gov.ts') },
  { name: 'custody', summary: 'the key that the members share', load: () => import('./commands/custody.ts') },
  { name: 'recovery', summary: 'the key of last resort, held by people', load: () => import('./commands/recovery.ts') },
  { name: 'token', summary: "a reader's token, for the explorer", load: () => import('./commands/token.ts') },
];

/**
 * What a command runs with: the global options, the home, the node, and the keys that it unlocks, each once and only
 * when it is needed. Modules that cost time are loaded when they are used.
 */
import type { ChainView } from '../chain-view.ts';
import { ClientError } from '../errors.ts';
import { type Home, openHome } from '../home.ts';
import type { OrgTokens, UnlockedKey } from '../keys.ts';
import type { PinnedNode } from '../network.ts';
import { DEFAULT_RPC_URL, RPC_VARIABLE, RpcClient } from '../rpc-client.ts';
import type { Sender, SubmitOptions } from '../transactions.ts';
import { duration, requireDuration } from '../text.ts';
import { Output, type Streams } from './output.ts';

/** The options that every command takes. */
export interface GlobalOptions {
  readonly json?: boolean;
  readonly rpc?: string;
  readonly as?: string;
  readonly home?: string;
  readonly passphraseFd?: string;
  readonly timeout?: string;
}

/** Longest that `--timeout` may ask for. */
const MAX_DEADLINE_MS = 3_600_000;

/** Opens a key of a home: asks for its passphrase, unless it has been open before. */
export type UnlockKey = (
  home: Home,
  name: string,
  passphrase: (prompt: string) => Promise<Uint8Array>,
) => Promise<UnlockedKey>;

/** What a command line is run with. */
export interface Invocation {
  readonly environment: NodeJS.ProcessEnv;
  /** The process's own when absent. */
  readonly streams?: Streams;
  /** The clock, milliseconds since 1970; the system's when absent. */
  readonly nowMs?: () => number;
  /** For whoever runs many commands in one process and keeps keys open; keystores are opened anew when absent. */
  readonly unlockKey?: UnlockKey;
}

export class Session {
  readonly home: Home;
  readonly out: Output;
  readonly rpcUrl: string;
  readonly options: GlobalOptions;
  readonly environment: NodeJS.ProcessEnv;
  #node: Promise<PinnedNode> | undefined;
  #sharedPassphrase: Promise<Uint8Array> | undefined;
  readonly #unlocked = new Map<string, Promise<UnlockedKey>>();
  #reader: Promise<ChainView> | undefined;

  /** Milliseconds since 1970. */
  readonly nowMs: () => number;

  readonly #unlockKey: UnlockKey | undefined;

  constructor(options: GlobalOptions, { environment, streams, nowMs, unlockKey }: Invocation) {
    this.nowMs = nowMs ?? Date.now;
    this.#unlockKey = unlockKey;
    this.options = options;
    this.environment = environment;
    this.home = openHome(options.home, environment);
    this.out = new Output(options.json === true, streams);
    const named = environment[RPC_VARIABLE];
    this.rpcUrl = options.rpc ?? (named === undefined || named === '' ? DEFAULT_RPC_URL : named);
  }

  /** How long a command waits for a commit or for replicas, in milliseconds; undefined: the default of each. */
  get deadlineMs(): number | undefined {
    return this.options.timeout === undefined
      ? undefined
      : Math.min(requireDuration(this.options.timeout), MAX_DEADLINE_MS);
  }

  /** The node, held to what is pinned. */
  node(): Promise<PinnedNode> {
    this.#node ??= this.meet(false);
    return this.#node;
  }

  async meet(replace: boolean, expectedChainId?: Uint8Array): Promise<PinnedNode> {
    const { meetNode } = await import('../network.ts');
    return meetNode(this.home, new RpcClient(this.rpcUrl), {
      replace,
      ...(expectedChainId === undefined ? {} : { expectedChainId }),
      announce: ({ origin, network, chainId, nodeId, orgId }) => {
        this.out.note(
          `First contact with ${origin}; pinned in ${this.home.path}. Compare with what the operator says:`,
        );
        this.out.note(`  network ${network}, of ${orgId ?? 'a node that the genesis does not name'}`);
        this.out.note(`  chain   ${chainId}`);
        this.out.note(`  node    ${nodeId}`);
      },
    });
  }

  /** The chain as anybody sees it, or as `--as` does where it was given. */
  async publicView(): Promise<ChainView> {
    return this.options.as === undefined ? this.#anonymous() : this.view();
  }

  async #anonymous(): Promise<ChainView> {
    const { ChainView } = await import('../chain-view.ts');
    return new ChainView(new RpcClient(this.rpcUrl), await this.node());
  }

  /** The chain as the account sees it that reads: `--as`, or the only key of the home; without a key as anybody. */
  view(): Promise<ChainView> {
    this.#reader ??= this.#openView();
    return this.#reader;
  }

  async #openView(): Promise<ChainView> {
    const name = await this.#keyName();
    if (name === undefined) return this.#anonymous();
    const [node, key] = await Promise.all([this.node(), this.unlock(name)]);
    const [{ ChainView }, { authorizer }] = await Promise.all([
      import('../chain-view.ts'),
      import('../reader-token.ts'),
    ]);
    return new ChainView(new RpcClient(this.rpcUrl, { authorize: authorizer(node, key.signer, this.nowMs) }), node);
  }

  async #keyName(): Promise<string | undefined> {
    if (this.options.as !== undefined) return this.options.as;
    const { onlyAccountKey } = await import('../keys.ts');
    return onlyAccountKey(this.home);
  }

  /** The key that signs. @throws ClientError KEY_NOT_NAMED */
  async key(): Promise<UnlockedKey> {
    const name = await this.#keyName();
    if (name === undefined) {
      throw new ClientError(
        'KEY_NOT_NAMED',
        'This takes a key, and the home has none or more than one.',
        'Name it with --as KEYNAME; emrchain keys list shows them, emrchain keys new NAME makes one.',
      );
    }
    return this.unlock(name);
  }

  async sender(): Promise<Sender & { readonly key: UnlockedKey }> {
    const key = await this.key();
    return { account: key.account, signer: key.signer, key };
  }

  /** Opens a key, once. */
  unlock(name: string): Promise<UnlockedKey> {
    let opening = this.#unlocked.get(name);
    if (opening === undefined) {
      opening = this.#unlock(name);
      this.#unlocked.set(name, opening);
    }
    return opening;
  }

  async #unlock(name: string): Promise<UnlockedKey> {
    const { showKey, unlockAccountKey } = await import('../keys.ts');
    // An unknown name is told before anything is asked.
    await showKey(this.home, name);
    if (this.#unlockKey !== undefined) return this.#unlockKey(this.home, name, (prompt) => this.passphrase(prompt));
    return unlockAccountKey(this.home, name, await this.passphrase(`Passphrase of ${name}`));
  }

  /** Token keys: the named ones, or the only ones of the home. */
  async tokens(named: string | undefined): Promise<OrgTokens> {
    const { listKeys, ORG_TOKENS_KIND, unlockOrgTokens } = await import('../keys.ts');
    const { keys } = await listKeys(this.home);
    const found = named ?? keys.filter(({ kind }) => kind === ORG_TOKENS_KIND).map(({ name }) => name);
    const name = typeof found === 'string' ? found : found.length === 1 ? found[0] : undefined;
    if (name === undefined) {
      throw new ClientError(
        'TOKENS_NOT_NAMED',
        "This takes the organisation's token keys, and the home has none or more than one set.",
        'Import them: emrchain keys import NAME FILE; or name a set: --tokens NAME.',
      );
    }
    return unlockOrgTokens(this.home, name, await this.passphrase(`Passphrase of ${name}`));
  }

  /**
   * A passphrase from the descriptor or file, which serves all keys of a command, or from the terminal, each time.
   * @param fresh for a new secret: asked for twice at a terminal
   */
  async passphrase(prompt: string, fresh = false): Promise<Uint8Array> {
    const { choosePassphraseSource, readPassphrase } = await import('../../common/native/passphrase.ts');
    const source = choosePassphraseSource(this.#descriptor(), this.environment);
    if (source.kind === 'prompt') return readPassphrase(source, { prompt, fresh });
    this.#sharedPassphrase ??= readPassphrase(source, { prompt, fresh });
    return this.#sharedPassphrase;
  }

  #descriptor(): number | undefined {
    const text = this.options.passphraseFd;
    if (text === undefined) return undefined;
    if (!/^\d{1,4}$/.test(text)) {
      throw new ClientError(
        'DESCRIPTOR_INVALID',
        `"${text}" is not a descriptor.`,
        'Give a number: --passphrase-fd 3.',
      );
    }
    return Number(text);
  }

  /** How transactions of this command are followed. */
  submitOptions(): SubmitOptions {
    const { deadlineMs } = this;
    return {
      ...(deadlineMs === undefined ? {} : { deadlineMs }),
      nowMs: this.nowMs,
      onWaiting: (waitedMs) => this.out.progress(`waiting for the block, ${duration(waitedMs)} …`),
    };
  }

  /** Asks at a terminal; anywhere else, whoever wrote the command line has decided. `--yes` decides too. */
  async confirm(question: string, yes: boolean | undefined): Promise<void> {
    if (yes === true || this.out.json || process.stdin.isTTY !== true || process.stderr.isTTY !== true) return;
    const { createInterface } = await import('node:readline/promises');
    const terminal = createInterface({ input: process.stdin, output: process.stderr });
    try {
      const answer = await terminal.question(`${question} [y/N] `);
      if (/^y(?:es)?$/i.test(answer.trim())) return;
    } finally {
      terminal.close();
    }
    throw new ClientError('NOT_CONFIRMED', 'Nothing was signed.', 'Answer y to go on, or give --yes.');
  }
}

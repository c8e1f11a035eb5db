/** The custodian of a hospital in this process, behind its real socket: its files lie in a folder, and outlive it. */
import type { Server } from 'node:net';
import { join } from 'node:path';
import { Seal } from '../../common/native/custody-seal.ts';
import { SealedStore } from '../../common/native/custody-store.ts';
import { selectSm2Engine } from '../../common/native/sm2-select.ts';
import { type Genesis, genesisHash } from '../../common/protocol/genesis.ts';
import type { CustodianAnswer } from '../../common/protocol/release.ts';
import { Custodian } from '../../node/custodian/custodian.ts';
import { openMemory } from '../../node/custodian/memory.ts';
import { serveCustodian } from '../../node/custodian/socket.ts';
import { genesisBlock } from '../../node/execution/genesis-block.ts';

const { createSigner, engine, random } = selectSm2Engine();

export class CustodianBox {
  readonly orgId: string;
  readonly secret: Uint8Array;
  readonly dir: string;
  readonly genesis: Genesis;
  /** Sets that the operator has confirmed. */
  readonly confirmed = new Set<string>();
  /** What the custodian answers on its way to the node: a dishonest one changes it. */
  bend: (answer: CustodianAnswer) => CustodianAnswer | Promise<CustodianAnswer> = (answer) => answer;
  #server: Server | null = null;

  constructor(orgId: string, secret: Uint8Array, dir: string, genesis: Genesis) {
    this.orgId = orgId;
    this.secret = secret;
    this.dir = join(dir, orgId);
    this.genesis = genesis;
  }

  get socket(): string {
    return join(this.dir, 's');
  }

  async up(): Promise<void> {
    const chainId = genesisHash(this.genesis);
    const { header, hash, block } = genesisBlock(this.genesis);
    const trusted = { chainId, fromHeight: 1, validators: this.genesis.validators };
    const store = await SealedStore.open(join(this.dir, 'custody'), new Seal(chainId, this.secret, random));
    const memory = await openMemory(join(this.dir, 'custodian-height'));
    const custodian = new Custodian({
      orgId: this.orgId,
      trusted,
      privateKey: this.secret,
      signer: createSigner(this.secret),
      engine,
      random,
      memory,
      genesis: memory.seenHeight === 0 ? { bytes: block.header, head: { header, hash, trusted } } : null,
      store,
      confirmedSets: () => Promise.resolve(this.confirmed),
      nowMs: () => Date.now(),
    });
    this.#server = await serveCustodian(
      this.socket,
      async (demand) => this.bend(await custodian.answer(demand)),
      (error) => {
        throw error;
      },
    );
  }

  async down(): Promise<void> {
    const server = this.#server;
    if (server === null) return;
    this.#server = null;
    await new Promise((resolve) => server.close(resolve));
  }
}

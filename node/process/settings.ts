/** The two files that a node is started with: its own configuration, and the genesis that all members share. */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { EmrError } from '../../common/errors.ts';
import type { Genesis } from '../../common/protocol/genesis.ts';
import { GENESIS_FILE, parseGenesisFile } from '../../config/genesis-file.ts';
import { NODE_CONFIG_FILE, type NodeConfig, parseNodeConfig } from '../../config/node-config.ts';

export interface Settings {
  readonly dir: string;
  readonly config: NodeConfig;
  readonly genesis: Genesis;
}

/**
 * @param folder with config.yaml and genesis.yaml
 * @throws ConfigError naming each line and remedy; EmrError CONFIG_MISSING, GENESIS_MISSING
 */
export async function readSettings(folder: string): Promise<Settings> {
  const dir = resolve(folder);
  const configFile = join(dir, NODE_CONFIG_FILE);
  const config = parseNodeConfig(
    configFile,
    await readText(configFile, 'CONFIG_MISSING', 'make the folder with `emrchain init`, or name another with --dir'),
    dir,
  );
  const genesisFile = join(dir, GENESIS_FILE);
  const genesis = parseGenesisFile(
    genesisFile,
    await readText(genesisFile, 'GENESIS_MISSING', 'copy the genesis file that the members agreed on to this place'),
  );
  return { dir, config, genesis };
}

async function readText(path: string, code: string, remedy: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new EmrError(code, `${path} cannot be read (${reason}); ${remedy}.`, { path }, { cause });
  }
}

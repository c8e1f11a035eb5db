/**
 * Makes docs/configuration.md out of the schemas that configurations are checked with, so that the two cannot differ.
 * `node scripts/configuration-docs.ts` writes it; a test holds it to be up to date.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format } from 'prettier';
import type { Schema } from '../config/document.ts';
import { genesisSchema } from '../config/genesis-file.ts';
import { nodeConfigSchema } from '../config/node-config.ts';

const FILE = join(import.meta.dirname, '..', 'docs', 'configuration.md');

type Properties = Readonly<Record<string, Schema>>;

const said = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));
const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

function kindOf(schema: Schema): string {
  const alternatives = schema['anyOf'] as readonly Schema[] | undefined;
  if (alternatives !== undefined) return alternatives.map(kindOf).join(' or ');
  const words = schema['enum'] as readonly string[] | undefined;
  if (words !== undefined) return words.map((word) => `\`${word}\``).join(', ');
  if (schema['const'] !== undefined) return `\`${said(schema['const'])}\``;
  if (schema['type'] === 'object') {
    const properties = Object.keys(schema['properties'] ?? {});
    return properties.length === 0 ? 'object' : `{ ${properties.join(', ')} }`;
  }
  if (schema['type'] === 'array') return `list of ${kindOf((schema['items'] ?? {}) as Schema)}`;
  const [least, most] = [schema['minimum'], schema['maximum']];
  const range = least === undefined || most === undefined ? '' : `, ${said(least)} to ${said(most)}`;
  return `${said(schema['type'])}${range}`;
}

function rows(properties: Properties, path: string): string[] {
  return Object.entries(properties).flatMap(([name, schema]) => {
    const full = path === '' ? name : `${path}.${name}`;
    const inner = schema['type'] === 'object' ? (schema['properties'] as Properties | undefined) : undefined;
    if (inner !== undefined) return rows(inner, full);
    const preset = schema['default'] === undefined ? '' : `\`${JSON.stringify(schema['default'])}\``;
    return [`| \`${full}\` | ${cell(kindOf(schema))} | ${cell(preset)} | ${cell(said(schema['description'] ?? ''))} |`];
  });
}

const table = (properties: Properties): string =>
  ['| setting | value | default | meaning |', '| --- | --- | --- | --- |', ...rows(properties, '')].join('\n');

/** The whole document, formatted as the repository's other ones. */
export async function configurationDocument(): Promise<string> {
  const { params, ...rest } = genesisSchema['properties'] as Properties;
  const parameters = Object.entries((params?.['properties'] ?? {}) as Properties);
  const text = `# Configuration

Made by \`scripts/configuration-docs.ts\` out of the schemas; change those, not this page.

Nothing in a node's configuration affects consensus: those parameters stand in the genesis, and later in the state,
where governance changes them. Every error names file, line and column, and what to write instead;
\`emrchain genesis check DIR\` checks a folder without starting anything.

## config.yaml

One node's own. Relative paths are those of the folder that the file lies in. An empty file is a valid configuration:
it listens on loopback only.

${table(nodeConfigSchema['properties'] as Properties)}

Passphrases stand in no configuration: the terminal asks, or \`EMRCHAIN_PASSPHRASE_FILE\` names a file with mode 0600, or
\`EMRCHAIN_PASSPHRASE_COMMAND\` a program that prints it ([operations](operations.md#a-passphrase-from-a-program)).

## genesis.yaml

The same for all members; its canonical hash is the chain id. \`emrchain genesis create\` makes it out of the members'
cards.

${table(rest)}

### params

What is left out takes its default. Times are in milliseconds.

| parameter | default | least | meaning |
| --- | --- | --- | --- |
${parameters
  .map(
    ([name, { default: preset, least, description }]) =>
      `| \`${name}\` | ${said(preset)} | ${said(least)} | ${cell(said(description))} |`,
  )
  .join('\n')}

The most that each may be, and why, stands in [limits.md](limits.md#chain-parameters).
`;
  return format(text, { parser: 'markdown', printWidth: 120, singleQuote: true, proseWrap: 'preserve' });
}

if (import.meta.main) writeFileSync(FILE, await configurationDocument());

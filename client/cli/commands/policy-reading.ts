/** Reading a policy that a person has written. */
import { readFile } from 'node:fs/promises';
import type { PolicyDocument } from '../../../common/protocol/policy.ts';
import { listKeys, ORG_TOKENS_KIND, type OrgTokens } from '../../keys.ts';
import { parsePolicyFile } from '../../policy-file.ts';
import { tokenOf } from '../../tokens.ts';
import type { Session } from '../session.ts';

/** Token keys where the home has them: a policy that writes tokens itself needs none. */
async function tokensIfAny(session: Session, named: string | undefined): Promise<OrgTokens | undefined> {
  const { keys } = await listKeys(session.home);
  const sets = keys.filter(({ kind }) => kind === ORG_TOKENS_KIND);
  return named !== undefined || sets.length === 1 ? session.tokens(named) : undefined;
}

/** @param nonce 16 bytes: fresh for a new policy, the policy's own for an amendment */
export async function readPolicy(
  session: Session,
  tokenKeys: string | undefined,
  file: string,
  nonce: Uint8Array,
): Promise<PolicyDocument> {
  const source = await readFile(file, 'utf8');
  const needsTokens = /(?:categories|department)\s*:/.test(source);
  const tokens = needsTokens ? await tokensIfAny(session, tokenKeys) : undefined;
  return parsePolicyFile(file, source, nonce, (kind, word) =>
    tokens === undefined ? undefined : tokenOf(tokens, kind, word),
  );
}

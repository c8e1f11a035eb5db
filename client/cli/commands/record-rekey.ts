/** `emrchain record rekey`: the same content under a new key, where the old one is known or kept otherwise than today. */
import { keptOtherwise } from '../../custody.ts';
import type { ProvenRecord } from '../../record-get.ts';
import type { ChainView } from '../../chain-view.ts';
import { hexOf, parseId } from '../../hex.ts';
import type { Result } from '../output.ts';
import { gather } from '../paging.ts';
import type { Session } from '../session.ts';
import { type ConsentOptions, contentTypeOf, offerOrWrite } from './record-writing.ts';

interface RekeyOptions extends ConsentOptions {
  readonly file: string;
  readonly type?: string;
  readonly name?: string;
}

/** A grant in one of these may have opened the key. */
const MAY_HAVE_READ: ReadonlySet<string> = new Set(['granted', 'ended', 'revoked']);
const LISTED = 1_000;

export async function rekey(session: Session, options: RekeyOptions, id: string): Promise<Result> {
  const { provenRecord } = await import('../../record-get.ts');
  const view = await session.view();
  const proven = await provenRecord(view, parseId(id, 32, 'record'));
  const changes = await reasons(view, proven);
  for (const line of changes) session.out.note(line);
  const { content } = proven.version;
  const written = await offerOrWrite(session, options, options.file, () =>
    Promise.resolve({
      path: options.file,
      contentType: options.type ?? contentTypeOf(options.file),
      ...(options.name === undefined ? {} : { name: options.name }),
      policyRef: content.policyRef,
      categoryToken: content.categoryToken,
      target: { kind: 'version', recordId: proven.record.id },
    }),
  );
  return { ...written, json: { ...(written.json as object), replaces: proven.version.version, changes } };
}

/** What the new version changes, and what it cannot change. */
async function reasons(view: ChainView, { record, version }: ProvenRecord): Promise<readonly string[]> {
  const recordId = hexOf(record.id);
  const { items } = await gather(LISTED, (query) => view.rpc.call('acl_listRequests', { recordId, ...query }));
  const ofVersion = items.filter((request) => request.version === version.version);
  const read = ofVersion.filter(({ status }) => MAY_HAVE_READ.has(status)).length;
  const active = ofVersion.filter(({ status }) => status === 'granted').length;
  const otherwise = await keptOtherwise(view, { record, version });
  return [
    ...otherwise,
    ...(read > 0
      ? [`${read} grants may have opened the key of version ${version.version}: whoever read it keeps it.`]
      : []),
    ...(active > 0
      ? [`${active} of them are active and go on for that version: emrchain access revoke ends them.`]
      : []),
    ...(otherwise.length === 0 && read === 0
      ? ['Nobody was granted this version, and its key is kept as new ones are.']
      : []),
  ];
}

/**
 * Files that pass between people who act together: a request to be enrolled, an offer of a record, a consent. JSON with
 * a format name and what a person may read; what is signed lies in it as canonical bytes, and only these are believed.
 */
import { readFile } from 'node:fs/promises';
import { parseHex0x, parseUtf8, utf8 } from '../common/bytes.ts';
import { type Codec, decode } from '../common/codec.ts';
import { writeSecretFile } from '../common/native/secret-file.ts';
import { ClientError } from './errors.ts';

/** Some KiB in truth; a larger file is another one. */
const MAX_DOCUMENT_BYTES = 256 * 1024;

export type DocumentFields = Readonly<Record<string, unknown>>;

const malformed = (path: string, why: string): ClientError =>
  new ClientError('DOCUMENT_MALFORMED', `${path} is not what it should be: ${why}.`, 'Ask for the file again.', {
    path,
  });

/** Writes a document for somebody else, mode 0600: it may name people. Refuses to replace a file. */
export async function writeDocument(path: string, format: string, content: DocumentFields): Promise<void> {
  const text = `${JSON.stringify({ format, version: 1, ...content }, null, 2)}\n`;
  await writeSecretFile(path, utf8(text), false);
}

/** An untrusted document of one of these formats. @throws ClientError DOCUMENT_MALFORMED */
export async function readDocument(
  path: string,
  formats: readonly string[],
): Promise<{ readonly format: string; readonly content: DocumentFields }> {
  const bytes = await readFile(path);
  if (bytes.length > MAX_DOCUMENT_BYTES) throw malformed(path, 'it is too large');
  let value: unknown;
  try {
    value = JSON.parse(parseUtf8(bytes) ?? '');
  } catch {
    throw malformed(path, 'it is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(path, 'it is no object');
  const content = value as DocumentFields;
  const { format, version } = content;
  if (typeof format !== 'string' || !formats.includes(format))
    throw malformed(path, `it is no ${formats.join(' or ')}`);
  if (version !== 1) throw malformed(path, 'its version is unknown');
  return { format, content };
}

/** Bytes of a field. @throws ClientError DOCUMENT_MALFORMED */
export function bytesField(path: string, content: DocumentFields, name: string, length?: number): Uint8Array {
  const value = content[name];
  const bytes = typeof value === 'string' && value.length <= MAX_DOCUMENT_BYTES ? parseHex0x(value, length) : undefined;
  if (bytes === undefined) throw malformed(path, `the field "${name}" is missing or no hex of the right length`);
  return bytes;
}

/** A structure that lies in a field as its canonical bytes. @throws ClientError DOCUMENT_MALFORMED */
export function codecField<T>(
  path: string,
  content: DocumentFields,
  name: string,
  codec: Codec<T>,
  maxBytes: number,
): T {
  const decoded = decode(codec, bytesField(path, content, name), maxBytes);
  if (!decoded.ok) throw malformed(path, `the field "${name}" is ${decoded.message}`);
  return decoded.value;
}

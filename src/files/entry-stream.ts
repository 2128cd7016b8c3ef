/** Trees of files as they pass between host and guest (src/wire/files.ts), as entries of archives. What a guest sends is taken for hostile. */
import { RktError } from '../error.ts';
import { ByteReader } from '../rootfs/byte-reader.ts';
import { quoteName, type ByteSource } from '../rootfs/bytes.ts';
import type { TarData, TarEntry, TarEntryType } from '../rootfs/tar-entry.ts';
import { splitPath } from '../rootfs/path.ts';
import { zeros } from '../rootfs/tar-recipe.ts';
import { complaintAboutPath, FILES_FRAME_MAX_BYTES, PATH_MAX_BYTES, type FileEntry, type FilesMessage } from '../wire/files.ts';
import { encodeFrame, FRAME_HEADER_BYTES } from '../wire/frame.ts';

const ID_MAX = 0xfffffffe;
const SECONDS_MAX = 2 ** 40;
const NANOSECONDS_MAX = 999_999_999;
/** More is not said; a guest could fill a terminal. */
const WARNINGS_MAX = 100;
const MESSAGE_MAX_CHARACTERS = 2000;
const XATTR_NAME = /^[\x21-\x7e\x80-\xff]{1,255}$/;

export interface ReadEntriesOptions {
  warn(message: string): void;
  /** For messages. */
  name: string;
}

/**
 * The entries of a tree that a guest sends, up to its `end`. Paths are relative to the top, whose own is ''. Nothing is kept: what
 * a guest sends takes no memory. Throws RktError GUEST.
 */
export async function* readEntries(source: ByteSource, { warn, name }: ReadEntriesOptions): AsyncGenerator<TarEntry, void, undefined> {
  const reader = new ByteReader(source, Infinity, name);
  try {
    for (;;) {
      const message = await readMessage(reader, name);
      if (message.type === 'end') return;
      if (message.type === 'failed') throw new RktError('GUEST', message.message);
      if (message.type === 'warning') {
        warn(message.message);
        continue;
      }
      const body = new EntryBody(reader, message.type === 'file' ? message.sizeBytes : 0, name);
      yield tarEntryOf(message, body);
      await body.skip();
    }
  } finally {
    await reader.close();
  }
}

/** The next message of the guest. Throws RktError GUEST. */
export async function readMessage(reader: ByteReader, name: string): Promise<FilesMessage> {
  const header = await reader.read(FRAME_HEADER_BYTES);
  if (header.length < FRAME_HEADER_BYTES) throw new RktError('GUEST', `${name}: the connection ended before the copy was complete`);
  const sizeBytes = new DataView(header.buffer, header.byteOffset, FRAME_HEADER_BYTES).getUint32(0, true);
  if (sizeBytes > FILES_FRAME_MAX_BYTES) throw broken(name, `a frame of ${sizeBytes} bytes`);
  const payload = await reader.read(sizeBytes);
  if (payload.length < sizeBytes) throw new RktError('GUEST', `${name}: the connection ended before the copy was complete`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(payload));
  } catch {
    throw broken(name, 'a frame that is not JSON');
  }
  return checkMessage(value, name);
}

/** Says the first ones only. */
export function limitedWarnings(warn: (message: string) => void): (message: string) => void {
  let count = 0;
  return (message) => {
    count++;
    if (count <= WARNINGS_MAX) warn(message);
    if (count === WARNINGS_MAX) warn('further warnings are not shown');
  };
}

function broken(name: string, what: string): RktError {
  return new RktError('GUEST', `${name}: the guest's agent broke the protocol: ${what}`);
}

function checkMessage(value: unknown, name: string): FilesMessage {
  if (typeof value !== 'object' || value === null) throw broken(name, 'a frame that is no object');
  const fields = value as Record<string, unknown>;
  const number = (field: string, max: number, min = 0): number => {
    const found = fields[field];
    if (typeof found !== 'number' || !Number.isSafeInteger(found) || found < min || found > max) throw broken(name, `entry.${field}`);
    return found;
  };
  const byteString = (field: string): string => {
    const found = fields[field];
    if (typeof found !== 'string' || found.length > PATH_MAX_BYTES || !/^[\x01-\xff]*$/.test(found)) throw broken(name, `entry.${field}`);
    return found;
  };
  const path = (field: string): string => {
    const found = byteString(field);
    const complaint = complaintAboutPath(found);
    if (complaint !== undefined) throw broken(name, `entry.${field} with ${complaint}`);
    return found;
  };
  const text = (): string => {
    const { message } = fields;
    if (typeof message !== 'string') throw broken(name, 'a message without text');
    return printable(message);
  };
  const attributes = (): Omit<Extract<FileEntry, { type: 'directory' }>, 'type'> => ({
    path: path('path'),
    mode: number('mode', 0o7777),
    uid: number('uid', ID_MAX),
    gid: number('gid', ID_MAX),
    seconds: number('seconds', SECONDS_MAX, -SECONDS_MAX),
    nanoseconds: number('nanoseconds', NANOSECONDS_MAX),
    ...(fields['xattrs'] === undefined ? {} : { xattrs: checkXattrs(fields['xattrs'], name) }),
  });
  switch (fields['type']) {
    case 'end':
      return { type: 'end' };
    case 'failed':
      return { type: 'failed', message: text() };
    case 'warning':
      return { type: 'warning', message: text() };
    case 'directory':
      return { type: 'directory', ...attributes() };
    case 'fifo':
      return { type: 'fifo', ...attributes() };
    case 'file':
      return { type: 'file', ...attributes(), sizeBytes: number('sizeBytes', Number.MAX_SAFE_INTEGER) };
    case 'symlink': {
      const target = byteString('target');
      if (target === '') throw broken(name, 'a symbolic link to nothing');
      return { type: 'symlink', ...attributes(), target };
    }
    case 'hardlink':
      return { type: 'hardlink', ...attributes(), target: path('target') };
    case 'character':
      return { type: 'character', ...attributes(), major: number('major', 0xfff), minor: number('minor', 0xfffff) };
    case 'block':
      return { type: 'block', ...attributes(), major: number('major', 0xfff), minor: number('minor', 0xfffff) };
    default:
      throw broken(name, 'an unknown kind of entry');
  }
}

function checkXattrs(value: unknown, name: string): Record<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw broken(name, 'entry.xattrs');
  for (const [key, content] of Object.entries(value)) {
    if (!XATTR_NAME.test(key) || typeof content !== 'string' || content.length % 2 !== 0 || !/^[0-9a-f]*$/.test(content)) throw broken(name, 'entry.xattrs');
  }
  return value as Record<string, string>;
}

/** What a guest says, without what a terminal would act on. */
function printable(text: string): string {
  return text.slice(0, MESSAGE_MAX_CHARACTERS).replaceAll(/[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, '?');
}

/** A file's content within the stream; can be read once. */
class EntryBody implements AsyncIterable<TarData> {
  readonly #reader: ByteReader;
  readonly #sizeBytes: number;
  readonly #name: string;
  #at = 0;

  constructor(reader: ByteReader, sizeBytes: number, name: string) {
    this.#reader = reader;
    this.#sizeBytes = sizeBytes;
    this.#name = name;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TarData> {
    while (this.#at < this.#sizeBytes) {
      const data = await this.#reader.readSome(this.#sizeBytes - this.#at);
      if (data.length === 0) throw new RktError('GUEST', `${this.#name}: the connection ended before the copy was complete`);
      const offsetBytes = this.#at;
      this.#at += data.length;
      yield { offsetBytes, data };
    }
  }

  /** What nobody has read. */
  async skip(): Promise<void> {
    for await (const _ of this);
  }
}

function tarEntryOf(entry: FileEntry, body: EntryBody): TarEntry {
  const xattrs = Object.entries(entry.xattrs ?? {}).map(([name, value]): [string, Uint8Array] => [name, Buffer.from(value, 'hex')]);
  return {
    type: entry.type,
    path: entry.path,
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime: { seconds: entry.seconds, nanoseconds: entry.nanoseconds },
    linkPath: 'target' in entry ? entry.target : '',
    device: 'major' in entry ? { major: entry.major, minor: entry.minor } : { major: 0, minor: 0 },
    xattrs: new Map(xattrs),
    sizeBytes: entry.type === 'file' ? entry.sizeBytes : 0,
    extents: undefined,
    body,
  };
}

/** What the agent is sent for the entries, `end` included. Paths are brought into the form of the protocol. Throws RktError BAD_INPUT. */
export async function* encodeEntries(entries: AsyncIterable<TarEntry>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const entry of entries) {
    yield encodeFrame(wireEntryOf(entry));
    if (entry.type !== 'file') continue;
    let at = 0;
    for await (const { offsetBytes, data } of entry.body) {
      yield* zeros(offsetBytes - at);
      yield data;
      at = offsetBytes + data.length;
    }
    yield* zeros(entry.sizeBytes - at);
  }
  yield encodeFrame({ type: 'end' });
}

function wireEntryOf(entry: TarEntry): FileEntry {
  const { mode, uid, gid, mtime } = entry;
  const attributes = { path: cleanPath(entry.path), mode, uid, gid, ...mtime };
  switch (entry.type) {
    case 'file':
      return { type: 'file', ...attributes, sizeBytes: entry.sizeBytes };
    case 'symlink':
      return { type: 'symlink', ...attributes, target: entry.linkPath };
    case 'hardlink':
      return { type: 'hardlink', ...attributes, target: cleanPath(entry.linkPath) };
    case 'character':
    case 'block':
      return { type: entry.type, ...attributes, ...entry.device };
    default:
      return { type: entry.type, ...attributes };
  }
}

function cleanPath(path: string): string {
  const components = splitPath(path);
  if (typeof components === 'string') throw new RktError('BAD_INPUT', `${quoteName(path)}: ${components}`);
  return components.join('/');
}

/** Kinds that are not made outside of images. */
export function isSpecial(type: TarEntryType): boolean {
  return type === 'character' || type === 'block' || type === 'fifo';
}

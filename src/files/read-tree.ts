/** Files of this host as entries of an archive. */
import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, readlinkSync, readSync, statSync } from 'node:fs';
import type { BigIntStats } from 'node:fs';
import { isErrno } from '../linux/errno.ts';
import { byteStringFrom, bytesOf, quoteName } from '../rootfs/bytes.ts';
import type { TarData, TarEntry } from '../rootfs/tar-entry.ts';

const CHUNK_BYTES = 256 << 10;
const NO_BODY: AsyncIterable<TarData> = { async *[Symbol.asyncIterator]() {} };

export interface ReadTreeOptions {
  /** What a symbolic link at the end of the path leads to, instead of the link. */
  followLink: boolean;
  warn(message: string): void;
}

/** Whether the tree's top is a directory. Throws what Node throws when there is nothing. */
export function topOf(path: string, { followLink }: Pick<ReadTreeOptions, 'followLink'>): 'directory' | 'file' {
  const status = followLink ? statSync(path) : lstatSync(path);
  return status.isDirectory() ? 'directory' : 'file';
}

/** The tree at a path, parents first, names in the order of their bytes. The path of the top is ''. */
export async function* readTree(path: string, { followLink, warn }: ReadTreeOptions): AsyncGenerator<TarEntry, void, undefined> {
  const linked = new Map<string, string>();
  const pending = [''];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const at = next === '' ? Buffer.from(path) : Buffer.concat([Buffer.from(`${path}/`), bytesOf(next)]);
    const status = statusOf(at, next === '' && followLink);
    if (status === undefined) continue;
    const attributes = attributesOf(next, status);
    if (status.isDirectory()) {
      yield { ...attributes, type: 'directory' };
      const names = readdirSync(at, { encoding: 'buffer' }).map((name) => byteStringFrom(name)).sort().reverse();
      for (const name of names) pending.push(next === '' ? name : `${next}/${name}`);
    } else if (status.isSymbolicLink()) {
      yield { ...attributes, type: 'symlink', linkPath: byteStringFrom(readlinkSync(at, { encoding: 'buffer' })) };
    } else if (status.isFile()) {
      const key = `${status.dev}:${status.ino}`;
      const first = status.nlink > 1n ? linked.get(key) : undefined;
      if (status.nlink > 1n) linked.set(key, first ?? next);
      if (first !== undefined) yield { ...attributes, type: 'hardlink', linkPath: first };
      else yield* fileEntry(at, attributes);
    } else {
      warn(`${quoteName(byteStringFrom(at))}: not copied: it is neither a file nor a directory nor a symbolic link`);
    }
  }
}

/** Undefined: it has gone since its directory was read. */
function statusOf(path: Buffer, followLink: boolean): BigIntStats | undefined {
  try {
    return followLink ? statSync(path, { bigint: true }) : lstatSync(path, { bigint: true });
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function attributesOf(path: string, status: BigIntStats): Omit<TarEntry, 'type'> {
  const nanoseconds = ((status.mtimeNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return {
    path,
    mode: Number(status.mode & 0o7777n),
    uid: Number(status.uid),
    gid: Number(status.gid),
    mtime: { seconds: Number((status.mtimeNs - nanoseconds) / 1_000_000_000n), nanoseconds: Number(nanoseconds) },
    linkPath: '',
    device: { major: 0, minor: 0 },
    xattrs: new Map(),
    sizeBytes: 0,
    extents: undefined,
    body: NO_BODY,
  };
}

function* fileEntry(path: Buffer, attributes: Omit<TarEntry, 'type'>): Generator<TarEntry> {
  // Not to wait for a writer, should a named pipe have taken the file's place.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const sizeBytes = fstatSync(fd).size;
    yield { ...attributes, type: 'file', sizeBytes, body: contentOf(fd, sizeBytes) };
  } finally {
    closeSync(fd);
  }
}

/** What a file that shrinks meanwhile lacks is left out, which reads as zeros. */
async function* contentOf(fd: number, sizeBytes: number): AsyncGenerator<TarData> {
  for (let offsetBytes = 0; offsetBytes < sizeBytes; ) {
    // The last piece may still be on its way.
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, sizeBytes - offsetBytes));
    const count = readSync(fd, buffer, 0, buffer.length, offsetBytes);
    if (count === 0) return;
    yield { offsetBytes, data: buffer.subarray(0, count) };
    offsetBytes += count;
  }
}

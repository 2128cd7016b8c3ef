/**
 * Entries that come from a guest, written to this host. The guest is hostile: it may send links first and then files behind them,
 * change its mind about what a name is, or never end. Every name is therefore used relative to a descriptor of the directory it is
 * in, which was opened without following links; nothing is written to a file that was there before; memory does not grow with what
 * is sent.
 */
import {
  closeSync, constants, fchmodSync, fchownSync, fstatSync, futimesSync, lchownSync, linkSync, lstatSync, lutimesSync, mkdirSync, openSync, renameSync, rmSync, statfsSync, statSync, symlinkSync, writeSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { randomBytes } from 'node:crypto';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { byteStringOfText, bytesOf, quoteName } from '../rootfs/bytes.ts';
import type { TarEntry } from '../rootfs/index.ts';
import { isSpecial } from './entry-stream.ts';

/** A process may have 1024 files open. */
const DEPTH_MAX = 512;
const SET_ID_BITS = 0o6000;
const NEW_DIRECTORY_MODE = 0o700;
const FOLLOW_NOTHING = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

export interface WriteTreeOptions {
  /** Owners and set-id bits of the entries; else everything belongs to whoever calls. */
  archive: boolean;
  warn(message: string): void;
}

export interface Place {
  /** An existing directory. */
  directory: string;
  /** What the tree's top is called there; null: its top is the directory itself. */
  name: string | null;
}

/**
 * Where a tree goes, in the manner of cp and `docker cp`: into an existing directory, or under a new name.
 * @param name what the top is called; null: only its content is wanted
 * Throws RktError BAD_INPUT
 */
export function placeFor(destination: string, { name, top }: { name: string | null; top: 'directory' | 'other' }): Place {
  const wantsDirectory = destination.endsWith('/');
  // With its slash a file would not be found.
  const status = statSync(wantsDirectory ? resolve(destination) : destination, { throwIfNoEntry: false });
  if (status?.isDirectory() === true) return { directory: destination, name };
  if (status !== undefined && (top === 'directory' || wantsDirectory)) throw new RktError('BAD_INPUT', `${destination} is not a directory`);
  if (status === undefined && wantsDirectory && top === 'other') throw new RktError('BAD_INPUT', `${destination}: no such directory`);
  const directory = dirname(destination);
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory() !== true) throw new RktError('BAD_INPUT', `${directory}: no such directory`);
  return { directory, name: basename(destination) };
}

/** Entries in the order in which readEntries gives them. Throws RktError; what is complete by then stays. */
export async function writeTree(entries: AsyncIterable<TarEntry>, place: Place, options: WriteTreeOptions): Promise<void> {
  const writer = new TreeWriter(place, options);
  try {
    for await (const entry of entries) await writer.write(entry);
    writer.finish();
  } finally {
    writer.close();
  }
}

interface OpenDirectory {
  /** Byte string. */
  name: string;
  fd: number;
  /** Its attributes, set when nothing more comes into it. */
  entry: TarEntry | undefined;
}

class TreeWriter {
  readonly #directory: string;
  readonly #topName: string | null;
  readonly #options: WriteTreeOptions;
  readonly #temporaryName = `.rkt-cp-${randomBytes(8).toString('hex')}`;
  /** The place, and the directories below it that lead to the last entry. */
  readonly #open: OpenDirectory[];

  constructor({ directory, name }: Place, options: WriteTreeOptions) {
    this.#directory = directory;
    this.#topName = name === null ? null : byteStringOfText(name);
    this.#options = options;
    this.#open = [{ name: '', fd: openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY), entry: undefined }];
  }

  async write(entry: TarEntry): Promise<void> {
    const below = entry.path === '' ? [] : entry.path.split('/');
    const components = this.#topName === null ? below : [this.#topName, ...below];
    const name = components.pop();
    if (name === undefined) {
      if (entry.type !== 'directory') throw new RktError('BAD_INPUT', `${this.#directory} is a directory, what is copied is none`);
      return;
    }
    try {
      this.#enter(components);
      await this.#writeInto(this.#open.at(-1)!.fd, name, entry);
    } catch (error) {
      throw this.#explain(error, [...components, name]);
    }
  }

  finish(): void {
    while (this.#open.length > 1) this.#leave();
  }

  close(): void {
    for (const { fd } of this.#open.splice(0)) closeSync(fd);
  }

  /** Makes the directories on the way the open ones. Each must be a directory: it was one when its own entry came. */
  #enter(components: readonly string[]): void {
    if (components.length > DEPTH_MAX) throw new RktError('LIMIT', `directories are nested deeper than ${DEPTH_MAX}`);
    let shared = 0;
    while (shared < components.length && this.#open[shared + 1]?.name === components[shared]) shared++;
    while (this.#open.length > shared + 1) this.#leave();
    for (const name of components.slice(shared)) this.#open.push({ name, fd: openSync(pathIn(this.#open.at(-1)!.fd, name), FOLLOW_NOTHING), entry: undefined });
  }

  #leave(): void {
    const { fd, entry } = this.#open.pop()!;
    try {
      if (entry !== undefined) this.#setAttributes(fd, entry);
    } finally {
      closeSync(fd);
    }
  }

  async #writeInto(directoryFd: number, name: string, entry: TarEntry): Promise<void> {
    if (isSpecial(entry.type)) {
      this.#options.warn(`${quoteName(entry.path)}: not copied: it is ${entry.type === 'fifo' ? 'a named pipe' : 'a device'}`);
    } else if (entry.type === 'directory') {
      this.#writeDirectory(directoryFd, name, entry);
    } else if (entry.type === 'file') {
      await this.#writeFile(directoryFd, name, entry);
    } else {
      const temporary = pathIn(directoryFd, this.#temporaryName);
      try {
        if (entry.type === 'symlink') this.#makeSymlink(temporary, entry);
        else this.#makeLink(temporary, entry);
        renameSync(temporary, pathIn(directoryFd, name));
      } finally {
        rmSync(temporary, { force: true });
      }
    }
  }

  #writeDirectory(directoryFd: number, name: string, entry: TarEntry): void {
    const path = pathIn(directoryFd, name);
    try {
      mkdirSync(path, NEW_DIRECTORY_MODE);
    } catch (error) {
      if (!isErrno(error, 'EEXIST')) throw error;
    }
    this.#open.push({ name, fd: openSync(path, FOLLOW_NOTHING), entry });
  }

  async #writeFile(directoryFd: number, name: string, entry: TarEntry): Promise<void> {
    const { bavail, bsize } = statfsSync(this.#directory);
    if (entry.sizeBytes > bavail * bsize) throw new RktError('NO_SPACE', `${quoteName(entry.path)}: ${entry.sizeBytes} bytes, there is room for ${bavail * bsize}`);
    const temporary = pathIn(directoryFd, this.#temporaryName);
    const fd = openSync(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    try {
      for await (const { offsetBytes, data } of entry.body) {
        for (let written = 0; written < data.length; ) written += writeSync(fd, data, written, data.length - written, offsetBytes + written);
      }
      this.#setAttributes(fd, entry);
      renameSync(temporary, pathIn(directoryFd, name));
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
  }

  #makeSymlink(path: Buffer, entry: TarEntry): void {
    symlinkSync(Buffer.from(bytesOf(entry.linkPath)), path);
    if (this.#options.archive) lchownSync(path, entry.uid, entry.gid);
    const time = secondsOf(entry);
    lutimesSync(path, time, time);
  }

  /** To a file of the same tree, found without following links. */
  #makeLink(path: Buffer, entry: TarEntry): void {
    const components = [...(this.#topName === null ? [] : [this.#topName]), ...entry.linkPath.split('/')];
    const last = components.pop()!;
    let fd = this.#open[0]!.fd;
    const opened: number[] = [];
    try {
      for (const name of components) opened.push((fd = openSync(pathIn(fd, name), FOLLOW_NOTHING)));
      if (!lstatSync(pathIn(fd, last)).isFile()) throw new RktError('GUEST', `${quoteName(entry.path)}: a hard link to something that is no file`);
      linkSync(pathIn(fd, last), path);
    } finally {
      for (const each of opened) closeSync(each);
    }
  }

  /** The mode last: changing the owner takes set-id bits away. */
  #setAttributes(fd: number, entry: TarEntry): void {
    const { archive } = this.#options;
    if (archive) fchownSync(fd, entry.uid, entry.gid);
    const mode = archive ? entry.mode : entry.mode & ~SET_ID_BITS;
    if ((fstatSync(fd).mode & 0o7777) !== mode) fchmodSync(fd, mode);
    const time = secondsOf(entry);
    futimesSync(fd, time, time);
  }

  #explain(error: unknown, components: readonly string[]): unknown {
    if (error instanceof RktError || !(error instanceof Error) || !('code' in error)) return error;
    const path = join(this.#directory, Buffer.from(bytesOf(components.join('/'))).toString());
    const reason = isErrno(error, 'ENOSPC') || isErrno(error, 'EDQUOT') ? 'NO_SPACE' : 'IO';
    const message = isErrno(error, 'ELOOP') || isErrno(error, 'ENOTDIR') ? 'a directory of its path is none' : EXPLAINED[String(error.code)] ?? String(error.code);
    return new RktError(reason, `cannot write ${quoteName(byteStringOfText(path))}: ${message}`);
  }
}

const EXPLAINED: Readonly<Record<string, string>> = {
  EISDIR: 'there is a directory of that name',
  ENOENT: 'its directory has not been sent',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  ENOSPC: 'no space left',
};

/** A name in an open directory: one component, so that nothing is followed on the way. */
function pathIn(directoryFd: number, name: string): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${directoryFd}/`), bytesOf(name)]);
}

function secondsOf({ mtime }: TarEntry): number {
  return mtime.seconds + mtime.nanoseconds / 1e9;
}

/** A tree of files from the host, written into an app. */
import {
  ENOENT, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_RDONLY, O_WRONLY, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS,
  S_IFDIR, S_IFLNK, S_IFMT,
} from '../../runtime/abi.gen.ts';
import { isErrno } from '../../runtime/linux/errors.ts';
import { close, writeAll } from '../../runtime/linux/fds.ts';
import { fstat, isDirectory, type Status } from '../../runtime/linux/files.ts';
import { randomBytes } from '../../runtime/linux/random.ts';
import type { FileEntry, FilesRequest } from '../../src/wire/files.ts';
import { byteString, makeDirectoryAt, makeLinkAt, makeSymlinkAt, openAt, removeAt, renameAt, setModified, setOwnerAndMode, setOwnerOfLink } from './at.ts';
import type { FilesConnection } from './connection.ts';
import { isKernelView } from './kernel-view.ts';
import { parseFileMessage } from './parse.ts';

export interface Owner {
  uid: number;
  gid: number;
}

type InRequest = Extract<FilesRequest, { direction: 'in' }>;
type DirectoryEntry = Extract<FileEntry, { type: 'directory' }>;

const SET_ID_BITS = 0o6000;
const NEW_DIRECTORY_MODE = 0o755;
/** Only the agent gets into it until it belongs to its owner. */
const UNFINISHED_MODE = 0o700;

/**
 * @param rootFd the app's root. Nothing outside of it is ever touched, whatever links the app makes meanwhile: the destination is
 *   resolved with the app's root as the root, and below it no link is followed
 * @param owner the app's user
 */
export async function receiveTree(connection: FilesConnection, rootFd: number, { request, owner }: { request: InRequest; owner: Owner }): Promise<void> {
  const place = openPlace(rootFd, request);
  const writer = new TreeWriter(place, { request, owner });
  try {
    for (;;) {
      const message = parseFileMessage(await connection.readMessage());
      if (message.type === 'end') break;
      const warning = await writer.write(message, connection);
      if (warning !== undefined) await connection.send({ type: 'warning', message: warning });
    }
    writer.finish();
  } finally {
    writer.close();
  }
  await connection.send({ type: 'end' });
}

interface Place {
  /** O_PATH. */
  directoryFd: number;
  /** What the tree's top is called there; null: its top is the directory itself. */
  name: string | null;
}

function openPlace(rootFd: number, request: InRequest): Place {
  const path = byteString(sys.utf8(request.path).subarray(0, -1));
  const clean = withoutTrailingSlashes(path);
  const existingFd = openInRoot(rootFd, clean, 0);
  if (existingFd !== undefined) {
    const status = fstat(existingFd);
    if (isDirectory(status)) return checked({ directoryFd: existingFd, name: request.name === null ? null : byteString(sys.utf8(request.name).subarray(0, -1)) }, request.path);
    close(existingFd);
    if (request.top !== 'file' || clean !== path) throw new Error(`${request.path}: is not a directory`);
  } else if (request.top === 'entries') {
    throw new Error(`${request.path}: no such directory`);
  } else if (request.top === 'file' && clean !== path) {
    throw new Error(`${request.path}: no such directory (without the "/" at its end it would be the new file's name)`);
  }
  const slash = clean.lastIndexOf('/');
  const directoryFd = openInRoot(rootFd, clean.slice(0, slash + 1), O_DIRECTORY);
  const name = clean.slice(slash + 1);
  if (directoryFd === undefined) throw new Error(`${request.path}: the directory it should be in does not exist`);
  return checked({ directoryFd, name }, request.path);
}

function withoutTrailingSlashes(path: string): string {
  let end = path.length;
  while (end > 1 && path[end - 1] === '/') end--;
  return path.slice(0, end);
}

/** Undefined: there is nothing. Links are followed, inside the root. */
function openInRoot(rootFd: number, path: string, flags: number): number | undefined {
  try {
    return openAt(rootFd, path === '' ? '.' : path, { flags: O_PATH | flags, resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS });
  } catch (error) {
    if (isErrno(error, ENOENT)) return undefined;
    throw error;
  }
}

function checked(place: Place, path: string): Place {
  if (place.name === '' || place.name === '.' || place.name === '..' || place.name?.includes('/') === true) {
    close(place.directoryFd);
    throw new Error(`${path}: not a name for a file`);
  }
  if (!isKernelView(place.directoryFd)) return place;
  close(place.directoryFd);
  throw new Error(`${path}: files there are made by the kernel, nothing can be copied to them`);
}

class TreeWriter {
  readonly #place: Place;
  readonly #request: InRequest;
  readonly #owner: Owner;
  readonly #temporaryName = `.rkt-cp-${sys.hex(randomBytes(8))}`;
  /** Directories whose times are set when nothing more comes into them; the outermost first. */
  readonly #open: DirectoryEntry[] = [];
  /** The directory that was written to last: most entries are in the same one as the one before. */
  #parent: { path: string; fd: number } | undefined;

  constructor(place: Place, { request, owner }: { request: InRequest; owner: Owner }) {
    this.#place = place;
    this.#request = request;
    this.#owner = owner;
  }

  /** Returns a warning. */
  async write(entry: FileEntry, connection: FilesConnection): Promise<string | undefined> {
    this.#leaveDirectories(entry.path);
    const { directoryFd, name } = this.#locate(entry.path);
    if (name === null) {
      if (entry.type !== 'directory') throw new Error('the tree has no directory at its top');
      return undefined;
    }
    switch (entry.type) {
      case 'directory':
        this.#writeDirectory(entry, directoryFd, name);
        return undefined;
      case 'file':
        await this.#writeFile(entry, { directoryFd, name, connection });
        return undefined;
      case 'symlink':
        this.#putInPlace(directoryFd, name, () => this.#makeSymlink(entry, directoryFd));
        return undefined;
      case 'hardlink': {
        const from = this.#resolve(entry.target);
        try {
          this.#putInPlace(directoryFd, name, () => makeLinkAt({ directoryFd: from.fd, name: from.name }, { directoryFd, name: this.#temporaryName }));
        } finally {
          close(from.fd);
        }
        return undefined;
      }
      case 'character': case 'block': case 'fifo':
        return `${entry.path}: not copied: it is ${entry.type === 'fifo' ? 'a named pipe' : 'a device'}`;
    }
  }

  finish(): void {
    this.#leaveDirectories(undefined);
  }

  close(): void {
    if (this.#parent !== undefined) close(this.#parent.fd);
    close(this.#place.directoryFd);
  }

  /** Where an entry goes. The descriptor is valid until the next call. */
  #locate(path: string): { directoryFd: number; name: string | null } {
    const { directoryFd, name: topName } = this.#place;
    if (path === '') return { directoryFd, name: topName };
    const whole = topName === null ? path : `${topName}/${path}`;
    const slash = whole.lastIndexOf('/');
    if (slash < 0) return { directoryFd, name: whole };
    const parentPath = whole.slice(0, slash);
    if (this.#parent?.path !== parentPath) {
      const fd = this.#openDirectory(parentPath);
      if (this.#parent !== undefined) close(this.#parent.fd);
      this.#parent = { path: parentPath, fd };
    }
    return { directoryFd: this.#parent.fd, name: whole.slice(slash + 1) };
  }

  /** Of a file written before, with a descriptor of its own. */
  #resolve(path: string): { fd: number; name: string } {
    const whole = this.#place.name === null ? path : `${this.#place.name}/${path}`;
    const slash = whole.lastIndexOf('/');
    return { fd: this.#openDirectory(slash < 0 ? '.' : whole.slice(0, slash)), name: whole.slice(slash + 1) };
  }

  /** What is missing of the path is made: an archive need not name its directories. */
  #openDirectory(path: string): number {
    let fd: number;
    try {
      fd = openAt(this.#place.directoryFd, path, { flags: O_PATH | O_DIRECTORY, resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS });
    } catch (error) {
      if (!isErrno(error, ENOENT)) throw error;
      const slash = path.lastIndexOf('/');
      const parentFd = slash < 0 ? this.#openDirectory('.') : this.#openDirectory(path.slice(0, slash));
      try {
        const made = this.#makeDirectory(parentFd, path.slice(slash + 1));
        setOwnerAndMode(made, { ...this.#owner, mode: NEW_DIRECTORY_MODE });
        close(made);
      } finally {
        close(parentFd);
      }
      fd = openAt(this.#place.directoryFd, path, { flags: O_PATH | O_DIRECTORY, resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS });
    }
    if (!isKernelView(fd)) return fd;
    close(fd);
    throw new Error(`${path}: files there are made by the kernel, nothing can be copied to them`);
  }

  /** A new one, or one that is there. */
  #makeDirectory(directoryFd: number, name: string): number {
    const isNew = makeDirectoryAt(directoryFd, name, UNFINISHED_MODE);
    const fd = openAt(directoryFd, name, { flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW, resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS });
    // The app could have put another one there meanwhile, to be given what is not its own.
    if (!isNew || isOurs(fstat(fd), S_IFDIR)) return fd;
    close(fd);
    throw new Error(`${name}: was replaced while it was copied`);
  }

  #writeDirectory(entry: DirectoryEntry, directoryFd: number, name: string): void {
    const fd = this.#makeDirectory(directoryFd, name);
    try {
      setOwnerAndMode(fd, this.#rightsOf(entry));
    } finally {
      close(fd);
    }
    this.#open.push(entry);
  }

  async #writeFile(entry: Extract<FileEntry, { type: 'file' }>, { directoryFd, name, connection }: { directoryFd: number; name: string; connection: FilesConnection }): Promise<void> {
    const fd = openAt(directoryFd, this.#temporaryName, { flags: O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o600, resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS });
    try {
      for (let left = entry.sizeBytes; left > 0; ) {
        const bytes = await connection.read(left);
        writeAll(fd, bytes);
        left -= bytes.length;
      }
      setOwnerAndMode(fd, this.#rightsOf(entry));
      setModified(fd, entry);
      renameAt(directoryFd, this.#temporaryName, name);
    } catch (error) {
      removeAt(directoryFd, this.#temporaryName);
      throw error;
    } finally {
      close(fd);
    }
  }

  #makeSymlink(entry: Extract<FileEntry, { type: 'symlink' }>, directoryFd: number): void {
    makeSymlinkAt(entry.target, directoryFd, this.#temporaryName);
    const fd = openAt(directoryFd, this.#temporaryName, { flags: O_PATH | O_NOFOLLOW, resolve: RESOLVE_BENEATH });
    try {
      if ((fstat(fd).mode & S_IFMT) !== S_IFLNK) throw new Error(`${entry.path}: was replaced while it was copied`);
      setOwnerOfLink(fd, this.#rightsOf(entry));
      setModified(fd, entry);
    } finally {
      close(fd);
    }
  }

  /** Whatever but a directory has the name gives way in one step. */
  #putInPlace(directoryFd: number, name: string, make: () => void): void {
    try {
      make();
      renameAt(directoryFd, this.#temporaryName, name);
    } finally {
      removeAt(directoryFd, this.#temporaryName);
    }
  }

  #rightsOf({ uid, gid, mode }: FileEntry): { uid: number; gid: number; mode: number } {
    return this.#request.archive ? { uid, gid, mode } : { ...this.#owner, mode: mode & ~SET_ID_BITS };
  }

  /** Sets the times of the directories that an entry is not in. */
  #leaveDirectories(path: string | undefined): void {
    for (let last = this.#open.at(-1); last !== undefined; last = this.#open.at(-1)) {
      const isInside = path !== undefined && (last.path === '' || path.startsWith(`${last.path}/`));
      if (isInside) return;
      this.#open.pop();
      const { directoryFd, name } = this.#locate(last.path);
      if (name === null) continue;
      const fd = openAt(directoryFd, name, { flags: O_PATH | O_NOFOLLOW | O_DIRECTORY, resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS });
      setModified(fd, last);
      close(fd);
    }
  }
}

function isOurs(status: Status, type: number): boolean {
  return status.uid === 0 && status.gid === 0 && status.mode === (type | UNFINISHED_MODE);
}

/** A tree of files of an app, sent to the host. */
import {
  O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, S_IFBLK, S_IFCHR, S_IFDIR,
  S_IFIFO, S_IFLNK, S_IFMT, S_IFREG,
} from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { close, read } from '../../runtime/linux/fds.ts';
import { fstat, type Status } from '../../runtime/linux/files.ts';
import { PATH_MAX_BYTES, type FileEntry, type FilesRequest } from '../../src/wire/files.ts';
import { byteString, namesIn, openAt, readLinkOf, reopen, xattrsOf } from './at.ts';
import type { FilesConnection } from './connection.ts';
import { isKernelView } from './kernel-view.ts';

const CHUNK_BYTES = 256 << 10;
/** An app could make the agent run out of memory with more. */
const NAMES_MAX = 200_000;
/** Files with several names whose first is remembered; the content of others is sent for each name. */
const LINKED_MAX = 50_000;

type OutRequest = Extract<FilesRequest, { direction: 'out' }>;

/** @param rootFd the app's root. Nothing outside of it is ever opened, whatever links the app makes meanwhile. */
export async function sendTree(connection: FilesConnection, rootFd: number, request: OutRequest): Promise<void> {
  // As text it comes, as bytes it is looked up.
  const path = byteString(sys.utf8(request.path).subarray(0, -1));
  const topFd = openAt(rootFd, path === '' ? '.' : path, { flags: O_PATH | (request.followLink ? 0 : O_NOFOLLOW), resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS });
  try {
    await new TreeSender(connection, topFd, request).run();
  } finally {
    close(topFd);
  }
  await connection.send({ type: 'end' });
}

class TreeSender {
  readonly #connection: FilesConnection;
  readonly #topFd: number;
  readonly #wantsXattrs: boolean;
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  /** Device and inode → path of its first name. */
  readonly #linked = new Map<string, string>();
  /** Paths still to be sent, the next one last. */
  readonly #pending: string[] = [];

  constructor(connection: FilesConnection, topFd: number, { xattrs }: OutRequest) {
    this.#connection = connection;
    this.#topFd = topFd;
    this.#wantsXattrs = xattrs;
  }

  async run(): Promise<void> {
    await this.#sendNode('', this.#topFd);
    for (let path = this.#pending.pop(); path !== undefined; path = this.#pending.pop()) {
      const fd = this.#open(path);
      if (fd === undefined) continue;
      try {
        await this.#sendNode(path, fd);
      } finally {
        close(fd);
      }
    }
  }

  /** Undefined: the app has removed it since its directory was read, or put a link in the place of a directory. */
  #open(path: string): number | undefined {
    try {
      return openAt(this.#topFd, path, { flags: O_PATH | O_NOFOLLOW, resolve: RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS });
    } catch (error) {
      if (error instanceof SysError && ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(error.code)) return undefined;
      throw error;
    }
  }

  async #sendNode(path: string, fd: number): Promise<void> {
    const status = fstat(fd);
    const seconds = Number(status.modifiedNs / 1_000_000_000n);
    const isBefore1970 = status.modifiedNs < 0n && status.modifiedNs % 1_000_000_000n !== 0n;
    const attributes = {
      path,
      mode: status.mode & 0o7777,
      uid: status.uid,
      gid: status.gid,
      // Nanoseconds count upwards.
      seconds: isBefore1970 ? seconds - 1 : seconds,
      nanoseconds: Number(((status.modifiedNs % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n),
    };
    switch (status.mode & S_IFMT) {
      case S_IFDIR: {
        // What the kernel shows of itself is no content of the app.
        const isView = isKernelView(fd);
        await this.#connection.send({ type: 'directory', ...attributes, ...this.#xattrs(fd) });
        return isView ? this.#warn(`${shown(path)}: not copied: files there are made by the kernel`) : this.#queue(path, fd);
      }
      case S_IFREG:
        return this.#sendFile({ type: 'file', ...attributes, sizeBytes: status.sizeBytes, ...this.#xattrs(fd) }, fd, status);
      case S_IFLNK:
        return this.#connection.send({ type: 'symlink', ...attributes, target: readLinkOf(fd) });
      case S_IFCHR: case S_IFBLK:
        return this.#connection.send({ type: (status.mode & S_IFMT) === S_IFCHR ? 'character' : 'block', ...attributes, ...status.special });
      case S_IFIFO:
        return this.#connection.send({ type: 'fifo', ...attributes });
      default:
        return this.#warn(`${shown(path)}: not copied: it is a socket`);
    }
  }

  #xattrs(fd: number): { xattrs?: Record<string, string> } {
    const xattrs = this.#wantsXattrs ? xattrsOf(fd) : undefined;
    return xattrs === undefined ? {} : { xattrs };
  }

  #queue(path: string, fd: number): void {
    const listFd = openAt(fd, '.', { flags: O_RDONLY | O_DIRECTORY, resolve: 0 });
    try {
      const names = namesIn(listFd, NAMES_MAX);
      for (let index = names.length - 1; index >= 0; index--) {
        const child = path === '' ? names[index]! : `${path}/${names[index]!}`;
        if (child.length > PATH_MAX_BYTES) throw new Error(`${shown(path)}: names in it are too long to be copied`);
        this.#pending.push(child);
      }
    } finally {
      close(listFd);
    }
  }

  async #sendFile(entry: Extract<FileEntry, { type: 'file' }>, fd: number, status: Status): Promise<void> {
    const key = `${status.device.major}:${status.device.minor}:${status.inode}`;
    const first = status.linkCount > 1 ? this.#linked.get(key) : undefined;
    if (first !== undefined) {
      const { sizeBytes: _, xattrs: __, ...attributes } = entry;
      return this.#connection.send({ ...attributes, type: 'hardlink', target: first });
    }
    if (status.linkCount > 1 && this.#linked.size < LINKED_MAX) this.#linked.set(key, entry.path);
    const contentFd = reopen(fd, O_RDONLY | O_NONBLOCK);
    try {
      await this.#connection.send(entry);
      await this.#sendContent(entry, contentFd);
    } finally {
      close(contentFd);
    }
  }

  async #sendContent({ path, sizeBytes }: Extract<FileEntry, { type: 'file' }>, fd: number): Promise<void> {
    let left = sizeBytes;
    while (left > 0) {
      const count = read(fd, this.#chunk.subarray(0, Math.min(left, CHUNK_BYTES)));
      if (count === 0) break;
      await this.#connection.write(this.#chunk.subarray(0, count));
      left -= count;
    }
    if (left === 0) return;
    const missing = left;
    this.#chunk.fill(0);
    for (; left > 0; left -= Math.min(left, CHUNK_BYTES)) await this.#connection.write(this.#chunk.subarray(0, Math.min(left, CHUNK_BYTES)));
    await this.#warn(`${shown(path)}: shrank while it was copied: its last ${missing} bytes are zero`);
  }

  #warn(message: string): Promise<void> {
    return this.#connection.send({ type: 'warning', message });
  }
}

const shown = (path: string): string => (path === '' ? 'the file itself' : path);

/** Files and directories by path. */
import {
  AT_EMPTY_PATH, AT_FDCWD, AT_REMOVEDIR, AT_SYMLINK_NOFOLLOW, EEXIST, ENOENT, NR_chdir, NR_chroot, NR_fchmodat, NR_fchownat, NR_fsync, NR_ftruncate,
  NR_getdents64, NR_lseek, NR_mkdirat, NR_mknodat, NR_openat, NR_openat2, NR_pread64, NR_pwrite64, NR_readlinkat, NR_renameat2, NR_statfs, NR_statx,
  NR_symlinkat, NR_unlinkat, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_RDONLY, O_TRUNC, O_WRONLY, S_IFDIR, S_IFMT, S_IFREG, SEEK_SET, STATX_BASIC_STATS,
  open_how_flags, open_how_mode, open_how_resolve, sizeof_open_how, sizeof_statfs, sizeof_statx, statfs_f_type, statx_stx_blocks, statx_stx_dev_major,
  statx_stx_ctime_tv_nsec, statx_stx_ctime_tv_sec, statx_stx_dev_minor, statx_stx_gid, statx_stx_ino, statx_stx_mode, statx_stx_mtime_tv_nsec, statx_stx_mtime_tv_sec, statx_stx_nlink,
  statx_stx_rdev_major, statx_stx_rdev_minor, statx_stx_size, statx_stx_uid,
} from '../abi.gen.ts';
import { check, SysError } from './errors.ts';
import { close, read, writeAll } from './fds.ts';

/** A new close-on-exec descriptor. `directoryFd` is where a relative path begins. */
export function open(path: string, flags: number, mode = 0, directoryFd: number = AT_FDCWD): number {
  return check(sys.call(NR_openat, directoryFd, path, flags | O_CLOEXEC, mode), 'open', path);
}

/** openat2(2), with RESOLVE_… flags. */
export function openResolved(directoryFd: number, path: string, options: { flags: number; resolve: number; mode?: number }): number {
  const how = new Uint8Array(sizeof_open_how);
  const view = new DataView(how.buffer);
  view.setBigUint64(open_how_flags, BigInt((options.flags | O_CLOEXEC) >>> 0), true);
  view.setBigUint64(open_how_mode, BigInt(options.mode ?? 0), true);
  view.setBigUint64(open_how_resolve, BigInt(options.resolve), true);
  return check(sys.call(NR_openat2, directoryFd, path, how, sizeof_open_how), 'open', path);
}

export interface Status {
  mode: number;
  linkCount: number;
  uid: number;
  gid: number;
  inode: bigint;
  sizeBytes: number;
  /** Units of 512 bytes that are allocated. */
  blocks: number;
  modifiedNs: bigint;
  /** When content or inode last changed; nobody can set it. */
  changedNs: bigint;
  device: { major: number; minor: number };
  /** What a device node stands for. */
  special: { major: number; minor: number };
}

/** Or -errno: an error is costly to make, and often it is no news that there is nothing. */
function statxAt(directoryFd: number, path: string, flags: number): Status | number {
  const buffer = new Uint8Array(sizeof_statx);
  const result = sys.call(NR_statx, directoryFd, path, flags, STATX_BASIC_STATS, buffer);
  if (result < 0) return result;
  const view = new DataView(buffer.buffer);
  const u32 = (offset: number): number => view.getUint32(offset, true);
  return {
    mode: view.getUint16(statx_stx_mode, true),
    linkCount: u32(statx_stx_nlink),
    uid: u32(statx_stx_uid),
    gid: u32(statx_stx_gid),
    inode: view.getBigUint64(statx_stx_ino, true),
    sizeBytes: Number(view.getBigUint64(statx_stx_size, true)),
    blocks: Number(view.getBigUint64(statx_stx_blocks, true)),
    modifiedNs: view.getBigInt64(statx_stx_mtime_tv_sec, true) * 1_000_000_000n + BigInt(u32(statx_stx_mtime_tv_nsec)),
    changedNs: view.getBigInt64(statx_stx_ctime_tv_sec, true) * 1_000_000_000n + BigInt(u32(statx_stx_ctime_tv_nsec)),
    device: { major: u32(statx_stx_dev_major), minor: u32(statx_stx_dev_minor) },
    special: { major: u32(statx_stx_rdev_major), minor: u32(statx_stx_rdev_minor) },
  };
}

function orThrow(status: Status | number, subject: string | number): Status {
  if (typeof status === 'number') throw new SysError(`stat ${subject}`, -status);
  return status;
}

export const stat = (path: string): Status => orThrow(statxAt(AT_FDCWD, path, 0), path);
export const lstat = (path: string): Status => orThrow(statxAt(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW), path);
export const fstat = (fd: number): Status => orThrow(statxAt(fd, '', AT_EMPTY_PATH), fd);

/** Undefined when the path does not exist or cannot be looked at. */
export function statIfAny(path: string, options: { followLinks: boolean } = { followLinks: true }): Status | undefined {
  const status = statxAt(AT_FDCWD, path, options.followLinks ? 0 : AT_SYMLINK_NOFOLLOW);
  return typeof status === 'number' ? undefined : status;
}

const ignored = new Uint8Array(sizeof_statx);

/** Whether there is something that can be reached. */
export function exists(path: string, options: { followLinks: boolean } = { followLinks: true }): boolean {
  return sys.call(NR_statx, AT_FDCWD, path, options.followLinks ? 0 : AT_SYMLINK_NOFOLLOW, 0, ignored) >= 0;
}

export const isDirectory = (status: Status): boolean => (status.mode & S_IFMT) === S_IFDIR;
export const isRegularFile = (status: Status): boolean => (status.mode & S_IFMT) === S_IFREG;

/** Magic number of the file system a descriptor is on (PROC_SUPER_MAGIC …). */
export function fileSystemType(path: string): number {
  const buffer = new Uint8Array(sizeof_statfs);
  check(sys.call(NR_statfs, path, buffer), 'statfs', path);
  return new DataView(buffer.buffer).getUint32(statfs_f_type, true);
}

/** An existing directory is fine. */
export function makeDirectory(path: string, mode = 0o755): void {
  const result = sys.call(NR_mkdirat, AT_FDCWD, path, mode);
  if (result !== -EEXIST) check(result, 'mkdir', path);
}

/** Creates what is missing of an absolute path, each with `mode`. */
export function makeDirectories(path: string, mode = 0o755): void {
  const result = sys.call(NR_mkdirat, AT_FDCWD, path, mode);
  if (result >= 0 || result === -EEXIST) return;
  if (result !== -ENOENT) check(result, 'mkdir', path);
  const parent = path.slice(0, path.lastIndexOf('/'));
  if (parent === '') check(result, 'mkdir', path);
  makeDirectories(parent, mode);
  makeDirectory(path, mode);
}

/** False when there was nothing to remove. */
export function removeFile(path: string): boolean {
  const result = sys.call(NR_unlinkat, AT_FDCWD, path, 0);
  if (result === -ENOENT) return false;
  check(result, 'unlink', path);
  return true;
}

export function removeDirectory(path: string): void {
  check(sys.call(NR_unlinkat, AT_FDCWD, path, AT_REMOVEDIR), 'rmdir', path);
}

export function rename(from: string, to: string, flags = 0): void {
  check(sys.call(NR_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags), 'rename', from);
}

export function symlink(target: string, path: string): void {
  check(sys.call(NR_symlinkat, target, AT_FDCWD, path), 'symlink', path);
}

export function readLink(path: string): string {
  const buffer = new Uint8Array(4096);
  const length = check(sys.call(NR_readlinkat, AT_FDCWD, path, buffer, buffer.length), 'readlink', path);
  return sys.text(buffer.subarray(0, length));
}

export function makeNode(path: string, mode: number, device: { major: number; minor: number }): void {
  check(sys.call(NR_mknodat, AT_FDCWD, path, mode, (device.major << 8) | device.minor), 'mknod', path);
}

export function changeMode(path: string, mode: number): void {
  check(sys.call(NR_fchmodat, AT_FDCWD, path, mode), 'chmod', path);
}

export function changeOwner(path: string, uid: number, gid: number): void {
  check(sys.call(NR_fchownat, AT_FDCWD, path, uid, gid, 0), 'chown', path);
}

export function changeDirectory(path: string): void {
  check(sys.call(NR_chdir, path), 'chdir', path);
}

export function changeRoot(path: string): void {
  check(sys.call(NR_chroot, path), 'chroot', path);
}

export function truncate(fd: number, sizeBytes: number): void {
  check(sys.call(NR_ftruncate, fd, sizeBytes), 'ftruncate', fd);
}

export function seek(fd: number, offsetBytes: number, whence: number = SEEK_SET): number {
  return check(sys.call(NR_lseek, fd, offsetBytes, whence), 'lseek', fd);
}

export function readAt(fd: number, into: Uint8Array, offsetBytes: number): number {
  return check(sys.call(NR_pread64, fd, into, into.length, offsetBytes), 'pread', fd);
}

export function writeAt(fd: number, from: Uint8Array, offsetBytes: number): number {
  return check(sys.call(NR_pwrite64, fd, from, from.length, offsetBytes), 'pwrite', fd);
}

export function syncFile(fd: number): void {
  check(sys.call(NR_fsync, fd), 'fsync', fd);
}

export interface ReadOptions {
  /** More than this is an error (EFBIG). */
  maxBytes?: number;
  /** Added to O_RDONLY. */
  flags?: number;
}

const EFBIG_ERRNO = 27;

/** The rest of what a descriptor gives. */
export function readToEnd(fd: number, maxBytes = 16 << 20): Uint8Array {
  let buffer = new Uint8Array(4096);
  let length = 0;
  for (;;) {
    const count = read(fd, buffer.subarray(length));
    if (count === 0) return buffer.subarray(0, length);
    length += count;
    if (length > maxBytes) throw new SysError(`read ${fd}`, EFBIG_ERRNO);
    if (length === buffer.length) {
      const larger = new Uint8Array(buffer.length * 2);
      larger.set(buffer);
      buffer = larger;
    }
  }
}

export function readFile(path: string, options: ReadOptions = {}): Uint8Array {
  const fd = open(path, O_RDONLY | (options.flags ?? 0));
  try {
    return readToEnd(fd, options.maxBytes);
  } catch (error) {
    throw error instanceof SysError ? new SysError(`read ${path}`, error.errno) : error;
  } finally {
    close(fd);
  }
}

export function readText(path: string, options: ReadOptions = {}): string {
  return sys.text(readFile(path, options));
}

export interface WriteOptions {
  mode?: number;
  /** Instead of creating or truncating. */
  flags?: number;
}

/** Creates or replaces the content. */
export function writeFile(path: string, content: string | Uint8Array, options: WriteOptions = {}): void {
  const fd = open(path, options.flags ?? (O_WRONLY | O_CREAT | O_TRUNC), options.mode ?? 0o644);
  try {
    writeAll(fd, typeof content === 'string' ? sys.utf8(content).subarray(0, -1) : content);
  } catch (error) {
    throw error instanceof SysError ? new SysError(`write ${path}`, error.errno) : error;
  } finally {
    close(fd);
  }
}

/** One write to a file that exists: for /proc, /sys and cgroup files. */
export function writeControlFile(path: string, value: string): void {
  writeFile(path, value, { flags: O_WRONLY });
}

export interface DirectoryEntry {
  name: string;
  /** DT_… */
  type: number;
}

const DIRENT_LENGTH = 16;
const DIRENT_TYPE = 18;
const DIRENT_NAME = 19;

/** Entries without `.` and `..`, in the file system's order. */
export function readDirectory(path: string): DirectoryEntry[] {
  const fd = open(path, O_RDONLY | O_DIRECTORY);
  const buffer = new Uint8Array(16384);
  const view = new DataView(buffer.buffer);
  const entries: DirectoryEntry[] = [];
  try {
    for (;;) {
      const length = check(sys.call(NR_getdents64, fd, buffer, buffer.length), 'readdir', path);
      if (length === 0) return entries;
      for (let offset = 0; offset < length; offset += view.getUint16(offset + DIRENT_LENGTH, true)) {
        const end = buffer.indexOf(0, offset + DIRENT_NAME);
        const name = sys.text(buffer.subarray(offset + DIRENT_NAME, end));
        if (name !== '.' && name !== '..') entries.push({ name, type: buffer[offset + DIRENT_TYPE] ?? 0 });
      }
    }
  } finally {
    close(fd);
  }
}

/**
 * System calls relative to a descriptor. Names are byte strings (one UTF-16 unit for each byte, see src/wire/files.ts): what an
 * app calls its files need not be UTF-8.
 */
import {
  AT_EMPTY_PATH, AT_FDCWD, EINTR, EEXIST, NR_fchmod, NR_fchown, NR_fchownat, NR_fstatfs, NR_getdents64, NR_getxattr, NR_linkat, NR_listxattr, NR_mkdirat, NR_openat,
  NR_openat2, NR_readlinkat, NR_renameat2, NR_symlinkat, NR_unlinkat, NR_utimensat, O_CLOEXEC, open_how_flags, open_how_mode, open_how_resolve, sizeof_open_how, sizeof_statfs, statfs_f_type,
} from '../../runtime/abi.gen.ts';
import { check } from '../../runtime/linux/errors.ts';

const PATH_BUFFER_BYTES = 4096;
const DIRECTORY_BUFFER_BYTES = 32 << 10;
const XATTR_VALUE_MAX_BYTES = 64 << 10;
const DIRENT_LENGTH = 16;
const DIRENT_NAME = 19;

/** As a system call takes it. */
function argument(name: string): string | Uint8Array {
  // Nearly all names are ASCII, which C converts.
  if (sys.utf8(name).length === name.length + 1) return name;
  const bytes = new Uint8Array(name.length + 1);
  for (let index = 0; index < name.length; index++) bytes[index] = name.charCodeAt(index);
  return bytes;
}

export function byteString(bytes: Uint8Array): string {
  const text = sys.text(bytes);
  // As many characters as bytes, and none that stands for a broken one: ASCII.
  if (text.length === bytes.length && !text.includes('\ufffd')) return text;
  let name = '';
  for (const byte of bytes) name += String.fromCharCode(byte);
  return name;
}

/** openat2(2) with RESOLVE_… flags; close-on-exec. Throws SysError naming the path. */
export function openAt(directoryFd: number, path: string, { flags, resolve, mode = 0 }: { flags: number; resolve: number; mode?: number }): number {
  const how = new Uint8Array(sizeof_open_how);
  const view = new DataView(how.buffer);
  view.setBigUint64(open_how_flags, BigInt((flags | O_CLOEXEC) >>> 0), true);
  view.setBigUint64(open_how_mode, BigInt(mode), true);
  view.setBigUint64(open_how_resolve, BigInt(resolve), true);
  return check(sys.call(NR_openat2, directoryFd, argument(path), how, sizeof_open_how), 'open', path);
}

/** Another descriptor of the very same file, for reading or writing; `fd` may be an O_PATH one. */
export function reopen(fd: number, flags: number): number {
  return check(sys.call(NR_openat, AT_FDCWD, procPath(fd), flags | O_CLOEXEC, 0), 'open', fd);
}

const procPath = (fd: number): string => `/proc/self/fd/${fd}`;

/** False: there is something of that name. */
export function makeDirectoryAt(directoryFd: number, name: string, mode: number): boolean {
  const result = sys.call(NR_mkdirat, directoryFd, argument(name), mode);
  if (result === -EEXIST) return false;
  check(result, 'mkdir', name);
  return true;
}

export function makeSymlinkAt(target: string, directoryFd: number, name: string): void {
  check(sys.call(NR_symlinkat, argument(target), directoryFd, argument(name)), 'symlink', name);
}

export function makeLinkAt(from: { directoryFd: number; name: string }, to: { directoryFd: number; name: string }): void {
  check(sys.call(NR_linkat, from.directoryFd, argument(from.name), to.directoryFd, argument(to.name), 0), 'link', to.name);
}

export function renameAt(directoryFd: number, from: string, to: string): void {
  check(sys.call(NR_renameat2, directoryFd, argument(from), directoryFd, argument(to), 0), 'rename', to);
}

/** Whether it was there is of no interest. */
export function removeAt(directoryFd: number, name: string): void {
  sys.call(NR_unlinkat, directoryFd, argument(name), 0);
}

/** Target of the symbolic link that an O_PATH descriptor stands for. */
export function readLinkOf(fd: number): string {
  const buffer = new Uint8Array(PATH_BUFFER_BYTES);
  const length = check(sys.call(NR_readlinkat, fd, '', buffer, buffer.length), 'readlink', fd);
  return byteString(buffer.subarray(0, length));
}

/** `fd` is open for reading or writing. The mode last: changing the owner takes set-id bits away. */
export function setOwnerAndMode(fd: number, { uid, gid, mode }: { uid: number; gid: number; mode: number }): void {
  check(sys.call(NR_fchown, fd, uid, gid), 'chown', fd);
  check(sys.call(NR_fchmod, fd, mode), 'chmod', fd);
}

/** Of what an O_PATH descriptor stands for, be it a link. */
export function setOwnerOfLink(fd: number, { uid, gid }: { uid: number; gid: number }): void {
  check(sys.call(NR_fchownat, fd, '', uid, gid, AT_EMPTY_PATH), 'chown', fd);
}

/** `fd` may be an O_PATH one. */
export function setModified(fd: number, { seconds, nanoseconds }: { seconds: number; nanoseconds: number }): void {
  const times = new BigInt64Array([BigInt(seconds), BigInt(nanoseconds), BigInt(seconds), BigInt(nanoseconds)]);
  check(sys.call(NR_utimensat, fd, '', times, AT_EMPTY_PATH), 'utimensat', fd);
}

/** Magic number of the file system (PROC_SUPER_MAGIC …). */
export function fileSystemTypeOf(fd: number): number {
  const buffer = new Uint8Array(sizeof_statfs);
  check(sys.call(NR_fstatfs, fd, buffer), 'statfs', fd);
  return new DataView(buffer.buffer).getUint32(statfs_f_type, true);
}

/** Names in a directory open for reading, without `.` and `..`, sorted by their bytes. More than `limit` are an error. */
export function namesIn(fd: number, limit: number): string[] {
  const buffer = new Uint8Array(DIRECTORY_BUFFER_BYTES);
  const view = new DataView(buffer.buffer);
  const names: string[] = [];
  for (;;) {
    const length = sys.call(NR_getdents64, fd, buffer, buffer.length);
    if (length === -EINTR) continue;
    check(length, 'readdir', fd);
    if (length === 0) return names.sort();
    for (let offset = 0; offset < length; offset += view.getUint16(offset + DIRENT_LENGTH, true)) {
      const start = offset + DIRENT_NAME;
      const name = byteString(buffer.subarray(start, buffer.indexOf(0, start)));
      if (name === '.' || name === '..') continue;
      if (names.push(name) > limit) throw new Error(`more than ${limit} names in one directory`);
    }
  }
}

/** Name → value in hexadecimal; undefined when there are none. `fd` may be an O_PATH one of a file or directory. */
export function xattrsOf(fd: number): Record<string, string> | undefined {
  const list = new Uint8Array(XATTR_VALUE_MAX_BYTES);
  const length = sys.call(NR_listxattr, procPath(fd), list, list.length);
  if (length <= 0) return undefined;
  const xattrs: Record<string, string> = {};
  const value = new Uint8Array(XATTR_VALUE_MAX_BYTES);
  for (let start = 0; start < length; ) {
    const end = list.indexOf(0, start);
    const name = list.slice(start, end + 1);
    start = end + 1;
    const size = sys.call(NR_getxattr, procPath(fd), name, value, value.length);
    if (size >= 0) xattrs[byteString(name.subarray(0, -1))] = sys.hex(value.subarray(0, size));
  }
  return xattrs;
}

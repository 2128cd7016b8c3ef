/** Copies directories with owners, modes and times. Links are copied, never followed; a hard link becomes a file of its own. */
import { AT_FDCWD, AT_SYMLINK_NOFOLLOW, NR_fchownat, NR_sendfile, NR_utimensat, O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../runtime/abi.gen.ts';
import { check } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { changeMode, lstat, makeDirectory, makeNode, open, readDirectory, readLink, stat, symlink, type Status } from '../../runtime/linux/files.ts';

const CHUNK_BYTES = 1 << 30;
const NS_PER_S = 1_000_000_000n;

/** What is in one directory, into another. */
export function copyContent(from: string, to: string): void {
  for (const { name } of readDirectory(from)) copyEntry(`${from}/${name}`, `${to}/${name}`);
}

/** Of directories. */
export function copyAttributes(from: string, to: string): void {
  setAttributes(stat(from), to);
}

function copyEntry(from: string, to: string): void {
  const status = lstat(from);
  switch (status.mode & S_IFMT) {
    case S_IFDIR:
      makeDirectory(to, 0o700);
      copyContent(from, to);
      break;
    case S_IFLNK:
      symlink(readLink(from), to);
      break;
    case S_IFREG:
      copyFile(from, to);
      break;
    default:
      makeNode(to, status.mode, status.special);
  }
  setAttributes(status, to);
}

function copyFile(from: string, to: string): void {
  const source = open(from, O_RDONLY | O_NOFOLLOW);
  const target = open(to, O_WRONLY | O_CREAT | O_EXCL, 0o600);
  while (check(sys.call(NR_sendfile, target, source, null, CHUNK_BYTES), 'copy', to) > 0);
  close(target);
  close(source);
}

/** A new owner takes set-uid bits away, so the mode comes after it. */
function setAttributes({ mode, uid, gid, modifiedNs }: Status, path: string): void {
  const isLink = (mode & S_IFMT) === S_IFLNK;
  check(sys.call(NR_fchownat, AT_FDCWD, path, uid, gid, isLink ? AT_SYMLINK_NOFOLLOW : 0), 'chown', path);
  if (!isLink) changeMode(path, mode & 0o7777);
  const time = [modifiedNs / NS_PER_S, modifiedNs % NS_PER_S];
  check(sys.call(NR_utimensat, AT_FDCWD, path, new BigInt64Array([...time, ...time]), isLink ? AT_SYMLINK_NOFOLLOW : 0), 'utimensat', path);
}

/** One virtiofsd for each volume of kind host: started before QEMU, watched as long as the pod lives, gone with it. */
import { ENOENT, EPOLLIN, NR_getgid, NR_getuid, O_PATH, S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK } from '../../runtime/abi.gen.ts';
import { isErrno, SysError } from '../../runtime/linux/errors.ts';
import { close, pipe } from '../../runtime/linux/fds.ts';
import { fstat, isDirectory, isRegularFile, open, readLink, removeFile } from '../../runtime/linux/files.ts';
import { pidfdOpen, type ProcessEnd } from '../../runtime/linux/process.ts';
import { connectUnix, listenUnix } from '../../runtime/linux/sockets.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';
import type { HostShare } from '../../src/wire/messages.ts';
import { reapChild } from '../children.ts';
import { drainText } from '../console.ts';
import { Stage1Error } from '../error.ts';
import { startJailed } from '../jail.ts';
import type { HostVolume } from './host-volumes.ts';
import { SHARED_DIRECTORY, sharePlace, type ShareSource } from './share-place.ts';
import { findVirtiofsd } from './virtiofsd.ts';

/** Its socket while it is being connected, in the pod directory. */
const SOCKET_PATH = 'volume.sock';
/** virtiofsd ends with QEMU, and a dying QEMU closes its sockets before it is dead: whoever waits for QEMU says what happened. */
const QEMU_END_MS = 2_000;
const SHOWN_LINES = 6;

interface Share {
  volume: HostVolume;
  kind: ShareSource['kind'];
  qemuFd: number;
  pid: number;
  pidfd: number;
  /** Read end of its standard error. */
  errorFd: number;
}

export interface Shares {
  /** In the order of the volumes: connected vhost-user sockets, and what the guest is told. */
  qemuFds: readonly number[];
  inGuest: readonly HostShare[];
  /** QEMU has its sockets. @param onEnd a virtiofsd has ended, and the pod with it */
  watch(onEnd: (error: Stage1Error) => void): void;
}

/** @throws Stage1Error naming the volume */
export function startShares(volumes: readonly HostVolume[]): Shares {
  const shares = volumes.map(startShare);
  return {
    qemuFds: shares.map(({ qemuFd }) => qemuFd),
    inGuest: shares.map(({ volume, kind }) => ({ tag: volume.tag, volume: volume.name, app: volume.app, kind })),
    watch(onEnd) {
      for (const share of shares) watchShare(share, onEnd);
    },
  };
}

function startShare(volume: HostVolume): Share {
  const program = findVirtiofsd();
  const source = openSource(volume);
  removeFile(SOCKET_PATH);
  const socketFd = listenUnix(SOCKET_PATH);
  const errors = pipe();
  try {
    // The only one who can connect has done it before virtiofsd accepts.
    const qemuFd = connectUnix(SOCKET_PATH, { nonBlocking: false });
    const pid = startJailed({
      program: program.path,
      arguments: program.arguments({ socketFd, directory: SHARED_DIRECTORY, hasSubmounts: volume.recursive && source.kind === 'directory' }),
      fds: [socketFd],
      stderrFd: errors.writeEnd,
      ownFds: [qemuFd, errors.readEnd],
      user: null,
      hostNetwork: false,
      place: sharePlace(source),
    });
    return { volume, kind: source.kind, qemuFd, pid, pidfd: pidfdOpen(pid), errorFd: errors.readEnd };
  } catch (error) {
    if (error instanceof SysError) throw new Stage1Error(`volume "${volume.name}": starting virtiofsd: ${error.message}`);
    throw error;
  } finally {
    removeFile(SOCKET_PATH);
    close(socketFd);
    close(errors.writeEnd);
  }
}

const SPECIAL_FILES = new Map([[S_IFSOCK, 'a socket'], [S_IFIFO, 'a named pipe'], [S_IFCHR, 'a character device'], [S_IFBLK, 'a block device']]);

/** What the source is now, whatever takes its place later. */
function openSource({ name, source, readOnly, recursive }: HostVolume): ShareSource {
  let fd: number;
  try {
    fd = open(source, O_PATH);
  } catch (error) {
    if (isErrno(error, ENOENT)) throw new Stage1Error(`volume "${name}": source ${source} does not exist`);
    if (error instanceof SysError) throw new Stage1Error(`volume "${name}": source ${source}: ${error.message}`);
    throw error;
  }
  try {
    const status = fstat(fd);
    if (!isDirectory(status) && !isRegularFile(status)) {
      const what = SPECIAL_FILES.get(status.mode & S_IFMT) ?? 'no file';
      throw new Stage1Error(`volume "${name}": source ${source} is ${what}: only directories and regular files can be shared with a virtual machine`);
    }
    const uid = sys.call(NR_getuid);
    const user = uid === 0 ? null : { uid, gid: sys.call(NR_getgid) };
    return { path: readLink(`/proc/self/fd/${fd}`), kind: isDirectory(status) ? 'directory' : 'file', readOnly, recursive, user };
  } finally {
    close(fd);
  }
}

function watchShare(share: Share, onEnd: (error: Stage1Error) => void): void {
  const { volume, pid, pidfd, errorFd } = share;
  close(share.qemuFd);
  const errors = drainText(errorFd);
  watch(pidfd, EPOLLIN, () => {
    unwatch(pidfd);
    const end = reapChild(pid);
    after(QEMU_END_MS, () => {
      errors.drain();
      const said = errors.tail(SHOWN_LINES).map((line) => `\n  ${line}`).join('');
      onEnd(new Stage1Error(`volume "${volume.name}": virtiofsd ended ${describe(end)} while the pod was running${said}`));
    });
  });
}

function describe(end: ProcessEnd | undefined): string {
  if (end?.kind === 'signal') return `by signal ${end.signal}`;
  return `with status ${end?.code ?? 'unknown'}`;
}

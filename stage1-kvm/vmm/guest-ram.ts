/** The guest's memory: a file without a name, which QEMU and the vsock device of this program both map. */
import {
  EPOLLIN, F_SEAL_GROW, F_SEAL_SHRINK, F_SETFD, FSCONFIG_CMD_CREATE, FSCONFIG_SET_STRING, FSMOUNT_CLOEXEC, FSOPEN_CLOEXEC, MADV_POPULATE_READ, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID, NR_execve, NR_fchown, NR_fcntl, NR_fsconfig, NR_fsmount, NR_fsopen, NR_madvise, O_RDWR, O_TMPFILE, PR_SET_PDEATHSIG, NR_prctl, PROT_READ, SIGKILL,
} from '../../runtime/abi.gen.ts';
import { check, SysError } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { open, truncate } from '../../runtime/linux/files.ts';
import { addSeals, mapMemory, memfd } from '../../runtime/linux/memory.ts';
import { pidfdOpen, spawn } from '../../runtime/linux/process.ts';
import { unblockSignals } from '../../runtime/linux/signals.ts';
import { unwatch, watch } from '../../runtime/loop.ts';
import { adoptChild, reapChild } from '../children.ts';

const MIB = 2 ** 20;
/** What every guest writes while it boots: firmware and page tables, the kernel and what lies behind it; and, at the end of its memory, the initramfs and its first allocations. */
const BOOT_RANGES_MIB = [[0, 8], [16, 32]] as const;
const BOOT_TAIL_MIB = 12;

/**
 * In huge pages where the system has them: a guest that boots touches new memory all the time, and each first touch
 * costs the host a fault. @param owner who may open it, QEMU's user
 */
export function makeGuestRam(sizeMiB: number, owner: number | null): number {
  try {
    return hugePageFile(sizeMiB, owner);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    // Not root, or a kernel without huge pages in tmpfs.
    const fd = memfd('guest-ram', sizeMiB * MIB);
    addSeals(fd, F_SEAL_SHRINK | F_SEAL_GROW);
    return fd;
  }
}

/** A file of a tmpfs that is mounted nowhere, and is gone with the last descriptor (fsopen(2), Documentation/admin-guide/mm/transhuge.rst). */
function hugePageFile(sizeMiB: number, owner: number | null): number {
  const context = check(sys.call(NR_fsopen, 'tmpfs', FSOPEN_CLOEXEC), 'fsopen', 'tmpfs');
  try {
    for (const [key, value] of [['huge', 'always'], ['size', `${sizeMiB}m`], ['mode', '700']] as const) {
      check(sys.call(NR_fsconfig, context, FSCONFIG_SET_STRING, key, value, 0), 'fsconfig', key);
    }
    check(sys.call(NR_fsconfig, context, FSCONFIG_CMD_CREATE, null, null, 0), 'fsconfig', 'tmpfs');
    const mount = check(sys.call(NR_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC), 'fsmount', 'tmpfs');
    try {
      const fd = open('.', O_RDWR | O_TMPFILE, 0o600, mount);
      truncate(fd, sizeMiB * MIB);
      if (owner !== null) check(sys.call(NR_fchown, fd, owner, owner), 'fchown', fd);
      return fd;
    } finally {
      close(mount);
    }
  } finally {
    close(context);
  }
}

/**
 * Starts a process that has the memory of the boot allocated while QEMU is still setting up its machine, on another
 * processor. It ends by itself; nothing is lost if it cannot be started.
 */
export function startPrefault(ramFd: number, sizeMiB: number): void {
  const result = spawn([
    unblockSignals(),
    [NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0],
    [NR_fcntl, ramFd, F_SETFD, 0],
    [NR_execve, '/proc/self/exe', ['init', 'prefault', String(ramFd), String(sizeMiB)], []],
  ]);
  if (result.kind === 'failed') return;
  const process = pidfdOpen(adoptChild(result.pid));
  watch(process, EPOLLIN, () => {
    unwatch(process);
    close(process);
    reapChild(result.pid);
  });
}

/** That process. It only reads: QEMU is loading the kernel into the same memory. */
export function prefault(ramFd: number, sizeMiB: number): void {
  const tail = [Math.max(0, sizeMiB - BOOT_TAIL_MIB), sizeMiB] as const;
  for (const [from, to] of [...BOOT_RANGES_MIB, tail]) {
    if (to > sizeMiB) continue;
    const { address, lengthBytes } = mapMemory({ fd: ramFd, lengthBytes: (to - from) * MIB, offsetBytes: from * MIB, protection: PROT_READ });
    sys.call(NR_madvise, address, lengthBytes, MADV_POPULATE_READ);
  }
}

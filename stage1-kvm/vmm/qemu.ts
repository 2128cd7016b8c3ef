/** Starts QEMU as a process that owns nothing but the descriptors of its pod. */
import {
  CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUTS, ENOENT, NR_close, NR_dup3, NR_execve, NR_fcntl, NR_prctl, NR_prlimit64, NR_setgroups, NR_setresgid, NR_setresuid,
  NR_setsid, NR_umask, NR_write, F_SETFD, O_RDWR, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, RLIMIT_CORE, RLIMIT_NOFILE, SIGKILL,
} from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { open, statIfAny } from '../../runtime/linux/files.ts';
import { spawnSteps, type Step } from '../../runtime/linux/process.ts';
import { unblockSignals } from '../../runtime/linux/signals.ts';
import { isErrno, SysError } from '../../runtime/linux/errors.ts';
import { Stage1Error } from '../error.ts';

const QEMU_PATHS = ['/usr/bin/qemu-system-x86_64', '/usr/local/bin/qemu-system-x86_64'];
/** Users of pods, far from any that a system hands out: the lower 28 bits come from the pod's UUID. */
const FIRST_UID = 0x50000000;
const MAX_OPEN_FILES = 4096n;

export interface Jail {
  /** Null: this process is not root, QEMU runs as the same user. */
  user: { uid: number; gid: number; groups: readonly number[] } | null;
  /** Whether QEMU needs the host's network (user-mode networking). */
  hostNetwork: boolean;
}

export interface QemuProcess {
  arguments: readonly string[];
  /** What QEMU inherits, under the same numbers. */
  fds: readonly number[];
  /** QEMU's standard error. */
  stderrFd: number;
  /** Read ends of the pipes to this process: the child must not keep its own parent's readers alive. */
  ownFds: readonly number[];
  jail: Jail;
}

/** The pod's own user and group. Pure. */
export function podUserId(uuid: string): number {
  return FIRST_UID + Number.parseInt(uuid.slice(0, 7), 16);
}

/** @throws Stage1Error naming the package to install */
export function findQemu(): string {
  const path = QEMU_PATHS.find((candidate) => statIfAny(candidate) !== undefined);
  if (path === undefined) throw new Stage1Error('qemu-system-x86_64 is not installed', 'install it: apt-get install qemu-system-x86');
  return path;
}

/**
 * What the child does before it becomes QEMU. The order matters: the death signal is lost when the user changes, and a
 * parent that died before it was set is noticed by the write that follows.
 */
export function qemuSteps(program: string, nullFd: number, process: QemuProcess): Step[] {
  const { jail } = process;
  const steps: Step[] = [
    { name: 'sigprocmask', operation: unblockSignals() },
    // A session of its own: the terminal's signals are for the monitor, which ends the pod in order.
    { name: 'setsid', operation: [NR_setsid] },
    { name: 'stdin', operation: [NR_dup3, nullFd, 0, 0] },
    { name: 'stdout', operation: [NR_dup3, nullFd, 1, 0] },
    { name: 'stderr', operation: [NR_dup3, process.stderrFd, 2, 0] },
    { name: 'umask', operation: [NR_umask, 0o077] },
    { name: 'rlimit core', operation: [NR_prlimit64, 0, RLIMIT_CORE, new BigUint64Array([0n, 0n]), null] },
    { name: 'rlimit nofile', operation: [NR_prlimit64, 0, RLIMIT_NOFILE, new BigUint64Array([MAX_OPEN_FILES, MAX_OPEN_FILES]), null] },
  ];
  if (jail.user !== null) {
    const { uid, gid, groups } = jail.user;
    steps.push(
      { name: 'setgroups', operation: [NR_setgroups, groups.length, groups.length === 0 ? null : Uint32Array.from(groups)] },
      { name: 'setresgid', operation: [NR_setresgid, gid, gid, gid] },
      { name: 'setresuid', operation: [NR_setresuid, uid, uid, uid] },
    );
  }
  steps.push({ name: 'no-new-privileges', operation: [NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0] });
  for (const fd of process.ownFds) steps.push({ name: 'close', operation: [NR_close, fd] });
  steps.push(
    { name: 'parent death signal', operation: [NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0] },
    // Fails, by EPIPE or SIGPIPE, when the monitor is gone already.
    { name: 'parent', operation: [NR_write, 2, Uint8Array.of(10), 1] },
  );
  for (const fd of process.fds) steps.push({ name: `inherit ${fd}`, operation: [NR_fcntl, fd, F_SETFD, 0] });
  steps.push({ name: 'execve', operation: [NR_execve, program, [program, ...process.arguments], []] });
  return steps;
}

/** @returns pid. @throws Stage1Error */
export function startQemu(program: string, process: QemuProcess): number {
  const nullFd = open('/dev/null', O_RDWR);
  const flags = CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID | (process.jail.hostNetwork ? 0 : CLONE_NEWNET);
  try {
    return spawnSteps(qemuSteps(program, nullFd, process), { flags: process.jail.user === null ? 0 : flags });
  } catch (error) {
    if (isErrno(error, ENOENT)) throw new Stage1Error('qemu-system-x86_64 cannot be executed', 'install it: apt-get install qemu-system-x86');
    if (error instanceof SysError) throw new Stage1Error(`starting QEMU: ${error.message}`);
    throw error;
  } finally {
    close(nullFd);
  }
}

/** Starts a program of the pod's as a process that owns nothing but the descriptors it is given. */
import {
  CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUTS, NR_chdir, NR_close, NR_dup3, NR_execve, NR_fcntl, NR_prctl, NR_prlimit64, NR_setgroups, NR_setresgid,
  NR_setresuid, NR_setsid, NR_umask, NR_write, F_SETFD, O_RDWR, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, RLIMIT_CORE, RLIMIT_NOFILE, SIGKILL,
} from '../runtime/abi.gen.ts';
import { close } from '../runtime/linux/fds.ts';
import { open } from '../runtime/linux/files.ts';
import { spawnSteps, type Step } from '../runtime/linux/process.ts';
import { unblockSignals } from '../runtime/linux/signals.ts';
import { adoptChild } from './children.ts';

const MAX_OPEN_FILES = 4096n;

export interface JailUser {
  uid: number;
  gid: number;
  groups: readonly number[];
}

export interface JailedProcess {
  /** Absolute path. */
  program: string;
  arguments: readonly string[];
  /** What it inherits, under the same numbers. */
  fds: readonly number[];
  /** Its standard error. */
  stderrFd: number;
  /** Read ends of pipes to this process: the child must not keep its own parent's readers alive. */
  ownFds: readonly number[];
  /** Null: this process is not root, the program runs as the same user. */
  user: JailUser | null;
  /** Entered with this process's rights. */
  workingDirectory?: string;
  /** Whether it needs the host's network. */
  hostNetwork: boolean;
  /** For one that needs more of a place than a user of its own. */
  place?: JailPlace;
}

export interface JailPlace {
  /** CLONE_NEW…, instead of what a user of its own gets. */
  namespaces: number;
  /** Done first; `at` is the index of the first of them in the list. */
  enter: (at: number) => readonly Step[];
  /** Done last, when nothing more has to be allowed but executing the program. */
  restrict: readonly Step[];
  openFiles: bigint;
}

/**
 * What the child does before it becomes the program. The order matters: the death signal is lost when the user changes,
 * and a parent that died before it was set is noticed by the write that follows.
 */
function jailSteps(nullFd: number, process: JailedProcess): Step[] {
  const { program, user, workingDirectory, place } = process;
  const openFiles = place?.openFiles ?? MAX_OPEN_FILES;
  const steps: Step[] = [
    { name: 'sigprocmask', operation: unblockSignals() },
    // A session of its own: the terminal's signals are for the monitor, which ends the pod in order.
    { name: 'setsid', operation: [NR_setsid] },
    { name: 'stdin', operation: [NR_dup3, nullFd, 0, 0] },
    { name: 'stdout', operation: [NR_dup3, nullFd, 1, 0] },
    { name: 'stderr', operation: [NR_dup3, process.stderrFd, 2, 0] },
    { name: 'umask', operation: [NR_umask, 0o077] },
    { name: 'rlimit core', operation: [NR_prlimit64, 0, RLIMIT_CORE, new BigUint64Array([0n, 0n]), null] },
    { name: 'rlimit nofile', operation: [NR_prlimit64, 0, RLIMIT_NOFILE, new BigUint64Array([openFiles, openFiles]), null] },
  ];
  if (place !== undefined) steps.push(...place.enter(steps.length));
  if (workingDirectory !== undefined) steps.push({ name: `chdir ${workingDirectory}`, operation: [NR_chdir, workingDirectory] });
  if (user !== null) {
    const { uid, gid, groups } = user;
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
  if (place !== undefined) steps.push(...place.restrict);
  steps.push({ name: 'execve', operation: [NR_execve, program, [program, ...process.arguments], []] });
  return steps;
}

/** @returns pid, a child as of children.ts. @throws SysError naming the step */
export function startJailed(process: JailedProcess): number {
  const nullFd = open('/dev/null', O_RDWR);
  const flags = CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID | (process.hostNetwork ? 0 : CLONE_NEWNET);
  try {
    return adoptChild(spawnSteps(jailSteps(nullFd, process), { flags: process.place?.namespaces ?? (process.user === null ? 0 : flags) }));
  } finally {
    close(nullFd);
  }
}

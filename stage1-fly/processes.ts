/** Processes of the pod among all of this host's. */
import { EACCES, EINVAL, ENOENT, ESRCH, SIGKILL } from '../runtime/abi.gen.ts';
import { isErrno } from '../runtime/linux/errors.ts';
import { close } from '../runtime/linux/fds.ts';
import { readDirectory, readLink, readText } from '../runtime/linux/files.ts';
import { getPid, pidfdKill, pidfdOpen, pause } from '../runtime/linux/process.ts';

/** Processes that make others while they are being killed are met again in the next round. */
const KILL_ROUNDS = 100;
const ROUND_PAUSE_MS = 10;

/** Ends, for good, all that live in the mount namespace a descriptor stands for. */
export function killInNamespace(namespaceFd: number): void {
  const namespace = readLink(`/proc/self/fd/${namespaceFd}`);
  killAll((pid) => readLink(`/proc/${pid}/ns/mnt`) === namespace);
}

/** Ends all whose root is the pod's, as mount tables name it: for a pod whose monitor is gone. */
export function killInPod(uuid: string): void {
  killAll((pid) => rootMountOf(pid).includes(`/${uuid}/`));
}

/** The line of /proc/PID/mountinfo (proc(5)) for what is mounted last on the root: an overlay names its directories, a bind mount its own. */
function rootMountOf(pid: number): string {
  return readText(`/proc/${pid}/mountinfo`).split('\n').findLast((line) => line.split(' ')[4] === '/') ?? '';
}

function killAll(isOurs: (pid: number) => boolean): void {
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const found = readDirectory('/proc').map(({ name }) => Number(name)).filter((pid) => pid > 1 && pid !== getPid() && killIf(pid, isOurs));
    if (found.length === 0) return;
    pause(ROUND_PAUSE_MS);
  }
}

/** The process is held by a descriptor before it is looked at: the number cannot go to another one in between. */
function killIf(pid: number, isOurs: (pid: number) => boolean): boolean {
  let pidfd: number | undefined;
  try {
    pidfd = pidfdOpen(pid);
    return isOurs(pid) && pidfdKill(pidfd, SIGKILL);
  } catch (error) {
    // It has ended (one that waits for its parent has no mounts any more), or somebody hides it.
    if (isErrno(error, ENOENT, ESRCH, EACCES, EINVAL)) return false;
    throw error;
  } finally {
    if (pidfd !== undefined) close(pidfd);
  }
}

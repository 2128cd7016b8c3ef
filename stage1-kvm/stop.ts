/** `stop [--force] UUID`: asks the monitor of the pod to end it, or ends it at once. */
import { SIGKILL, SIGTERM } from '../runtime/abi.gen.ts';
import { close } from '../runtime/linux/fds.ts';
import { readFile } from '../runtime/linux/files.ts';
import { exit, pidfdKill, pidfdOpen } from '../runtime/linux/process.ts';
import { SysError } from '../runtime/linux/errors.ts';
import { Stage1Error } from './error.ts';
import { parseStopArguments } from './options.ts';
import { readPid } from './pod/directory.ts';

export function stop(args: readonly string[]): never {
  const { uuid, force } = parseStopArguments(args);
  const pid = readPid();
  if (pid === null) throw new Stage1Error(`pod ${uuid} has no monitor`);
  const pidfd = openMonitor(pid, uuid);
  // QEMU dies with the monitor.
  const sent = pidfdKill(pidfd, force ? SIGKILL : SIGTERM);
  close(pidfd);
  if (!sent) throw new Stage1Error(`pod ${uuid} is not running`);
  exit(0);
}

/** The process is held by a descriptor before it is looked at: the number cannot go to another one in between. */
function openMonitor(pid: number, uuid: string): number {
  let pidfd: number;
  let commandLine: string;
  try {
    pidfd = pidfdOpen(pid);
    commandLine = sys.text(readFile(`/proc/${pid}/cmdline`));
  } catch (error) {
    if (error instanceof SysError) throw new Stage1Error(`pod ${uuid} is not running`);
    throw error;
  }
  const [program, ...args] = commandLine.split('\0').filter((part) => part !== '');
  if (program === undefined || !program.endsWith('/init') || args.at(-1) !== uuid) throw new Stage1Error(`process ${pid} is not the monitor of pod ${uuid}`);
  return pidfd;
}

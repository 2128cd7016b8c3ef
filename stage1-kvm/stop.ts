/** `stop [--force] [--grace-period-ms=N] UUID`: has the monitor of the pod end it, and waits until it has; or ends it at once. */
import { SIGKILL } from '../runtime/abi.gen.ts';
import { waitReadable } from '../runtime/linux/fds.ts';
import { readFile } from '../runtime/linux/files.ts';
import { exit, pidfdKill, pidfdOpen, pidfdQueue } from '../runtime/linux/process.ts';
import { SysError } from '../runtime/linux/errors.ts';
import { Stage1Error } from './error.ts';
import { parseStopArguments } from './options.ts';
import { readPid } from './pod/directory.ts';

/** A real-time signal, with the grace period in milliseconds: several of them queue, where a second TERM could be lost. */
export const STOP_REQUEST = 35;
/** Beyond the grace, for what the guest does besides waiting; then the monitor ends the machine. */
export const SHUTDOWN_SLACK_MS = 10_000;
/** For the monitor's own end. */
const MONITOR_END_MS = 5_000;

export function stop(args: readonly string[]): never {
  const { uuid, force, graceMs } = parseStopArguments(args);
  const pid = readPid();
  if (pid === null) throw new Stage1Error(`pod ${uuid} has no monitor`);
  const pidfd = openMonitor(pid, uuid);
  // QEMU dies with the monitor.
  const sent = force ? pidfdKill(pidfd, SIGKILL) : pidfdQueue(pidfd, STOP_REQUEST, graceMs);
  if (!sent) throw new Stage1Error(`pod ${uuid} is not running`);
  const limitMs = (force ? 0 : graceMs + SHUTDOWN_SLACK_MS) + MONITOR_END_MS;
  // A descriptor of a process becomes readable with its end.
  if (!waitReadable(pidfd, limitMs)) throw new Stage1Error(`pod ${uuid} has not ended within ${limitMs / 1000} seconds`, force ? null : 'use --force');
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

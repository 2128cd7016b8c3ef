/** The processes of an app, as /proc of the guest has them (proc(5)). */
import { ENOENT, ESRCH, O_RDONLY } from '../../runtime/abi.gen.ts';
import { isErrno } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { open, readAt, readText } from '../../runtime/linux/files.ts';
import { uptimeMs } from '../../runtime/linux/time.ts';
import type { AgentMessage, ProcessInfo } from '../../src/wire/messages.ts';
import { userNames } from '../app/users.ts';
import type { AppRoot } from '../machine/machine.ts';
import type { CountedApp } from './usage.ts';

/** More are not looked at: an answer has a size. */
const PROCESSES_MAX = 1000;
const COMMAND_MAX_BYTES = 1024;
/** A clock tick of /proc (USER_HZ). */
const TICK_MS = 10;
/** Fields of /proc/PID/stat behind the name, counted from the state. */
const STAT = { state: 0, ppid: 1, terminal: 4, userTime: 11, systemTime: 12, startTime: 19 } as const;

export function processesMessage(request: number, app: CountedApp & { root: AppRoot }): Extract<AgentMessage, { type: 'processes' }> {
  const names = app.root.inside(() => userNames());
  const pids = readText(`/proc/self/fd/${app.cgroupFd}/cgroup.procs`).split('\n').filter((line) => line !== '');
  const processes = pids.slice(0, PROCESSES_MAX).flatMap((pid) => {
    try {
      return [processOf(pid, names)];
    } catch (error) {
      if (isErrno(error, ENOENT, ESRCH)) return []; // has ended meanwhile
      throw error;
    }
  });
  return { type: 'processes', request, uptimeMs: uptimeMs(), total: pids.length, processes };
}

function processOf(pid: string, names: ReadonlyMap<number, string>): ProcessInfo {
  const directory = `/proc/${pid}`;
  const text = readText(`${directory}/stat`);
  // The name is in parentheses and may hold anything, parentheses too.
  const nameEnd = text.lastIndexOf(')');
  const name = text.slice(text.indexOf('(') + 1, nameEnd);
  const fields = text.slice(nameEnd + 2).split(' ');
  const number = (index: number): number => Number(fields[index] ?? 0);
  const uid = userOf(readText(`${directory}/status`));
  return {
    pid: Number(pid),
    parentPid: number(STAT.ppid),
    user: names.get(uid) ?? String(uid),
    state: fields[STAT.state] ?? '',
    terminal: number(STAT.terminal),
    cpuMs: (number(STAT.userTime) + number(STAT.systemTime)) * TICK_MS,
    startedMs: number(STAT.startTime) * TICK_MS,
    command: commandLine(directory) || `[${name}]`,
  };
}

/** The effective one. */
function userOf(status: string): number {
  const line = status.split('\n').find((text) => text.startsWith('Uid:')) ?? '';
  return Number(line.split('\t')[2] ?? 0);
}

/** Arguments with spaces between them, cut where they become long. Empty for a process that has ended and was not waited for. */
function commandLine(directory: string): string {
  const fd = open(`${directory}/cmdline`, O_RDONLY);
  try {
    const bytes = new Uint8Array(COMMAND_MAX_BYTES);
    const length = readAt(fd, bytes, 0);
    return sys.text(bytes.subarray(0, length).map((byte) => (byte === 0 ? 32 : byte))).trim();
  } finally {
    close(fd);
  }
}

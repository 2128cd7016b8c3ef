/** Control groups, version 2 (kernel: Documentation/admin-guide/cgroup-v2.rst): one below the root for each app. */
import { ENOENT, EPOLLPRI, O_DIRECTORY, O_RDONLY, SIGKILL } from '../../runtime/abi.gen.ts';
import { isErrno, SysError } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { makeDirectory, open, readAt, readText, writeControlFile } from '../../runtime/linux/files.ts';
import { kill } from '../../runtime/linux/process.ts';
import { unwatch, watch } from '../../runtime/loop.ts';
import type { Limits } from '../app/isolators.ts';
import type { AppCgroup, MemoryKills } from './machine.ts';

export const CGROUP_ROOT = '/sys/fs/cgroup';
const CPU_PERIOD_US = 100_000;
/** Part of the kernel's thread limit that one app may use: the agent must always be able to start another process. */
const THREADS_SHARE = 0.6;
/** Against those that fork faster than they are found. */
const KILL_ROUNDS_MAX = 100;

/** Lets the groups below the root have limits. A controller the kernel lacks is no error: its limits will be. */
export function enableControllers(): void {
  for (const controller of ['cpu', 'memory', 'pids', 'io']) {
    try {
      writeControlFile(`${CGROUP_ROOT}/cgroup.subtree_control`, `+${controller}`);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
    }
  }
}

/** An empty group; one that exists is fine. */
export function makeCgroup(name: string): string {
  const directory = `${CGROUP_ROOT}/${name}`;
  makeDirectory(directory);
  return directory;
}

export function createCgroup(name: string, limits: Limits): AppCgroup {
  const directory = makeCgroup(name);
  const { memoryBytes, cpuMilli, cpuShares, pids } = limits;
  if (memoryBytes !== undefined) writeControlFile(`${directory}/memory.max`, String(memoryBytes));
  if (cpuMilli !== undefined) writeControlFile(`${directory}/cpu.max`, `${Math.ceil((cpuMilli * CPU_PERIOD_US) / 1000)} ${CPU_PERIOD_US}`);
  if (cpuShares !== undefined) writeControlFile(`${directory}/cpu.weight`, String(weightOfShares(cpuShares)));
  limitThreads(directory, pids);
  return {
    fd: open(directory, O_RDONLY | O_DIRECTORY),
    signal: (signal) => {
      for (const pid of processesIn(directory)) kill(pid, signal);
    },
    kill: () => killProcessesIn(directory),
    memoryKills: () => memoryKillsIn(`${directory}/memory.events`, memoryBytes),
    watchMemoryKills: (onKill) => watchEvents(`${directory}/memory.events`, onKill),
  };
}

function processesIn(directory: string): number[] {
  return readText(`${directory}/cgroup.procs`).split('\n').filter((line) => line !== '').map(Number);
}

/**
 * One by one, because kernels 6.1 of some months kill whatever is born later in a group for which cgroup.kill was used once, and
 * event handlers and restarted apps are. A process that was sent SIGKILL forks no more, so each round finds fewer.
 */
function killProcessesIn(directory: string): void {
  const killed = new Set<number>();
  for (let round = 0; round < KILL_ROUNDS_MAX; round++) {
    const others = processesIn(directory).filter((pid) => !killed.has(pid));
    if (others.length === 0) return;
    for (const pid of others) {
      killed.add(pid);
      kill(pid, SIGKILL);
    }
  }
  writeControlFile(`${directory}/cgroup.kill`, '1');
}

function limitThreads(directory: string, pids: number | undefined): void {
  const threadsMax = Number(readText('/proc/sys/kernel/threads-max'));
  const limit = Math.min(pids ?? Infinity, Math.floor(threadsMax * THREADS_SHARE));
  try {
    writeControlFile(`${directory}/pids.max`, String(limit));
  } catch (error) {
    // A kernel without the controller: only who has asked for a limit must know.
    if (!isErrno(error, ENOENT) || pids !== undefined) throw error;
  }
}

/** As systemd converts them: 1024 shares are weight 100. */
function weightOfShares(shares: number): number {
  return Math.min(10000, Math.max(1, Math.round((shares * 100) / 1024)));
}

/** Fields of memory.events: `oom` counts how often the group's own limit was the reason. */
function memoryKillsIn(path: string, limitBytes: number | undefined): MemoryKills {
  let text: string;
  try {
    text = readText(path);
  } catch (error) {
    if (isErrno(error, ENOENT)) return { count: 0, limitBytes: undefined }; // no memory controller
    throw error;
  }
  const field = (name: string): number => Number(text.split('\n').find((line) => line.startsWith(`${name} `))?.slice(name.length + 1) ?? 0);
  return { count: field('oom_kill'), limitBytes: field('oom') > 0 ? limitBytes : undefined };
}

/** The kernel reports a change as an exceptional condition, until the file is read again. */
function watchEvents(path: string, onChange: () => void): () => void {
  let fd: number;
  try {
    fd = open(path, O_RDONLY);
  } catch (error) {
    if (isErrno(error, ENOENT)) return () => undefined;
    throw error;
  }
  const content = new Uint8Array(256);
  readAt(fd, content, 0);
  watch(fd, EPOLLPRI, () => {
    readAt(fd, content, 0);
    onChange();
  });
  return () => {
    unwatch(fd);
    close(fd);
  };
}

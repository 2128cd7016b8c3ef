/** Control groups, version 2 (kernel: Documentation/admin-guide/cgroup-v2.rst): one below the root for each app. */
import { O_DIRECTORY, O_RDONLY } from '../../runtime/abi.gen.ts';
import { isErrno, SysError } from '../../runtime/linux/errors.ts';
import { makeDirectory, open, readText, writeControlFile } from '../../runtime/linux/files.ts';
import { kill } from '../../runtime/linux/process.ts';
import type { Limits } from '../app/isolators.ts';
import type { AppCgroup } from './machine.ts';

export const CGROUP_ROOT = '/sys/fs/cgroup';
const CPU_PERIOD_US = 100_000;
/** Part of the kernel's thread limit that one app may use: the agent must always be able to start another process. */
const THREADS_SHARE = 0.6;

/** Lets the groups below the root have limits. A controller the kernel lacks is no error: its limits will be. */
export function enableControllers(): void {
  for (const controller of ['cpu', 'memory', 'pids']) {
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
  const { memoryBytes, cpuMilli, cpuShares } = limits;
  if (memoryBytes !== undefined) writeControlFile(`${directory}/memory.max`, String(memoryBytes));
  if (cpuMilli !== undefined) writeControlFile(`${directory}/cpu.max`, `${Math.ceil((cpuMilli * CPU_PERIOD_US) / 1000)} ${CPU_PERIOD_US}`);
  if (cpuShares !== undefined) writeControlFile(`${directory}/cpu.weight`, String(weightOfShares(cpuShares)));
  limitThreads(directory);
  return {
    fd: open(directory, O_RDONLY | O_DIRECTORY),
    signal: (signal) => {
      for (const pid of readText(`${directory}/cgroup.procs`).split('\n')) if (pid !== '') kill(Number(pid), signal);
    },
    kill: () => writeControlFile(`${directory}/cgroup.kill`, '1'),
    oomKills: () => (memoryBytes === undefined ? 0 : oomKillsIn(`${directory}/memory.events`)),
  };
}

function limitThreads(directory: string): void {
  const threadsMax = Number(readText('/proc/sys/kernel/threads-max'));
  try {
    writeControlFile(`${directory}/pids.max`, String(Math.floor(threadsMax * THREADS_SHARE)));
  } catch (error) {
    if (!isErrno(error, 2)) throw error; // no pids controller
  }
}

/** As systemd converts them: 1024 shares are weight 100. */
function weightOfShares(shares: number): number {
  return Math.min(10000, Math.max(1, Math.round((shares * 100) / 1024)));
}

function oomKillsIn(path: string): number {
  for (const line of readText(path).split('\n')) {
    if (line.startsWith('oom_kill ')) return Number(line.slice('oom_kill '.length));
  }
  return 0;
}

/** A running process and those that wait for its end. */
import { SIGCHLD, EPOLLIN } from '../../runtime/abi.gen.ts';
import { errnoText } from '../../runtime/linux/errors.ts';
import { kill, reap, spawn, type ProcessEnd } from '../../runtime/linux/process.ts';
import { openSignals, takeSignals } from '../../runtime/linux/signals.ts';
import { watch } from '../../runtime/loop.ts';
import { confine, executableCandidates, type Confinement, type Program } from '../confine.ts';

/** Keyed by pid. */
const running = new Map<number, (end: ProcessEnd) => void>();

/** Starts to collect every child that ends, orphans of others included. */
export function startReaping(): void {
  const fd = openSignals([SIGCHLD]);
  watch(fd, EPOLLIN, () => {
    takeSignals(fd);
    reapAll();
  });
}

export function reapAll(): void {
  for (let reaped = reap(); reaped !== undefined; reaped = reap()) {
    const onEnd = running.get(reaped.pid);
    running.delete(reaped.pid);
    onEnd?.(reaped.end);
  }
}

export class StartError extends Error {
  override readonly name = 'StartError';
  readonly step: string;
  readonly exitCode: number;

  constructor(step: string, exitCode: number, message: string) {
    super(message);
    this.step = step;
    this.exitCode = exitCode;
  }
}

export interface StartOptions {
  confinement: Confinement;
  program: Program;
  /** Directory of the cgroup the process is born in; -1 for this process's own. */
  cgroupFd: number;
  /** The number the process must get. */
  pid?: number | undefined;
  /** Called when everything is ready for the process: it does not start if this throws. */
  beforeStart?: (() => void) | undefined;
  onEnd: (end: ProcessEnd) => void;
  /** Words for an execve that failed. */
  explainExec: (failure: { candidates: readonly string[]; errno: number }) => string;
}

export interface RunningProcess {
  pid: number;
  /** False when it has ended. The process leads a session, so its group is signalled: what a shell has started gets it too. */
  signal(signal: number): boolean;
}

/** Throws StartError when a step of the child failed: nothing is left of it then. */
export function startProcess(options: StartOptions): RunningProcess {
  const { confinement, program, cgroupFd, pid: wanted, onEnd } = options;
  const steps = confine(confinement, program);
  const operations = steps.map((step) => step.prepared ?? step.operation);
  options.beforeStart?.();
  const result = spawn(operations, { cgroupFd, pid: wanted });
  if (result.kind === 'failed') {
    const { index, errno } = result.failure;
    const { name, detail, exitCode } = steps[index] ?? { name: 'clone3', exitCode: 1 };
    if (name === 'exec') throw new StartError(name, exitCode, options.explainExec({ candidates: executableCandidates(program), errno }));
    const reason = errnoText(errno);
    throw new StartError(name, exitCode, detail === undefined ? reason : `"${detail}": ${reason}`);
  }
  const { pid } = result;
  running.set(pid, onEnd);
  return { pid, signal: (signal) => running.has(pid) && (kill(-pid, signal) || kill(pid, signal)) };
}

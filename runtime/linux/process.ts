/** Processes: starting, waiting, signalling. */
import {
  CLOCK_MONOTONIC, ECHILD, NR_clock_nanosleep, NR_execve, NR_exit_group, NR_getpid, NR_getppid, NR_kill, NR_pidfd_open, NR_pidfd_send_signal, NR_prctl, NR_prlimit64, NR_sched_yield, NR_umask, NR_wait4,
  NR_waitid, P_ALL, PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_PDEATHSIG, SI_QUEUE, WEXITED, WNOHANG, WNOWAIT, siginfo_t_si_code, siginfo_t_si_signo,
  siginfo_t_si_value, sizeof_siginfo_t,
} from '../abi.gen.ts';
import type { Operation, PreparedOperation } from '../sys.ts';
import { check, SysError } from './errors.ts';

/** An operation of a spawn list with a name for messages. */
export interface Step {
  name: string;
  operation: Operation;
}

export interface SpawnFailure {
  /** Index into the list. */
  index: number;
  errno: number;
}

export type SpawnResult = { kind: 'started'; pid: number } | { kind: 'failed'; failure: SpawnFailure };

export interface SpawnOptions {
  /** CLONE_NEW… flags. */
  flags?: number;
  /** Descriptor of the cgroup directory the child is born in. */
  cgroupFd?: number;
  /** The number the child must get: EEXIST when it is taken. */
  pid?: number | undefined;
}

/** Runs `operations` in a new process; returns when it executes its program or when an operation has failed. SysError when no process can be made. */
export function spawn(operations: readonly (Operation | PreparedOperation)[], options: SpawnOptions = {}): SpawnResult {
  const failure = new Int32Array(2);
  const pid = check(sys.spawn(options.flags ?? 0, options.cgroupFd ?? -1, operations, failure, options.pid ?? 0), 'clone3');
  if (pid > 0) return { kind: 'started', pid };
  return { kind: 'failed', failure: { index: failure[0] ?? 0, errno: failure[1] ?? 0 } };
}

/** Like spawn, with a SysError that names the step. */
export function spawnSteps(steps: readonly Step[], options: SpawnOptions = {}): number {
  const result = spawn(steps.map((step) => step.operation), options);
  if (result.kind === 'started') return result.pid;
  throw new SysError(steps[result.failure.index]?.name ?? 'spawn', result.failure.errno);
}

export type ProcessEnd = { kind: 'code'; code: number } | { kind: 'signal'; signal: number; coreDumped: boolean };

export function decodeWaitStatus(status: number): ProcessEnd {
  const signal = status & 0x7f;
  return signal === 0 ? { kind: 'code', code: (status >> 8) & 0xff } : { kind: 'signal', signal, coreDumped: (status & 0x80) !== 0 };
}

export interface Reaped {
  pid: number;
  end: ProcessEnd;
}

const waitStatus = new Int32Array(1);

/** One child that has ended, if any. `pid` -1 is any child. Throws ECHILD for a pid that is no child. */
export function reap(pid = -1, flags: number = WNOHANG): Reaped | undefined {
  const result = sys.call(NR_wait4, pid, waitStatus, flags, null);
  if (result === 0 || (result < 0 && pid === -1)) return undefined;
  return { pid: check(result, 'wait4', pid), end: decodeWaitStatus(waitStatus[0] ?? 0) };
}

/** Whether this process has children, ended or not. */
export function hasChildren(): boolean {
  return sys.call(NR_waitid, P_ALL, 0, null, WEXITED | WNOHANG | WNOWAIT, null) !== -ECHILD;
}

/** Lets others that can run have the processor first. */
export function giveWay(): void {
  sys.call(NR_sched_yield);
}

/** Waits until a child has ended. */
export function waitFor(pid: number): ProcessEnd {
  for (;;) {
    const reaped = reap(pid, 0);
    if (reaped !== undefined) return reaped.end;
  }
}

/** False when there is no such process. */
export function kill(pid: number, signal: number): boolean {
  return sys.call(NR_kill, pid, signal) >= 0;
}

export function pidfdOpen(pid: number): number {
  return check(sys.call(NR_pidfd_open, pid, 0), 'pidfd_open', pid);
}

/** False when the process has ended. */
export function pidfdKill(pidfd: number, signal: number): boolean {
  return sys.call(NR_pidfd_send_signal, pidfd, signal, null, 0) >= 0;
}

/** As pidfdKill, with a number for the receiver (sigqueue(3)). */
export function pidfdQueue(pidfd: number, signal: number, value: number): boolean {
  const info = new Uint8Array(sizeof_siginfo_t);
  const view = new DataView(info.buffer);
  view.setInt32(siginfo_t_si_signo, signal, true);
  view.setInt32(siginfo_t_si_code, SI_QUEUE, true);
  view.setInt32(siginfo_t_si_value, value, true);
  return sys.call(NR_pidfd_send_signal, pidfd, signal, info, 0) >= 0;
}

export const getPid = (): number => sys.call(NR_getpid);
export const getParentPid = (): number => sys.call(NR_getppid);

export function exit(code: number): never {
  for (;;) sys.call(NR_exit_group, code);
}

/** Replaces this process; throws when that fails. Descriptors without close-on-exec stay open. */
export function execute(path: string, argv: readonly string[], environment: readonly string[]): never {
  const vector = (items: readonly string[]): { pointers: BigUint64Array; bytes: Uint8Array[] } => {
    const bytes = items.map((item) => sys.utf8(item));
    return { bytes, pointers: new BigUint64Array([...bytes.map((item) => BigInt(sys.address(item))), 0n]) };
  };
  const args = vector(argv);
  const env = vector(environment);
  const result = sys.call(NR_execve, path, args.pointers, env.pointers);
  // Named again so that the strings outlive the call.
  throw new SysError(`execve ${path} (${args.bytes.length} arguments, ${env.bytes.length} variables)`, -result);
}

/** Orphaned descendants become children of this process. */
export function becomeSubreaper(): void {
  check(sys.call(NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 'prctl');
}

/** The signal this process gets when its parent ends. */
export function setParentDeathSignal(signal: number): void {
  check(sys.call(NR_prctl, PR_SET_PDEATHSIG, signal, 0, 0, 0), 'prctl');
}

export function setDumpable(on: boolean): void {
  check(sys.call(NR_prctl, PR_SET_DUMPABLE, on ? 1 : 0, 0, 0, 0), 'prctl');
}

/** At most 15 bytes are kept. */
export function setProcessName(name: string): void {
  check(sys.call(NR_prctl, PR_SET_NAME, name, 0, 0, 0), 'prctl');
}

export function setUmask(mask: number): number {
  return sys.call(NR_umask, mask);
}

/** Soft and hard limit of this process. */
export function setLimit(resource: number, soft: bigint, hard: bigint): void {
  check(sys.call(NR_prlimit64, 0, resource, new BigUint64Array([soft, hard]), null), 'prlimit', resource);
}

/** Blocks the whole program; the event loop's sleep does not. */
export function pause(milliseconds: number): void {
  sys.call(NR_clock_nanosleep, CLOCK_MONOTONIC, 0, new BigInt64Array([BigInt(Math.floor(milliseconds / 1000)), BigInt(Math.floor((milliseconds % 1000) * 1e6))]), null);
}

let environment: Map<string, string> | undefined;

/** A variable of the environment this process was started with. */
export function environmentVariable(name: string): string | undefined {
  if (environment === undefined) {
    environment = new Map();
    for (const entry of sys.environment()) {
      const equals = entry.indexOf('=');
      if (equals > 0) environment.set(entry.slice(0, equals), entry.slice(equals + 1));
    }
  }
  return environment.get(name);
}

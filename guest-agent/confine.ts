/**
 * The one place where a process of an app is confined: from what is to be enforced to the list of system calls its child runs
 * between clone3 and execve. The app's main process, its event handlers and `enter` all pass through here.
 */
import {
  AT_FDCWD, CAP_LAST_CAP, CLONE_NEWCGROUP, CLONE_NEWNS, NR_chdir, NR_close_range, NR_dup3, NR_execve, NR_getgroups, NR_getresgid, NR_getresuid, NR_ioctl,
  NR_openat, NR_prctl, NR_prlimit64, NR_seccomp, NR_setgroups, NR_setns, NR_setresgid, NR_setresuid, NR_setsid, NR_umask, NR_unshare, NR_write, O_WRONLY,
  PR_CAPBSET_DROP, PR_CAPBSET_READ, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, SECCOMP_SET_MODE_FILTER, SIGKILL, TIOCSCTTY,
} from '../runtime/abi.gen.ts';
import { unblockSignals } from '../runtime/linux/signals.ts';
import { IGNORE_FAILURE, type Operation, type PreparedOperation } from '../runtime/sys.ts';
import type { Rlimit } from './app/rlimits.ts';

/** What holds for every process of one app. */
export interface Confinement {
  /** Joined by every process of the app; null leaves it in this process's own mounts. */
  mountNamespaceFd: number | null;
  /** Every process sees its cgroup as the root of the hierarchy. */
  cgroupNamespace: boolean;
  uid: number;
  gid: number;
  supplementaryGids: readonly number[];
  /** The bounding set: root has these, others get none of them but through set-uid or file capabilities. Null leaves all. */
  capabilities: readonly number[] | null;
  noNewPrivileges: boolean;
  /** struct sock_fprog, or null for no filter. */
  seccomp: Uint8Array | null;
  oomScoreAdjust: number | undefined;
  rlimits: readonly Rlimit[];
  /** Killed when the agent ends: for one that is not the first process of its machine. */
  diesWithAgent?: boolean;
}

/** What is different for each process. */
export interface Program {
  argv: readonly string[];
  environment: readonly string[];
  /** Where `argv[0]` is looked for when it has no slash. */
  searchPath: string;
  workingDirectory: string;
  /** Standard input, output, error: descriptors above 2. */
  stdio: readonly [number, number, number];
  /** Descriptors it gets as 3, 4, …; their own numbers lie above all of those. */
  inherited?: readonly number[];
  /** Standard input is a terminal that becomes the session's own. */
  controllingTerminal: boolean;
}

/** A name for messages and the exit status systemd reports for a failure there, which is what rkt recorded. */
export interface ConfinementStep {
  name: string;
  /** What it was done with, where that explains a failure. */
  detail?: string;
  exitCode: number;
  operation: Operation;
  /** The same, for what every process of an app does. */
  prepared?: PreparedOperation;
}

/** systemd.exec(5), "Process Exit Codes". */
const EXIT = {
  chdir: 200, exec: 203, limits: 205, oomAdjust: 206, signalMask: 207, streams: 208, group: 216, user: 217, capabilities: 218, cgroup: 219, session: 220,
  namespace: 226, noNewPrivileges: 227, seccomp: 228,
} as const;

/** Capabilities beyond CAP_LAST_CAP are those of a kernel newer than our headers. */
const CAPABILITY_COUNT_MAX = 64;

type Kind = keyof typeof EXIT;

class StepList {
  readonly steps: ConfinementStep[] = [];

  /** Returns the step's index, for operations that use its result. */
  add(kind: Kind, name: string, operation: Operation, detail?: string): number {
    return this.steps.push({ name, detail, exitCode: EXIT[kind], operation }) - 1;
  }
}

export function confine(confinement: Confinement, program: Program): ConfinementStep[] {
  const { before, inside, last } = commonSteps(confinement);
  const isAtRoot = confinement.mountNamespaceFd !== null;
  return before.concat(streamSteps(program), inside, placeSteps(program, isAtRoot), last, executionSteps(program));
}

/** What is the same for every process of an app. */
interface CommonSteps {
  before: readonly ConfinementStep[];
  /** After the streams are in place. */
  inside: readonly ConfinementStep[];
  /** After everything that needs a descriptor or a right of this process. */
  last: readonly ConfinementStep[];
}

const common = new WeakMap<Confinement, CommonSteps>();

function commonSteps(confinement: Confinement): CommonSteps {
  const known = common.get(confinement);
  if (known !== undefined) return known;
  const before = new StepList();
  before.add('signalMask', 'reset signals', unblockSignals());
  before.add('session', 'new session', [NR_setsid]);
  before.add('session', 'umask', [NR_umask, 0o022]);
  addOomScore(before, confinement.oomScoreAdjust);
  const inside = new StepList();
  for (const { resource, soft, hard } of confinement.rlimits) inside.add('limits', 'resource limits', [NR_prlimit64, 0, resource, new BigUint64Array([soft, hard]), null]);
  addNamespaces(inside, confinement);
  const last = new StepList();
  addBoundingSet(last, confinement.capabilities);
  addIdentity(last, confinement);
  // A change of the user takes it away.
  if (confinement.diesWithAgent === true) last.add('session', 'death signal', [NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0]);
  if (confinement.noNewPrivileges) last.add('noNewPrivileges', 'no new privileges', [NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
  // Last, so that the filter need not allow the steps above.
  if (confinement.seccomp !== null) last.add('seccomp', 'seccomp', [NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, confinement.seccomp]);
  const steps = { before: before.steps.map(prepare), inside: inside.steps.map(prepare), last: last.steps.map(prepare) };
  common.set(confinement, steps);
  return steps;
}

function prepare(step: ConfinementStep): ConfinementStep {
  const isFixed = step.operation.every((argument) => typeof argument === 'number' || argument === null || ArrayBuffer.isView(argument));
  return isFixed ? { ...step, prepared: sys.prepare(step.operation) } : step;
}

function streamSteps({ stdio, controllingTerminal }: Program): ConfinementStep[] {
  const list = new StepList();
  stdio.forEach((fd, target) => list.add('streams', 'standard streams', [NR_dup3, fd, target, 0]));
  if (controllingTerminal) list.add('streams', 'controlling terminal', [NR_ioctl, 0, TIOCSCTTY, 0]);
  return list.steps;
}

/** @param isAtRoot the change of the mount namespace has led there */
function placeSteps({ inherited = [], workingDirectory }: Program, isAtRoot: boolean): ConfinementStep[] {
  const list = new StepList();
  // Really closed, and before chdir: a working directory of /proc/self/fd/N must not find anything.
  // Only now can 3 and the following be taken: the steps before use descriptors that may have these numbers.
  inherited.forEach((fd, index) => list.add('streams', 'sockets', [NR_dup3, fd, 3 + index, 0]));
  list.add('streams', 'close descriptors', [NR_close_range, 3 + inherited.length, 0xffffffff, 0]);
  if (!isAtRoot || workingDirectory !== '/') list.add('chdir', 'working directory', [NR_chdir, workingDirectory], workingDirectory);
  return list.steps;
}

/** Written through the agent's own /proc, so before the mount namespace changes. One of the first steps: the second refers to the first by its index. */
function addOomScore(list: StepList, adjust: number | undefined): void {
  if (adjust === undefined) return;
  const opened = list.add('oomAdjust', 'OOM score', [NR_openat, AT_FDCWD, '/proc/self/oom_score_adj', O_WRONLY, 0]);
  list.add('oomAdjust', 'OOM score', [NR_write, { result: opened }, String(adjust), String(adjust).length]);
}

function addNamespaces(list: StepList, { cgroupNamespace, mountNamespaceFd }: Confinement): void {
  if (cgroupNamespace) list.add('namespace', 'cgroup namespace', [NR_unshare, CLONE_NEWCGROUP]);
  // Also makes the app's root this process's root and working directory.
  if (mountNamespaceFd !== null) list.add('namespace', 'mount namespace', [NR_setns, mountNamespaceFd, CLONE_NEWNS]);
}

let plainRoot: boolean | undefined;

/** Whether this process, and so its children, is root in all respects, with no group but root's. */
function isPlainRoot(): boolean {
  const [real, effective, saved] = [new Uint32Array(1), new Uint32Array(1), new Uint32Array(1)];
  const isZero = (nr: number): boolean => sys.call(nr, real, effective, saved) === 0 && real[0] === 0 && effective[0] === 0 && saved[0] === 0;
  return (plainRoot ??= sys.call(NR_getgroups, 0, null) === 0 && isZero(NR_getresgid) && isZero(NR_getresuid));
}

let kernelKnowsMore: boolean | undefined;

/** How many capabilities there may be; asked once, because each call of a child costs every start. */
function capabilityCount(): number {
  kernelKnowsMore ??= sys.call(NR_prctl, PR_CAPBSET_READ, CAP_LAST_CAP + 1, 0, 0, 0) >= 0;
  return kernelKnowsMore ? CAPABILITY_COUNT_MAX : CAP_LAST_CAP + 1;
}

/** What has left this process's own bounding set, and so every child's. */
const dropped = new Set<number>();

/**
 * Drops from this process's own bounding set what none of the given confinements leaves to anybody: what it can do itself stays
 * as it is, and no child has to do it again. For good, so for when no others will come.
 */
export function dropForAll(confinements: readonly Pick<Confinement, 'capabilities'>[]): void {
  if (confinements.some(({ capabilities }) => capabilities === null)) return;
  const kept = new Set(confinements.flatMap(({ capabilities }) => capabilities));
  const count = capabilityCount();
  for (let capability = 0; capability < count; capability++) {
    if (!kept.has(capability) && sys.call(NR_prctl, PR_CAPBSET_DROP, capability, 0, 0, 0) >= 0) dropped.add(capability);
  }
}

function addBoundingSet(list: StepList, capabilities: readonly number[] | null): void {
  if (capabilities === null) return;
  const count = capabilityCount();
  for (let capability = 0; capability < count; capability++) {
    if (dropped.has(capability) || capabilities.includes(capability)) continue;
    const nr = capability > CAP_LAST_CAP ? NR_prctl + IGNORE_FAILURE : NR_prctl;
    list.add('capabilities', 'capabilities', [nr, PR_CAPBSET_DROP, capability, 0, 0, 0]);
  }
}

/** Without PR_SET_KEEPCAPS a user other than root loses every capability here; root's are cut to the bounding set by execve. */
function addIdentity(list: StepList, { uid, gid, supplementaryGids }: Confinement): void {
  // Each of the three makes and frees a set of credentials, which nobody needs who is this process's own user.
  if (uid === 0 && gid === 0 && supplementaryGids.length === 0 && isPlainRoot()) return;
  list.add('group', 'groups', [NR_setgroups, supplementaryGids.length, new Uint32Array(supplementaryGids)]);
  list.add('group', 'group', [NR_setresgid, gid, gid, gid]);
  list.add('user', 'user', [NR_setresuid, uid, uid, uid]);
}

/** Where a program is looked for, in order; never empty. */
export function executableCandidates({ argv, searchPath }: Pick<Program, 'argv' | 'searchPath'>): string[] {
  const command = argv[0] ?? '';
  if (command.includes('/')) return [command];
  return searchPath.split(':').map((directory) => `${directory === '' ? '.' : directory}/${command}`);
}

function executionSteps(program: Program): ConfinementStep[] {
  const list = new StepList();
  const candidates = executableCandidates(program);
  candidates.forEach((path, index) => {
    const nr = index < candidates.length - 1 ? NR_execve + IGNORE_FAILURE : NR_execve;
    list.add('exec', 'exec', [nr, path, program.argv, program.environment]);
  });
  return list.steps;
}

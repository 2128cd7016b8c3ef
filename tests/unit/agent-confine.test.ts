import '../helpers/fake-sys.ts';
import t from 'tap';
import {
  CAP_CHOWN, CAP_LAST_CAP, CAP_NET_RAW, CAP_SYS_ADMIN, CLONE_NEWCGROUP, CLONE_NEWNS, NR_chdir, NR_close_range, NR_dup3, NR_execve, NR_ioctl, NR_openat,
  NR_prctl, NR_prlimit64, NR_rt_sigprocmask, NR_seccomp, NR_setgroups, NR_setns, NR_setresgid, NR_setresuid, NR_setsid, NR_umask, NR_unshare, NR_write, PR_CAPBSET_DROP,
  PR_SET_NO_NEW_PRIVS, RLIMIT_CORE, RLIMIT_NOFILE,
} from '../../runtime/abi.gen.ts';
import { IGNORE_FAILURE } from '../../runtime/sys.ts';
import { asRoot, confinementOf } from '../../guest-agent/app/confinement.ts';
import { DEFAULT_CAPABILITIES } from '../../guest-agent/app/capabilities.ts';
import { boundByPod, readIsolators } from '../../guest-agent/app/isolators.ts';
import type { Isolator } from '../../guest-agent/app/manifest.ts';
import { applySysctls, sysctlPath } from '../../guest-agent/machine/sysctl.ts';
import { confine, executableCandidates, type Confinement, type Program } from '../../guest-agent/confine.ts';

const FILTER = new Uint8Array(16);

const confinement: Confinement = {
  mountNamespaceFd: 30,
  cgroupNamespace: true,
  uid: 1000,
  gid: 1001,
  supplementaryGids: [5, 6],
  capabilities: [CAP_CHOWN, CAP_NET_RAW],
  noNewPrivileges: true,
  seccomp: FILTER,
  oomScoreAdjust: -5,
  rlimits: [{ resource: RLIMIT_NOFILE, soft: 10n, hard: 20n }],
};

const program: Program = {
  argv: ['server', '--port=1'],
  environment: ['PATH=/a:/b'],
  searchPath: '/a:/b',
  workingDirectory: '/srv',
  stdio: [10, 11, 12],
  controllingTerminal: true,
};

const number = (nr: number): number => nr & ~IGNORE_FAILURE;

t.test('the steps, in an order that keeps every one of them possible and none undone', async (t) => {
  const calls = confine(confinement, program).map((step) => number(step.operation[0]));
  const withoutDrops = calls.filter((nr, index) => nr !== NR_prctl || confine(confinement, program)[index]?.operation[1] === PR_SET_NO_NEW_PRIVS);
  t.strictSame(withoutDrops, [
    NR_rt_sigprocmask, NR_setsid, NR_umask,
    NR_openat, NR_write,
    NR_dup3, NR_dup3, NR_dup3, NR_ioctl,
    NR_prlimit64,
    NR_unshare, NR_setns,
    NR_close_range, NR_chdir,
    NR_setgroups, NR_setresgid, NR_setresuid,
    NR_prctl, NR_seccomp,
    NR_execve, NR_execve,
  ]);
  t.ok(calls.indexOf(NR_prctl) > calls.indexOf(NR_chdir) && calls.indexOf(NR_prctl) < calls.indexOf(NR_setresuid), 'the bounding set is cut while root may');
});

t.test('descriptors are closed, not only marked, before the working directory is entered', async (t) => {
  const steps = confine(confinement, program);
  const close = steps.find((step) => step.operation[0] === NR_close_range);
  t.strictSame(close?.operation, [NR_close_range, 3, 0xffffffff, 0]);
});

t.test('namespaces', async (t) => {
  const steps = confine(confinement, program).map((step) => step.operation);
  t.strictSame(steps.find(([nr]) => nr === NR_unshare), [NR_unshare, CLONE_NEWCGROUP]);
  t.strictSame(steps.find(([nr]) => nr === NR_setns), [NR_setns, 30, CLONE_NEWNS]);
  const without = confine({ ...confinement, mountNamespaceFd: null, cgroupNamespace: false }, program).map((step) => step.operation[0]);
  t.notOk(without.includes(NR_setns) || without.includes(NR_unshare));
});

t.test('identity', async (t) => {
  const steps = confine(confinement, program).map((step) => step.operation);
  t.strictSame(steps.find(([nr]) => nr === NR_setgroups), [NR_setgroups, 2, new Uint32Array([5, 6])]);
  t.strictSame(steps.find(([nr]) => nr === NR_setresgid), [NR_setresgid, 1001, 1001, 1001]);
  t.strictSame(steps.find(([nr]) => nr === NR_setresuid), [NR_setresuid, 1000, 1000, 1000]);
});

t.test('the bounding set loses all but what is retained, also capabilities the headers do not know', async (t) => {
  const drops = confine(confinement, program).filter((step) => number(step.operation[0]) === NR_prctl && step.operation[1] === PR_CAPBSET_DROP);
  const dropped = drops.map((step) => step.operation[2] as number);
  const expected = Array.from({ length: 64 }, (_, capability) => capability).filter((capability) => capability !== CAP_CHOWN && capability !== CAP_NET_RAW);
  t.strictSame(dropped, expected);
  for (const { operation } of drops) {
    t.equal(operation[0] >= IGNORE_FAILURE, (operation[2] as number) > CAP_LAST_CAP, 'only unknown ones may fail');
  }
  const all = confine({ ...confinement, capabilities: null }, program);
  t.notOk(all.some((step) => step.operation[1] === PR_CAPBSET_DROP && step.operation[0] === NR_prctl));
});

t.test('OOM score: the opened descriptor is the one written to', async (t) => {
  const steps = confine(confinement, program).map((step) => step.operation);
  const opened = steps.findIndex(([nr]) => nr === NR_openat);
  t.strictSame(steps[opened + 1], [NR_write, { result: opened }, '-5', 2]);
});

t.test('search of the executable', async (t) => {
  const executions = confine(confinement, program).filter((step) => number(step.operation[0]) === NR_execve).map((step) => step.operation);
  t.strictSame(executions, [
    [NR_execve + IGNORE_FAILURE, '/a/server', program.argv, program.environment],
    [NR_execve, '/b/server', program.argv, program.environment],
  ]);
  t.strictSame(executableCandidates({ argv: ['./x'], searchPath: '/a' }), ['./x']);
  t.strictSame(executableCandidates({ argv: ['x'], searchPath: ':/a' }), ['./x', '/a/x'], 'an empty element is the working directory');
});

t.test('failures carry the exit status systemd gives them', async (t) => {
  const steps = confine(confinement, program);
  const statusOf = (nr: number): number | undefined => steps.find((step) => number(step.operation[0]) === nr)?.exitCode;
  t.equal(statusOf(NR_chdir), 200);
  t.equal(statusOf(NR_execve), 203);
  t.equal(statusOf(NR_setresuid), 217);
  t.equal(statusOf(NR_seccomp), 228);
});

const place = { root: { mountNamespaceFd: 7, inside: <T>(work: () => T): T => work() }, cgroup: { fd: 3, signal() {}, kill() {}, memoryKills: () => ({ count: 0, limitBytes: undefined }), watchMemoryKills: () => () => {} } };
const secure = { capabilities: false, paths: false, seccomp: false };

function confinementFor(isolators: Isolator[], options: { uid?: number; insecure?: typeof secure } = {}): Confinement {
  const identity = { uid: options.uid ?? 0, gid: 0, supplementaryGids: [], account: undefined };
  return confinementOf({ isolation: readIsolators(isolators), identity, place, insecure: options.insecure ?? secure, machine: { i386: false, ownsProcesses: true } });
}

t.test('an app without isolators', async (t) => {
  const root = confinementFor([]);
  t.strictSame(root.capabilities, DEFAULT_CAPABILITIES);
  t.equal(DEFAULT_CAPABILITIES.length, 14);
  t.notOk(DEFAULT_CAPABILITIES.includes(CAP_SYS_ADMIN));
  t.ok(root.seccomp, 'the default filter');
  t.equal(root.noNewPrivileges, false);
  t.equal(confinementFor([], { uid: 1 }).noNewPrivileges, true, 'a filter for a user needs it');
});

t.test('isolators', async (t) => {
  t.strictSame(confinementFor([{ name: 'os/linux/capabilities-retain-set', value: { set: ['CAP_SYS_ADMIN'] } }]).capabilities, [CAP_SYS_ADMIN]);
  const removed = confinementFor([{ name: 'os/linux/capabilities-remove-set', value: { set: ['CAP_CHOWN'] } }]).capabilities;
  t.strictSame(removed, DEFAULT_CAPABILITIES.filter((capability) => capability !== CAP_CHOWN));
  t.equal(confinementFor([{ name: 'os/linux/no-new-privileges', value: true }]).noNewPrivileges, true);
  t.equal(confinementFor([{ name: 'os/linux/oom-score-adj', value: 300 }]).oomScoreAdjust, 300);
  t.equal(confinementFor([{ name: 'os/linux/seccomp-retain-set', value: { set: ['@appc.io/all'] } }], { uid: 1 }).seccomp, null);
  t.equal(confinementFor([{ name: 'os/linux/seccomp-retain-set', value: { set: ['@appc.io/all'] } }], { uid: 1 }).noNewPrivileges, false);
  t.throws(() => confinementFor([{ name: 'os/linux/capabilities-retain-set', value: { set: ['CAP_X'] } }]), { message: /unknown capability "CAP_X"/ });
  t.throws(
    () => confinementFor([
      { name: 'os/linux/capabilities-retain-set', value: { set: ['CAP_CHOWN'] } },
      { name: 'os/linux/capabilities-remove-set', value: { set: ['CAP_CHOWN'] } },
    ]),
    { message: /exclude each other/ },
  );
  t.throws(
    () => confinementFor([
      { name: 'os/linux/seccomp-retain-set', value: { set: ['read'] } },
      { name: 'os/linux/seccomp-remove-set', value: { set: ['write'] } },
    ]),
    { message: /too many seccomp isolators specified/ },
  );
});

t.test('insecure options', async (t) => {
  t.equal(confinementFor([], { insecure: { ...secure, capabilities: true } }).capabilities, null);
  t.equal(confinementFor([], { uid: 1, insecure: { ...secure, seccomp: true } }).seccomp, null);
});

t.test('limits', async (t) => {
  const limits = (value: Record<string, unknown>, name = 'resource/memory') => readIsolators([{ name, value }]).limits;
  t.equal(limits({ limit: '512Mi' }).memoryBytes, 512 << 20);
  t.equal(limits({ request: '1M', limit: '1.5G' }).memoryBytes, 1_500_000_000);
  t.equal(limits({ request: '1M' }).memoryBytes, undefined);
  t.equal(limits({ limit: '250m' }, 'resource/cpu').cpuMilli, 250);
  t.equal(limits({ limit: '2' }, 'resource/cpu').cpuMilli, 2000);
  t.throws(() => limits({ limit: 'much' }), { message: /"much" is not a quantity/ });
});

t.test('resource limits', async (t) => {
  const rlimits = (value: object) => readIsolators([{ name: 'coreos.com/rkt/rlimits', value: value as Record<string, unknown> }]).rlimits;
  t.strictSame(rlimits({ nofile: { soft: 5, hard: 10 }, core: { soft: 0, hard: -1 } }), [
    { resource: RLIMIT_NOFILE, soft: 5n, hard: 10n }, { resource: RLIMIT_CORE, soft: 0n, hard: 0xffff_ffff_ffff_ffffn },
  ]);
  t.throws(() => rlimits({ nofile: { soft: -1, hard: 10 } }), { message: 'coreos.com/rkt/rlimits.nofile.soft: number not beyond the hard limit expected' });
  t.throws(() => rlimits({ constructor: { soft: 1, hard: 1 } }), { message: 'coreos.com/rkt/rlimits.constructor: name of a resource limit expected' });
  t.throws(() => rlimits({ nofile: { soft: 1.5, hard: 2 } }), { message: /^coreos\.com\/rkt\/rlimits\.nofile\.soft: integer from -1/ });
});

t.test('isolators that nothing enforces are those rkt ignored; any other unknown one is refused', async (t) => {
  t.strictSame(confinementFor([{ name: 'os/linux/apparmor-profile', value: 'x' }, { name: 'resource/block-iops', value: { default: true, limit: '1' } }]).capabilities, DEFAULT_CAPABILITIES);
  t.throws(() => readIsolators([{ name: 'os/linux/something-new', value: {} }]), { message: 'isolator os/linux/something-new: not known' });
});

t.test('the limit of the pod bounds those of its apps', async (t) => {
  const pod = [{ name: 'resource/cpu', value: { limit: '500m' } }];
  const cpu = (limit: string) => readIsolators([{ name: 'resource/cpu', value: { limit } }]).limits;
  t.equal(boundByPod(cpu('2'), pod).cpuMilli, 500);
  t.equal(boundByPod(cpu('100m'), pod).cpuMilli, 100);
  t.equal(boundByPod(readIsolators([]).limits, pod).cpuMilli, 500);
  t.equal(boundByPod(cpu('2'), []).cpuMilli, 2000);
});

t.test('kernel parameters: keys as sysctl(8) reads them', async (t) => {
  t.equal(sysctlPath('net.ipv4.ip_forward'), 'net/ipv4/ip_forward');
  t.equal(sysctlPath('net.ipv4.conf.eth0/1.forwarding'), 'net/ipv4/conf/eth0.1/forwarding');
  t.equal(sysctlPath('net/ipv4/conf/eth0.1/forwarding'), 'net/ipv4/conf/eth0.1/forwarding');
  for (const bad of ['', 'x', '/kernel/x', 'kernel//x', 'kernel/../x', 'kernel.', 'kernel.x y', '../x', 'kernel..../x']) t.equal(sysctlPath(bad), undefined, bad);
  t.throws(() => applySysctls('a', new Map([['kernel.core_pattern', '|/bin/sh']])), { message: 'os/unix/sysctl.kernel.core_pattern: the kernel would run this program outside of the app' });
  t.throws(() => applySysctls('a', new Map([['kernel/modprobe', '/x']])), { message: /outside of the app/ });
});

t.test('event handlers run confined like the app, but as root', async (t) => {
  const handler = asRoot(confinement);
  t.strictSame({ ...handler, uid: 1000, gid: 1001, supplementaryGids: [5, 6] }, confinement);
  t.equal(handler.uid, 0);
});

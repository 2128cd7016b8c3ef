/** Inside a pod: what an app is, may and sees; what is left of it when it ends. How its processes are confined: isolation.test.ts. */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { makeAci } from './helpers/make-image.ts';
import { makeHost, type Host, type RunResult } from './helpers/rkt.ts';

t.jobs = 2;

interface Pod {
  isolators?: object[];
  user?: string;
  mountPoints?: object[];
  script: string;
  flags?: string[];
  insecure?: string;
}

/** An ACI whose app runs a script, and the arguments that run it. */
function podArguments(host: Host, { isolators = [], user = '0', mountPoints = [], script, flags = [] }: Pod): string[] {
  const path = makeAci(join(host.workDir, 'app.aci'), {
    manifest: {
      name: 'app',
      app: { exec: ['/bin/sh', '-c', script], user, group: user, isolators, mountPoints, environment: [{ name: 'PATH', value: '/bin' }] },
    },
  });
  return ['run', '--net=none', path, ...flags];
}

async function runScript(t: Tap, pod: Pod): Promise<RunResult> {
  const host = makeHost('guest');
  t.teardown(host.close);
  return host.rkt([`--insecure-options=${pod.insecure ?? 'image'}`, ...podArguments(host, pod)]);
}

interface Tap {
  teardown(work: () => void): void;
}

t.test('what rkt hides is hidden, what it makes read-only is read-only', async (t) => {
  const { stdout } = await runScript(t, {
    script: [
      'for p in firmware fs module power; do [ -e /sys/$p ] && ls -A /sys/$p; done',
      'for p in kcore kallsyms config.gz sched_debug mem; do [ -e /proc/$p ] && head -c 16 /proc/$p | wc -c; done | grep -v "^0$"',
      'for p in /proc/sys/kernel/core_pattern /proc/sys/vm/panic_on_oom /proc/sysrq-trigger /sys/kernel/x /sys/devices/x; do (echo x > $p) 2>/dev/null && echo "writable: $p"; done',
      'echo done',
    ].join('\n'),
  });
  t.equal(stdout.toString(), 'done\n');
});

t.test('root in a pod cannot get at the machine', async (t) => {
  const { stdout, status } = await runScript(t, {
    script: [
      // CAP_MKNOD is among the default capabilities; the nodes are of no use anywhere an app can make them.
      'for d in /tmp /dev /dev/shm /run; do mknod $d/disk b 254 0 2>/dev/null; head -c 1 $d/disk >/dev/null 2>&1 && echo "disk through $d"; done',
      'mount -t tmpfs none /tmp 2>/dev/null && echo mounted',
      'umount /proc 2>/dev/null && echo unmounted',
      'reboot -f 2>/dev/null; kill -9 1; kill -15 1',
      'ls /proc/1/root/ 2>/dev/null; cat /proc/1/environ 2>/dev/null',
      '(echo 1 > /proc/1/oom_score_adj) 2>/dev/null && echo "agent changed"',
      // The way out of a chroot for those who may chroot: from a directory outside the new root, upwards.
      'mkdir -p /x; cd /; chroot /x /bin/true 2>/dev/null; cd ../../../..',
      'ls / | tr "\\n" " "; echo alive',
    ].join('\n'),
  });
  t.equal(stdout.toString(), 'bin dev etc home proc root run sys tmp usr var x alive\n');
  t.equal(status, 0);
});

t.test('insecure options take the restrictions away', async (t) => {
  const { stdout } = await runScript(t, {
    insecure: 'image,all-run',
    script: 'grep -E "^(CapBnd|Seccomp):" /proc/self/status; ls /sys/fs | grep -c cgroup; mount -t tmpfs none /tmp && echo mounted',
  });
  t.match(stdout.toString(), /^CapBnd:\t000001ffffffffff\nSeccomp:\t0\n1\nmounted\n$/);
});

t.test('a fork bomb ends with the app', async (t) => {
  const { status, stdout } = await runScript(t, {
    script: '(f() { f | f & }; f) 2>/dev/null & sleep 1; echo over; exit 4',
  });
  t.equal(stdout.toString(), 'over\n');
  t.equal(status, 4);
});

t.test('what an app leaves running ends with it; what it orphans is reaped', async (t) => {
  const { stdout, status } = await runScript(t, {
    script: [
      'i=0; while [ $i -lt 20 ]; do (sleep 0.02 &) ; i=$((i+1)); done; sleep 0.3',
      'grep -l "^State:.Z" /proc/[0-9]*/status 2>/dev/null | wc -l',
      'sleep 1000 & setsid sleep 1000 & exit 0',
    ].join('\n'),
  });
  t.equal(stdout.toString(), '0\n');
  t.equal(status, 0);
});

t.test('devices, standard streams, temporary files', async (t) => {
  const { stdout, stderr } = await runScript(t, {
    user: '1000',
    script: [
      'for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo "no $d"; done',
      'echo to-stdout > /dev/stdout; echo to-stderr > /dev/stderr',
      'head -c 4 /dev/urandom | wc -c; head -c 4 /dev/zero | wc -c; echo x > /dev/null && (echo x > /dev/full) 2>/dev/null || echo full',
      'echo x > /tmp/file && echo x > /dev/shm/file && echo ok',
    ].join('\n'),
  });
  t.equal(stdout.toString(), 'to-stdout\n4\n4\nfull\nok\n');
  t.equal(stderr, 'to-stderr\n');
});

t.test('read-only root, volumes that are not', async (t) => {
  const { stdout } = await runScript(t, {
    flags: ['--readonly-rootfs=true', '--volume=data,kind=empty,mode=0700,uid=5,gid=6'],
    mountPoints: [{ name: 'data', path: '/srv/data' }, { name: 'inner', path: '/srv/data/inner', readOnly: true }],
    script: 'touch /x 2>/dev/null || echo root; touch /srv/data/x && echo data; touch /srv/data/inner/x 2>/dev/null || echo inner; stat -c "%a %u %g" /srv/data',
  });
  t.equal(stdout.toString(), 'root\ndata\ninner\n700 5 6\n');
});

t.test('the clock is right and random numbers differ', async (t) => {
  const first = await runScript(t, { script: 'date +%s; head -c 16 /dev/urandom | od -An -tx1' });
  const second = await runScript(t, { script: 'date +%s; head -c 16 /dev/urandom | od -An -tx1' });
  const [seconds, random] = first.stdout.toString().split('\n');
  t.ok(Math.abs(Number(seconds) - Date.now() / 1000) < 60, `${seconds}`);
  t.not(random, second.stdout.toString().split('\n')[1]);
});


t.test('what an app wrote is on its disk when the pod has ended, also if processes had to be killed', async (t) => {
  const host = makeHost('guest');
  t.teardown(host.close);
  const script = 'echo kept > /file; (while :; do echo x >> /log; done) & (trap "" TERM; while :; do echo y >> /log2; done) & sleep 0.2; exit 0';
  t.equal((await host.rkt(['--insecure-options=image', ...podArguments(host, { script })])).status, 0);
  const disk = join(host.dataDir, 'pods/run', readdirSync(join(host.dataDir, 'pods/run'))[0] ?? '', 'scratch.img');
  const tool = (command: string, ...args: string[]): string => {
    const result = spawnSync(command, args, { encoding: 'utf8', env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' } });
    return `${result.stdout}${result.error?.message ?? ''}`;
  };
  t.match(tool('dumpe2fs', '-h', disk), /Filesystem state: +clean/);
  t.equal(tool('debugfs', '-R', 'cat apps/1/upper/file', disk), 'kept\n');
  t.match(tool('e2fsck', '-fn', disk), /: \d+\/\d+ files/, 'and nothing needs repair');
});

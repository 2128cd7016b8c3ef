/**
 * One test for each advisory of comparable systems that applies and is not tested where its code is; docs/security.md has the table
 * of all of them.
 */
import { constants, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { busyboxMembers, makeOciLayout } from './helpers/make-image.ts';
import type { TarMember } from './helpers/make-image.ts';
import { eventually, makeHost, readyPod } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';

t.jobs = 2;
const { O_RDONLY, O_WRONLY, O_RDWR } = constants;

function imageWith(host: Host, members: TarMember[], options: { replacing?: readonly string[]; workingDirectory?: string; volumes?: string[] } = {}): string {
  const { replacing = [], ...rest } = options;
  const base = busyboxMembers().filter(({ path }) => !replacing.includes(path.replace(/\/$/, '')));
  return makeOciLayout(join(host.workDir, 'image.oci'), { layers: [[...base, ...members]], ...rest });
}

t.test('runc CVE-2024-21626: a working directory below /proc/self/fd leads nowhere', async (t) => {
  const host = makeHost('cwd-fd');
  t.teardown(host.close);
  const image = imageWith(host, []);
  for (const fd of [3, 5, 7, 9]) {
    const result = await host.rkt(['run', '--net=none', image, `--working-dir=/proc/self/fd/${fd}`, '--exec', '/bin/sh', '--', '-c', 'pwd; ls']);
    t.equal(result.status, 254, result.stdout.toString());
    t.match(result.stderr, new RegExp(`/proc/self/fd/${fd}`));
  }
});

t.test('runc CVE-2026-41579, CVE-2021-30465, CVE-2025-31133, -52565, -52881: symbolic links of the image where the agent mounts and writes', async (t) => {
  const host = makeHost('links');
  t.teardown(host.close);
  const links: TarMember[] = ['dev', 'proc', 'sys', 'etc'].map((path) => ({ path, type: 'symlink', linkPath: `../../../../trap-${path}` }));
  const traps: TarMember[] = ['dev', 'proc', 'sys', 'etc'].flatMap((path): TarMember[] => [{ path: `trap-${path}/`, type: 'directory' }, { path: `trap-${path}/bait`, content: 'untouched' }]);
  const image = imageWith(host, [...traps, ...links], { replacing: ['dev', 'proc', 'sys', 'etc', 'etc/passwd', 'etc/group'] });
  const script = 'ls /trap-dev /trap-proc /trap-sys; cat /trap-dev/bait; for p in kcore kallsyms; do [ -s /proc/$p ] && echo "seen: $p"; done; ls -A /sys/firmware; cat /proc/self/oom_score_adj; test -c /dev/null && test -d /proc/self && echo own';
  const result = await host.rkt(['run', '--net=none', image, '--user=0', '--group=0', '--oom-score-adj=55', '--exec', '/bin/sh', '--', '-c', script]);
  t.equal(result.status, 0, result.stderr);
  const output = result.stdout.toString();
  t.match(output, /untouched/);
  t.match(output, /untouched55\nown\n$/, 'what is written to /proc reaches the process it is meant for');
  t.notMatch(output, /seen/, 'and what is hidden stays hidden: nothing of the image is what covers it');
  t.notMatch(output, /^(null|self|kernel)$/m, 'nothing was mounted over what the links point to');
});

t.test('runc CVE-2021-30465: a volume on a symbolic link cannot be put over a part of the machine', async (t) => {
  const host = makeHost('volume-link');
  t.teardown(host.close);
  const image = imageWith(host, [{ path: 'data', type: 'symlink', linkPath: '../../../../../proc/self/ns' }, { path: 'inside/', type: 'directory' }, { path: 'link', type: 'symlink', linkPath: '/../../inside' }]);
  const run = (target: string): ReturnType<Host['rkt']> => host.rkt(['run', '--net=none', '--volume=v,kind=empty', image, `--mount=volume=v,target=${target}`, '--exec', '/bin/sh', '--', '-c', 'grep " /inside " /proc/self/mountinfo']);
  const refused = await run('/data');
  t.equal(refused.status, 254, refused.stdout.toString());
  t.match(refused.stderr, /\/data/);
  const inside = await run('/link');
  t.equal(inside.status, 0, inside.stderr);
  t.match(inside.stdout.toString(), / \/inside /);
});

t.test('Kata CVE-2026-24834: neither the image nor its device can be written by root of the app', async (t) => {
  const host = makeHost('device');
  t.teardown(host.close);
  const image = imageWith(host, []);
  const script = 'for n in 0 16 32; do mknod /tmp/d$n b 254 $n; mknod /tmp/m$n b 253 $n; done; for d in /tmp/d* /tmp/m*; do (echo evil > $d) 2>/dev/null && echo wrote $d; done; ls /dev; exit 0';
  const result = await host.rkt(['run', '--net=none', image, '--exec', '/bin/sh', '--', '-c', script]);
  t.equal(result.status, 0, result.stderr);
  t.notMatch(result.stdout.toString(), /wrote|^vd|^dm-/m);
});

t.test('runc CVE-2019-5736, rkt #3999: the agent cannot be overwritten through a process it starts', async (t) => {
  const host = makeHost('exe');
  t.teardown(host.close);
  const image = imageWith(host, []);
  const uuidFile = join(host.workDir, 'uuid');
  // As root, also in the window in which a child of the agent has not executed its program yet.
  const script = 'while [ ! -e /stop ]; do for p in /proc/[0-9]*/exe; do (echo evil > $p) 2>/dev/null && echo "wrote $p"; done; done; echo over';
  const { child, ended } = host.start(['--insecure-options=paths,seccomp', 'run', '--net=none', `--uuid-file-save=${uuidFile}`, image, '--name=app', '--exec', '/bin/sh', '--', '-c', script]);
  t.teardown(() => child.kill('SIGKILL'));
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  for (let round = 0; round < 3; round++) t.equal((await host.rkt(['enter', uuid, '/bin/echo', 'alive'])).stdout.toString(), 'alive\n');
  await host.rkt(['enter', uuid, '/bin/touch', '/stop']);
  const { stdout } = await ended;
  t.equal(stdout.toString(), 'over\n', 'nothing was written');
});

t.test('Cloud Hypervisor GHSA-jmr4-g2hv-mjj6: no disk format is ever probed', async (t) => {
  const host = makeHost('raw');
  t.teardown(host.close);
  const { child, ended } = host.start(['run', '--net=none', imageWith(host, []), '--exec', '/bin/sleep', '--', '600']);
  const { commandLine, qemuPid } = await eventually('QEMU runs', () => {
    const record = host.listing().map((path) => /^pods\/run\/([0-9a-f-]+)\/vm\.json/.exec(path)?.[1]).find((uuid) => uuid !== undefined);
    if (record === undefined) return undefined;
    const { qemuPid } = JSON.parse(readFileSync(join(host.dataDir, 'pods/run', record, 'vm.json'), 'utf8')) as { qemuPid: number };
    const text = readFileSync(`/proc/${qemuPid}/cmdline`, 'utf8');
    return text.includes('-blockdev') ? { commandLine: text, qemuPid } : undefined;
  });
  const words = commandLine.split('\0');
  const disks = words.filter((_, index) => words[index - 1] === '-blockdev');
  t.equal(disks.length, 2);
  for (const disk of disks) t.match(disk, /^driver=raw,/);
  // Kata CVE-2026-24834: the image is read-only for the device and for the descriptor behind it, not only for the guest.
  t.match(disks[0], /,read-only=on,auto-read-only=off,/);
  t.strictSame(accessModes(qemuPid, (path) => path.endsWith('/disk')), [O_RDONLY]);
  t.strictSame(accessModes(qemuPid, (path) => path.endsWith('/scratch.img')), [O_RDWR]);
  t.notOk(words.includes('-drive') || words.includes('-hda'));
  child.kill('SIGKILL');
  await ended;
});

/** How a process has opened files, each way once. */
function accessModes(pid: number, isMeant: (path: string) => boolean): number[] {
  const fds = readdirSync(`/proc/${pid}/fd`).filter((fd) => isMeant(readlinkSync(`/proc/${pid}/fd/${fd}`)));
  const flags = fds.map((fd) => Number.parseInt(/^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '', 8));
  return [...new Set(flags.map((bits) => bits & (O_WRONLY | O_RDWR)))];
}

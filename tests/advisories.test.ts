/**
 * One test for each advisory of comparable systems that applies to a pod's start and is not tested where its code is:
 * the vsock device (Firecracker CVE-2019-18960, CVE-2026-5747: unit/monitor-vsock, unit/monitor-vhost-user), `enter`
 * (rkt CVE-2019-10144, -10145, -10147: guest.test.ts), an image without layers (Kata CVE-2026-24054: image.test.ts),
 * archives (node-tar: unit/rootfs-tar, bad-input.test.ts).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { busyboxMembers, makeOciLayout } from './helpers/make-image.ts';
import type { TarMember } from './helpers/make-image.ts';
import { eventually, makeHost } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';

t.jobs = 2;

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

t.test('runc CVE-2026-41579, CVE-2021-30465: symbolic links of the image where the agent mounts and writes', async (t) => {
  const host = makeHost('links');
  t.teardown(host.close);
  const links: TarMember[] = ['dev', 'proc', 'sys', 'etc'].map((path) => ({ path, type: 'symlink', linkPath: `../../../../trap-${path}` }));
  const traps: TarMember[] = ['dev', 'proc', 'sys', 'etc'].flatMap((path): TarMember[] => [{ path: `trap-${path}/`, type: 'directory' }, { path: `trap-${path}/bait`, content: 'untouched' }]);
  const image = imageWith(host, [...traps, ...links], { replacing: ['dev', 'proc', 'sys', 'etc', 'etc/passwd', 'etc/group'] });
  const result = await host.rkt(['run', '--net=none', image, '--user=0', '--group=0', '--exec', '/bin/sh', '--', '-c', 'ls /trap-dev /trap-proc /trap-sys; cat /trap-dev/bait; test -c /dev/null && test -d /proc/self && echo own']);
  t.equal(result.status, 0, result.stderr);
  const output = result.stdout.toString();
  t.match(output, /untouched/);
  t.match(output, /own\n$/);
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

t.test('Cloud Hypervisor GHSA-jmr4-g2hv-mjj6: no disk format is ever probed', async (t) => {
  const host = makeHost('raw');
  t.teardown(host.close);
  const { child, ended } = host.start(['run', '--net=none', imageWith(host, []), '--exec', '/bin/sleep', '--', '600']);
  const commandLine = await eventually('QEMU runs', () => {
    const record = host.listing().map((path) => /^pods\/run\/([0-9a-f-]+)\/vm\.json/.exec(path)?.[1]).find((uuid) => uuid !== undefined);
    if (record === undefined) return undefined;
    const { qemuPid } = JSON.parse(readFileSync(join(host.dataDir, 'pods/run', record, 'vm.json'), 'utf8')) as { qemuPid: number };
    const text = readFileSync(`/proc/${qemuPid}/cmdline`, 'utf8');
    return text.includes('-blockdev') ? text : undefined;
  });
  const words = commandLine.split('\0');
  const disks = words.filter((_, index) => words[index - 1] === '-blockdev');
  t.equal(disks.length, 2);
  for (const disk of disks) t.match(disk, /^driver=raw,/);
  t.notOk(words.includes('-drive') || words.includes('-hda'));
  child.kill('SIGKILL');
  await ended;
});

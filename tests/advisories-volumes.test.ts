/**
 * Advisories of comparable systems about shared directories: virtiofsd CVE-2020-35517 (devices of the host can be opened through
 * the share), CVE-2021-20263 and CVE-2022-0358 (rights that files gain), libkrun ("the root of virtio-fs is no confinement"), Kata
 * CVE-2026-24054 (a source of the wrong kind; more in volumes.test.ts). Root of the guest has all capabilities here.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildCache } from '../scripts/build-cache.ts';
import { buildProgram } from '../scripts/build-runtime.ts';
import { busyboxMembers, makeOciLayout } from './helpers/make-image.ts';
import { eventually, makeHost } from './helpers/rkt.ts';

const isRoot = process.getuid?.() === 0;
/** CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SETGID, CAP_SETUID */
const KEPT_CAPABILITIES = '00000000000000cb';

t.test('root of a guest and a shared directory', { skip: isRoot ? false : 'not root' }, async (t) => {
  const host = makeHost('volume-advisories');
  t.teardown(host.close);
  const shared = join(host.workDir, 'shared');
  const other = join(host.workDir, 'other');
  for (const directory of [shared, join(shared, 'sub'), other]) mkdirSync(directory);
  writeFileSync(join(host.workDir, 'secret'), 'secret of the host');
  writeFileSync(join(other, 'text'), 'to read');
  symlinkSync(join(host.workDir, 'secret'), join(shared, 'absolute'));
  symlinkSync('../secret', join(shared, 'relative'));
  symlinkSync('/', join(shared, 'root'));
  spawnSync('mknod', [join(shared, 'null'), 'c', '1', '3']);
  spawnSync('mknod', [join(shared, 'kmsg'), 'c', '1', '11']);
  writeFileSync(join(shared, 'setuid'), 'program', { mode: 0o755 });
  spawnSync('chmod', ['4755', join(shared, 'setuid')]);

  const handles = await buildProgram({ entry: join(import.meta.dirname, 'helpers/file-handles-program.ts'), output: join(buildCache(), 'file-handles-program') });
  const image = makeOciLayout(join(host.workDir, 'image.oci'), { layers: [[...busyboxMembers(), { path: 'bin/handles', mode: 0o755, content: readFileSync(handles.output) }]] });
  const secret = join(host.workDir, 'secret');
  const script = [
    'echo up; until [ -e /shared/go ]; do sleep 0.1; done; cd /shared/sub;',
    // Links lead through the guest's own root, names upwards end at the share's.
    `for f in ../absolute ../relative ../root${secret} ../../secret ../../../secret ../../../../../../../..${secret}; do cat $f >/dev/null 2>&1 && echo read $f; done`,
    // A device node is the guest's own at most: virtiofsd opens none (its mount has nodev, see below).
    'head -c 1 ../kmsg >/dev/null 2>&1 && echo opened device; (echo x > ../null) 2>/dev/null && echo wrote device',
    'mount -o remount,dev,suid,rw /shared && echo remounted; mkdir /again && mount -t virtiofs volume-1 /again 2>/dev/null && echo mounted again && ls /again/..  >/dev/null; mknod ../disk b 8 0 2>/dev/null && echo made device',
    'cp /bin/busybox ../evil; chmod 4755 ../evil 2>/dev/null && echo set-uid; chmod 2755 ../evil 2>/dev/null && echo set-gid; (umask 0; cp -p /bin/busybox ../evil2; chmod u+s ../evil2) 2>/dev/null && echo set-uid again',
    'echo changed >> ../setuid; ln ../sub/../absolute ../hard 2>/dev/null; mv ../sub ../moved && cat ../secret ../../secret 2>/dev/null && echo read after move',
    'mount -o remount,rw /read; mount -o remount,rw,bind /read; for f in /read/new /read/text; do (echo x > $f) 2>/dev/null && echo wrote $f; done; rm -f /read/text; touch /read/text 2>/dev/null && echo touched; mkdir /twice; mount -t virtiofs volume-2 /twice 2>/dev/null; (echo x > /twice/new) 2>/dev/null && echo wrote twice; rm -f /twice/text',
    '/bin/handles /shared',
    'echo done; until [ -e /shared/end ]; do sleep 0.1; done',
  ].join('\n');
  const volumes = [`--volume=shared,kind=host,source=${shared}`, `--volume=read,kind=host,source=${other},readOnly=true`];
  const { child, ended } = host.start(['--insecure-options=all-run', 'run', '--net=none', ...volumes, image, '--mount=volume=shared,target=/shared', '--mount=volume=read,target=/read', '--exec', '/bin/sh', '--', '-c', script]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await eventually('the app', () => output.includes('up'));

  // What virtiofsd is, seen from this host.
  const monitor = Number(readFileSync(join(host.dataDir, 'pods/run', readdirSync(join(host.dataDir, 'pods/run'))[0] ?? '', 'pid'), 'utf8'));
  const named = (parent: number): number[] => childrenOf(parent).filter((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'virtiofsd\n');
  const starters = named(monitor);
  t.equal(starters.length, 2);
  for (const [index, starter] of starters.entries()) {
    const [daemon = 0] = named(starter);
    const status = readFileSync(`/proc/${daemon}/status`, 'utf8');
    t.match(status, new RegExp(`CapPrm:\t${KEPT_CAPABILITIES}\nCapEff:\t${KEPT_CAPABILITIES}\nCapBnd:\t0{16}\nCapAmb:\t0{16}\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t2\n`));
    const mounts = readFileSync(`/proc/${daemon}/mountinfo`, 'utf8').trim().split('\n').map((line) => line.split(' '));
    t.equal(mounts.length, 1, 'nothing but the source is mounted');
    t.ok(mounts[0]?.[3]?.endsWith(index === 0 ? '/shared' : '/other'));
    t.match(mounts[0]?.[5], index === 0 ? /^rw,nosuid,nodev/ : /^ro,nosuid,nodev/);
    for (const namespace of ['mnt', 'pid', 'net', 'ipc', 'uts']) t.not(readlinkSync(`/proc/${daemon}/ns/${namespace}`), readlinkSync(`/proc/self/ns/${namespace}`), namespace);
  }

  writeFileSync(join(shared, 'go'), '');
  await eventually('the end of the attempts', () => output.includes('done'));
  writeFileSync(join(shared, 'end'), '');
  const { status, stderr } = await ended;
  t.equal(status, 0, stderr);
  t.equal(output, 'up\nremounted\nmounted again\nhandles: only what is shared\ndone\n');
  for (const name of ['evil', 'evil2', 'setuid']) t.equal(statSync(join(shared, name)).mode & 0o6000, 0, `${name}: no set-uid program, and no longer one when it was written to`);
  t.notOk(existsSync(join(shared, 'disk')));
  t.strictSame(readdirSync(other), ['text']);
  t.equal(readFileSync(join(other, 'text'), 'utf8'), 'to read');
  t.equal(readFileSync(secret, 'utf8'), 'secret of the host');
  t.ok(lstatSync(join(shared, 'absolute')).isSymbolicLink());
});

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter((word) => word !== '').map(Number);
}

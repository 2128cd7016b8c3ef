/** Volumes inside of pods: directories and files of this host, empty ones that apps share, what images say about them. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { busyboxMembers, makeAci, makeOciLayout } from './helpers/make-image.ts';
import type { TarMember } from './helpers/make-image.ts';
import { run } from './helpers/network-host.ts';
import { eventually, makeHost, processesMentioning, readyPod } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';

/** Each test has at most one virtual machine. */
t.jobs = 2;

const IMAGE = busyboxImage();
const sh = (script: string): string[] => ['--exec', '/bin/sh', '--', '-c', script];

function testHost(t: { teardown(work: () => void): void }, name: string): Host & { share(path: string, files?: Record<string, string>): string } {
  const host = makeHost(`volumes-${name}`);
  t.teardown(host.close);
  return {
    ...host,
    share(path, files = {}) {
      const directory = join(host.workDir, path);
      mkdirSync(directory, { recursive: true });
      for (const [file, content] of Object.entries(files)) writeFileSync(join(directory, file), content);
      return directory;
    },
  };
}

t.test('directories and single files of this host', async (t) => {
  const host = testHost(t, 'host');
  const data = host.share('data', { old: 'from the host\n' });
  const read = host.share('read', { text: 'to read\n' });
  const single = join(host.share('single', { conf: 'setting\n', secret: 'hidden' }), 'conf');
  const links: TarMember[] = [{ path: 'link', type: 'symlink', linkPath: 'var/linked' }, { path: 'away', type: 'symlink', linkPath: '/../../srv/far' }];
  const image = makeAci(join(host.workDir, 'app.aci'), {
    layers: [[...busyboxMembers(), ...links]],
    manifest: {
      app: { exec: ['/bin/true'], user: '0', group: '0', mountPoints: [{ name: 'data', path: '/data', readOnly: true }, { name: 'quiet', path: '/quiet', readOnly: true }] },
    },
  });
  const uuidFile = join(host.workDir, 'uuid');
  const volumes = [
    `data,kind=host,source=${host.workDir}/./nowhere/../data/,readOnly=false`, `read,kind=host,source=${read},readOnly=true`, `conf,kind=host,source=${single}`, `quiet,kind=host,source=${read}`,
    'inner,kind=empty,mode=1770,uid=7,gid=8',
  ].map((volume) => `--volume=${volume}`);
  const mounts = ['volume=data,target=twice/here', 'volume=inner,target=/data/inner', 'volume=read,target=/link', 'volume=read,target=/away/deep', 'volume=conf,target=/etc/app.conf'].map((mount) => `--mount=${mount}`);
  const script = [
    'cat /data/old /twice/here/old /etc/app.conf /link/text /srv/far/deep/text /var/linked/text',
    'echo from the guest > /data/new; cat /twice/here/new; echo changed >> /etc/app.conf',
    'stat -c "%a %u %g" /data/inner; touch /data/inner/x && mkdir -p /data/made && chown 1000:1000 /data/made && echo empty; ls /twice/here/inner',
    'for f in /link/x /quiet/x /root/x; do touch $f 2>/dev/null && echo wrote $f; done',
    'echo end; while ! [ -e /data/go ]; do sleep 0.1; done; cat /data/go',
  ].join('\n');
  const { child, ended } = host.start(['--insecure-options=image', 'run', '--net=none', `--uuid-file-save=${uuidFile}`, ...volumes, image, '--readonly-rootfs', ...mounts, ...sh(script)]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const uuid = await eventually('the pod', () => output.endsWith('end\n') && readyPod(host, uuidFile));
  const status = JSON.parse((await host.rkt(['status', '--format=json', uuid])).stdout.toString()) as { apps: { mounts: { host_path: string; container_path: string; read_only: boolean }[] }[] };
  const shown = Object.fromEntries((status.apps[0]?.mounts ?? []).map((mount) => [mount.container_path, [mount.host_path, mount.read_only]]));
  t.strictSame(shown, {
    'twice/here': [data, false], '/data/inner': ['', false], '/link': [read, true], '/away/deep': [read, true], '/etc/app.conf': [single, false], '/data': [data, false], '/quiet': [read, true],
  });
  writeFileSync(join(data, 'going'), 'seen while it runs\n');
  renameSync(join(data, 'going'), join(data, 'go'));
  const { status: exitStatus, stdout, stderr } = await ended;
  t.equal(exitStatus, 0, stderr);
  t.equal(stdout.toString(), [
    'from the host', 'from the host', 'setting', 'to read', 'to read', 'to read', 'from the guest', '1770 7 8', 'empty', 'end', 'seen while it runs', '',
  ].join('\n'));
  t.equal(readFileSync(join(data, 'new'), 'utf8'), 'from the guest\n');
  t.equal(readFileSync(single, 'utf8'), 'setting\nchanged\n');
  t.strictSame(readdirSync(join(data, 'inner')), [], 'what is in a volume that is mounted in it stays in the pod');
  t.equal(statSync(join(data, 'made')).uid, 1000);
  t.strictSame(readdirSync(read), ['text']);
});

t.test('volumes that apps share, mounts with a volume of their own, content of images', async (t) => {
  const host = testHost(t, 'apps');
  const content: TarMember[] = [
    { path: 'srv/www/', type: 'directory', mode: 0o750, uid: 33, gid: 34 }, { path: 'srv/www/sub/', type: 'directory', mode: 0o700 },
    { path: 'srv/www/sub/index', content: 'page', mode: 0o640, uid: 1000, mtimeSeconds: 1_500_000_000 }, { path: 'srv/www/link', type: 'symlink', linkPath: '/etc/passwd' },
  ];
  const image = makeOciLayout(join(host.workDir, 'web.oci'), { layers: [[...busyboxMembers(), ...content]], volumes: ['/srv/www', '/srv/own'] });
  const [id = ''] = /sha512-[0-9a-f]{64}/.exec((await host.rkt(['fetch', '--full', image])).stdout.toString()) ?? [];
  const own = host.share('own', { mine: 'of one app\n' });
  const mountPoints = [{ name: 'volume-srv-www', path: '/srv/www' }, { name: 'volume-srv-own', path: '/srv/own' }];
  const wait = 'i=0; until [ -e /shared/done ] || [ $i -gt 300 ]; do sleep 0.1; i=$((i+1)); done';
  const app = (name: string, script: string, mounts: object[]): object => ({ name, image: { id }, app: { exec: ['/bin/sh', '-c', script], user: '0', group: '0', mountPoints }, mounts });
  const empty = { kind: 'empty', mode: '0755', uid: 0, gid: 0 };
  const first = 'cd /srv/www; stat -c "%a %u %g" .; stat -c "%n %a %u %Y" sub/index; readlink link; cat sub/index; echo; echo changed > sub/index; cat /data/mine; (echo x > /data/mine) 2>/dev/null || echo read-only; touch /shared/done';
  const second = `${wait}; cat /srv/www/sub/index; ls -A /data; touch /srv/own/x && ls /srv/own`;
  writeFileSync(join(host.workDir, 'pod.json'), JSON.stringify({
    acVersion: '0.8.11', acKind: 'PodManifest',
    volumes: [{ name: 'www', ...empty }, { name: 'shared', ...empty, mode: '0777' }, { name: 'data', ...empty }],
    apps: [
      app('first', first, [{ volume: 'www', path: '/srv/www' }, { volume: 'shared', path: '/shared' }, { volume: 'data', path: '/data', appVolume: { name: 'data', kind: 'host', source: own, readOnly: true } }]),
      app('second', second, [{ volume: 'www', path: '/srv/www' }, { volume: 'shared', path: '/shared' }, { volume: 'data', path: '/data' }]),
    ],
  }));
  const { status, stdout, stderr } = await host.rkt(['run', '--net=none', `--pod-manifest=${join(host.workDir, 'pod.json')}`]);
  t.equal(status, 0, stderr);
  const lines = stdout.toString().split('\n').map((line) => /^\[[^\]]*\] (\w+)\[\d+\]: (.*)$/.exec(line)?.slice(1, 3));
  const of = (name: string): (string | undefined)[] => lines.flatMap((line) => (line?.[0] === name ? [line[1]] : []));
  t.strictSame(of('first'), ['750 33 34', 'sub/index 640 1000 1500000000', '/etc/passwd', 'page', 'of one app', 'read-only']);
  t.strictSame(of('second'), ['changed', 'x']);
  t.match(stderr, /no volume specified for mount point "volume-srv-own", implicitly creating an "empty" volume/);
});

t.test('what is mounted below a source; more volumes than a microvm has places', { skip: process.getuid?.() === 0 ? false : 'not root' }, async (t) => {
  const host = testHost(t, 'many');
  const outer = host.share('outer', { top: '' });
  host.share('outer/sub');
  run(`mount -t tmpfs -o size=1m tmpfs ${outer}/sub`);
  t.teardown(() => run(`umount ${outer}/sub`));
  host.share('outer/sub', { below: 'mounted\n' });
  const sources = [`source=${outer}`, `source=${outer},recursive=false`, `source=${outer},readOnly=true`, ...Array.from({ length: 9 }, (_, i) => `source=${host.share(`more/${i}`, { name: `${i}\n` })}`)];
  const script = [
    'cat /v0/sub/below /v2/sub/below; ls /v1/sub; (echo x > /v2/sub/x) 2>/dev/null || echo read-only; echo x > /v0/sub/x; cat /v?/name /v1?/name | tr "\\n" " "; echo',
    '[ "$(stat -c %d /v0)" != "$(stat -c %d /v0/sub)" ] && echo two file systems; grep -c " virtiofs .*rw" /proc/self/mountinfo; grep " /v0/sub " /proc/self/mountinfo | cut -d" " -f6',
  ].join('\n');
  const { status, stdout, stderr } = await host.rkt(['run', '--net=none', ...sources.map((source, i) => `--volume=v${i},kind=host,${source}`), IMAGE, ...sources.map((_, i) => `--mount=volume=v${i},target=/v${i}`), ...sh(script)]);
  t.equal(status, 0, stderr);
  t.equal(stdout.toString(), 'mounted\nmounted\nread-only\n0 1 2 3 4 5 6 7 8 \ntwo file systems\n14\nrw,nosuid,nodev,relatime\n');
  t.strictSame(readdirSync(join(outer, 'sub')).sort(), ['below', 'x']);
});

t.test('a pod whose virtiofsd ends does not hang: it ends', async (t) => {
  const host = testHost(t, 'death');
  const data = host.share('data');
  const { child, ended } = host.start(['run', '--net=none', `--volume=data,kind=host,source=${data}`, IMAGE, '--mount=volume=data,target=/data', ...sh('trap "" TERM; echo up; while :; do date > /data/x; done')]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const pod = await eventually('the app', () => output.includes('up') && readdirSync(join(host.dataDir, 'pods/run'))[0]);
  const monitor = Number(readFileSync(join(host.dataDir, 'pods/run', pod, 'pid'), 'utf8'));
  const children = readFileSync(`/proc/${monitor}/task/${monitor}/children`, 'utf8').trim().split(' ').map(Number);
  const virtiofsd = children.find((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'virtiofsd\n');
  process.kill(virtiofsd ?? 0, 'SIGKILL');
  const { status, stderr } = await ended;
  t.equal(status, 254);
  t.match(stderr, /volume "data": virtiofsd ended by signal 9 while the pod was running/);
  for (const pid of children) await eventually('nothing of it is left', () => isGone(pid));
});

t.test('images as directories of this host', async (t) => {
  const host = testHost(t, 'rootfs');
  const uuidFile = join(host.workDir, 'uuid');
  const first = 'grep " / / " /proc/self/mountinfo | cut -d" " -f6; stat -c "%u %a" /home/user /tmp; id -un; rm /bin/yes; echo x > /etc/passwd; touch /bin/new && ls /bin/yes 2>/dev/null; sync; echo ready; until grep -q live /etc/group; do sleep 0.1; done; tail -n 1 /etc/group';
  const second = 'cat /etc/group | head -1; wc -l < /etc/passwd';
  const { child, ended } = host.start(['run', '--net=none', '--rootfs=virtiofs', `--uuid-file-save=${uuidFile}`, IMAGE, '--name=first', ...sh(first), '---', IMAGE, '--name=second', ...sh(second)]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const uuid = await eventually('the pod', () => output.includes('ready') && readyPod(host, uuidFile));
  const tree = (app: string): string => join(host.dataDir, 'pods/run', uuid, 'appsinfo', app, 'rootfs');
  const passwd = readFileSync(join(tree('second'), 'etc/passwd'), 'utf8');
  t.equal(readFileSync(join(tree('first'), 'etc/passwd'), 'utf8'), passwd, 'what an app writes does not reach the directory');
  t.ok(readdirSync(join(tree('first'), 'bin')).includes('yes'));
  t.notOk(readdirSync(join(tree('first'), 'bin')).includes('new'));
  appendFileSync(join(tree('first'), 'etc/group'), 'live from the host\n');
  const { status, stdout, stderr } = await ended;
  t.equal(status, 0, stderr);
  const lines = stdout.toString().split('\n').map((line) => line.replace(/^\[[^\]]*\] (\w+)\[\d+\]: /, '$1 ')).sort();
  const owner = process.getuid?.() === 0 ? 1000 : 0;
  t.strictSame(lines.filter((line) => line.startsWith('first')), [`first ${owner} 755`, 'first 0 1777', 'first live from the host', 'first ready', 'first root', 'first rw,nodev,relatime'].sort());
  t.strictSame(lines.filter((line) => line.startsWith('second')), ['second 3', 'second root:x:0:']);
  t.match((await host.rkt(['attest', 'log', uuid])).stdout.toString(), /insecure options "rootfs"[^]*app "first", image "[^"]*", from a directory of the host that nothing vouches for/);
  t.equal((await host.rkt(['gc', '--grace-period=0s'])).status, 0);
  t.strictSame(host.listing().filter((path) => path.includes(uuid)), []);
  const sealed = await host.rkt(['run', '--net=none', '--rootfs=virtiofs', '--sealed', IMAGE]);
  t.strictSame([sealed.status, sealed.stderr], [254, 'run: this host could change what runs in the pod: --sealed excludes --rootfs=virtiofs\n']);
});

t.test('what cannot be shared is refused before anything is made', async (t) => {
  const host = testHost(t, 'refused');
  const socket = join(host.workDir, 'socket');
  const server = createServer().listen(socket);
  t.teardown(() => server.close());
  const fifo = join(host.workDir, 'fifo');
  run(`mkfifo ${fifo}`);
  symlinkSync('socket', join(host.workDir, 'link'));
  const cases: [string, RegExp][] = [
    [`kind=host,source=${socket}`, /volume "v": source .*socket is a socket: only directories and regular files can be shared with a virtual machine\n/],
    [`kind=host,source=${host.workDir}/link`, /is a socket/],
    [`kind=host,source=${fifo}`, /is a named pipe/],
    ['kind=host,source=/dev/null', /is a character device/],
    [`kind=host,source=${host.workDir}/none`, /volume "v": source .*\/none does not exist\n/],
    [`kind=host,source=${socket}/x`, /volume "v": source .*\/x cannot be shared/],
    ['kind=host,source=data', /source for host volume must be absolute path/],
    ['kind=host,source=/tmp,mode=0755', /mode, uid and gid for host volume must not be set/],
    ['kind=empty,source=/tmp', /source for empty volume must be empty/],
    ['kind=host,source=/tmp,other=1', /unknown volume parameter "other"/],
  ];
  for (const [volume, says] of cases) {
    for (const command of ['run', 'prepare']) {
      const result = await host.rkt([command, `--volume=v,${volume}`, IMAGE, '--mount=volume=v,target=/v']);
      t.equal(result.status, 254, volume);
      t.match(result.stderr, says);
    }
  }
  t.strictSame(host.listing().filter((path) => /^pods\/\w+\//.test(path)), []);
  // Between `prepare` and the start the source may become something else: stage1 looks at what it shares.
  const later = host.share('later');
  const uuid = (await host.rkt(['prepare', '--quiet', `--volume=v,kind=host,source=${later}`, IMAGE, '--mount=volume=v,target=/v'])).stdout.toString().trim();
  run(`rmdir ${later}; mkfifo ${later}`);
  const started = await host.rkt(['run-prepared', '--net=none', uuid]);
  t.equal(started.status, 254);
  t.match(started.stderr, /volume "v": source .*later is a named pipe/);
  t.strictSame(processesMentioning(uuid), []);
});

/** Or waits for whoever inherited it. */
function isGone(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0] === 'Z';
  } catch {
    return true;
  }
}

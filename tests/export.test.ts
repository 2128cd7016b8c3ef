/** `rkt export`: what an app has left is an image again; other programs read it; a damaged disk gives an error and nothing else. */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { SCRATCH_SIZE_BYTES } from '../src/stage0/scratch.ts';
import { makeAci } from './helpers/make-image.ts';
import { eventually, makeHost, processesMentioning, readyPod } from './helpers/rkt.ts';
import { seededRandom } from './helpers/random.ts';

const CHANGES = [
  'rm /bin/wget', 'rm -r /home/user', 'mkdir /home/user', 'echo changed > /etc/group', 'mkdir -p /data/deep', 'echo new > /data/file', 'chown 7:8 /data/file', 'chmod 4711 /data/file',
  'ln /data/file /data/linked', 'ln -s file /data/symlink', 'touch -d @1000000000 /data/old', 'mv /usr /moved', 'echo x > /tmp/kept', 'echo hidden > /volume/in', 'exit 3',
].join('; ');

/** Where mke2fs puts it on a disk of this size: `dumpe2fs`. */
const INODE_TABLE_BLOCK = 258;

t.test('an app with its changes becomes an image', async (t) => {
  const host = makeHost('export');
  t.teardown(host.close);
  const image = makeAci(join(host.workDir, 'app.aci'), {
    manifest: {
      name: 'example.com/changing', pathWhitelist: [],
      app: { exec: ['/bin/sh', '-c', CHANGES], user: '0', group: '0', workingDirectory: '/data', mountPoints: [{ name: 'volume', path: '/volume' }], environment: [{ name: 'PATH', value: '/bin' }] },
    },
  });
  const started = await host.rkt(['--insecure-options=image', 'run', '--net=none', '--volume=volume,kind=empty', image, '--working-dir=/']);
  t.equal(started.status, 3, started.stderr);
  const uuid = readdirSync(join(host.dataDir, 'pods/run'))[0] ?? '';
  const before = host.listing();
  const scratch = statSync(join(host.dataDir, 'pods/run', uuid, 'scratch.img'));

  const exported = await host.rkt(['export', uuid, 'out.aci']);
  t.equal(exported.status, 0, exported.stderr);
  t.equal(exported.stdout.toString() + exported.stderr, '');
  t.strictSame(host.listing(), before, 'nothing of the pod has changed');
  t.equal(statSync(join(host.dataDir, 'pods/run', uuid, 'scratch.img')).mtimeMs, scratch.mtimeMs);
  t.equal(readFileSync(join(host.workDir, 'out.aci')).readUInt16BE(0), 0x1f8b, 'compressed with gzip');
  const manifest = JSON.parse(execFileSync('tar', ['xzOf', join(host.workDir, 'out.aci'), 'manifest']).toString()) as Record<string, unknown>;
  t.match(manifest, { name: 'example.com/changing', app: { workingDirectory: '/data' } });
  t.notOk('pathWhitelist' in manifest || 'dependencies' in manifest);
  const members = execFileSync('tar', ['tzvf', join(host.workDir, 'out.aci'), '--numeric-owner']).toString();
  t.match(members, /^-rws--x--x 7\/8 +4 .* rootfs\/data\/file$/m);
  t.match(members, /rootfs\/data\/linked link to rootfs\/data\/file$/m);
  t.match(members, /rootfs\/moved\/bin\/$/m, 'a directory that was moved');
  t.notMatch(members, /bin\/wget|attest|etc\/(hostname|resolv)|rootfs\/usr\/|rootfs\/(proc|sys|dev)\/.|volume\/./);

  // The same again, and what it is when it is imported.
  const again = await host.rkt(['export', uuid, 'again.aci']);
  t.equal(again.status, 0, again.stderr);
  t.ok(readFileSync(join(host.workDir, 'again.aci')).equals(readFileSync(join(host.workDir, 'out.aci'))), 'the same bytes');
  const script = 'cat /etc/group /data/file /data/symlink /tmp/kept; stat -c "%u:%g %a %h %Y" /data/file /data/old; ls /home/user /volume /moved; ls /bin/wget /usr; exit 0';
  const layout = await host.rkt(['export', '--oci', '--app=changing', uuid, 'out.oci']);
  t.equal(layout.status, 0, layout.stderr);
  for (const [path, flags] of [[join(host.workDir, 'out.aci'), ['--insecure-options=image']], [`oci:${join(host.workDir, 'out.oci')}`, []]] as const) {
    const run = await host.rkt([...flags, 'run', '--net=none', path, '--working-dir=/', '--exec', '/bin/sh', '--', '-c', script]);
    t.equal(run.status, 0, run.stderr);
    const output = run.stdout.toString();
    t.match(output, /^changed\nnew\nnew\nx\n7:8 4711 2 \d+\n0:0 644 1 1000000000\n/);
    t.match(output, /\/moved:\nbin\n/);
    t.match(run.stderr, /\/bin\/wget: No such file/);
    t.match(run.stderr, /\/usr: No such file/);
  }

  // Others read it.
  const inspected = spawnSync('skopeo', ['inspect', `oci:${join(host.workDir, 'out.oci')}`], { encoding: 'utf8' });
  t.equal(inspected.status, 0, inspected.stderr);
  t.equal((JSON.parse(inspected.stdout) as { Layers: string[] }).Layers.length, 1);
  const [reference = ''] = (JSON.parse(readFileSync(join(host.workDir, 'out.oci/index.json'), 'utf8')) as { manifests: { annotations?: Record<string, string> }[] }).manifests.map(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] ?? '');
  const unpacked = spawnSync('umoci', ['unpack', '--rootless', '--image', `${join(host.workDir, 'out.oci')}:${reference}`, join(host.workDir, 'bundle')], { encoding: 'utf8' });
  t.equal(unpacked.status, 0, unpacked.stderr);
  t.equal(readFileSync(join(host.workDir, 'bundle/rootfs/data/file'), 'utf8'), 'new\n');

  // What is refused.
  for (const [args, message] of [
    [[uuid, 'out.aci'], 'output ACI file exists (try --overwrite)'], [[uuid, 'out.tar'], 'extension must be .aci (given out.tar)'], [['--oci', uuid, 'out.oci'], 'output directory exists (try --overwrite)'],
    [['--app=none', uuid, 'x.aci'], 'app "none" is not in the pod: it has changing'], [['0000', 'x.aci'], 'no matches found for "0000"'],
  ] as const) {
    const refused = await host.rkt(['export', ...args]);
    t.equal(refused.status, 254);
    t.match(refused.stderr, `export: ${message}`);
  }

  // A guest's file system may be anything.
  const random = seededRandom(11);
  const fd = openSync(join(host.dataDir, 'pods/run', uuid, 'scratch.img'), 'r+');
  const damage = (offsetBytes: number, lengthBytes: number): number => writeSync(fd, random.bytes(lengthBytes), 0, lengthBytes, offsetBytes);
  // The table of inodes, but for the first block of it: the disk can be mounted.
  for (let block = INODE_TABLE_BLOCK + 1; block < INODE_TABLE_BLOCK + 16; block++) damage(block * 4096, 4096);
  const listingBefore = readdirSync(host.workDir);
  const damaged = await host.rkt(['export', uuid, 'damaged.aci']);
  t.equal(damaged.status, 254);
  t.match(damaged.stderr, /^export: /m);
  damage(0, 4096);
  const worse = await host.rkt(['export', '--oci', uuid, 'damaged.oci']);
  t.equal(worse.status, 254);
  t.match(worse.stderr, /^stage1: app "changing": /m);
  closeSync(fd);
  t.strictSame(readdirSync(host.workDir), listingBefore, 'nothing is left');
  t.strictSame(processesMentioning(host.dataDir), []);
  t.equal(statSync(join(host.dataDir, 'pods/run', uuid, 'scratch.img')).size, SCRATCH_SIZE_BYTES);
  t.strictSame((await host.rkt(['gc', '--grace-period=0s'])).status, 0);
});

t.test('a running pod is not exported; an interrupted export leaves nothing', async (t) => {
  const host = makeHost('export-running');
  t.teardown(host.close);
  const uuidFile = join(host.workDir, 'uuid');
  const image = makeAci(join(host.workDir, 'app.aci'));
  const { child, ended } = host.start(['--insecure-options=image', 'run', '--net=none', `--uuid-file-save=${uuidFile}`, image, '--exec', '/bin/sleep', '--', '1000']);
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  const running = await host.rkt(['export', uuid, 'x.aci']);
  t.equal(running.status, 254);
  t.equal(running.stderr, 'export: pod is not exited. Only exited pods can be exported\n');
  child.kill('SIGKILL');
  await ended;

  const export_ = host.start(['export', uuid, 'x.aci']);
  await eventually('the guest is being started', () => processesMentioning(host.dataDir).some(({ commandLine }) => commandLine.includes('/export ')));
  // Meanwhile nobody removes the pod.
  const gc = await host.rkt(['gc', '--grace-period=0s']);
  t.notMatch(gc.stdout.toString(), /Garbage collecting/);
  t.ok(host.listing().some((path) => path.startsWith(`pods/exited-garbage/${uuid}/pod `)));
  export_.child.kill('SIGTERM');
  t.not((await export_.ended).status, 0);
  await eventually('all of it has ended', () => processesMentioning(host.dataDir).length === 0);
  t.strictSame(readdirSync(host.workDir).filter((name) => name.includes('x.aci')), []);
  t.notOk(existsSync(join(host.workDir, 'x.aci')));

  // A pod that was killed is exported as one that has ended.
  const late = await host.rkt(['export', uuid, 'late.aci']);
  t.equal(late.status, 0, late.stderr);
});

/** What a user can get wrong: each ends with exit status 254 and one clear message, and leaves nothing behind. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { aciManifest, compress, makeAci, makeOciLayout } from './helpers/make-image.ts';
import { makeHost, PROGRAM, processesMentioning } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';
import { END_OF_ARCHIVE, concat, paxData, tar, tarMember } from './helpers/tar-writer.ts';
import type { TarMember } from './helpers/tar-writer.ts';

t.jobs = 2;
const image = busyboxImage();

interface BadInput {
  args: (host: Host) => string[];
  says: RegExp;
  /** The pod was started before the mistake could be seen; it stays as an exited pod until gc. */
  bootsPod?: boolean;
}

function aciWith(host: Host, members: TarMember[], manifest: object = aciManifest()): string {
  const path = join(host.workDir, 'image.aci');
  writeFileSync(path, tar([{ path: 'manifest', data: JSON.stringify(manifest) }, { path: 'rootfs/', flag: '5' }, ...members]));
  return path;
}

/** Offset of a blob's file in an OCI layout, changed in one byte. */
function corruptBlob(layout: string, isWanted: (bytes: Buffer) => boolean): void {
  const directory = join(layout, 'blobs/sha256');
  const name = readdirSync(directory).find((candidate) => isWanted(readFileSync(join(directory, candidate))));
  if (name === undefined) throw new Error('no such blob');
  const bytes = readFileSync(join(directory, name));
  bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] ?? 0) ^ 1;
  writeFileSync(join(directory, name), bytes);
}

const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
const isGzip = (bytes: Buffer): boolean => bytes.subarray(0, 2).equals(GZIP_MAGIC);

const CASES: Record<string, BadInput> = {
  'no such file': {
    args: () => ['./nothing-here.aci'],
    says: /nothing-here\.aci/,
  },
  'truncated gzip': {
    args: (host) => {
      const path = makeAci(join(host.workDir, 'short.aci'), { compression: 'gzip' });
      truncateSync(path, 200_000);
      return [path];
    },
    says: /short\.aci.*(truncated|unexpected end|ends early|incomplete)/i,
  },
  'a layer with a wrong digest': {
    args: (host) => {
      // An image of its own: one the store knows by its configuration needs no layer.
      const layout = makeOciLayout(join(host.workDir, 'bad.oci'), { env: ['LAYER=bad'] });
      corruptBlob(layout, isGzip);
      return [layout];
    },
    says: /sha256:[0-9a-f]{12,}|digest/,
  },
  'a config with a wrong digest': {
    args: (host) => {
      const layout = makeOciLayout(join(host.workDir, 'bad.oci'));
      corruptBlob(layout, (bytes) => bytes.includes('"rootfs"'));
      return [layout];
    },
    says: /digest/i,
  },
  'a manifest without app and no --exec': {
    args: (host) => [aciWith(host, [], { ...aciManifest(), app: undefined })],
    says: /has no app section and --exec argument is not provided/,
  },
  'an unknown user': {
    args: () => [image, '--user=nosuchuser', '--exec', '/bin/true'],
    says: /nosuchuser/,
    bootsPod: true,
  },
  'a path that is not in the image': {
    args: () => [image, '--exec', '/bin/no-such-program'],
    says: /\/bin\/no-such-program.*No such file or directory/s,
    bootsPod: true,
  },
  'a tar with ../': {
    args: (host) => [aciWith(host, [{ path: 'rootfs/../../escape', data: 'x' }])],
    says: /escape/,
  },
  'an absolute hard link': {
    args: (host) => [aciWith(host, [{ path: 'rootfs/link', flag: '1', link: '/etc/shadow' }])],
    says: /link|shadow/,
  },
  'a PAX header of 4 GB': {
    args: (host) => {
      const path = join(host.workDir, 'pax.aci');
      const header = tarMember({ path: 'pax', flag: 'x', data: paxData([['comment', 'x']]), sizeField: 4 * 2 ** 30 });
      writeFileSync(path, concat(tar([{ path: 'manifest', data: JSON.stringify(aciManifest()) }]).subarray(0, -1024), header, END_OF_ARCHIVE));
      return [path];
    },
    says: /PAX|header/i,
  },
  '10 000 nested directories': {
    args: (host) => [aciWith(host, [{ path: 'x', data: 'x', pax: [['path', `rootfs/${'d/'.repeat(10_000)}`]] }])],
    says: /exceeds/,
  },
  'an unsupported architecture': {
    args: (host) => [makeOciLayout(join(host.workDir, 'arm.oci'), { architecture: 'arm64' })],
    says: /arm64|aarch64/,
  },
  'a shell script is no image': {
    args: (host) => {
      const path = join(host.workDir, 'script.aci');
      writeFileSync(path, '#!/bin/sh\necho hi\n');
      return [path];
    },
    says: /script\.aci/,
  },
  'a manifest that is cut off': {
    args: (host) => {
      const path = join(host.workDir, 'cut.aci');
      writeFileSync(path, compress(tar([{ path: 'manifest', data: '{"acKind": "ImageMan' }, { path: 'rootfs/', flag: '5' }]), 'gzip'));
      return [path];
    },
    says: /cut\.aci.*manifest/,
  },
};

for (const [name, badInput] of Object.entries(CASES)) {
  t.test(name, async (t) => {
    const host = makeHost('bad');
    t.teardown(host.close);
    const args = badInput.args(host);
    // What a first run makes anyway (the stage1 image, the writable disk's template, a good image) is not left-over.
    const prepared = await host.rkt(['prepare', '--quiet', image, '--exec', '/bin/true']);
    t.equal(prepared.status, 0, prepared.stderr);
    const before = host.listing();
    const result = await host.rkt(['run', '--net=none', ...args]);
    t.equal(result.status, 254, result.stderr);
    t.match(result.stderr, badInput.says);
    t.match(result.stderr, /^(run|stage1|stage0|image|fetch): /m);
    t.notMatch(result.stderr, /^\s+at .*:\d+:\d+/m, 'no stack trace');
    t.equal(result.stdout.toString(), '');
    if (badInput.bootsPod) {
      const gc = await host.rkt(['gc', '--grace-period=0s']);
      t.equal(gc.status, 0, gc.stderr);
    }
    t.strictSame(host.listing(), before, 'nothing is left behind');
    t.strictSame(processesMentioning(host.dataDir), []);
  });
}

t.test('QEMU is not installed', { skip: process.getuid?.() !== 0 && 'hiding QEMU needs a mount namespace and root' }, async (t) => {
  const host = makeHost('noqemu');
  t.teardown(host.close);
  // A directory of programs without QEMU, seen by this one command only.
  const hide = ['cd "$1"', 'mkdir upper work', 'mknod upper/qemu-system-x86_64 c 0 0', 'mount -t overlay -o lowerdir=/usr/bin,upperdir=upper,workdir=work overlay /usr/bin', 'shift', 'exec "$@"'].join(' && ');
  const result = spawnSync('unshare', ['--mount', 'sh', '-c', hide, 'sh', host.workDir, PROGRAM, `--dir=${host.dataDir}`, 'run', '--net=none', image, '--exec', '/bin/true'], { encoding: 'utf8' });
  t.equal(result.status, 254, result.stderr);
  t.match(result.stderr, /^stage1: .*qemu-system-x86/m);
  t.equal((await host.rkt(['gc', '--grace-period=0s'])).status, 0);
  t.strictSame(host.listing().filter((path) => /^pods\/[^/]+\/./.test(path)), []);
});

t.test('no space for the image', { skip: process.getuid?.() !== 0 && 'mounting a small file system needs root' }, async (t) => {
  const mountPoint = join('/tmp', `rkt-test-nospace-${process.pid}`);
  mkdirSync(mountPoint);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=600k', 'rkt-test', mountPoint]);
  const host = makeHost('nospace', { dataDir: join(mountPoint, 'data') });
  t.teardown(() => {
    execFileSync('umount', [mountPoint]);
    execFileSync('rmdir', [mountPoint]);
    host.close();
  });
  const result = await host.rkt(['fetch', image]);
  t.equal(result.status, 254);
  t.match(result.stderr, /no space/i);
  t.strictSame(host.listing().filter((path) => !path.endsWith('/') && !path.startsWith('locks/')), [], 'nothing is left behind');
});

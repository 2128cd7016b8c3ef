/** Images become disks that other programs and the kernel read as the archive says. */
import t from 'tap';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, copyFileSync, createReadStream, existsSync, lstatSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, rmSync, statSync, writeFileSync, writeSync, type BigIntStats } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { renderDisk, type DiskGeometry } from '../src/rootfs/index.ts';
import { diskFile, sha256 } from '../src/store/disk-file.ts';
import { lookUp, openErofs, type ErofsFile } from './helpers/erofs-reader.ts';
import { fsckErofs, mountErofs, reasonNotToMount, veritysetup } from './helpers/judges.ts';
import { render } from './helpers/memory-disk.ts';
import { seededRandom } from './helpers/random.ts';
import { bytes, concat, END_OF_ARCHIVE, latin1, sparseMember, tar, tarHeader, tarMember, type TarMember } from './helpers/tar-writer.ts';

const work = mkdtempSync(join(tmpdir(), 'rkt-rootfs-'));
t.teardown(() => rmSync(work, { recursive: true, force: true }));
const notMounted = reasonNotToMount();
if (notMounted !== undefined) t.comment(`disks are not mounted: ${notMounted}`);

async function renderFile(archives: readonly string[], disk: string): Promise<DiskGeometry> {
  const fd = openSync(disk, 'wx');
  try {
    const layers = archives.map((path) => ({ kind: 'oci' as const, name: path, tar: createReadStream(path, { highWaterMark: 1 << 20 }) }));
    return await renderDisk(layers, diskFile(fd, disk), { sha256 });
  } finally {
    closeSync(fd);
  }
}

function openDisk(disk: string): { root: ErofsFile; close: () => void } {
  const fd = openSync(disk, 'r');
  const root = openErofs((offset, length) => {
    const buffer = new Uint8Array(length);
    readSync(fd, buffer, 0, length, offset);
    return buffer;
  });
  return { root, close: () => closeSync(fd) };
}

function hashOf(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

/** What stat and read say of each file below a directory. */
function describeTree(directory: Buffer): Map<string, string> {
  const described = new Map<string, string>();
  const visit = (path: Buffer, name: string): void => {
    const stat = lstatSync(path, { bigint: true });
    described.set(name, describe(path, stat));
    if (!stat.isDirectory()) return;
    for (const child of readdirSync(path, { encoding: 'buffer' })) visit(Buffer.concat([path, Buffer.from('/'), child]), `${name}/${child.toString('latin1')}`);
  };
  visit(directory, '');
  return described;
}

function describe(path: Buffer, stat: BigIntStats): string {
  const common = `${stat.mode.toString(8)} ${stat.uid}:${stat.gid} links=${stat.nlink} mtime=${stat.mtimeNs}`;
  if (stat.isFile()) return `${common} size=${stat.size} ${hashOf(readFileSync(path))}`;
  if (stat.isSymbolicLink()) return `${common} -> ${readlinkSync(path, { encoding: 'latin1' })}`;
  if (stat.isDirectory()) return common;
  return `${common} rdev=${stat.rdev}`;
}

/** The same of a file system opened by the reader of the tests. */
function describeDisk(root: ErofsFile): Map<string, string> {
  const types = { file: 0o100000, directory: 0o040000, symlink: 0o120000, character: 0o020000, block: 0o060000, fifo: 0o010000, socket: 0o140000 };
  const described = new Map<string, string>();
  const visit = (file: ErofsFile, name: string): void => {
    const mtime = file.mtimeSeconds * 1_000_000_000n + BigInt(file.mtimeNanoseconds);
    const common = `${(types[file.type] | file.mode).toString(8)} ${file.uid}:${file.gid} links=${file.links} mtime=${mtime}`;
    const content = (): Uint8Array => file.read(0, file.sizeBytes);
    if (file.type === 'file') described.set(name, `${common} size=${file.sizeBytes} ${hashOf(content())}`);
    else if (file.type === 'symlink') described.set(name, `${common} -> ${Buffer.from(content()).toString('latin1')}`);
    else described.set(name, file.type === 'directory' ? common : `${common} rdev=${((file.device.minor & 0xff) | (file.device.major << 8) | ((file.device.minor & ~0xff) << 12)) >>> 0}`);
    if (file.type === 'directory') for (const [child, inode] of file.children()) visit(inode, `${name}/${child}`);
  };
  visit(root, '');
  return described;
}

/** Paths that differ, with both sides; equal maps give none. */
function differences(found: Map<string, string>, expected: Map<string, string>): string[] {
  const paths = new Set([...found.keys(), ...expected.keys()]);
  return [...paths].filter((path) => found.get(path) !== expected.get(path)).map((path) => `${path}: ${found.get(path) ?? 'missing'} | expected ${expected.get(path) ?? 'nothing'}`);
}

t.test('a real tree of more than 5 000 files', async (t) => {
  const source = join(work, 'source');
  mkdirSync(source);
  const trees = ['/usr/lib/python3', '/usr/lib/python3.11', '/usr/share/perl', '/usr/lib/node_modules', '/usr/share/zoneinfo', '/usr/bin/passwd', '/usr/bin/mount', '/usr/bin/perl', '/usr/bin/python3.11'].filter(existsSync).map((path) => path.slice(1));
  const archive = join(work, 'tree.tar');
  // What a machine has of these trees may be unreadable or change meanwhile; it is packed once, and the archive is what counts.
  spawnSync('tar', ['--format=pax', '--xattrs', '-cf', archive, '-C', '/', ...trees]);
  execFileSync('tar', ['--xattrs', '--xattrs-include=*', '-xpf', archive, '-C', source], { stdio: ['ignore', 'ignore', 'inherit'] });

  const disk = join(work, 'tree.disk');
  const started = performance.now();
  const geometry = await renderFile([archive], disk);
  const seconds = (performance.now() - started) / 1000;
  const { size } = statSync(archive);
  t.comment(`${geometry.inodes} files, ${Math.round(size / 2 ** 20)} MiB in ${seconds.toFixed(2)} s (${Math.round(size / 2 ** 20 / seconds)} MiB/s)`);
  t.ok(geometry.inodes >= 5000, `${geometry.inodes} files`);

  t.match(fsckErofs(disk), { status: 0 });
  t.match(veritysetup(disk, geometry), { status: 0 });
  t.equal(statSync(disk).size, geometry.sizeBytes);

  await t.test('twice the same bytes', async (t) => {
    const again = join(work, 'again.disk');
    t.strictSame(await renderFile([archive], again), geometry);
    t.equal(spawnSync('cmp', [disk, again]).status, 0);
    rmSync(again);
  });

  // Extracting gives parents that are not in the archive (and the root) the time of now.
  const withoutParents = (described: Map<string, string>): Map<string, string> => {
    for (const path of ['', '/usr', '/usr/bin', '/usr/lib', '/usr/share']) described.delete(path);
    return described;
  };
  const expected = withoutParents(describeTree(Buffer.from(source)));
  await t.test('the files are those of the archive', async (t) => {
    const { root, close } = openDisk(disk);
    t.strictSame(differences(withoutParents(describeDisk(root)), expected), []);
    close();
  });

  await t.test('fsck.erofs --extract gives the same files', async (t) => {
    const extracted = join(work, 'extracted');
    const { status, stderr } = spawnSync('fsck.erofs', [`--extract=${extracted}`, disk], { encoding: 'utf8' });
    t.equal(status, 0, stderr);
    // It makes a file of its own of each hard link, and loses setuid bits when it sets the owner.
    const asExtracted = (described: Map<string, string>): Map<string, string> =>
      new Map([...described].map(([path, text]) => [path, text.replace(/ links=\d+/, '').replace(/^(10)[246](\d{3}) /, '$10$2 ')]));
    t.strictSame(differences(asExtracted(withoutParents(describeTree(Buffer.from(extracted)))), asExtracted(expected)), []);
    rmSync(extracted, { recursive: true });
  });

  await t.test('the kernel reads the same files', { skip: notMounted ?? false }, async (t) => {
    const mounted = join(work, 'mounted');
    mkdirSync(mounted);
    const unmount = mountErofs(disk, mounted);
    try {
      t.strictSame(differences(withoutParents(describeTree(Buffer.from(mounted))), expected), []);
    } finally {
      unmount();
    }
  });

  await t.test('a changed bit is found', async (t) => {
    const broken = join(work, 'broken.disk');
    copyFileSync(disk, broken);
    const fd = openSync(broken, 'r+');
    const byte = new Uint8Array(1);
    const offset = Math.floor(geometry.dataBlocks / 2) * 4096 + 99;
    readSync(fd, byte, 0, 1, offset);
    writeSync(fd, Uint8Array.from([(byte[0] ?? 0) ^ 1]), 0, 1, offset);
    closeSync(fd);
    const verified = veritysetup(broken, geometry);
    t.not(verified.status, 0, verified.output);
    rmSync(broken);
  });
});

t.test('everything an archive can hold', async (t) => {
  const random = seededRandom(31);
  const TiB = 2 ** 40;
  const capability = Uint8Array.from([1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  const acl = latin1('\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff');
  const members: TarMember[] = [
    { path: './', flag: '5', mode: 0o755, mtime: 5 },
    { path: 'large', data: random.bytes(3_000_000), pax: [['mtime', '1700000000.123456789'], ['SCHILY.xattr.user.large', random.bytes(30_000)]] },
    { path: 'caps', data: 'x', mode: 0o755, pax: [['SCHILY.xattr.security.capability', capability], ['SCHILY.xattr.trusted.t', 't'], ['SCHILY.xattr.user.u', '']] },
    { path: 'acl', data: 'x', mode: 0o644, pax: [['SCHILY.xattr.system.posix_acl_access', acl]] },
    { path: 'old', data: 'x', mtime: -86400 },
    { path: latin1('bytes-\xff\xfe'), data: 'x' },
    { path: 'owned', data: 'x', uid: 4_000_000_000, gid: 70_000, mode: 0o6711 },
    { path: 'console', flag: '3', device: { major: 5, minor: 1 } },
    { path: 'far', flag: '4', device: { major: 259, minor: 100_000 } },
    { path: 'pipe', flag: '6' },
    { path: 'hard', flag: '1', link: 'large' },
    { path: 'short', flag: '2', link: '/any/where' },
    { path: 'long', flag: '2', pax: [['linkpath', 'x/'.repeat(2047) + 'y']] },
    { path: 'gone', data: random.bytes(500_000) },
  ];
  const deep = 'd/'.repeat(512);
  const many = Array.from({ length: 100_000 }, (_, i) => ({ path: `many/${i}` }));
  const pieces = [
    { offset: 0, data: bytes('begin') },
    { offset: TiB / 2 + 4095, data: bytes('middle') },
    { offset: TiB - 3, data: bytes('end') },
  ];
  const sparse = { path: 'sparse', size: TiB, pieces };
  const lower = join(work, 'all.tar');
  const upper = join(work, 'upper.tar');
  writeFileSync(lower, concat(...members.map(tarMember), sparseMember('1.0', sparse), tarMember({ path: 'x', flag: '5', pax: [['path', deep]] }), tar(many)));
  writeFileSync(upper, concat(tar([{ path: '.wh.gone' }]), END_OF_ARCHIVE));
  const disk = join(work, 'all.disk');
  const geometry = await renderFile([lower, upper], disk);
  t.match(fsckErofs(disk), { status: 0 });
  t.match(veritysetup(disk, geometry), { status: 0 });
  const { size, blocks } = statSync(disk);
  t.ok(blocks * 512 < 32 << 20, `disk of ${size} bytes takes ${blocks * 512}`);

  const { root, close } = openDisk(disk);
  t.teardown(close);
  t.equal(lookUp(root, 'sparse')?.sizeBytes, TiB);
  t.same(lookUp(root, 'caps')?.xattrs.get('security.capability'), capability);
  t.equal(root.children().has('gone'), false);

  await t.test('as the kernel sees it', { skip: notMounted ?? false }, async (t) => {
    const mounted = join(work, 'all');
    mkdirSync(mounted);
    const unmount = mountErofs(disk, mounted);
    try {
      const own = describeDisk({ ...root, children: () => new Map([...root.children()].filter(([name]) => name !== 'sparse')) });
      const expected = new Map([...own].filter(([path]) => path !== ''));
      const found = new Map<string, string>();
      for (const path of expected.keys()) {
        const full = Buffer.concat([Buffer.from(mounted), latin1(path)]);
        if (full.length < 4096) found.set(path, describe(full, lstatSync(full, { bigint: true })));
      }
      t.strictSame(differences(found, expected), []);
      t.ok(found.size > 100_500, `${found.size} files`);
      t.equal(readdirSync(join(mounted, 'many')).length, 100_000);

      const fd = openSync(join(mounted, 'sparse'), 'r');
      for (const { offset, data } of pieces) {
        const read = new Uint8Array(data.length + 1);
        readSync(fd, read, 0, read.length, offset);
        t.same(read, concat(data, new Uint8Array(1)));
      }
      closeSync(fd);
      t.match(execFileSync('getcap', [join(mounted, 'caps')], { encoding: 'utf8' }), /cap_net_raw.ep/);
      t.match(execFileSync('python3', ['-c', 'import os,sys; p=sys.argv[1]; print(sorted(os.listxattr(p)), len(os.getxattr(p, "user.large")))', join(mounted, 'large')], { encoding: 'utf8' }), /\['user.large'\] 30000/);
      t.match(execFileSync('python3', ['-c', 'import os,sys; p=sys.argv[1]; print(os.getxattr(p, "system.posix_acl_access").hex())', join(mounted, 'acl')], { encoding: 'utf8' }), Buffer.from(acl).toString('hex'));
      t.match(execFileSync('python3', ['-c', 'import os,sys; print(sorted(os.listxattr(sys.argv[1])))', join(mounted, 'caps')], { encoding: 'utf8' }), "['security.capability', 'trusted.t', 'user.u']");
    } finally {
      unmount();
    }
  });
});

t.test('a file of more than 4 GiB', async (t) => {
  const size = 2 ** 32 + 5000;
  async function* archive(): AsyncGenerator<Uint8Array, void, undefined> {
    const end = bytes('the end');
    yield tarHeader({ path: 'huge', sizeField: size });
    const zeros = new Uint8Array(1 << 20);
    for (let left = size - end.length; left > 0; left -= zeros.length) yield zeros.subarray(0, Math.min(left, zeros.length));
    yield end;
    yield new Uint8Array(512 - (size % 512) + 1024);
  }
  const { root, geometry } = await render([{ kind: 'oci', name: 'huge', tar: archive() }]);
  const file = lookUp(root, 'huge');
  t.equal(file?.sizeBytes, size);
  t.same(file?.read(size - 8, 100), bytes('\0the end'));
  t.ok(geometry.dataBlocks > 2 ** 20);
});

t.test('GNU tar and this reader agree on sparse files, long names and xattrs', async (t) => {
  const source = join(work, 'gnu');
  mkdirSync(join(source, 'n'.repeat(200), 'm'.repeat(200)), { recursive: true });
  const fd = openSync(join(source, 'holes'), 'w');
  for (const at of [0, 200_000, 5_000_000]) writeSync(fd, `data at ${at}`, at);
  closeSync(fd);
  writeFileSync(join(source, 'n'.repeat(200), 'm'.repeat(200), 'file'), 'deep');
  writeFileSync(join(source, 'name with ü'), 'x');
  const expected = describeTree(Buffer.from(source));
  for (const options of [['--format=gnu'], ['--format=gnu', '--sparse'], ...['0.0', '0.1', '1.0'].map((version) => ['--format=pax', '--sparse', `--sparse-version=${version}`])]) {
    const archive = join(work, 'gnu.tar');
    const disk = join(work, 'gnu.disk');
    execFileSync('tar', [...options, '-cf', archive, '-C', source, '.']);
    await renderFile([archive], disk);
    const { root, close } = openDisk(disk);
    // The GNU format has whole seconds.
    const inSeconds = (described: Map<string, string>): Map<string, string> => new Map([...described].map(([path, text]) => [path, text.replace(/(mtime=\d+)\d{9}/, '$1')]));
    t.strictSame(differences(inSeconds(describeDisk(root)), inSeconds(expected)), [], options.join(' '));
    close();
    rmSync(disk);
  }
});

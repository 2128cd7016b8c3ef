import t from 'tap';
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { renderDisk } from '../../src/rootfs/index.ts';
import { diskFile, sha256 } from '../../src/store/disk-file.ts';
import { contentOf, lookUp, walk } from '../helpers/erofs-reader.ts';
import { render, type Rendered } from '../helpers/memory-disk.ts';
import { seededRandom } from '../helpers/random.ts';
import { bytes, concat, END_OF_ARCHIVE, latin1, sparseMember, stream, tar, type TarMember } from '../helpers/tar-writer.ts';

t.test('every attribute of every type', async (t) => {
  const { root } = await render([
    tar([
      { path: 'd', flag: '5', mode: 0o3751, uid: 70000, gid: 4294967294, mtime: -100 },
      { path: 'f', data: 'data', mode: 0o4755, pax: [['mtime', '1700000000.123456789']] },
      { path: 'l', flag: '2', link: '../outside', mode: 0 },
      { path: 'c', flag: '3', device: { major: 4095, minor: 1048575 }, mode: 0o620 },
      { path: 'b', flag: '4', device: { major: 8, minor: 300 } },
      { path: 'p', flag: '6', mode: 0o600 },
    ]),
  ]);
  t.match(lookUp(root, 'd'), { mode: 0o3751, uid: 70000, gid: 4294967294, mtimeSeconds: -100n, links: 2 });
  t.match(lookUp(root, 'f'), { mode: 0o4755, mtimeSeconds: 1700000000n, mtimeNanoseconds: 123456789, links: 1, sizeBytes: 4 });
  t.match(lookUp(root, 'l'), { type: 'symlink', mode: 0o777 });
  t.equal(contentOf(root, 'l'), '../outside');
  t.match(lookUp(root, 'c'), { type: 'character', mode: 0o620, device: { major: 4095, minor: 1048575 } });
  t.match(lookUp(root, 'b'), { type: 'block', device: { major: 8, minor: 300 } });
  t.match(lookUp(root, 'p'), { type: 'fifo', mode: 0o600 });
  t.equal(root.links, 3);
});

t.test('files of all sizes around the borders of blocks, with and without room behind the inode', async (t) => {
  const random = seededRandom(5);
  const sizes = [0, 1, 2047, 2048, 2049, 4031, 4032, 4033, 4095, 4096, 4097, 6144, 6145, 8191, 8192, 8193, 100_000, 1 << 20, (1 << 20) + 1, 3_000_001];
  const members = sizes.flatMap((size): TarMember[] => [
    { path: `plain-${size}`, data: random.bytes(size) },
    { path: `xattr-${size}`, data: random.bytes(size), pax: [['SCHILY.xattr.user.large', random.bytes(3000)]] },
  ]);
  const { root } = await render([tar(members)]);
  for (const { path, data } of members) {
    t.equal(contentOf(root, path as string), Buffer.from(data as Uint8Array).toString('latin1'), path as string);
  }
  t.equal(lookUp(root, 'plain-6144')?.layout, 'inline', 'a short end stands behind the inode');
  t.equal(lookUp(root, 'plain-6145')?.layout, 'plain');
  t.equal(lookUp(root, 'xattr-2047')?.layout, 'plain', 'unless its xattrs leave no room');
});

t.test('ends of files beyond the memory budget get blocks', async (t) => {
  const { storeContent } = await import('../../src/rootfs/content.ts');
  const { BlockWriter } = await import('../../src/rootfs/block-writer.ts');
  const { MemoryDisk } = await import('../helpers/memory-disk.ts');
  const { readTar } = await import('../../src/rootfs/index.ts');
  const writer = new BlockWriter(new MemoryDisk(), { sha256, maxBlocks: 1000, scratch: undefined });
  for await (const entry of readTar(stream(tar([{ path: 'x', data: 'abc' }])))) t.match(await storeContent(entry, writer, 2), { blocks: 1, tail: undefined });
  for await (const entry of readTar(stream(tar([{ path: 'x', data: 'abc' }])))) t.match(await storeContent(entry, writer, 3), { blocks: 0, tail: bytes('abc') });
});

t.test('symlinks of all lengths', async (t) => {
  const members = [1, 100, 2048, 2049, 4032, 4095].map((length): TarMember => ({ path: `l${length}`, flag: '2', pax: [['linkpath', 'x'.repeat(length)]] }));
  const { root } = await render([tar(members)]);
  for (const { path, pax } of members) t.equal(contentOf(root, path as string), pax?.[0]?.[1]);
});

t.test('xattrs', async (t) => {
  const random = seededRandom(9);
  const capability = Uint8Array.from([1, 0, 0, 2, 0xff, 0, 0, 0, 0, 0x80, 0, 0]);
  const acl = Uint8Array.from([2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255]);
  const large = random.bytes(60_000);
  const xattrs: [string, Uint8Array][] = [
    ['user.empty', new Uint8Array(0)],
    ['user.' + 'n'.repeat(250), bytes('longest name')],
    ['trusted.t', bytes('t')],
    ['security.capability', capability],
    ['system.posix_acl_access', acl],
    ['system.posix_acl_default', acl],
  ];
  const pax = xattrs.map(([name, value]) => [`SCHILY.xattr.${name}`, value] as const);
  const { root, warnings } = await render([
    tar([
      { path: 'f', data: 'x', pax },
      { path: 'd', flag: '5', pax },
      { path: 'reversed', data: 'x', pax: [...pax].reverse() },
      { path: 'large', data: 'end', pax: [['SCHILY.xattr.user.large', large]] },
      { path: 'dropped', pax: [['SCHILY.xattr.com.apple.quarantine', 'x'], ['SCHILY.xattr.trusted.overlay.opaque', 'y'], ['SCHILY.xattr.system.nfs4_acl', 'z'], ['SCHILY.xattr.user.', 'q'], ['SCHILY.xattr.user.kept', 'k']] },
      { path: 'again', pax: [['SCHILY.xattr.com.apple.quarantine', 'x']] },
    ]),
  ]);
  for (const path of ['f', 'd', 'reversed']) t.same([...(lookUp(root, path)?.xattrs ?? [])].sort(), [...xattrs].sort(), path);
  t.same(lookUp(root, 'large')?.xattrs.get('user.large'), large);
  t.equal(contentOf(root, 'large'), 'end');
  t.strictSame([...(lookUp(root, 'dropped')?.xattrs.keys() ?? [])], ['user.kept']);
  t.equal(lookUp(root, 'again')?.xattrs.size, 0);
  t.equal(warnings.length, 4, 'one warning a name');
  t.match(warnings[0], /layer 1: entry "dropped": xattr "com.apple.quarantine" left out: Linux has no such xattr/);
  t.match(warnings[1], /overlay\.opaque" left out: marks of overlayfs/);
});

t.test('sparse files', async (t) => {
  const TiB = 2 ** 40;
  const MiB = 2 ** 20;
  const piece = (offset: number, text: string): { offset: number; data: Uint8Array } => ({ offset, data: bytes(text) });
  const files = [
    { path: 'tebibyte', size: TiB, pieces: [piece(0, 'begin'), piece(TiB / 2 + 12345, 'middle'), piece(TiB - 3, 'end')] },
    { path: 'empty', size: 8 * TiB, pieces: [] },
    { path: 'odd', size: 10 * MiB + 77, pieces: [piece(4095, 'across'), piece(5 * MiB, 'x'.repeat(10_000)), piece(10 * MiB + 70, 'last 77')] },
    { path: 'small', size: 12_000, pieces: [piece(4000, 'y'.repeat(200)), piece(11_990, 'z'.repeat(10))] },
    { path: 'tail', size: 5000, pieces: [piece(4090, 'v'.repeat(20))] },
  ];
  for (const format of ['old', '1.0'] as const) {
    const { root, disk, geometry } = await render([concat(...files.map((file) => sparseMember(format, file)), END_OF_ARCHIVE)]);
    for (const { path, size, pieces } of files) {
      const file = lookUp(root, path);
      t.equal(file?.sizeBytes, size, path);
      for (const { offset, data } of pieces) {
        t.same(file?.read(offset, data.length), data, `${path} at ${offset}`);
        if (offset > 0 && path !== 'small') t.same(file?.read(offset - 1, 1), new Uint8Array(1), 'a hole before');
      }
      if (size < 11 * MiB) {
        const expected = new Uint8Array(size);
        for (const { offset, data } of pieces) expected.set(data, offset);
        t.same(Buffer.compare(file?.read(0, size) ?? bytes(''), expected), 0, path);
      }
    }
    t.equal(lookUp(root, 'tebibyte')?.layout, 'chunked');
    t.equal(lookUp(root, 'small')?.layout, 'plain');
    t.equal(lookUp(root, 'tail')?.layout, 'inline');
    t.ok(geometry.sizeBytes < 400 * MiB, `disk of ${geometry.sizeBytes} bytes`);
    t.ok(disk.blocks.size < 2000, `${disk.blocks.size} blocks that are no hole`);
  }
});

t.test('zeros cost no space, however many', async (t) => {
  const { disk, geometry, root } = await render([tar([{ path: 'z', data: new Uint8Array(20 << 20) }])]);
  t.equal(geometry.dataBlocks, 5120 + 2);
  t.equal([...disk.blocks.keys()].filter((block) => block < geometry.dataBlocks).length, 2, 'superblock and inodes');
  t.equal(lookUp(root, 'z')?.read(0, 20 << 20).some((byte) => byte !== 0), false);
});

t.test('a directory with very many entries', async (t) => {
  const count = 10_000;
  const { root, geometry } = await render([tar(Array.from({ length: count }, (_, i) => ({ path: `many/file-${(i * 7919) % count}` })))]);
  const children = [...(lookUp(root, 'many')?.children().keys() ?? [])];
  t.equal(geometry.inodes, count + 2);
  t.ok(children.join() === Array.from({ length: count }, (_, i) => `file-${i}`).sort().join());
});

t.test('directories whose last block is nearly full, and names of 255 bytes', async (t) => {
  for (let count = 1; count < 80; count++) {
    const names = Array.from({ length: count }, (_, i) => String(i).padStart(3, '0').padEnd(i % 3 === 0 ? 255 : 40 + (count % 60), 'n'));
    const { root } = await render([tar(names.map((name) => ({ path: 'x', flag: '5', pax: [['path', `d/${name}`]] })))]);
    t.strictSame([...(lookUp(root, 'd')?.children().keys() ?? [])], names);
  }
});

t.test('the same layers give the same bytes, however they arrive', async (t) => {
  const random = seededRandom(11);
  const archive = concat(
    sparseMember('0.1', { path: 'sparse', size: 1 << 24, pieces: [{ offset: 1 << 22, data: random.bytes(5000) }] }),
    tar(Array.from({ length: 300 }, (_, i): TarMember => ({ path: `d${i % 7}/f${i}`, data: random.bytes(random.below(9000)), pax: [['SCHILY.xattr.user.x', String(i)]] }))),
  );
  const upper = tar([{ path: 'd1/.wh..wh..opq' }, { path: 'd2/f2', data: 'other' }]);
  const renderIn = (sizes: readonly number[]): Promise<Rendered> => render([archive, upper].map((bytes, i) => ({ kind: 'oci', name: `${i}`, tar: stream(bytes, sizes) })));
  const first = await renderIn([65536]);
  for (const sizes of [[512], [4096, 1, 777], [1 << 22]]) {
    const again = await renderIn(sizes);
    t.strictSame(again.geometry, first.geometry);
    t.equal(again.disk.digest(), first.disk.digest());
  }
  const other = await render([archive]);
  t.not(other.geometry.rootHashHex, first.geometry.rootHashHex);
});

t.test('disk format version 1 does not change by accident', async (t) => {
  const { geometry } = await render([tar([{ path: 'etc/hosts', data: 'localhost', mode: 0o640, uid: 7, mtime: 99, pax: [['SCHILY.xattr.user.k', 'v']] }, { path: 'l', flag: '2', link: 'etc' }, { path: 'big', data: new Uint8Array(10_000).fill(65) }])]);
  t.equal(geometry.rootHashHex, EXPECTED_ROOT_HASH, 'a change here needs a new format version: disks on other machines would no longer be the same');
});
const EXPECTED_ROOT_HASH = '39ef2478a7d15eadffef1fcc6f12dc238f53fc7c59654812f1708beb8c4a6458';

t.test('any tree comes back as it was', async (t) => {
  const random = seededRandom(77);
  for (let round = 0; round < 60; round++) {
    const members = new Map<string, TarMember>();
    for (let i = random.below(60); i > 0; i--) {
      const name = Array.from({ length: 1 + random.below(3) }, () => `${'abcdefgh'[random.below(8)] ?? ''}${'n'.repeat(random.below(90))}`).join('/');
      const isFree = [...members.keys()].every((path) => path !== name && !path.startsWith(`${name}/`) && !name.startsWith(`${path}/`));
      if (!isFree) continue;
      const attributes = { path: 'x', mode: random.below(0o10000), uid: random.below(2 ** 31), gid: random.below(2 ** 31), mtime: random.below(2 ** 31) };
      const pax: [string, string | Uint8Array][] = [['path', name]];
      for (let k = random.below(4); k > 0; k--) pax.push([`SCHILY.xattr.user.k${k}`, random.bytes(random.below(random.below(4) === 0 ? 5000 : 40))]);
      const flag = random.pick(['0', '0', '0', '2', '5', '6']);
      if (flag === '2') pax.push(['linkpath', 't'.repeat(1 + random.below(3000))]);
      members.set(name, { ...attributes, flag, pax, data: flag === '0' ? random.bytes(random.below(12_000)) : '' });
    }
    const { root } = await render([tar([...members.values()])]);
    let seen = 0;
    for (const { path, file } of walk(root)) {
      const member = members.get(path);
      if (member === undefined) continue; // a parent
      seen++;
      const { mode, uid, gid, mtime } = member;
      t.match(file, { mode: member.flag === '2' ? 0o777 : mode, uid, gid, mtimeSeconds: BigInt(mtime ?? 0) }, path);
      for (const [key, value] of member.pax ?? []) {
        if (key.startsWith('SCHILY')) t.same(file.xattrs.get(key.slice(13)), typeof value === 'string' ? latin1(value) : value);
        if (key === 'linkpath') t.equal(contentOf(root, path), value);
      }
      if (member.flag === '0') t.equal(Buffer.compare(file.read(0, file.sizeBytes), bytes(member.data ?? '')), 0, path);
    }
    t.equal(seen, members.size);
  }
});

t.test('the verity tree, computed the plain way', async (t) => {
  const digest = (data: Uint8Array): Buffer => createHash('sha256').update(data).digest();
  const random = seededRandom(13);
  for (const size of [0, 4096 * 100, 4096 * 126, 4096 * 127, 4096 * 128, 4096 * 20_000 + 1]) {
    const data = random.bytes(Math.min(size, 600_000));
    const { disk, geometry } = await render([tar([{ path: 'x', data: concat(data, new Uint8Array(size - data.length)) }])]);
    let level = Array.from({ length: geometry.dataBlocks }, (_, i) => digest(disk.read(i * 4096, 4096)));
    const levels: Buffer[][] = [];
    while (level.length > 1) {
      const blocks = Array.from({ length: Math.ceil(level.length / 128) }, (_, i) => Buffer.concat([...level.slice(i * 128, i * 128 + 128), Buffer.alloc(4096)]).subarray(0, 4096));
      levels.unshift(blocks);
      level = blocks.map(digest);
    }
    t.equal(geometry.rootHashHex, level[0]?.toString('hex'), `${geometry.dataBlocks} blocks`);
    const tree = Buffer.concat(levels.flat());
    t.equal(Buffer.compare(tree, disk.read(geometry.hashStartBlock * 4096, tree.length)), 0);
    t.equal(geometry.sizeBytes, geometry.hashStartBlock * 4096 + tree.length);
    t.equal(disk.sizeBytes, geometry.sizeBytes);
  }
});

t.test('a disk in a file is sparse, and space of removed files is given back', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'rkt-disk-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const random = seededRandom(17);
  const noise = random.bytes(4 << 20);
  const archives = [
    tar([{ path: 'zeros', data: new Uint8Array(8 << 20) }, { path: 'removed', data: noise }, { path: 'small', data: random.bytes(9000) }, { path: 'kept', data: noise }]),
    tar([{ path: '.wh.removed' }, { path: '.wh.small' }]),
  ];
  const fd = openSync(join(directory, 'disk'), 'w+');
  t.teardown(() => closeSync(fd));
  const geometry = await renderDisk(archives.map((archive, i) => ({ kind: 'oci', name: `${i}`, tar: stream(archive) })), diskFile(fd, 'disk'), { sha256 });
  const inMemory = await render(archives);
  const { size, blocks } = fstatSync(fd);
  t.equal(size, geometry.sizeBytes);
  t.ok(blocks * 512 < 5 << 20, `${blocks * 512} bytes allocated`);
  const content = new Uint8Array(size);
  readSync(fd, content, 0, size, 0);
  t.equal(Buffer.compare(content, inMemory.disk.read(0, size)), 0);
});

t.test('memory does not grow with the size of a layer', async (t) => {
  const random = seededRandom(19);
  const noise = random.bytes(1 << 20);
  const total = 400;
  async function* archive(): AsyncGenerator<Uint8Array, void, undefined> {
    yield tar([{ path: 'big', sizeField: total << 20 }]).subarray(0, 512);
    for (let i = 0; i < total; i++) yield noise;
    yield END_OF_ARCHIVE;
  }
  const sink = { write: () => undefined, zero: () => undefined, truncate: () => undefined };
  const before = process.memoryUsage.rss();
  const started = performance.now();
  await renderDisk([{ kind: 'oci', name: 'big', tar: archive() }], sink, { sha256 });
  const seconds = (performance.now() - started) / 1000;
  t.ok(process.memoryUsage.rss() - before < 200 << 20, `grew by ${(process.memoryUsage.rss() - before) >> 20} MiB`);
  t.comment(`${Math.round(total / seconds)} MiB/s without a disk`);
});

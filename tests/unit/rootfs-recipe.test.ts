/**
 * Disks back to archives: byte for byte with a recipe, as equal trees without one. The judges are the archive itself, the
 * tests' own reader of disks, and GNU tar.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { RktError } from '../../src/error.ts';
import { entriesOfDisk, openErofs, TarRecorder, writeTar, writeTarAgain } from '../../src/rootfs/index.ts';
import type { Layer, TarEntry } from '../../src/rootfs/index.ts';
import { walk } from '../helpers/erofs-reader.ts';
import { fuzzForLong } from '../helpers/fuzz.ts';
import { render } from '../helpers/memory-disk.ts';
import type { Rendered } from '../helpers/memory-disk.ts';
import { seededRandom } from '../helpers/random.ts';
import type { SeededRandom } from '../helpers/random.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { concat, END_OF_ARCHIVE, gnuLong, sparseMember, tar } from '../helpers/tar-writer.ts';
import type { TarMember } from '../helpers/tar-writer.ts';

async function* inChunks(bytes: Uint8Array, chunkBytes: () => number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; ) {
    const chunk = bytes.slice(at, at + Math.max(1, chunkBytes()));
    yield chunk;
    at += chunk.length;
    // Readers must not look at a chunk once they have asked for the next.
    chunk.fill(0xee);
  }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk.slice());
  return concat(...chunks);
}

interface Recorded extends Rendered {
  /** The archives written again; undefined for one that cannot be. */
  again: (Uint8Array | undefined)[];
}

async function record(archives: readonly Uint8Array[], random: SeededRandom): Promise<Recorded> {
  const kept: Uint8Array[][] = archives.map(() => []);
  const recorders = archives.map((_, index) => new TarRecorder((bytes) => void kept[index]?.push(bytes.slice())));
  const layers = archives.map((archive, index): Layer => ({ kind: 'oci', name: `layer ${index}`, tar: inChunks(archive, () => 1 + random.below(3000)), recorder: recorders[index] ?? new TarRecorder(() => undefined) }));
  const rendered = await render(layers);
  const disk = openErofs((offset, length) => rendered.disk.read(offset, length), 'disk');
  const again: (Uint8Array | undefined)[] = [];
  for (const [index, recorder] of recorders.entries()) {
    const recipe = recorder.finish();
    again.push(recipe === undefined ? undefined : await collect(writeTarAgain(recipe, inChunks(concat(...(kept[index] ?? [])), () => 1 + random.below(700)), disk)));
  }
  return { ...rendered, again };
}

const LONG = 'long/'.repeat(60);

function everything(random: SeededRandom): TarMember[] {
  const file = (path: string, length: number): TarMember => ({ path, data: random.bytes(length), uid: random.below(70_000), mtime: random.below(2 ** 31) });
  return [
    { path: './', flag: '5', mode: 0o711 },
    { path: 'd/', flag: '5' },
    file('d/empty', 0),
    file('d/one', 1),
    file('d/block', 4096),
    file('d/tail', 4097 + random.below(3000)),
    file('d/large', 100_000 + random.below(100_000)),
    { path: 'd/zeros', data: new Uint8Array(50_000) },
    { path: 'd/again', flag: '1', link: 'd/large' },
    { path: 'l', flag: '2', link: '../d' },
    { path: 'dev', flag: '3', device: { major: 300, minor: 70_000 } },
    { path: 'disk', flag: '4', device: { major: 8, minor: 1 } },
    { path: 'pipe', flag: '6' },
    { path: 'x', data: 'caps', pax: [['SCHILY.xattr.security.capability', new Uint8Array([1, 0, 0, 2, 0xff, 0xfe])], ['SCHILY.xattr.user.a', ''], ['mtime', '-1.5']] },
    { path: 'y', data: 'later', pax: [['path', `${LONG}name`], ['uid', '3000000']] },
  ];
}

t.test('an archive is written again byte for byte', async (t) => {
  const random = seededRandom(7);
  const archives: [string, Uint8Array][] = [
    ['everything', tar(everything(random))],
    ['nothing', END_OF_ARCHIVE],
    ['no end', tar([{ path: 'a', data: 'x' }]).subarray(0, 1024)],
    ['much behind the end', concat(tar([{ path: 'a', data: 'x' }]), new Uint8Array(20_000).fill(7))],
    ['GNU long names and sparse files', concat(gnuLong('L', LONG), tar([{ path: 'short', data: 'x', magic: 'gnu' }]).subarray(0, 1024), sparseMember('1.0', { path: 's', size: 1 << 20, pieces: [{ offset: 4096, data: new Uint8Array(700).fill(7) }] }), END_OF_ARCHIVE)],
    ['the same name twice, the second empty', tar([{ path: 'a', data: '' }, { path: 'a', data: 'now' }])],
  ];
  for (const [name, archive] of archives) {
    for (let round = 0; round < 5; round++) t.strictSame((await record([archive], random)).again[0], archive, name);
  }
});

t.test('layers, as far as the disk still holds what was in them', async (t) => {
  const lower = tar([{ path: 'a', data: 'one' }, { path: 'b', data: 'two' }]);
  const [kept, replaced] = [tar([{ path: 'c', data: 'three' }]), tar([{ path: 'a', data: 'other' }])];
  t.strictSame((await record([lower, kept], seededRandom(1))).again, [lower, kept]);
  t.strictSame((await record([lower, replaced], seededRandom(1))).again, [undefined, replaced], 'what was replaced is gone');
  const removal = tar([{ path: '.wh.b' }]);
  t.strictSame((await record([lower, removal], seededRandom(1))).again, [undefined, removal]);
  const twice = tar([{ path: 'a', data: 'one' }, { path: 'a', data: 'two' }]);
  t.strictSame((await record([twice], seededRandom(1))).again, [undefined]);
  const linked = tar([{ path: 'a', data: 'one' }, { path: 'b', flag: '1', link: 'a' }]);
  t.strictSame((await record([linked, tar([{ path: 'a', data: 'other' }])], seededRandom(1))).again[0], linked, 'another name keeps the content');
});

t.test('a disk as entries is what the other reader sees', async (t) => {
  const { disk, root } = await render([tar(everything(seededRandom(3)))]);
  const expected = new Map([['./', root] as const, ...[...walk(root)].map(({ path, file }) => [file.type === 'directory' ? `${path}/` : path, file] as const)]);
  const seen: string[] = [];
  for await (const entry of entriesOfDisk(openErofs((offset, length) => disk.read(offset, length), 'disk'))) {
    seen.push(entry.path);
    const file = expected.get(entry.path);
    if (file === undefined) return t.fail(`unexpected ${entry.path}`);
    if (entry.type === 'hardlink') {
      t.equal(expected.get(entry.linkPath)?.nid, file.nid);
      continue;
    }
    const { type, mode, uid, gid, device, xattrs } = entry;
    t.strictSame({ type, mode, uid, gid, device, xattrs }, { type: file.type, mode: file.mode, uid: file.uid, gid: file.gid, device: file.device, xattrs: file.xattrs }, entry.path);
    t.strictSame([BigInt(entry.mtime.seconds), entry.mtime.nanoseconds], [file.mtimeSeconds, file.mtimeNanoseconds]);
    if (type === 'file') t.strictSame(await contentOf(entry), file.read(0, file.sizeBytes));
  }
  t.strictSame(seen.sort(), [...expected.keys()].sort());
});

async function contentOf(entry: TarEntry): Promise<Uint8Array> {
  const content = new Uint8Array(entry.sizeBytes);
  for await (const { offsetBytes, data } of entry.body) content.set(data, offsetBytes);
  return content;
}

t.test('an archive of a disk gives an equal disk; as a layer below another it is what it was', async (t) => {
  const first = await render([tar(everything(seededRandom(4)))]);
  const reader = (rendered: Rendered): ReturnType<typeof openErofs> => openErofs((offset, length) => rendered.disk.read(offset, length), 'disk');
  const archive = await collect(writeTar(entriesOfDisk(reader(first))));
  const second = await render([archive]);
  t.strictSame(await collect(writeTar(entriesOfDisk(reader(second)))), archive, 'the same tree');
  const copied = await render([{ kind: 'tree', entries: entriesOfDisk(reader(first)), name: 'below' }]);
  t.equal(copied.geometry.rootHashHex, second.geometry.rootHashHex, 'a disk copied is the disk of its archive');
  const above = tar([{ path: 'd/one', data: 'above' }, { path: 'd/.wh.tail' }]);
  const merged = await render([{ kind: 'tree', entries: entriesOfDisk(reader(first)), name: 'below' }, above]);
  const expected = await render([archive, above]);
  t.equal(merged.geometry.rootHashHex, expected.geometry.rootHashHex);

  const file = join(scratchDir(t, 'recipe'), 'a.tar');
  writeFileSync(file, archive);
  const names = execFileSync('tar', ['--list', '--quoting-style=literal', '-f', file], { encoding: 'utf8' }).trim().split('\n');
  t.ok(names.includes(`${LONG}name`));
  t.equal(names.length, first.geometry.inodes + 1, 'every inode and one more name');
});

async function fuzz(seed: number, mayGoOn: (round: number) => boolean): Promise<{ read: number; refused: number }> {
  const { disk } = await render([tar(everything(seededRandom(5)))]);
  const whole = disk.read(0, disk.sizeBytes);
  const ends = { read: 0, refused: 0 };
  for (let round = 0; mayGoOn(round); round++) {
    const random = seededRandom(seed + round);
    const damaged = whole.slice(0, random.below(8) === 0 ? random.below(whole.length) : whole.length);
    for (let count = 1 + random.below(6); count > 0; count--) damaged[whole.length - 1 - random.below(60_000)] = random.below(256);
    try {
      let entries = 0;
      for await (const entry of entriesOfDisk(openErofs((offset, length) => damaged.subarray(offset, offset + length), 'disk'))) {
        if (++entries > 100_000) throw new Error('too many entries');
        if (entry.sizeBytes < 1 << 20) await contentOf(entry);
      }
      ends.read++;
    } catch (error) {
      if (!(error instanceof RktError)) throw new Error(`seed ${seed + round}`, { cause: error });
      ends.refused++;
    }
  }
  return ends;
}

t.test('a damaged disk is an error, not a loop', async (t) => {
  const { read, refused } = await fuzz(6, (round) => round < 300);
  t.ok(read > 0, 'some damage is in contents');
  t.ok(refused > 0);
});

fuzzForLong('damaged disks', fuzz);

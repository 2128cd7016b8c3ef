import t from 'tap';
import { RktError } from '../../src/error.ts';
import type { Layer, RenderOptions } from '../../src/rootfs/index.ts';
import { contentOf, lookUp, walk, type ErofsFile } from '../helpers/erofs-reader.ts';
import { aciLayer, MemoryDisk, render } from '../helpers/memory-disk.ts';
import { seededRandom, type SeededRandom } from '../helpers/random.ts';
import { latin1, stream, tar, type TarMember } from '../helpers/tar-writer.ts';

const directory = (path: string, more: Partial<TarMember> = {}): TarMember => ({ path, flag: '5', ...more });
const file = (path: string, data = path): TarMember => ({ path, data });
const whiteout = (path: string): TarMember => ({ path });
const symlink = (path: string, link: string): TarMember => ({ path, flag: '2', link });
const hardlink = (path: string, link: string): TarMember => ({ path, flag: '1', link });

/** Paths of everything in the merged image. */
function paths(root: ErofsFile): string[] {
  return [...walk(root)].map(({ path, file: { type } }) => (type === 'directory' ? `${path}/` : path));
}

async function merged(...layers: TarMember[][]): Promise<ErofsFile> {
  return (await render(layers.map(tar))).root;
}

async function failure(layers: readonly (Uint8Array | Layer)[], options: Partial<RenderOptions> = {}): Promise<{ code: string; message: string }> {
  try {
    await render(layers, options);
  } catch (error) {
    if (error instanceof RktError) return { code: error.code, message: error.message };
    throw error;
  }
  return { code: 'none', message: 'rendered without an error' };
}

t.test('no layer gives an empty root directory', async (t) => {
  const { root, geometry } = await render([]);
  t.strictSame(paths(root), []);
  t.match(root, { type: 'directory', mode: 0o755, uid: 0, gid: 0, links: 2 });
  t.equal(geometry.inodes, 1);
});

t.test('what a later layer says rules', async (t) => {
  const root = await merged(
    [directory('etc', { mode: 0o700 }), file('etc/a', 'old'), file('etc/b', 'stays'), symlink('etc/l', 'a'), directory('gone'), file('gone/x')],
    [directory('./etc/', { mode: 0o711, uid: 5 }), file('/etc/a', 'new'), directory('etc/l'), file('gone', 'now a file')],
  );
  t.strictSame(paths(root), ['etc/', 'etc/a', 'etc/b', 'etc/l/', 'gone']);
  t.equal(contentOf(root, 'etc/a'), 'new');
  t.match(lookUp(root, 'etc'), { mode: 0o711, uid: 5 });
  const described = await merged([directory('./', { mode: 0o1777, uid: 3, mtime: 9 }), file('x')]);
  t.match(described, { mode: 0o1777, uid: 3, mtimeSeconds: 9n });
});

t.test('parents that no entry describes', async (t) => {
  const root = await merged([file('a/b/c')]);
  t.match(lookUp(root, 'a/b'), { type: 'directory', mode: 0o755, uid: 0, gid: 0, mtimeSeconds: 0n });
});

t.test('whiteouts', async (t) => {
  const lower = [directory('d'), file('d/a'), file('d/b'), directory('d/sub'), file('d/sub/x'), file('top')];
  t.strictSame(paths(await merged(lower, [whiteout('d/.wh.a'), whiteout('.wh.top')])), ['d/', 'd/b', 'd/sub/', 'd/sub/x']);
  t.strictSame(paths(await merged(lower, [whiteout('.wh.d')])), ['top']);
  t.strictSame(paths(await merged(lower, [whiteout('.wh.nothing'), whiteout('no/dir/.wh.x')])), paths(await merged(lower)), 'of nothing: nothing happens');
  t.strictSame(paths(await merged([file('a')], [whiteout('.wh.a')], [file('a')])), ['a']);
  t.strictSame(paths(await merged([file('.wh..wh.aufs'), directory('.wh..wh.plnk'), file('.wh..wh.plnk/1.2'), file('a')])), ['a'], 'what AUFS left is ignored');
  for (const name of ['.wh.', '.wh..', '.wh...', 'd/.wh...']) {
    t.match(await failure([tar(lower), tar([whiteout(name)])]), { code: 'BAD_IMAGE', message: `entry "${name}": whiteout of no name` }, name);
  }
  t.match(await failure([tar([file('.wh.x/y')])]), { code: 'BAD_IMAGE', message: /name of a whiteout/ });
});

t.test('whiteouts do not touch their own layer, wherever they stand in it', async (t) => {
  const lower = [directory('d'), file('d/low'), file('f', 'low')];
  for (const layer of [
    [whiteout('.wh.d'), whiteout('.wh.f'), directory('d'), file('d/new'), file('f', 'new')],
    [directory('d'), file('d/new'), file('f', 'new'), whiteout('.wh.d'), whiteout('.wh.f')],
    [file('d/new'), whiteout('.wh.d'), file('f', 'new'), whiteout('.wh.f')],
    [whiteout('d/.wh..wh..opq'), file('d/new'), whiteout('.wh.f'), file('f', 'new')],
    [file('d/new'), whiteout('d/.wh..wh..opq'), file('f', 'new'), whiteout('.wh.f')],
  ]) {
    const root = await merged(lower, layer);
    t.strictSame(paths(root), ['d/', 'd/new', 'f']);
    t.equal(contentOf(root, 'f'), 'new');
  }
});

t.test('opaque directories', async (t) => {
  const lower = [directory('d'), directory('d/sub'), file('d/sub/low'), file('d/low'), file('other')];
  t.strictSame(paths(await merged(lower, [whiteout('.wh..wh..opq'), file('only')])), ['only'], 'the root, too');
  t.strictSame(paths(await merged(lower, [file('d/sub/new'), directory('d'), whiteout('d/.wh..wh..opq'), whiteout('d/.wh..wh..opq')])), ['d/', 'd/sub/', 'd/sub/new', 'other']);
  t.strictSame(paths(await merged(lower, [directory('d'), whiteout('d/.wh..wh..opq')], [file('d/third')])), ['d/', 'd/third', 'other'], 'only layers below');
  t.strictSame(paths(await merged(lower, [whiteout('nothing/.wh..wh..opq')])), paths(await merged(lower)));
});

t.test('hard links', async (t) => {
  const root = await merged([file('a', 'data'), hardlink('d/b', './a'), symlink('s', 'x'), hardlink('t', 's'), hardlink('a', 'a')], [hardlink('c', 'd/b'), file('a', 'other')]);
  const a = lookUp(root, 'a');
  const b = lookUp(root, 'd/b');
  t.equal(contentOf(root, 'a'), 'other');
  t.equal(contentOf(root, 'c'), 'data');
  t.equal(b?.nid, lookUp(root, 'c')?.nid);
  t.equal(b?.links, 2);
  t.equal(a?.links, 1);
  t.match(lookUp(root, 't'), { type: 'symlink', links: 2 });
  const inReplaced = await merged([directory('d'), file('d/f', 'kept')], [hardlink('d', 'd/f')]);
  t.strictSame(paths(inReplaced), ['d']);
  t.equal(contentOf(inReplaced, 'd'), 'kept', 'a link may take the place of the directory its target was in');
  t.strictSame(paths(await merged([file('/abs'), hardlink('/other', '/abs')])), ['abs', 'other'], 'tar -P');
});

t.test('symlinks in the parents of an entry stay in the image', async (t) => {
  const root = await merged(
    [directory('usr/bin'), symlink('bin', 'usr/bin'), symlink('abs', '/usr/bin'), symlink('up', '../../../../../usr/bin'), symlink('dangling', 'made/here'), symlink('chain', 'up')],
    [file('bin/1'), file('abs/2'), file('up/3'), file('dangling/4'), file('chain/5'), hardlink('hard', 'bin/1')],
  );
  t.strictSame(paths(root).filter((path) => path.includes('bin/') || path.includes('made')), ['made/', 'made/here/', 'made/here/4', 'usr/bin/', 'usr/bin/1', 'usr/bin/2', 'usr/bin/3', 'usr/bin/5']);
  t.equal(lookUp(root, 'bin')?.type, 'symlink', 'the symlinks are still there');
  t.equal(contentOf(root, 'hard'), 'bin/1');
  t.strictSame(paths(await merged([directory('usr/bin'), file('usr/bin/x'), symlink('bin', 'usr/bin')], [whiteout('bin/.wh.x')])), ['bin', 'usr/', 'usr/bin/'], 'whiteouts follow them, too');
  t.strictSame(paths(await merged([directory('d'), file('d/x'), symlink('l', 'd')], [directory('l'), file('l/y')])), ['d/', 'd/x', 'l/', 'l/y'], 'a directory entry replaces a symlink');
  t.match(await failure([tar([symlink('a', 'b'), symlink('b', 'a'), file('a/x')])]), { code: 'BAD_IMAGE', message: /entry "a\/x".*more than 40 symlinks/ });
  t.match(await failure([tar([symlink('a', 'n'.repeat(99) + '/' + 'n'.repeat(300)), file('a/x')].map((member) => ({ ...member, pax: member.link === undefined ? [] : [['linkpath', member.link] as const] })))]), { code: 'BAD_IMAGE', message: /longer than any name/ });
});

t.test('nothing leaves the image', async (t) => {
  const cases: [what: string, members: TarMember[], code: string, message: RegExp][] = [
    ['path with ..', [file('../evil')], 'BAD_IMAGE', /layer 1: entry "\.\.\/evil": path has a "\.\."/],
    ['path with .. inside', [file('a/../../evil')], 'BAD_IMAGE', /"a\/\.\.\/\.\.\/evil"/],
    ['absolute path with ..', [file('/../evil')], 'BAD_IMAGE', /"\/\.\.\/evil"/],
    ['hard link with ..', [file('a'), hardlink('evil', '../a')], 'BAD_IMAGE', /entry "evil": hard link target "\.\.\/a": path has a "\.\."/],
    ['absolute hard link', [file('a'), hardlink('evil', '/etc/passwd')], 'BAD_IMAGE', /entry "evil": hard link target "\/etc\/passwd" is absolute/],
    ['hard link to nothing', [hardlink('evil', 'later'), file('later')], 'BAD_IMAGE', /"later" does not exist/],
    ['hard link to a directory', [directory('d'), hardlink('evil', 'd')], 'BAD_IMAGE', /"d" is a directory/],
    ['hard link to the root', [hardlink('evil', './')], 'BAD_IMAGE', /is a directory/],
    ['root as a file', [{ path: './', flag: '2', link: '/' }], 'BAD_IMAGE', /root of the image is not a directory/],
    ['file as a parent', [file('a'), file('a/b')], 'BAD_IMAGE', /"a\/b": a parent of it is not a directory/],
    ['name too long', [{ path: 'x', pax: [['path', 'd/' + 'n'.repeat(256)]] }], 'BAD_IMAGE', /component of 256 bytes/],
    ['10 000 nested directories', [{ path: 'x', flag: '5', pax: [['path', 'a/'.repeat(2000)]] }], 'LIMIT', /2000 components/],
  ];
  for (const [what, members, code, message] of cases) t.match(await failure([tar(members)]), { code, message }, what);
  const nested = Array.from({ length: 10 }, (_, i): TarMember[] => [symlink(`s${i + 1}`, `s${i}${'/a'.repeat(45)}`), file(`s${i + 1}/${'b/'.repeat(80)}f`)]).flat();
  t.match(await failure([tar([directory('s0'), ...nested])], { limits: { pathDepth: 200 } }), { code: 'LIMIT', message: /nested deeper than 200/ }, 'depth by way of symlinks');
});

t.test('limits of the merged image', async (t) => {
  const files = Array.from({ length: 20 }, (_, i) => file(`dir${i}/x`));
  t.match(await failure([tar(files)], { limits: { entries: 30 } }), { code: 'LIMIT', message: /more than 30 files/ }, 'directories made on the way count');
  t.match(await failure([tar(files), tar(files), tar(files)], { limits: { entries: 50 } }), { code: 'LIMIT', message: /entries/ }, 'over all layers');
  t.match(await failure([tar(files), tar(files)], { limits: { totalBytes: 40_000 } }), { code: 'LIMIT', message: /layer 2: archive is larger/ });
  t.match(await failure([tar([{ path: 'x', data: 'v'.repeat(100_000) }])], { limits: { diskBytes: 65536 } }), { code: 'LIMIT', message: /disk of more than 65536/ });
  t.match(await failure([tar(Array.from({ length: 50 }, (_, i) => symlink(`l${i}`, 't'.repeat(90))))], { limits: { metadataBytes: 2000 } }), { code: 'LIMIT', message: /xattrs of the image exceed 2000/ });
  const loops = [symlink('a', 'b/'.repeat(40) + 'c'), directory('b/'.repeat(40)), ...Array.from({ length: 100 }, (_, i) => file(`a/${i}`))];
  t.match(await failure([tar(loops)], { limits: { lookups: 1000 } }), { code: 'LIMIT', message: /look-ups/ });
});

t.test('data of files that are gone leaves holes', async (t) => {
  const big = 'x'.repeat(100_000);
  const { disk, geometry, root } = await render([tar([{ path: 'a', data: big }, { path: 'b', data: big }, hardlink('c', 'b')]), tar([whiteout('.wh.a'), file('b', 'small')])]);
  const kept = await render([tar([{ path: 'c', data: big }])]);
  t.equal([...disk.blocks.keys()].filter((block) => block < geometry.dataBlocks).length, [...kept.disk.blocks.keys()].filter((block) => block < kept.geometry.dataBlocks).length, 'as many blocks of data and metadata as without them');
  t.equal(contentOf(root, 'c'), big);
});

t.test('ACI', async (t) => {
  const manifest = file('manifest', '{"acKind":"ImageManifest"}');
  const seen: string[] = [];
  const onAciManifest = (bytes: Uint8Array, layer: Layer): void => void seen.push(`${layer.name} ${Buffer.from(bytes)}`);
  const aci = tar([directory('.'), directory('rootfs/', { mode: 0o750 }), file('rootfs/bin/x', 'X'), hardlink('rootfs/y', 'rootfs/bin/x'), file('rootfs/.wh.plain'), file('rootfs2/ignored'), manifest]);
  const { root } = await render([aciLayer(aci)], { onAciManifest });
  t.strictSame(paths(root), ['.wh.plain', 'bin/', 'bin/x', 'y'], 'no whiteouts in an ACI');
  t.equal(root.mode, 0o750);
  t.equal(contentOf(root, 'y'), 'X');
  t.strictSame(seen, ['x.aci {"acKind":"ImageManifest"}']);

  const refused: [TarMember[], RegExp][] = [
    [[directory('rootfs')], /x\.aci: no image manifest found in layout/],
    [[manifest], /x\.aci: no rootfs found in layout/],
    [[manifest, file('rootfs')], /x\.aci: rootfs is not a directory/],
    [[manifest, directory('rootfs'), file('rootfs/a'), file('./rootfs//a')], /x\.aci: duplicate file entry in archive: rootfs\/a/],
    [[manifest, directory('rootfs'), file('other/file')], /x\.aci: unrecognized file path in layout: "other\/file"/],
    [[directory('manifest'), directory('rootfs')], /manifest is not a file/],
    [[manifest, directory('rootfs'), hardlink('rootfs/m', 'manifest')], /entry "rootfs\/m": hard link target "manifest" is not in "rootfs"/],
    [[manifest, directory('rootfs'), file('rootfs/../../x')], /has a "\.\."/],
  ];
  for (const [members, message] of refused) t.match(await failure([aciLayer(tar(members))]), { code: 'BAD_IMAGE', message }, String(message));
  t.match(await failure([aciLayer(tar([manifest, directory('rootfs')]))], { limits: { manifestBytes: 10 } }), { code: 'LIMIT', message: /manifest of 26 bytes/ });
  await t.rejects(render([aciLayer(aci)], { onAciManifest: () => Promise.reject(new RktError('BAD_IMAGE', 'manifest is bad')) }), { message: 'manifest is bad' });
});

t.test('a dependency below, the image above', async (t) => {
  const manifest = file('manifest', '{}');
  const base = tar([manifest, directory('rootfs'), file('rootfs/a', 'base'), file('rootfs/b', 'base')]);
  const top = tar([manifest, directory('rootfs'), file('rootfs/b', 'top')]);
  const { root } = await render([aciLayer(base), aciLayer(top)]);
  t.strictSame([contentOf(root, 'a'), contentOf(root, 'b')], ['base', 'top']);
});

t.test('path whitelist', async (t) => {
  const archive = tar([file('a/b/keep', 'kept'), file('a/b/drop'), directory('a/empty'), directory('a/listed'), file('a/listed/inside'), file('ünïcode'), file('x'), hardlink('y', 'x')]);
  const { root, geometry } = await render([archive], { pathWhitelist: ['/a/b/keep', '/a/listed/', '/ünïcode', '/y', '/not/there'] });
  t.strictSame(paths(root), ['a/', 'a/b/', 'a/b/keep', 'a/listed/', 'y', Buffer.from('ünïcode').toString('latin1')]);
  t.equal(lookUp(root, 'y')?.links, 1);
  t.equal(geometry.inodes, 7);
  t.equal(paths((await render([archive], { pathWhitelist: [] })).root).length, 10);
  t.strictSame(paths((await render([archive], { pathWhitelist: () => ['/x'] })).root), ['x'], 'may be known only when the manifest was read');
  t.match(await failure([archive], { pathWhitelist: ['relative'] }), { code: 'BAD_IMAGE', message: /pathWhitelist: "relative": path is not absolute/ });
  t.match(await failure([archive], { pathWhitelist: ['/a/../b'] }), { code: 'BAD_IMAGE', message: /pathWhitelist/ });
});

t.test('what the sink throws passes', async (t) => {
  class Full extends MemoryDisk {
    override write(): void {
      throw new RktError('NO_SPACE', 'disk: no space left');
    }
  }
  const { renderDisk } = await import('../../src/rootfs/index.ts');
  const { sha256 } = await import('../../src/store/disk-file.ts');
  await t.rejects(renderDisk([{ kind: 'oci', name: 'x', tar: stream(tar([file('a')])) }], new Full(), { sha256 }), { code: 'NO_SPACE' });
});

/**
 * The merge against a simple model: all whiteouts of a layer first, on what the layers below left, then its entries in order.
 * The archives have the whiteouts anywhere.
 */
type Model = Map<string, string>;

function randomLayer(random: SeededRandom, model: Model): { members: TarMember[]; model: Model } {
  const names = ['a', 'b', 'c'];
  const randomPath = (): string => Array.from({ length: 1 + random.below(3) }, () => random.pick(names)).join('/');
  const next: Model = new Map(model);
  const removeBelow = (path: string): void => {
    for (const key of [...next.keys()]) if (key.startsWith(path === '' ? '' : `${path}/`)) next.delete(key);
  };
  const isDirectory = (path: string): boolean => path === '' || next.get(path)?.startsWith('directory') === true;
  const whiteouts: TarMember[] = [];
  for (let i = random.below(4); i > 0; i--) {
    const path = random.below(8) === 0 ? '' : randomPath();
    if (random.below(2) === 0 || path === '') {
      whiteouts.push(whiteout(path === '' ? '.wh..wh..opq' : `${path}/.wh..wh..opq`));
      if (isDirectory(path)) removeBelow(path);
    } else {
      whiteouts.push(whiteout(path.replace(/[^/]+$/, '.wh.$&')));
      if (next.delete(path)) removeBelow(path);
    }
  }
  const members: TarMember[] = [];
  const linkable: string[] = [];
  for (let i = random.below(6); i > 0; i--) {
    const path = randomPath();
    // Each parent gets an entry, as archives of layers have it.
    path.split('/').slice(0, -1).forEach((_, depth, parents) => {
      const parent = parents.slice(0, depth + 1).join('/');
      const mode = random.below(0o1000);
      members.push(directory(parent, { mode }));
      next.set(parent, `directory ${mode}`);
    });
    const kind = random.below(4);
    const previous = linkable.length > 0 && kind === 3 ? random.pick(linkable) : undefined;
    if (kind === 0) {
      members.push(directory(path, { mode: 0o700 }));
      next.set(path, `directory ${0o700}`);
    } else if (previous !== undefined && previous !== path && !previous.startsWith(`${path}/`) && next.get(previous)?.startsWith('file') === true) {
      members.push(hardlink(path, previous));
      removeBelow(path);
      next.set(path, next.get(previous) ?? '');
    } else {
      const data = `${random.below(1e9)}`.repeat(random.below(2) === 0 ? 1 : 800);
      members.push(file(path, data));
      removeBelow(path);
      next.set(path, `file ${data}`);
      linkable.push(path);
    }
    for (const known of [...linkable]) if (next.get(known)?.startsWith('file') !== true) linkable.splice(linkable.indexOf(known), 1);
  }
  for (const member of whiteouts) members.splice(random.below(members.length + 1), 0, member);
  return { members, model: next };
}

t.test('any layers give what a simple model gives', async (t) => {
  const random = seededRandom(42);
  for (let round = 0; round < 400; round++) {
    let model: Model = new Map();
    const layers: Uint8Array[] = [];
    for (let count = 1 + random.below(4); count > 0; count--) {
      const layer = randomLayer(random, model);
      layers.push(tar(layer.members));
      model = layer.model;
    }
    const { root } = await render(layers);
    const found: Model = new Map();
    for (const { path, file: inode } of walk(root)) found.set(path, inode.type === 'directory' ? `directory ${inode.mode}` : `file ${contentOf(root, path) ?? ''}`);
    t.strictSame([...found].sort(), [...model].sort(), `round ${round}`);
  }
});

t.test('names of any bytes', async (t) => {
  const root = (await render([tar([{ path: latin1('\xff\xfe/\x01\n'), data: 'x' }, { path: 'é', data: 'nfc' }, { path: 'e\u0301', data: 'nfd' }])])).root;
  t.strictSame([...walk(root)].map(({ path }) => path), ['e\xcc\x81', '\xc3\xa9', '\xff\xfe', '\xff\xfe/\x01\n'], 'not normalised, not decoded');
});

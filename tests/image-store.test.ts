/** Images of the store: out again as archives and as files, on top of one another, and away. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { openStore } from '../src/store/index.ts';
import { aciMembers, busyboxMembers, compress, makeAci, makeOciLayout, makeTar } from './helpers/make-image.ts';
import type { ImageOptions, TarMember } from './helpers/make-image.ts';
import { eventually, makeHost } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';
import { concat, END_OF_ARCHIVE, sparseMember } from './helpers/tar-writer.ts';

interface Machine extends Host {
  path(name: string): string;
  /** Standard output of a command that succeeds. */
  done(...args: string[]): Promise<string>;
  /** Standard error of a command that fails with 254 and changes nothing. */
  fails(...args: string[]): Promise<string>;
}

function machine(t: Test, name: string): Machine {
  const host = makeHost(name);
  t.teardown(host.close);
  // Empty directories are made on the way; they hold nothing.
  const files = (): string[] => host.listing().filter((path) => !path.endsWith('/'));
  return {
    ...host,
    path: (file) => join(host.workDir, file),
    done: async (...args) => {
      const { status, stdout, stderr } = await host.rkt(args);
      t.equal(status, 0, `${args.join(' ')}: ${stderr}`);
      return stdout.toString().trim();
    },
    fails: async (...args) => {
      const before = files();
      const { status, stderr } = await host.rkt(args);
      t.equal(status, 254, args.join(' '));
      t.strictSame(files(), before);
      return stderr;
    },
  };
}

const FILES: TarMember[] = [
  { path: 'etc/', type: 'directory', mtimeSeconds: 1_600_000_000 },
  { path: 'etc/hosts', content: 'hosts\n', mode: 0o640, uid: 5, gid: 6, mtimeSeconds: 1_500_000_000 },
  { path: 'etc/again', type: 'hardlink', linkPath: 'etc/hosts' },
  { path: 'etc/link', type: 'symlink', linkPath: '../../../../outside' },
  { path: 'bin/', type: 'directory' },
  { path: 'bin/set', content: 'x', mode: 0o4755 },
  { path: 'null', type: 'character', device: { major: 1, minor: 3 }, mode: 0o666 },
  { path: 'pipe', type: 'fifo' },
  { path: 'large', content: Buffer.alloc(300_000, 'large') },
];

function sha512(bytes: Uint8Array): string {
  return createHash('sha512').update(bytes).digest('hex');
}

t.test('an ACI comes out as it went in, uncompressed', async (t) => {
  const host = machine(t, 'export-aci');
  const tar = makeTar(aciMembers({ layers: [FILES] }));
  writeFileSync(host.path('a.aci'), compress(tar, 'gzip'));
  const id = await host.done('fetch', '--full', './a.aci');
  t.equal(id, `sha512-${sha512(tar).slice(0, 64)}`);
  await host.done('image', 'export', 'example.com/busybox', 'out.aci');
  t.strictSame(readFileSync(host.path('out.aci')), tar, 'byte for byte');
  t.equal(await host.fails('image', 'export', id, 'out.aci'), 'export: output ACI file exists (try --overwrite)\n');
  await host.done('image', 'export', '--overwrite', id.slice(0, 20), 'out.aci');
  t.equal(await host.done('fetch', '--full', './out.aci'), id);
  t.match(await host.fails('image', 'export', 'example.com/none', 'x.aci'), /^export: image name "example\.com\/none" not found\n$/);
  t.notOk(existsSync(host.path('x.aci')));
});

t.test('an ACI whose whitelist left something out comes out as what is left', async (t) => {
  const host = machine(t, 'export-whitelist');
  makeAci(host.path('a.aci'), { layers: [FILES], manifest: { pathWhitelist: ['/etc/hosts'] } });
  const id = await host.done('fetch', '--full', './a.aci');
  const { status, stderr } = await host.rkt(['image', 'export', id, 'out.aci']);
  t.equal(status, 0);
  t.match(stderr, /imported again it will have another ID\n$/);
  t.strictSame(execFileSync('tar', ['-tf', host.path('out.aci')], { encoding: 'utf8' }).trim().split('\n'), ['manifest', 'rootfs/', 'rootfs/etc/', 'rootfs/etc/hosts']);
  const again = await host.done('fetch', '--full', './out.aci');
  t.not(again, id);
  const store = openStore(host.dataDir);
  t.equal(store.disk(again).inodes, store.disk(id).inodes);
});

t.test('an OCI image comes out as the same image', async (t) => {
  const host = machine(t, 'export-oci');
  const options: ImageOptions = { layers: [busyboxMembers(), FILES, [{ path: 'new', content: 'new' }]], compression: 'zstd', reference: 'v1' };
  makeOciLayout(host.path('a.oci'), options);
  const id = await host.done('fetch', '--full', './a.oci');
  await host.done('image', 'export', '--oci', id, 'out.oci');
  await host.done('image', 'rm', id);
  t.equal(await host.done('fetch', '--full', './out.oci'), id, 'the same configuration, the same layers');
  execFileSync('skopeo', ['--insecure-policy', 'copy', '-q', `oci:${host.path('out.oci')}:v1`, `oci:${host.path('copied.oci')}:v1`]);
  t.equal(await host.done('fetch', '--full', './copied.oci'), id, 'skopeo reads it');
  t.match(await host.fails('image', 'export', '--oci', id, 'out.oci'), /output directory exists/);

  makeOciLayout(host.path('kept.oci'), { ...options, layers: [...(options.layers ?? []), [{ path: 'large', content: 'replaced' }]] });
  const kept = await host.done('fetch', '--full', '--keep-layers', './kept.oci');
  await host.done('image', 'export', '--oci', '--overwrite', kept, 'out.oci');
  const manifestOf = (layout: string): string => (JSON.parse(readFileSync(host.path(`${layout}/index.json`), 'utf8')) as { manifests: { digest: string }[] }).manifests[0]?.digest ?? '';
  t.equal(manifestOf('out.oci'), manifestOf('kept.oci'), 'with its layers kept, the manifest is the same, too');

  makeOciLayout(host.path('replaced.oci'), { ...options, layers: [FILES, [{ path: 'large', content: 'replaced once more' }]] });
  const replaced = await host.done('fetch', '--full', './replaced.oci');
  const { stderr } = await host.rkt(['image', 'export', '--oci', replaced, 'squashed.oci']);
  t.match(stderr, /will have another ID/, 'what an upper layer replaced is gone');
  await host.done('fetch', './squashed.oci');
  const store = openStore(host.dataDir);
  const squashed = store.listImages().find(({ id: other }) => ![id, kept, replaced].includes(other));
  t.equal(store.disk(squashed?.id ?? '').inodes, store.disk(replaced).inodes);
  t.strictSame(store.imageManifest(squashed?.id ?? '').app?.exec, ['/bin/sh']);
});

t.test('extract and render', async (t) => {
  const host = machine(t, 'extract');
  makeAci(host.path('a.aci'), { layers: [FILES] });
  const id = await host.done('fetch', '--full', './a.aci');
  await host.done('image', 'extract', id, 'out');
  t.strictSame(readdirSync(host.path('out')).sort(), ['manifest', 'rootfs']);
  t.equal((JSON.parse(readFileSync(host.path('out/manifest'), 'utf8')) as { name: string }).name, 'example.com/busybox');
  const at = (name: string): string => host.path(`out/rootfs/${name}`);
  t.equal(readFileSync(at('etc/hosts'), 'utf8'), 'hosts\n');
  t.match(statSync(at('etc/hosts')), { uid: 5, gid: 6, mtimeMs: 1_500_000_000_000, ino: statSync(at('etc/again')).ino });
  t.equal(statSync(at('etc/hosts')).mode & 0o7777, 0o640);
  t.equal(statSync(at('etc')).mtimeMs, 1_600_000_000_000);
  t.equal(readlinkSync(at('etc/link')), '../../../../outside', 'a link is made, and never followed');
  t.equal(statSync(at('bin/set')).mode & 0o7777, 0o4755);
  t.ok(lstatSync(at('null')).isCharacterDevice());
  t.equal(lstatSync(at('null')).rdev, 0x103);
  t.ok(lstatSync(at('pipe')).isFIFO());
  t.strictSame(readFileSync(at('large')), Buffer.alloc(300_000, 'large'));
  t.equal(await host.fails('image', 'extract', id, 'out'), 'extract: output directory exists (try --overwrite)\n');
  t.match(await host.fails('image', 'extract', '--overwrite', id, '/usr'), /Refusing\.\n$/);
  await host.done('image', 'render', '--overwrite', '--rootfs-only', id, 'out');
  t.ok(existsSync(host.path('out/etc/hosts')));
  t.strictSame(readdirSync(host.workDir).filter((name) => name.startsWith('.')), [], 'nothing unfinished is left');
});

t.test('an image is put on top of those it depends on', async (t) => {
  const host = machine(t, 'dependencies');
  const aci = (name: string, files: Record<string, string>, manifest: Record<string, unknown> = {}): string => {
    const layers = [Object.entries(files).map(([path, content]): TarMember => ({ path, content }))];
    return makeAci(host.path(`${name}.aci`), { layers, manifest: { name: `example.com/${name}`, ...manifest } });
  };
  const on = (...names: string[]): Record<string, unknown> => ({ dependencies: names.map((name) => ({ imageName: `example.com/${name}`, labels: [{ name: 'version', value: '1.0.0' }] })) });
  aci('base', { who: 'base', base: 'base', hidden: 'hidden' });
  aci('lower', { who: 'lower', lower: 'lower' }, on('base'));
  aci('upper', { who: 'upper', upper: 'upper' });
  aci('top', { top: 'top' }, { ...on('lower', 'upper'), pathWhitelist: ['/who', '/base', '/lower', '/upper', '/top'] });
  t.match(await host.fails('fetch', '--pull-policy=never', './top.aci'), /^fetch: example\.com\/lower: no image of this name in the store\n/);
  for (const name of ['base', 'lower', 'upper']) await host.done('fetch', '--pull-policy=new', `./${name}.aci`);
  const top = await host.done('fetch', '--full', '--pull-policy=new', './top.aci');
  await host.done('image', 'render', '--rootfs-only', top, 'rendered');
  const found = Object.fromEntries(readdirSync(host.path('rendered')).map((name) => [name, readFileSync(host.path(`rendered/${name}`), 'utf8')]));
  t.strictSame(found, { who: 'upper', base: 'base', lower: 'lower', upper: 'upper', top: 'top' }, 'a later dependency is above an earlier one, and only what is listed is there');
  await host.done('image', 'extract', '--rootfs-only', top, 'extracted');
  t.strictSame(readdirSync(host.path('extracted')), ['top'], 'extract leaves them out');

  const store = openStore(host.dataDir);
  const [base, lower, upper] = ['base', 'lower', 'upper'].map((name) => store.findByName(`example.com/${name}`, {})?.id ?? '');
  t.strictSame(store.findImage(top).dependencies, [upper, lower, base]);
  await host.done('image', 'rm', base ?? '', lower ?? '', upper ?? '');
  await host.done('image', 'export', top, 'out.aci');
  t.equal(await host.done('image', 'list', '--no-legend', '--fields=name'), 'example.com/top:1.0.0', 'it stands alone');
  t.equal(sha512(readFileSync(host.path('out.aci'))).slice(0, 64), top.slice('sha512-'.length), 'and comes out as it went in');

  aci('pinned', {}, { dependencies: [{ imageName: 'example.com/base', imageID: `sha512-${'0'.repeat(64)}` }] });
  await host.done('fetch', './base.aci');
  t.match(await host.fails('fetch', '--pull-policy=new', './pinned.aci'), /dependencies\[0\]: imageID: expected sha512-0+, found sha512-/);
  aci('named', {}, { dependencies: [{ imageName: 'example.com/other', imageID: store.findByName('example.com/base', {})?.id }] });
  t.match(await host.fails('fetch', '--pull-policy=new', './named.aci'), /is called example\.com\/base, expected example\.com\/other/);
});

t.test('garbage collection', async (t) => {
  const host = machine(t, 'image-gc');
  const ids: string[] = [];
  for (const name of ['a', 'b', 'c']) {
    makeOciLayout(host.path(`${name}.oci`), { layers: [[{ path: name, content: Buffer.alloc(100_000, name) }]] });
    ids.push(await host.done('fetch', '--full', '--keep-layers', `./${name}.oci`));
  }
  const store = openStore(host.dataDir);
  const names = (): string[] => store.listImages().map(({ name }) => name).sort();
  const lastUsed = (id: string | undefined, agoHours: number): void => {
    const time = new Date(Date.now() - agoHours * 3_600_000);
    utimesSync(join(host.dataDir, 'cas/image', `${id ?? ''}.json`), time, time);
  };
  lastUsed(ids[0], 25);
  lastUsed(ids[1], 3);
  const { stdout, stderr } = await host.rkt(['image', 'gc']);
  t.equal(stdout.toString(), `successfully removed aci for image: "${ids[0] ?? ''}"\n`);
  t.equal(stderr, 'gc: 1 image(s) successfully removed\n');
  t.strictSame(names(), ['b', 'c']);
  t.equal(store.listTrees().length, 2);
  t.equal(readdirSync(join(host.dataDir, 'cas/blob/sha256')).length, 2, 'layers of no image go, too');
  await host.done('image', 'gc', '--max-size=100M');
  t.strictSame(names(), ['b', 'c']);
  await host.done('image', 'gc', '--max-size=200k');
  t.strictSame(names(), ['c'], 'what was used longest ago goes first');
  await host.done('image', 'gc', '--grace-period=0s');
  t.strictSame(names(), []);
  t.strictSame(store.listTrees(), []);
  t.match(await host.fails('image', 'gc', '--max-size=much'), /expected a quantity/);
});

t.test('what is interrupted leaves nothing', async (t) => {
  const host = machine(t, 'export-interrupted');
  // Small, and long to write: as an archive, and as files.
  const links = Array.from({ length: 30_000 }, (_, n) => ({ path: `links/${n}`, type: 'hardlink' as const, linkPath: 'small' }));
  makeAci(host.path('links.aci'), { layers: [[{ path: 'small', content: 'x' }, { path: 'links/', type: 'directory' }, ...links]] });
  const linksId = await host.done('fetch', '--full', './links.aci');
  const huge = sparseMember('1.0', { path: 'rootfs/huge', size: 2 ** 32, pieces: [{ offset: 0, data: Buffer.from('begin') }, { offset: 2 ** 32 - 3, data: Buffer.from('end') }] });
  const tar = makeTar(aciMembers({ layers: [FILES], manifest: { pathWhitelist: ['/huge'] } }));
  writeFileSync(host.path('a.aci'), concat(tar.subarray(0, -END_OF_ARCHIVE.length), huge, END_OF_ARCHIVE));
  const id = await host.done('fetch', '--full', './a.aci');
  for (const [image, ...command] of [[id, 'export'], [id, 'export', '--oci'], [linksId, 'extract'], [linksId, 'render']] as const) {
    const { child, ended } = host.start(['image', ...command, image, 'out']);
    await eventually('it is being written', () => readdirSync(host.workDir).some((name) => name.startsWith('.out')));
    child.kill('SIGINT');
    t.match(await ended, { status: 254, stderr: `${command[0]}: interrupted\n` });
    t.strictSame(readdirSync(host.workDir).filter((name) => name.includes('out')), []);
  }
});

t.test('a damaged disk or recipe is found out when it is written again', async (t) => {
  const host = machine(t, 'damage');
  makeAci(host.path('a.aci'), { layers: [FILES] });
  const id = await host.done('fetch', '--full', './a.aci');
  const { path } = openStore(host.dataDir).disk(id);
  const bytes = readFileSync(path);
  bytes[4096 + 100] = (bytes[4096 + 100] ?? 0) ^ 1;
  mkdirSync(host.path('x'));
  writeFileSync(path, bytes, { mode: 0o600 });
  const { status, stderr } = await host.rkt(['image', 'export', id, 'out.aci']);
  t.equal(status, 254);
  t.match(stderr, /its disk or recipe is damaged/);
  t.notOk(existsSync(host.path('out.aci')));
});

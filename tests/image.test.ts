/** Images of every format into the store: same content, same identity; bad input leaves nothing behind. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fetchImage, importStage1, parseImageString } from '../src/image/index.ts';
import type { FetchedImage, FetchOptions } from '../src/image/index.ts';
import { openStore } from '../src/store/index.ts';
import type { Store } from '../src/store/index.ts';
import { aciManifest, aciMembers, busyboxMembers, compress, makeAci, makeDockerArchive, makeOciLayout, makeOciTar, makeTar } from './helpers/make-image.ts';
import type { TarMember, TestCompression } from './helpers/make-image.ts';
import { scratchDir } from './helpers/scratch-dir.ts';
import { END_OF_ARCHIVE, concat, gnuLong, tarMember } from './helpers/tar-writer.ts';

interface Bench {
  dir: string;
  store: Store;
  fetch(text: string, options?: Partial<FetchOptions>): Promise<FetchedImage>;
  /** Everything the store keeps: what an error must not change. */
  contents(): string[];
}

function makeBench(t: { teardown(action: () => void): void }): Bench {
  const dir = scratchDir(t, 'image');
  const store = openStore(join(dir, 'data'));
  return {
    dir,
    store,
    fetch: (text, options) => fetchImage(parseImageString(text, dir), { store, ...options }),
    contents: () => ['cas/image', 'cas/manifest', 'cas/tree', 'cas/stage1', 'cas/source', 'cas/tmp', 'locks'].flatMap((name) => listIfThere(join(dir, 'data', name)).map((entry) => `${name}/${entry}`)),
  };
}

function listIfThere(path: string): string[] {
  return existsSync(path) ? readdirSync(path).sort() : [];
}

const SMALL: TarMember[] = [
  { path: 'etc/', type: 'directory' },
  { path: 'etc/hostname', content: 'small\n' },
];

t.test('an ACI is the same image however it is compressed', async (t) => {
  const bench = makeBench(t);
  const tar = makeTar(aciMembers());
  const expectedId = `sha512-${createHash('sha512').update(tar).digest('hex').slice(0, 64)}`;
  const hashes = new Set<string>();
  for (const compression of ['none', 'gzip', 'zstd', 'xz', 'bzip2'] satisfies TestCompression[]) {
    // Names say nothing: content is looked at.
    writeFileSync(join(bench.dir, `image-${compression}.tar`), compress(tar, compression));
    const image = await bench.fetch(`./image-${compression}.tar`);
    t.equal(image.id, expectedId, compression);
    t.match(image, { name: 'example.com/busybox', labels: { version: '1.0.0' }, source: 'aci', manifest: { app: { exec: ['/bin/sh'] } } });
    hashes.add(image.disk.rootHashHex);
  }
  t.equal(hashes.size, 1);
  t.equal(bench.store.listImages().length, 1);
  t.strictSame(listIfThere(join(bench.dir, 'data/cas/tmp')), []);
});

t.test('a disk is what its description says', async (t) => {
  const bench = makeBench(t);
  const { disk } = await bench.fetch(makeAci(join(bench.dir, 'a.aci')));
  t.equal(statSync(disk.path).size, disk.sizeBytes);
  t.equal(statSync(disk.path).mode & 0o777, 0o440);
  t.equal(disk.hashStartBlock, disk.dataBlocks + 1);
  const fsck = spawnSync('fsck.erofs', [disk.path], { encoding: 'utf8' });
  if (fsck.error === undefined) t.equal(fsck.status, 0, fsck.stderr);
  const verify = spawnSync('veritysetup', ['verify', disk.path, disk.path, disk.rootHashHex, `--hash-offset=${disk.dataBlocks * 4096}`], { encoding: 'utf8' });
  if (verify.error === undefined) t.equal(verify.status, 0, verify.stderr);
});

t.test('an OCI image is the same in a directory, a tar, an archive of docker save, with any compression', async (t) => {
  const bench = makeBench(t);
  const options = { layers: [busyboxMembers(), SMALL, [{ path: 'etc/.wh.hostname' }]] };
  makeOciLayout(join(bench.dir, 'dir.oci'), { ...options, reference: 'v1' });
  for (const compression of ['none', 'gzip', 'zstd'] satisfies TestCompression[]) makeOciTar(join(bench.dir, `layers-${compression}.tar`), { ...options, compression });
  for (const archive of ['gzip', 'zstd', 'xz'] satisfies TestCompression[]) makeOciTar(join(bench.dir, `archive-${archive}.tar`), options, archive);
  makeDockerArchive(join(bench.dir, 'docker.tar'), { ...options, reference: 'busybox:1.36' });
  const texts = ['dir.oci', 'oci:dir.oci', 'oci:dir.oci:v1', 'layers-none.tar', 'layers-gzip.tar', 'layers-zstd.tar', 'archive-gzip.tar', 'archive-zstd.tar', 'archive-xz.tar', 'docker.tar', 'docker-archive:docker.tar', 'docker-archive:docker.tar:busybox:1.36'];
  const images: FetchedImage[] = [];
  for (const text of texts) images.push(await bench.fetch(text));
  t.equal(new Set(images.map(({ id }) => id)).size, 1);
  t.match(images[0], { name: 'dir', labels: { version: 'v1', os: 'linux', arch: 'amd64' }, source: 'oci' });
  t.match(images.at(-1), { name: 'registry-1.docker.io/library/busybox', labels: { version: '1.36' }, source: 'docker' });
  t.equal(bench.store.listTrees().length, 1);

  const fresh = makeBench(t);
  const rendered: string[] = [];
  for (const text of ['dir.oci', 'layers-none.tar', 'layers-zstd.tar', 'archive-xz.tar', 'docker.tar']) {
    const image = await fresh.fetch(join(bench.dir, text));
    rendered.push(image.disk.rootHashHex, createHash('sha256').update(readFileSync(image.disk.path)).digest('hex'));
    fresh.store.removeImage(image.id);
  }
  t.equal(new Set(rendered).size, 2, 'rendered anew, byte for byte the same');
});

t.test('the same image under two names keeps the name it was asked by', async (t) => {
  const bench = makeBench(t);
  for (const [file, reference] of [['a.tar', 'example.com/x:1'], ['b.tar', 'example.com/x:2']] as const) {
    makeDockerArchive(join(bench.dir, file), { layers: [SMALL], reference });
  }
  for (const round of [1, 2]) {
    for (const [file, version] of [['a.tar', '1'], ['b.tar', '2'], ['b.tar', '2']] as const) t.equal((await bench.fetch(file)).labels['version'], version, `${file}, round ${round}`);
  }
});

t.test('a known file is not read again', async (t) => {
  const bench = makeBench(t);
  const sources = [makeAci(join(bench.dir, 'a.aci'), { layers: [SMALL] }), makeOciTar(join(bench.dir, 'b.tar'), { layers: [SMALL] }), makeOciLayout(join(bench.dir, 'c.oci'), { layers: [SMALL, SMALL] })];
  await new Promise((resolve) => setTimeout(resolve, 150));
  for (const source of sources) {
    let reads = 0;
    const onProgress = (): void => void reads++;
    const first = await bench.fetch(source, { onProgress });
    t.ok(reads > 0, 'it is read the first time');
    reads = 0;
    const second = await bench.fetch(source, { onProgress });
    t.equal(reads, 0, 'and not the second time');
    t.strictSame({ ...second, lastUsedMs: 0 }, { ...first, lastUsedMs: 0 });
  }
  makeAci(join(bench.dir, 'a.aci'), { layers: [[{ path: 'other', content: 'other' }]] });
  t.not((await bench.fetch('a.aci')).id, bench.store.listImages()[0]?.id, 'a changed file is another image');
});

t.test('by ID', async (t) => {
  const bench = makeBench(t);
  const image = await bench.fetch(makeAci(join(bench.dir, 'a.aci'), { layers: [SMALL] }));
  t.equal((await bench.fetch(image.id)).disk.path, image.disk.path);
  t.equal((await bench.fetch(image.id.slice(0, 19))).id, image.id);
  await t.rejects(bench.fetch('sha512-f'), { code: 'USAGE', message: 'image ID too short: "sha512-f"' });
  await t.rejects(bench.fetch(`sha512-${'0'.repeat(20)}`), { code: 'NOT_FOUND', message: /^no image IDs found/ });
});

t.test('many at once render once', async (t) => {
  const bench = makeBench(t);
  makeAci(join(bench.dir, 'a.aci'));
  makeOciLayout(join(bench.dir, 'b.oci'), {});
  await new Promise((resolve) => setTimeout(resolve, 150));
  for (const text of ['a.aci', 'b.oci']) {
    const readers = new Set<number>();
    const images = await Promise.all(Array.from({ length: 5 }, (_, index) => bench.fetch(text, { onProgress: () => readers.add(index) })));
    t.equal(new Set(images.map(({ id }) => id)).size, 1);
    t.equal(readers.size, 1, text);
  }
});

t.test('an image without layers is an image', async (t) => {
  const bench = makeBench(t);
  const image = await bench.fetch(makeOciLayout(join(bench.dir, 'empty.oci'), { layers: [] }));
  t.equal(image.disk.inodes, 1);
});

t.test('a manifest without app stays without', async (t) => {
  const bench = makeBench(t);
  t.equal((await bench.fetch(makeAci(join(bench.dir, 'a.aci'), { layers: [SMALL], manifest: { app: undefined } }))).manifest.app, undefined);
});

t.test('a path whitelist behind the files counts', async (t) => {
  const bench = makeBench(t);
  const [manifest, ...files] = aciMembers({ layers: [SMALL, [{ path: 'secret', content: 'x' }]], manifest: { pathWhitelist: ['/etc/hostname'] } });
  if (manifest === undefined) throw new Error('no manifest');
  writeFileSync(join(bench.dir, 'a.aci'), makeTar([...files, manifest]));
  t.equal((await bench.fetch('a.aci')).disk.inodes, 3, 'root, etc, etc/hostname');
});

t.test('the image for this machine is picked from several', async (t) => {
  const bench = makeBench(t);
  const platforms = [{ layers: [SMALL], architecture: 'arm64' }, { layers: [SMALL, SMALL], architecture: 'amd64' }, { layers: [SMALL], architecture: 's390x' }];
  makeOciLayout(join(bench.dir, 'multi.oci'), ...platforms);
  const amd64 = { os: 'linux', architecture: 'amd64' };
  t.equal((await bench.fetch('multi.oci', { platform: amd64 })).labels['arch'], 'amd64');
  t.equal((await bench.fetch('multi.oci', { platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } })).labels['arch'], 'aarch64');
  await t.rejects(bench.fetch('multi.oci', { platform: { os: 'linux', architecture: 'ppc64le' } }), {
    code: 'UNSUPPORTED',
    message: `${join(bench.dir, 'multi.oci')}: unsupported architecture: linux/ppc64le is needed, the image is for linux/arm64, linux/amd64, linux/s390x`,
  });
  for (const [text, make] of [['one.oci', makeOciLayout], ['one.tar', makeDockerArchive], ['one.aci', makeAci]] as const) {
    make(join(bench.dir, text), { layers: [SMALL], architecture: 'arm64' });
    await t.rejects(bench.fetch(text, { platform: amd64 }), { code: 'UNSUPPORTED', message: `${join(bench.dir, text)}: unsupported architecture: linux/amd64 is needed, the image is for linux/arm64` }, text);
  }
});

t.test('several images in one archive', async (t) => {
  const bench = makeBench(t);
  makeDockerArchive(join(bench.dir, 'two.tar'), { layers: [SMALL], reference: 'a:1' }, { layers: [SMALL, SMALL], reference: 'b:1' });
  await t.rejects(bench.fetch('two.tar'), { code: 'AMBIGUOUS', message: /two\.tar: several images in it: a:1, b:1$/, hint: /^choose one: docker-archive:.*two\.tar:a:1$/ });
  t.match((await bench.fetch('docker-archive:two.tar:b:1')).name, 'registry-1.docker.io/library/b');
  t.match((await bench.fetch('docker-archive:two.tar:@0')).name, 'registry-1.docker.io/library/a');
  await t.rejects(bench.fetch('docker-archive:two.tar:c:1'), { code: 'NOT_FOUND', message: /no image "c:1" in it$/, hint: 'there is: a:1, b:1' });

  const path = makeOciLayout(join(bench.dir, 'two.oci'), { layers: [SMALL], reference: 'x' });
  const more = makeOciLayout(join(bench.dir, 'more.oci'), { layers: [SMALL, SMALL], reference: 'y' });
  execFileSync('cp', ['-rn', join(more, 'blobs'), path]);
  const index = JSON.parse(readFileSync(join(path, 'index.json'), 'utf8')) as { manifests: object[] };
  const other = JSON.parse(readFileSync(join(more, 'index.json'), 'utf8')) as { manifests: object[] };
  writeFileSync(join(path, 'index.json'), JSON.stringify({ ...index, manifests: [...index.manifests, ...other.manifests] }));
  await t.rejects(bench.fetch('two.oci'), { code: 'AMBIGUOUS', message: /several images in it: x, y$/ });
  t.not((await bench.fetch('oci:two.oci:x')).id, (await bench.fetch('oci:two.oci:y')).id);
  await t.rejects(bench.fetch('oci:two.oci:z'), { code: 'NOT_FOUND', hint: 'there is: x, y' });
});

t.test('what skopeo and umoci make', async (t) => {
  if (spawnSync('skopeo', ['--version']).error !== undefined || spawnSync('umoci', ['--version']).error !== undefined) return void t.pass('skipped: skopeo and umoci are not installed');
  const bench = makeBench(t);
  const run = (program: string, ...args: string[]): void => void execFileSync(program, args, { cwd: bench.dir, stdio: ['ignore', 'ignore', 'pipe'] });
  run('umoci', 'init', '--layout', 'u.oci');
  run('umoci', 'new', '--image', 'u.oci:v1');
  writeFileSync(join(bench.dir, 'layer.tar'), makeTar(busyboxMembers()));
  run('umoci', 'raw', 'add-layer', '--image', 'u.oci:v1', 'layer.tar');
  run('umoci', 'config', '--image', 'u.oci:v1', '--config.entrypoint', '/bin/sh', '--config.user', '1000:50', '--config.env', 'A=b', '--config.workingdir', '/tmp');
  const original = await bench.fetch('u.oci');
  t.match(original, { name: 'u', labels: { version: 'v1' }, manifest: { app: { exec: ['/bin/sh'], user: '1000', group: '50', workingDirectory: '/tmp', environment: [{ name: 'A', value: 'b' }] } } });
  bench.store.removeImage(original.id);

  const copies: [string, string][] = [['docker-archive:d.tar:example.com/u:v1', 'd.tar'], ['oci-archive:o.tar:v1', 'o.tar'], ['oci:o.oci:v1', 'o.oci']];
  for (const [target, text] of copies) {
    run('skopeo', '--insecure-policy', 'copy', 'oci:u.oci:v1', target);
    const image = await bench.fetch(text);
    t.equal(image.id, original.id, text);
    t.equal(image.disk.rootHashHex, original.disk.rootHashHex, text);
    bench.store.removeImage(image.id);
  }
});

interface Layout {
  path: string;
  index(): { manifests: Record<string, unknown>[] };
  manifest(): { config: Record<string, unknown>; layers: Record<string, unknown>[] };
  /** Replaces manifest (and what names it) by a changed one. */
  setManifest(change: (manifest: ReturnType<Layout['manifest']>) => object, mediaType?: string): void;
  setConfig(change: (config: { rootfs: { diff_ids: string[] } }) => object): void;
  blob(digest: unknown): string;
}

function layoutOf(path: string): Layout {
  const blob = (digest: unknown): string => join(path, 'blobs', String(digest).replace(':', '/'));
  const put = (value: object): { digest: string; size: number } => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    writeFileSync(blob(digest), bytes);
    return { digest, size: bytes.length };
  };
  const index = (): ReturnType<Layout['index']> => JSON.parse(readFileSync(join(path, 'index.json'), 'utf8')) as ReturnType<Layout['index']>;
  const manifest = (): ReturnType<Layout['manifest']> => JSON.parse(readFileSync(blob(index().manifests[0]?.['digest']), 'utf8')) as ReturnType<Layout['manifest']>;
  const setManifest: Layout['setManifest'] = (change, mediaType) => {
    const before = index();
    const entry = { ...before.manifests[0], ...put(change(manifest())), ...(mediaType === undefined ? {} : { mediaType }) };
    writeFileSync(join(path, 'index.json'), JSON.stringify({ ...before, manifests: [entry] }));
  };
  const setConfig: Layout['setConfig'] = (change) =>
    setManifest((before) => ({ ...before, config: { ...before.config, ...put(change(JSON.parse(readFileSync(blob(before.config['digest']), 'utf8')) as { rootfs: { diff_ids: string[] } })) } }));
  return { path, index, manifest, setManifest, setConfig, blob };
}

function flipByte(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

t.test('nothing is believed that a digest does not vouch for', async (t) => {
  const bench = makeBench(t);
  const layer0 = (layout: Layout): Record<string, unknown> => layout.manifest().layers[0] ?? {};
  const withLayer = (layout: Layout, fields: object): void => layout.setManifest((manifest) => ({ ...manifest, layers: [{ ...manifest.layers[0], ...fields }] }));
  const cases: [string, (layout: Layout) => void, { code: string; message?: RegExp }][] = [
    ['a flipped bit in a layer', (layout) => flipByte(layout.blob(layer0(layout)['digest'])), { code: 'DIGEST', message: /: layer sha256:\w+: wrong digest: expected sha256:\w+, found sha256:\w+$/ }],
    ['a flipped bit in the config', (layout) => flipByte(layout.blob(layout.manifest().config['digest'])), { code: 'DIGEST', message: /blobs\/sha256\/\w+: wrong digest/ }],
    ['a flipped bit in the manifest', (layout) => flipByte(layout.blob(layout.index().manifests[0]?.['digest'])), { code: 'DIGEST' }],
    ['a layer cut short', (layout) => truncateSync(layout.blob(layer0(layout)['digest']), 100), { code: 'DIGEST', message: /wrong size: expected \d+ bytes, found 100$/ }],
    ['a size that lies', (layout) => withLayer(layout, { size: 3 }), { code: 'DIGEST', message: /wrong size/ }],
    ['another diff ID', (layout) => layout.setConfig((config) => ({ ...config, rootfs: { ...config.rootfs, diff_ids: [`sha256:${'0'.repeat(64)}`] } })), { code: 'DIGEST', message: /: uncompressed: wrong digest/ }],
    ['too few diff IDs', (layout) => layout.setConfig((config) => ({ ...config, rootfs: { ...config.rootfs, diff_ids: [] } })), { code: 'BAD_IMAGE', message: /the image has 1 layers, its config names 0/ }],
    ['a missing layer', (layout) => rmSync(layout.blob(layer0(layout)['digest'])), { code: 'BAD_IMAGE', message: /incomplete: there is no blobs\/sha256\/\w+ in it$/ }],
    ['a FIFO as layer', (layout) => { const path = layout.blob(layer0(layout)['digest']); rmSync(path); execFileSync('mkfifo', [path]); }, { code: 'BAD_INPUT', message: /expected a file, found a special file$/ }],
    ['an unknown kind of layer', (layout) => withLayer(layout, { mediaType: 'application/x-tar' }), { code: 'UNSUPPORTED', message: /layers\[0\]\.mediaType: unknown kind of layer: application\/x-tar$/ }],
    ['a foreign layer', (layout) => withLayer(layout, { mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' }), { code: 'UNSUPPORTED', message: /must be fetched from elsewhere/ }],
    ['a layer with URLs', (layout) => withLayer(layout, { urls: ['https://example.com/x'] }), { code: 'UNSUPPORTED', message: /must be fetched from elsewhere/ }],
    ['an artifact', (layout) => layout.setManifest((manifest) => ({ ...manifest, config: { ...manifest.config, mediaType: 'application/vnd.example+json' } })), { code: 'UNSUPPORTED', message: /not a container image/ }],
    ['a manifest that says it is an index', (layout) => layout.setManifest((manifest) => ({ ...manifest, mediaType: 'application/vnd.oci.image.index.v1+json' })), { code: 'BAD_IMAGE', message: /mediaType: expected/ }],
    ['a manifest that is an index too', (layout) => layout.setManifest((manifest) => ({ ...manifest, manifests: [] })), { code: 'BAD_IMAGE', message: /must not have a field "manifests"/ }],
    ['nothing known in the index', (layout) => layout.setManifest((manifest) => manifest, 'application/x'), { code: 'BAD_IMAGE', message: /no image in it \(only application\/x\)$/ }],
    ['an empty index', (layout) => writeFileSync(join(layout.path, 'index.json'), '{"schemaVersion":2,"manifests":[]}'), { code: 'BAD_IMAGE', message: /no image in it$/ }],
    ['an index that is no JSON', (layout) => writeFileSync(join(layout.path, 'index.json'), '{'), { code: 'BAD_IMAGE', message: /index\.json: not valid JSON/ }],
    ['an index that is no UTF-8', (layout) => writeFileSync(join(layout.path, 'index.json'), Buffer.from([0x22, 0xff, 0x22])), { code: 'BAD_IMAGE', message: /index\.json: not valid UTF-8$/ }],
    ['a huge index', (layout) => truncateSync(join(layout.path, 'index.json'), 5 << 20), { code: 'LIMIT', message: /at most/ }],
    ['another layout version', (layout) => writeFileSync(join(layout.path, 'oci-layout'), '{"imageLayoutVersion":"2.0.0"}'), { code: 'UNSUPPORTED', message: /imageLayoutVersion/ }],
    ['no oci-layout', (layout) => rmSync(join(layout.path, 'oci-layout')), { code: 'BAD_IMAGE', message: /a directory, but no OCI image layout: it has no oci-layout$/ }],
    ['a path in a digest', (layout) => withLayer(layout, { digest: 'sha256:../../../index.json' }), { code: 'BAD_IMAGE', message: /layers\[0\]\.digest: expected a digest/ }],
  ];
  await bench.fetch(makeOciLayout(join(bench.dir, 'good.oci'), { layers: [SMALL] }));
  const before = bench.contents();
  for (const [name, spoil, expected] of cases) {
    const path = makeOciLayout(join(bench.dir, 'bad.oci'), { layers: [[{ path: 'only-here', content: 'x'.repeat(5000) }]] });
    spoil(layoutOf(path));
    await t.rejects(bench.fetch('bad.oci'), { name: 'RktError', ...expected }, name);
    t.strictSame(bench.contents(), before, `${name}: the store is as it was`);
    rmSync(path, { recursive: true });
  }
});

/** A PAX header that claims to be 4 GB. */
const HUGE_PAX = tarMember({ path: 'PaxHeader', flag: 'x', sizeField: 2 ** 32 - 1 });

/** GNU long names reach deeper than a plain header. */
function deepDirectory(depth: number): Uint8Array {
  return concat(gnuLong('L', `rootfs/${'d/'.repeat(depth)}`), tarMember({ path: 'short/', flag: '5' }));
}

t.test('bad input leaves nothing behind', async (t) => {
  const bench = makeBench(t);
  const good = makeTar(aciMembers({ layers: [SMALL] }));
  const open = good.subarray(0, good.length - END_OF_ARCHIVE.length);
  const withMembers = (...members: TarMember[]): Buffer => makeTar([...aciMembers({ layers: [SMALL] }), ...members]);
  const gzip = compress(makeTar(aciMembers()), 'gzip');
  const manifest = JSON.stringify(aciManifest());
  const cases: [string, Uint8Array, { code: string; message?: string | RegExp }][] = [
    ['an empty file', Buffer.alloc(0), { code: 'BAD_IMAGE', message: './bad.aci: the file is empty' }],
    ['text', Buffer.from('hello\n'.repeat(500)), { code: 'BAD_IMAGE', message: /not an image: no tar archive, plain or compressed$/ }],
    ['compressed text', compress(Buffer.from('hello\n'.repeat(500)), 'gzip'), { code: 'BAD_IMAGE', message: /bad\.aci/ }],
    ['a tar of anything', makeTar([{ path: 'README', content: 'x' }]), { code: 'BAD_IMAGE', message: /^\.\/bad\.aci: not an image: expected an ACI/ }],
    ['a compressed tar of anything', compress(makeTar([{ path: 'README', content: 'x' }]), 'zstd'), { code: 'BAD_IMAGE', message: /not an image: expected an ACI/ }],
    ['gzip cut in the middle', gzip.subarray(0, gzip.length >> 1), { code: 'BAD_IMAGE', message: `${join(bench.dir, 'bad.aci')}: truncated or damaged gzip data: unexpected end of file` }],
    ['gzip cut at the end', gzip.subarray(0, gzip.length - 4), { code: 'BAD_IMAGE', message: /truncated or damaged gzip data/ }],
    ['zstd cut', compress(good, 'zstd').subarray(0, 100), { code: 'BAD_IMAGE', message: /truncated or damaged zstd data/ }],
    ['xz cut', compress(good, 'xz').subarray(0, 100), { code: 'BAD_IMAGE', message: /truncated or damaged xz data/ }],
    ['tar cut', good.subarray(0, 1100), { code: 'BAD_IMAGE', message: /bad\.aci/ }],
    ['no manifest', makeTar(aciMembers({ layers: [SMALL] }).slice(1)), { code: 'BAD_IMAGE', message: /no image manifest found in layout$/ }],
    ['no rootfs', makeTar([{ path: 'manifest', content: manifest }]), { code: 'BAD_IMAGE', message: /no rootfs found in layout$/ }],
    ['a foreign member', withMembers({ path: 'surprise', content: '' }), { code: 'BAD_IMAGE', message: /unrecognized file path in layout: "surprise"$/ }],
    ['a bad manifest', makeTar(aciMembers({ layers: [SMALL], manifest: { name: 'A' } })), { code: 'BAD_IMAGE', message: /bad\.aci: manifest: name: ACIdentifier must/ }],
    ['no os label', makeTar(aciMembers({ layers: [SMALL], manifest: { labels: [] } })), { code: 'BAD_IMAGE', message: /missing os label in the image manifest$/ }],
    ['no arch label', makeTar(aciMembers({ layers: [SMALL], manifest: { labels: [{ name: 'os', value: 'linux' }] } })), { code: 'BAD_IMAGE', message: /missing arch label in the image manifest$/ }],
    ['dependencies', makeTar(aciMembers({ layers: [SMALL], manifest: { dependencies: [{ imageName: 'example.com/base' }] } })), { code: 'UNSUPPORTED', message: 'example.com/base: cannot be fetched over a network here' }],
    ['a path that leaves', withMembers({ path: 'rootfs/../../x', content: '' }), { code: 'BAD_IMAGE', message: /bad\.aci: .*\.\./ }],
    ['a 4 GB PAX header', concat(open, HUGE_PAX, END_OF_ARCHIVE), { code: 'LIMIT', message: /bad\.aci/ }],
    ['10000 nested directories', concat(open, deepDirectory(10_000), END_OF_ARCHIVE), { code: 'LIMIT', message: /bad\.aci/ }],
    ['a hard link to nothing', withMembers({ path: 'rootfs/l', type: 'hardlink', linkPath: 'rootfs/none' }), { code: 'BAD_IMAGE', message: /bad\.aci/ }],
    ['a docker archive whose config is not what its name says', spoiledDockerArchive(bench.dir), { code: 'DIGEST', message: /bad\.aci: [0-9a-f]{64}\.json: wrong digest/ }],
  ];
  await bench.fetch(makeAci(join(bench.dir, 'good.aci'), { layers: [SMALL, [{ path: 'good', content: '' }]] }));
  const before = bench.contents();
  for (const [name, bytes, expected] of cases) {
    writeFileSync(join(bench.dir, 'bad.aci'), bytes);
    await t.rejects(bench.fetch('./bad.aci'), { name: 'RktError', ...expected }, name);
    t.strictSame(bench.contents(), before, `${name}: the store is as it was`);
  }
  await t.rejects(bench.fetch('./none.aci'), { code: 'NOT_FOUND', message: './none.aci: no such file or directory' });
  await t.rejects(bench.fetch('/dev/null'), { code: 'BAD_INPUT', message: '/dev/null: expected a file, found a special file' });
  await t.rejects(bench.fetch('docker-archive:good.aci'), { code: 'BAD_IMAGE', message: /expected an archive of `docker save` \(manifest\.json\)$/ });
  mkdirSync(join(bench.dir, 'directory'));
  await t.rejects(bench.fetch('./directory'), { code: 'BAD_IMAGE', message: './directory: a directory, but no OCI image layout: it has no oci-layout' });
  t.strictSame(bench.contents(), before);
});

function spoiledDockerArchive(dir: string): Buffer {
  const path = makeDockerArchive(join(dir, 'spoiled.tar'), { layers: [SMALL] });
  const bytes = readFileSync(path);
  bytes.write('LINUX', bytes.indexOf('"os":"linux"') + '"os":"'.length);
  return bytes;
}

t.test('links and names that would hurt a host are only names', async (t) => {
  const bench = makeBench(t);
  const hostile: TarMember[] = [
    { path: 'etc', type: 'symlink', linkPath: '/etc' },
    { path: 'up', type: 'symlink', linkPath: '../../../../../../' },
    { path: 'disk', type: 'block', device: { major: 8, minor: 0 } },
  ];
  const image = await bench.fetch(makeAci(join(bench.dir, 'a.aci'), { layers: [hostile] }));
  t.equal(image.disk.inodes, 4);
  t.notOk(existsSync(join(bench.dir, 'data/cas/tree', image.treeStoreID, 'etc')));
});

t.test('no space', async (t) => {
  const bench = makeBench(t);
  const dataDir = join(bench.dir, 'small');
  mkdirSync(dataDir);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dataDir]).status !== 0) return void t.pass('skipped: mounting is not allowed');
  t.teardown(() => spawnSync('umount', [dataDir]));
  const store = openStore(dataDir);
  makeAci(join(bench.dir, 'a.aci'));
  makeOciLayout(join(bench.dir, 'b.oci'), {});
  makeOciTar(join(bench.dir, 'c.tar'), {}, 'gzip');
  for (const text of ['a.aci', 'b.oci', 'c.tar']) {
    await t.rejects(fetchImage(parseImageString(text, bench.dir), { store }), { code: 'NO_SPACE', message: /: no space left on the file system$/, hint: /^free some space/ }, text);
    t.strictSame(execFileSync('find', [join(dataDir, 'cas'), '-type', 'f'], { encoding: 'utf8' }), '', `${text}: nothing is left`);
  }
  t.strictSame(listIfThere(join(dataDir, 'cas/tmp')), []);
});

t.test('stage1 images are unpacked', async (t) => {
  const bench = makeBench(t);
  const layers = [
    [
      { path: 'init', mode: 0o4755, content: 'program' },
      { path: 'enter', type: 'hardlink', linkPath: 'init' },
      { path: 'stop', type: 'symlink', linkPath: 'init' },
      { path: 'dir/kernel', content: 'kernel' },
      { path: 'dir/up', type: 'symlink', linkPath: '../init' },
    ],
  ] satisfies TarMember[][];
  const manifest = { name: 'coreos.com/rkt/stage1-kvm', annotations: [{ name: 'coreos.com/rkt/stage1/run', value: '/init' }] };
  const path = makeAci(join(bench.dir, 'stage1.aci'), { layers, manifest });
  await new Promise((resolve) => setTimeout(resolve, 150));
  const image = await importStage1(path, bench.store);
  t.match(image.manifest, manifest);
  t.equal(image.rootfs, join(bench.dir, 'data/cas/stage1', image.id, 'rootfs'));
  t.equal(readFileSync(join(image.rootfs, 'enter'), 'utf8'), 'program');
  t.equal(readFileSync(join(image.rootfs, 'stop'), 'utf8'), 'program');
  t.equal(readFileSync(join(image.rootfs, 'dir/up'), 'utf8'), 'program');
  t.equal(statSync(join(image.rootfs, 'init')).mode & 0o7777, 0o755, 'executable, not setuid');
  t.equal(statSync(join(image.rootfs, 'init')).ino, statSync(join(image.rootfs, 'enter')).ino);
  rmSync(path);
  writeFileSync(path, compress(makeTar(aciMembers({ layers, manifest })), 'xz'));
  t.strictSame(await importStage1(path, bench.store), image, 'the same image in another file');
  t.strictSame(bench.store.listStage1Images(), [image]);
  t.strictSame(bench.store.listImages(), [], 'it is no image of an app');
});

t.test('hostile stage1 images are refused', async (t) => {
  const bench = makeBench(t);
  const cases: [string, TarMember[], RegExp][] = [
    ['a path that leaves', [{ path: '../../x', content: '' }], /the path leads out of the archive$/],
    ['through a symlink', [{ path: 'd', type: 'symlink', linkPath: 'e' }, { path: 'd/x', content: '' }], /its parent is no directory$/],
    ['an absolute symlink', [{ path: 'd', type: 'symlink', linkPath: '/etc' }], /which leads out of the image/],
    ['a symlink that leaves', [{ path: 'a/b', type: 'symlink', linkPath: 'x/../../../etc' }], /which leads out of the image/],
    ['a hard link that leaves', [{ path: 'h', type: 'hardlink', linkPath: '../../../etc/passwd' }], /leads out of the archive$/],
    ['a hard link to a symlink', [{ path: 's', type: 'symlink', linkPath: 'x' }, { path: 'h', type: 'hardlink', linkPath: 's' }], /which is no file before it$/],
    ['a replaced file', [{ path: 'x', content: '1' }, { path: 'x', content: '2' }], /duplicate file entry in archive: x$/],
    ['a device', [{ path: 'sda', type: 'block', device: { major: 8, minor: 0 } }], /cannot hold a block file$/],
  ];
  for (const [name, layer, message] of cases) {
    const path = makeAci(join(bench.dir, 'stage1.aci'), { layers: [layer] });
    await t.rejects(importStage1(path, bench.store), { code: 'BAD_IMAGE', message }, name);
    t.strictSame(bench.contents(), [], `${name}: nothing is left`);
  }
  const foreign = makeAci(join(bench.dir, 'arm.aci'), { layers: [SMALL], architecture: 'arm64' });
  if (process.arch === 'x64') await t.rejects(importStage1(foreign, bench.store), { code: 'UNSUPPORTED', message: /unsupported architecture/ });
  await t.rejects(importStage1(join(bench.dir, 'none.aci'), bench.store), { code: 'NOT_FOUND' });
  t.strictSame(bench.contents(), []);
});

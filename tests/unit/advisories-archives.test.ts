/**
 * What went wrong in comparable systems with archives, images and registries, and where it is tested that it cannot here. Each
 * line names its tests by file and title, and is checked to; what no other test is about is tested below.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import t from 'tap';
import { decompress } from '../../src/image/decompress.ts';
import { walk } from '../helpers/erofs-reader.ts';
import { render } from '../helpers/memory-disk.ts';
import { bytes, stream, tar } from '../helpers/tar-writer.ts';

interface Advisory {
  id: string;
  /** What it was. */
  what: string;
  /** `FILE below tests/: TITLE`. */
  tests: string[];
  /** Why a part of it cannot happen here. */
  notHere?: string;
}

const HERE = 'unit/advisories-archives.test.ts';

const ADVISORIES: Advisory[] = [
  {
    id: 'node-tar CVE-2026-23745',
    what: 'targets of hard links and symbolic links led out of the directory',
    tests: ['unit/rootfs-merge.test.ts: nothing leaves the image', 'unit/rootfs-merge.test.ts: symlinks in the parents of an entry stay in the image', 'image.test.ts: links and names that would hurt a host are only names', 'image.test.ts: hostile stage1 images are refused', 'image-store.test.ts: extract and render'],
    notHere: 'no archive of an image is unpacked: nothing is created under a name of it, except by `rkt image extract`, from a finished tree',
  },
  {
    id: 'node-tar CVE-2026-23950',
    what: 'two names that are one after Unicode normalisation got past the lock of a path',
    tests: [`${HERE}: names that differ in case or normalisation alone are different names`, 'unit/rootfs-tar.test.ts: names are bytes', 'unit/rootfs-merge.test.ts: names of any bytes'],
    notHere: 'names are compared as bytes, and nothing is locked by a name of an archive',
  },
  {
    id: 'node-tar 7.5.3 to 7.5.21: PAX',
    what: 'NUL in PAX paths, negative and overflowing sizes',
    tests: ['unit/rootfs-tar.test.ts: hostile archives are refused with a message that names the entry', 'unit/rootfs-fuzz.test.ts: mutated archives'],
  },
  {
    id: 'node-tar 7.5.3 to 7.5.21: decompression',
    what: 'a little data that becomes very much',
    tests: [`${HERE}: a bomb is given up at the limit, however well it is packed`, 'unit/rootfs-merge.test.ts: limits of the merged image', 'unit/rootfs-tar.test.ts: limits', 'unit/image-decompress.test.ts: mutated gzip and zstd'],
  },
  {
    id: 'node-tar 7.5.3 to 7.5.21: races',
    what: 'a symbolic link put where a file is about to be written; a hard link made before its target',
    tests: ['unit/rootfs-merge.test.ts: hard links', 'unit/rootfs-merge.test.ts: nothing leaves the image', 'image.test.ts: hostile stage1 images are refused'],
    notHere: 'the merge happens in memory, so nobody can change a tree meanwhile; what is unpacked goes to a directory only rkt may enter, and is renamed',
  },
  {
    id: 'docker2aci, appc',
    what: 'whiteouts with hostile names (`.wh..`, `.wh...`, `.wh..wh..opq`), files outside of rootfs',
    tests: ['unit/rootfs-merge.test.ts: whiteouts', 'unit/rootfs-merge.test.ts: opaque directories', 'unit/rootfs-merge.test.ts: whiteouts do not touch their own layer, wherever they stand in it', 'unit/rootfs-merge.test.ts: ACI'],
  },
  { id: 'bytes used before their digest was known', what: 'a changed layer, configuration, manifest', tests: ['fetch.test.ts: servers that misbehave', 'fetch.test.ts: another manifest for a digest', 'image.test.ts: nothing is believed that a digest does not vouch for'] },
  { id: 'sizes that lie', what: 'more or fewer bytes than a descriptor says', tests: ['fetch.test.ts: servers that misbehave', 'fetch-failures.test.ts: registries'] },
  { id: 'containerd CVE-2020-15157', what: 'credentials sent where a redirect or a challenge led', tests: ['fetch.test.ts: credentials stay with the registry they are for', 'fetch.test.ts: containerd CVE-2020-15157: only the registry itself may say where tokens come from', 'discovery.test.ts: credentials go to their own host only, also behind a redirect'] },
  { id: 'foreign layers', what: 'a manifest that names URLs for its layers', tests: ['fetch.test.ts: servers that misbehave', 'fetch-failures.test.ts: registries'] },
  { id: 'CVE-2021-41190', what: 'a document that is a manifest and an index at once', tests: ['fetch.test.ts: servers that misbehave'] },
];

t.test('each advisory has its tests', async (t) => {
  for (const { id, what, tests } of ADVISORIES) {
    for (const test of tests) {
      const [file = '', title = ''] = test.split(/: (.*)/);
      const source = readFileSync(join(import.meta.dirname, '..', file), 'utf8');
      t.ok(source.includes(`t.test('${title}'`), `${id} (${what}): ${test}`);
    }
  }
});

t.test('names that differ in case or normalisation alone are different names', async (t) => {
  const names = ['caf\u00e9', 'cafe\u0301', 'CAF\u00c9', 'stra\u00dfe', 'strasse', '\u212b', '\u00c5'];
  const { root } = await render([tar(names.map((path) => ({ path, data: path })))]);
  t.strictSame([...walk(root)].filter(({ file }) => file.type === 'file').map(({ file }) => Buffer.from(file.read(0, file.sizeBytes)).toString()).sort(), [...names].sort());
  const whiteout = await render([tar(names.map((path) => ({ path }))), tar([{ path: '.wh.cafe\u0301' }])]);
  t.equal([...walk(whiteout.root)].filter(({ file }) => file.type === 'file').length, names.length - 1, 'and so are those of whiteouts');
});

t.test('a bomb is given up at the limit, however well it is packed', async (t) => {
  const content = Buffer.alloc(96 << 20, bytes('bomb'));
  const archive = Buffer.from(tar([{ path: 'bomb', data: content }]));
  const bombs = { gzip: gzipSync(archive, { level: 9 }), zstd: zstdCompressSync(archive), 'gzip, many streams': Buffer.concat(Array.from({ length: 64 }, () => gzipSync(Buffer.alloc(1 << 20)))) };
  for (const [name, packed] of Object.entries(bombs)) {
    t.ok(packed.length < archive.length / 500, `${name}: ${packed.length} bytes`);
    let unpackedBytes = 0;
    async function* counted(): AsyncGenerator<Uint8Array, void, undefined> {
      for await (const chunk of decompress(stream(packed), name)) {
        unpackedBytes += chunk.length;
        yield chunk;
      }
    }
    await t.rejects(render([{ kind: 'oci', name, tar: counted() }], { limits: { totalBytes: 8 << 20 } }), { name: 'RktError', code: 'LIMIT' });
    t.ok(unpackedBytes < 12 << 20, `${unpackedBytes} bytes were unpacked`);
  }
});

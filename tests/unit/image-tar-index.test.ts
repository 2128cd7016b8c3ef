import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openRegularFile, readSmall } from '../../src/image/file-slice.ts';
import { firstName, indexTar } from '../../src/image/tar-index.ts';
import type { TarIndex } from '../../src/image/tar-index.ts';
import { makeTar } from '../helpers/make-image.ts';
import type { TarMember } from '../helpers/make-image.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';
import { END_OF_ARCHIVE, concat, tarMember } from '../helpers/tar-writer.ts';

type Teardown = { teardown(action: () => void): void };

function indexOf(t: Teardown, bytes: Uint8Array): TarIndex {
  const path = join(scratchDir(t, 'tar-index'), 'a.tar');
  writeFileSync(path, bytes);
  const file = openRegularFile(path);
  t.teardown(file.close);
  return indexTar(file);
}

function text(index: TarIndex, name: string): string | undefined {
  const slice = index.find(name);
  return slice === undefined ? undefined : Buffer.from(readSmall(slice, 1000)).toString();
}

t.test('files, links inside the archive, normalised names', async (t) => {
  const index = indexOf(
    t,
    makeTar([
      { path: './', type: 'directory' },
      { path: './a.json', content: 'A' },
      { path: 'dir/', type: 'directory' },
      { path: 'dir//layer.tar', content: 'layer' },
      { path: 'hard', type: 'hardlink', linkPath: './a.json' },
      { path: 'dir/soft', type: 'symlink', linkPath: '../hard' },
      { path: 'out', type: 'symlink', linkPath: '../../etc/passwd' },
      { path: 'loop', type: 'symlink', linkPath: 'loop' },
      { path: '../up', content: 'up' },
    ]),
  );
  t.equal(text(index, 'a.json'), 'A');
  t.equal(text(index, 'dir/layer.tar'), 'layer');
  t.equal(text(index, './dir/layer.tar'), 'layer');
  t.equal(text(index, 'hard'), 'A');
  t.equal(text(index, 'dir/soft'), 'A');
  for (const missing of ['out', 'loop', 'dir', 'none', 'up', '__proto__']) t.equal(text(index, missing), undefined, missing);
});

t.test('what other programs write', async (t) => {
  const dir = scratchDir(t, 'tar-index');
  const long = `${'d'.repeat(90)}/${'f'.repeat(90)}`;
  mkdirSync(join(dir, 'd'.repeat(90)));
  writeFileSync(join(dir, long), 'long');
  for (const format of ['gnu', 'pax', 'ustar']) {
    const tar = spawnSync('tar', ['-C', dir, `--format=${format}`, '-cf', '-', 'd'.repeat(90)], { maxBuffer: 1 << 26 });
    t.equal(text(indexOf(t, tar.stdout), long), 'long', format);
  }
  const sized = concat(tarMember({ path: 'x', data: 'abc', pax: [['size', '3'], ['path', 'näme']], sizeField: 0 }), END_OF_ARCHIVE);
  t.equal(text(indexOf(t, sized), 'näme'), 'abc');
});

t.test('damage and tricks', async (t) => {
  const twice: TarMember[] = [{ path: 'a', content: '1' }, { path: './a', content: '2' }];
  const refused: [string, Uint8Array, { code: string; message?: RegExp }][] = [
    ['no tar', Buffer.from('hello'.repeat(1000)), { code: 'BAD_IMAGE', message: /: not an image: no tar archive, plain or compressed$/ }],
    ['a name twice', makeTar(twice), { code: 'BAD_IMAGE', message: /"a" occurs twice in the archive$/ }],
    ['cut in a file', makeTar([{ path: 'a', content: 'x'.repeat(2000) }]).subarray(0, 1500), { code: 'BAD_IMAGE', message: /truncated/ }],
    ['garbage behind a member', concat(tarMember({ path: 'a' }), Buffer.alloc(512, 1)), { code: 'BAD_IMAGE', message: /no valid tar header at byte 512$/ }],
    ['a size beyond the file by PAX', concat(tarMember({ path: 'a', pax: [['size', '9999999999']] }), END_OF_ARCHIVE), { code: 'BAD_IMAGE' }],
    ['a negative size by PAX', concat(tarMember({ path: 'a', pax: [['size', '-1']] }), END_OF_ARCHIVE), { code: 'BAD_IMAGE' }],
    ['a size that is no number', concat(tarMember({ path: 'a', patch: [{ offset: 124, bytes: 'ABCDEFGHIJK' }] }), END_OF_ARCHIVE), { code: 'BAD_IMAGE' }],
    ['damaged PAX', concat(tarMember({ path: 'p', flag: 'x', data: '99 path=x\n' }), tarMember({ path: 'a' }), END_OF_ARCHIVE), { code: 'BAD_IMAGE', message: /damaged extended tar header/ }],
    ['a large PAX header', concat(tarMember({ path: 'p', flag: 'x', data: 'x'.repeat(2 << 20) }), END_OF_ARCHIVE), { code: 'LIMIT' }],
  ];
  for (const [name, bytes, error] of refused) t.throws(() => indexOf(t, bytes), error, name);
});

t.test('the first name tells an ACI', async (t) => {
  const path = join(scratchDir(t, 'tar-index'), 'a.tar');
  const first = (bytes: Uint8Array): string | undefined => {
    writeFileSync(path, bytes);
    const file = openRegularFile(path);
    try {
      return firstName(file);
    } finally {
      file.close();
    }
  };
  t.equal(first(makeTar([{ path: './', type: 'directory' }, { path: './rootfs/', type: 'directory' }])), 'rootfs');
  t.equal(first(Buffer.from('nonsense')), undefined);
});

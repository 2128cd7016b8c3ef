import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ImageManifest } from '../../src/schema/index.ts';
import { imageIdOf, openStore, treeStoreIdOf } from '../../src/store/index.ts';
import type { NewDisk, Store } from '../../src/store/index.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

const MANIFEST: ImageManifest = { acKind: 'ImageManifest', acVersion: '0.8.11', name: 'example.com/a', labels: [{ name: 'version', value: '1' }] };

function idOf(digits: string): string {
  return `sha512-${digits.padEnd(64, '0')}`;
}

function newDisk(directory: string, content = 'disk'): NewDisk {
  const path = join(directory, 'disk');
  writeFileSync(path, content);
  return { path, sizeBytes: content.length, dataBlocks: 1, hashStartBlock: 2, rootHashHex: 'ab', inodes: 3 };
}

function commit(store: Store, id: string, manifest = MANIFEST): void {
  const workspace = store.openWorkspace();
  store.commitImage({ id, manifest, source: 'aci' }, newDisk(workspace.path));
  workspace.remove();
}

t.test('IDs', async (t) => {
  t.equal(imageIdOf('0'.repeat(128)), idOf('0'));
  // By `printf sha512-a000… | sha512sum`.
  t.equal(treeStoreIdOf([idOf('a')]), 'deps-sha512-948b146fcd21561cb9b276da4474ffa8e0f225970bdef779be0c7438630df42d');
  t.not(treeStoreIdOf([idOf('a')]), treeStoreIdOf([idOf('a'), idOf('b')]));
});

t.test('a store that does not exist is empty and is not made by reading', async (t) => {
  const path = join(scratchDir(t, 'store'), 'data');
  const store = openStore(path);
  t.strictSame(store.listImages(), []);
  t.strictSame(store.listTrees(), []);
  t.strictSame(store.listStage1Images(), []);
  t.equal(store.completeImage(idOf('a')), undefined);
  t.throws(() => store.findImage('sha512-aaaa'), { code: 'NOT_FOUND', message: 'no image IDs found: "sha512-aaaa"' });
  t.throws(() => store.imageManifest(idOf('a')), { code: 'NOT_FOUND' });
  t.throws(() => store.removeImage(idOf('a')), { code: 'NOT_FOUND' });
  store.touch(idOf('a'));
  t.notOk(existsSync(path));
});

t.test('what is put in is found again', async (t) => {
  const dataDir = scratchDir(t, 'store');
  const store = openStore(dataDir);
  const id = idOf('ab12');
  commit(store, id);
  const image = openStore(dataDir).findImage(id);
  t.match(image, { id, name: 'example.com/a', labels: { version: '1' }, source: 'aci', treeStoreID: treeStoreIdOf([id]) });
  t.equal(image.sizeBytes, 'disk'.length + JSON.stringify(MANIFEST).length);
  t.strictSame(store.imageManifest(id), MANIFEST);
  const disk = store.disk(id);
  t.strictSame(disk, { path: join(dataDir, 'cas/tree', treeStoreIdOf([id]), 'disk'), sizeBytes: 4, dataBlocks: 1, hashStartBlock: 2, rootHashHex: 'ab', inodes: 3, formatVersion: 1 });
  t.equal(statSync(disk.path).mode & 0o777, 0o440);
  t.equal(readFileSync(disk.path, 'utf8'), 'disk');
  t.strictSame(JSON.parse(readFileSync(join(dataDir, 'cas/image', `${id}.json`), 'utf8')).id, id);
  t.strictSame(readdirSync(join(dataDir, 'cas/tmp')), []);
});

t.test('shortened IDs', async (t) => {
  const store = openStore(scratchDir(t, 'store'));
  for (const digits of ['ab12', 'ab34', 'cd']) commit(store, idOf(digits));
  t.equal(store.findImage('sha512-ab1').id, idOf('ab12'));
  t.equal(store.findImage('sha512-cd').id, idOf('cd'));
  t.throws(() => store.findImage('sha512-ab'), { code: 'AMBIGUOUS', message: 'ambiguous image ID: "sha512-ab"' });
  t.throws(() => store.findImage('sha512-c'), { code: 'USAGE', message: 'image ID too short: "sha512-c"' });
  t.throws(() => store.findImage('cd'), { code: 'USAGE' });
  t.throws(() => store.findImage('sha512-ee'), { code: 'NOT_FOUND' });
  t.throws(() => store.findImage('sha512-../../x'), { code: 'NOT_FOUND' });
});

t.test('last use is the mtime of the record', async (t) => {
  const dataDir = scratchDir(t, 'store');
  const store = openStore(dataDir);
  commit(store, idOf('ab'));
  utimesSync(join(dataDir, 'cas/image', `${idOf('ab')}.json`), 1000, 1000);
  t.equal(store.findImage(idOf('ab')).lastUsedMs, 1_000_000);
  store.touch(idOf('ab'));
  t.ok(Date.now() - store.findImage(idOf('ab')).lastUsedMs < 5000);
});

t.test('images are listed by import time; unfinished files are not images', async (t) => {
  const dataDir = scratchDir(t, 'store');
  const store = openStore(dataDir);
  for (const digits of ['cc', 'aa', 'bb']) {
    commit(store, idOf(digits));
    const path = join(dataDir, 'cas/image', `${idOf(digits)}.json`);
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), importTimeMs: { cc: 3, aa: 1, bb: 2 }[digits] }));
  }
  writeFileSync(join(dataDir, 'cas/image/.unfinished-x'), '{');
  writeFileSync(join(dataDir, 'cas/image/notes.json'), '{');
  t.strictSame(store.listImages().map(({ importTimeMs }) => importTimeMs), [1, 2, 3]);
});

t.test('removal', async (t) => {
  const dataDir = scratchDir(t, 'store');
  const store = openStore(dataDir);
  for (const digits of ['aa', 'bb']) commit(store, idOf(digits));
  store.removeImage(idOf('aa'));
  t.strictSame(store.listTrees(), [treeStoreIdOf([idOf('bb')])]);
  t.equal(existsSync(join(dataDir, 'cas/manifest', idOf('aa'))), false);
  store.removeImage(idOf('bb'), { keepTree: true });
  t.strictSame(store.listTrees(), [treeStoreIdOf([idOf('bb')])]);
  t.throws(() => store.disk(idOf('bb')), { code: 'NOT_FOUND' });
  const again = store.commitImage({ id: idOf('bb'), manifest: MANIFEST, source: 'aci' }, undefined);
  t.equal(again.id, idOf('bb'), 'a kept tree serves again');
  store.removeTree(treeStoreIdOf([idOf('bb')]));
  store.removeTree(treeStoreIdOf([idOf('bb')]));
  t.strictSame(store.listTrees(), []);
  t.equal(store.completeImage(idOf('bb')), undefined, 'a record without disk is no image');
  t.strictSame(readdirSync(join(dataDir, 'cas/tmp')), []);
});

t.test('putting in a second time replaces name, not disk', async (t) => {
  const store = openStore(scratchDir(t, 'store'));
  const id = idOf('aa');
  commit(store, id);
  const workspace = store.openWorkspace();
  store.commitImage({ id, manifest: { ...MANIFEST, name: 'example.com/b' }, source: 'aci' }, newDisk(workspace.path, 'other'));
  workspace.remove();
  t.equal(store.findImage(id).name, 'example.com/b');
  t.equal(readFileSync(store.disk(id).path, 'utf8'), 'disk');
});

t.test('a failed commit leaves the store as it was', async (t) => {
  const dataDir = scratchDir(t, 'store');
  const store = openStore(dataDir);
  mkdirSync(join(dataDir, 'cas'), { recursive: true });
  // No directory can be made where a file stands.
  writeFileSync(join(dataDir, 'cas/image'), '');
  const workspace = store.openWorkspace();
  t.throws(() => store.commitImage({ id: idOf('aa'), manifest: MANIFEST, source: 'aci' }, newDisk(workspace.path)));
  workspace.remove();
  t.strictSame(store.listTrees(), []);
  t.strictSame(readdirSync(join(dataDir, 'cas/manifest')), []);
});

t.test('damaged files of the store are named', async (t) => {
  const dataDir = scratchDir(t, 'store');
  const store = openStore(dataDir);
  const id = idOf('aa');
  commit(store, id);
  writeFileSync(join(dataDir, 'cas/image', `${id}.json`), '{"id":3}');
  t.throws(() => store.findImage(id), { code: 'IO', message: new RegExp(`cas/image/${id}.json: id: expected a string, found number 3$`) });
  commit(store, id);
  const description = join(dataDir, 'cas/tree', treeStoreIdOf([id]), 'disk.json');
  chmodSync(description, 0o600);
  writeFileSync(description, JSON.stringify({ ...JSON.parse(readFileSync(description, 'utf8')), formatVersion: 2 }));
  t.throws(() => store.disk(id), { code: 'IO', message: /disk\.json: formatVersion: expected format version 1$/ });
});

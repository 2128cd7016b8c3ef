/** What the store remembers besides images: names, who vouched, documents, kept layers. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { ImageManifest } from '../../src/schema/index.ts';
import type { VerifiedBy } from '../../src/schema/verified-by.ts';
import { openStore } from '../../src/store/index.ts';
import type { NewImage, Store } from '../../src/store/index.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

function idOf(digits: string): string {
  return `sha512-${digits.padEnd(64, '0')}`;
}

function manifestOf(name: string, version: string): ImageManifest {
  return { acKind: 'ImageManifest', acVersion: '0.8.11', name, labels: [{ name: 'version', value: version }] };
}

function commit(store: Store, digits: string, more: Partial<NewImage> = {}): void {
  const workspace = store.openWorkspace();
  const path = join(workspace.path, 'disk');
  writeFileSync(path, 'disk');
  store.commitImage({ id: idOf(digits), manifest: manifestOf('example.com/a', '1'), source: 'aci', ...more }, { path, sizeBytes: 4, dataBlocks: 1, hashStartBlock: 2, rootHashHex: 'ab', inodes: 3 });
  workspace.remove();
}

t.test('what a name or URL was', async (t) => {
  const dataDir = scratchDir(t, 'remote');
  const store = openStore(dataDir);
  const record = { key: 'docker:x linux/amd64', imageID: idOf('aa'), manifestHash: 'h', downloadTimeMs: 5, unverified: false, etag: '"e"', digest: DIGEST };
  t.equal(store.recallRemote(record.key), undefined);
  commit(store, 'aa');
  store.rememberRemote(record);
  store.rememberRemote({ ...record, key: 'other', imageID: idOf('bb') });
  t.strictSame(store.recallRemote(record.key), record);
  store.removeImage(idOf('aa'));
  t.equal(store.recallRemote(record.key), undefined, 'it goes with its image');
  t.equal(store.recallRemote('other')?.imageID, idOf('bb'));
  for (const name of readdirSync(join(dataDir, 'cas/remote'))) writeFileSync(join(dataDir, 'cas/remote', name), '{');
  t.equal(store.recallRemote('other'), undefined, 'a damaged record says nothing');
});

t.test('who vouched is never forgotten, and nobody is only said when nobody did', async (t) => {
  const store = openStore(scratchDir(t, 'remote'));
  const [nobody, pinned, key]: VerifiedBy[] = [{ kind: 'none', reason: 'insecure-option' }, { kind: 'digest', digest: DIGEST }, { kind: 'sigstore-key', keyDigest: DIGEST, reference: 'r' }];
  if (nobody === undefined || pinned === undefined || key === undefined) throw new Error('unreachable');
  commit(store, 'aa', { verifiedBy: [nobody] });
  t.strictSame(store.findImage(idOf('aa')).verifiedBy, [nobody]);
  const { lastUsedMs } = store.findImage(idOf('aa'));
  store.addVerifiedBy(idOf('aa'), [pinned]);
  t.strictSame(store.findImage(idOf('aa')).verifiedBy, [pinned]);
  t.equal(store.findImage(idOf('aa')).lastUsedMs, lastUsedMs);
  store.addVerifiedBy(idOf('aa'), [nobody, pinned]);
  commit(store, 'aa', { verifiedBy: [key] });
  t.strictSame(store.findImage(idOf('aa')).verifiedBy, [pinned, key]);
});

t.test('a record with something else in it is refused', async (t) => {
  const dataDir = scratchDir(t, 'remote');
  const store = openStore(dataDir);
  commit(store, 'aa');
  const path = join(dataDir, 'cas/image', `${idOf('aa')}.json`);
  const record = JSON.parse(readFileSync(path, 'utf8')) as object;
  for (const verifiedBy of [[{ kind: 'friend' }], [{ kind: 'digest' }], [{}], 'x', [{ kind: 'none', reason: 'because' }]]) {
    writeFileSync(path, JSON.stringify({ ...record, verifiedBy }));
    t.throws(() => store.findImage(idOf('aa')), { code: 'IO', message: /verifiedBy/ });
  }
});

t.test('by name and labels: an image imported without a version comes first, then the newest', async (t) => {
  const store = openStore(scratchDir(t, 'remote'));
  commit(store, 'aa', { manifest: manifestOf('example.com/a', '2'), latest: true });
  commit(store, 'bb', { manifest: manifestOf('example.com/a', '1') });
  commit(store, 'cc', { manifest: manifestOf('example.com/b', '1') });
  t.equal(store.findByName('example.com/a', {})?.id, idOf('aa'));
  t.equal(store.findByName('example.com/a', { version: '1' })?.id, idOf('bb'));
  t.equal(store.findByName('example.com/a', { version: '3' }), undefined);
  t.equal(store.findByName('example.com/a', { os: 'linux' }), undefined, 'a label the image does not have');
  t.equal(store.findByName('example.com', {}), undefined);
});

t.test('documents and kept layers', async (t) => {
  const dataDir = scratchDir(t, 'remote');
  const store = openStore(dataDir);
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, config: { mediaType: 'x', digest: DIGEST, size: 1 }, layers: [{ mediaType: 'x', digest: DIGEST, size: 5 }] }));
  commit(store, 'aa', { documents: { config: Buffer.from('config'), manifest } });
  t.strictSame(Buffer.from(store.document(idOf('aa'), 'config') ?? []).toString(), 'config');
  t.equal(store.document(idOf('bb'), 'config'), undefined);
  t.equal(store.keptBlob(DIGEST), undefined);
  const keep = (digest: string): void => {
    const workspace = store.openWorkspace();
    writeFileSync(join(workspace.path, 'layer'), 'layer');
    store.keepBlob(digest, join(workspace.path, 'layer'));
    workspace.remove();
  };
  keep(DIGEST);
  keep(`sha512:${'b'.repeat(128)}`);
  t.equal(readFileSync(store.keptBlob(DIGEST) ?? '', 'utf8'), 'layer');
  t.equal(store.keptBytes(idOf('aa')), 5);
  store.removeUnusedBlobs();
  t.ok(store.keptBlob(DIGEST));
  t.equal(store.keptBlob(`sha512:${'b'.repeat(128)}`), undefined);
  store.removeImage(idOf('aa'));
  t.notOk(existsSync(join(dataDir, 'cas/document', idOf('aa'))));
  store.removeUnusedBlobs();
  t.equal(store.keptBlob(DIGEST), undefined);
});

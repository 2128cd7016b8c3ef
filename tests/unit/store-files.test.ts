import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { lockDirectory } from '../../src/linux/flock.ts';
import { openStore, writeFileAtomic } from '../../src/store/index.ts';
import type { SourceFile } from '../../src/store/index.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

t.test('a file is written whole or not at all', async (t) => {
  const dir = scratchDir(t, 'atomic');
  const path = join(dir, 'f');
  writeFileAtomic(path, 'one');
  writeFileAtomic(path, Buffer.from('two'), 0o600);
  t.equal(readFileSync(path, 'utf8'), 'two');
  t.equal(statSync(path).mode & 0o777, 0o600);
  mkdirSync(join(dir, 'd'));
  t.throws(() => writeFileAtomic(join(dir, 'd'), 'x'), { name: 'RktError', message: new RegExp(`^cannot write ${join(dir, 'd')}: `) });
  t.throws(() => writeFileAtomic(join(dir, 'missing/f'), 'x'), { code: 'NOT_FOUND' });
  t.strictSame(readdirSync(dir).sort(), ['d', 'f'], 'nothing unfinished is left');
});

t.test('workspaces go away, those of killed processes too', async (t) => {
  const dataDir = scratchDir(t, 'workspace');
  const tmp = join(dataDir, 'cas/tmp');
  const store = openStore(dataDir);
  const mine = store.openWorkspace();
  writeFileSync(join(mine.path, 'f'), '');
  mkdirSync(join(tmp, 'work-abandoned/deep'), { recursive: true });
  const foreign = mkdtempSync(join(tmp, 'work-'));
  const lock = lockDirectory(foreign, 'exclusive', { block: false });
  t.not(lock, null);
  store.openWorkspace().remove();
  t.ok(existsSync(join(mine.path, 'f')), 'a living one stays');
  t.ok(existsSync(foreign), 'a locked one stays');
  t.notOk(existsSync(join(tmp, 'work-abandoned')));
  lock?.release();
  mine.remove();
  mine.remove();
  store.openWorkspace().remove();
  t.strictSame(readdirSync(tmp), []);
});

t.test('a killed process leaves its workspace to the next', async (t) => {
  const dataDir = scratchDir(t, 'workspace');
  const script = `const { openStore } = await import(${JSON.stringify(new URL('../../src/store/index.ts', import.meta.url).href)});
    openStore(${JSON.stringify(dataDir)}).openWorkspace(); console.log('up'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const store = openStore(dataDir);
  store.openWorkspace().remove();
  t.equal(readdirSync(join(dataDir, 'cas/tmp')).length, 1, 'it stays while the process lives');
  child.kill('SIGKILL');
  await once(child, 'exit');
  store.openWorkspace().remove();
  t.strictSame(readdirSync(join(dataDir, 'cas/tmp')), []);
});

t.test('one at a time under a lock, also within one process', async (t) => {
  const store = openStore(scratchDir(t, 'lock'));
  let inside = 0;
  let most = 0;
  const work = async (): Promise<void> => {
    most = Math.max(most, ++inside);
    await sleep(5);
    inside--;
  };
  const id = `sha512-${'a'.repeat(64)}`;
  await Promise.all(Array.from({ length: 8 }, () => store.withImageLock(id, work)));
  t.equal(most, 1);
  await t.rejects(store.withImageLock(id, () => Promise.reject(new Error('failed'))), { message: 'failed' });
  await store.withImageLock(id, work);
  t.strictSame(readdirSync(join(store.dataDir, 'locks')), [], 'no lock file is left');
});

t.test('one at a time among processes', async (t) => {
  const dataDir = scratchDir(t, 'lock');
  const counter = join(dataDir, 'counter');
  writeFileSync(counter, '0');
  const script = `const { openStore } = await import(${JSON.stringify(new URL('../../src/store/index.ts', import.meta.url).href)});
    const { readFileSync, writeFileSync } = await import('node:fs');
    const { setTimeout: sleep } = await import('node:timers/promises');
    const store = openStore(${JSON.stringify(dataDir)});
    for (let i = 0; i < 20; i++) await store.withImageLock('sha512-x', async () => {
      const before = Number(readFileSync(${JSON.stringify(counter)}, 'utf8'));
      await sleep(1);
      writeFileSync(${JSON.stringify(counter)}, String(before + 1));
    });`;
  const children = Array.from({ length: 3 }, () => spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'inherit', 'inherit'] }));
  const codes = await Promise.all(children.map(async (child) => (await once(child, 'exit'))[0] as number));
  t.strictSame(codes, [0, 0, 0]);
  t.equal(readFileSync(counter, 'utf8'), '60');
});

t.test('a file is recognised until anything about it changes', async (t) => {
  const dir = scratchDir(t, 'source');
  const store = openStore(join(dir, 'data'));
  const path = join(dir, 'f');
  writeFileSync(path, 'content');
  const look = (selector = ''): SourceFile => ({ path, stats: statSync(path, { bigint: true }), selector });
  const image = { imageID: 'sha512-x', manifestHash: 'h' };
  const later = Date.now() + 1000;

  t.equal(store.recallSource(look()), undefined);
  store.rememberSource(look(), image, Date.now());
  t.equal(store.recallSource(look()), undefined, 'a file that was just written may be written again within the same tick');
  store.rememberSource(look(), image, later);
  t.strictSame(store.recallSource(look()), image);
  t.equal(store.recallSource(look('other')), undefined, 'another image of the same file');

  utimesSync(path, 1000, 1000);
  t.equal(store.recallSource(look()), undefined, 'other times');
  store.rememberSource(look(), image, later);
  writeFileSync(path, 'CONTENT');
  utimesSync(path, 1000, 1000);
  t.equal(store.recallSource(look()), undefined, 'same size and mtime, other ctime');

  store.rememberSource(look(), image, later);
  const [record] = readdirSync(join(dir, 'data/cas/source'));
  writeFileSync(join(dir, 'data/cas/source', record ?? ''), 'nonsense');
  t.equal(store.recallSource(look()), undefined, 'a damaged record is none');
});

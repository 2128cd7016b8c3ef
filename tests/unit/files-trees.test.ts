/** Trees from a guest written to this host: nothing a guest sends leaves the destination, and what a host has arrives as it was. */
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, linkSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { membersOf } from '../../src/files/archive-names.ts';
import { encodeEntries, limitedWarnings, readEntries } from '../../src/files/entry-stream.ts';
import { readTree } from '../../src/files/read-tree.ts';
import { placeFor, writeTree } from '../../src/files/write-tree.ts';
import type { TarEntry } from '../../src/rootfs/index.ts';
import { encodeFrame } from '../../src/wire/frame.ts';
import { entry } from '../helpers/file-server.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

async function* asyncOf<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

/** Everything that can be said of a tree: names, types, modes, contents, times. */
function listing(path: string, prefix = ''): string[] {
  return readdirSync(path, { encoding: 'latin1' }).sort().flatMap((name) => {
    const at = Buffer.concat([Buffer.from(`${path}/`), Buffer.from(name, 'latin1')]);
    const status = lstatSync(at);
    const what = status.isSymbolicLink() ? `-> ${readlinkSync(at)}` : status.isFile() ? readFileSync(at, 'latin1').slice(0, 40) : '';
    const line = `${prefix}${name} ${status.mode.toString(8)} ${status.isDirectory() ? '' : status.nlink} ${Math.floor(status.mtimeMs / 1000)} ${what}`;
    return status.isDirectory() ? [line, ...listing(at.toString(), `${prefix}${name}/`)] : [line];
  });
}

async function receive(chunks: Iterable<Uint8Array>, directory: string): Promise<string[]> {
  const warnings: string[] = [];
  const warn = (message: string): void => void warnings.push(message);
  await writeTree(readEntries(asyncOf(chunks), { name: 'guest', warn }), { directory, name: 'copy' }, { archive: false, warn });
  return warnings;
}

async function encoded(entries: Iterable<TarEntry>): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of encodeEntries(asyncOf(entries))) chunks.push(chunk);
  return chunks;
}

t.test('a tree arrives as it was', async (t) => {
  const directory = scratchDir(t, 'trees');
  const source = join(directory, 'source');
  mkdirSync(join(source, 'deep/er'), { recursive: true });
  mkdirSync(join(source, 'empty'), { mode: 0o700 });
  writeFileSync(join(source, 'file'), 'content');
  writeFileSync(Buffer.from(`${source}/not utf-8 \xff\xfe "quoted"`, 'latin1'), 'bytes');
  writeFileSync(join(source, 'deep/er/ünïcode'), 'x'.repeat(3_000_000));
  writeFileSync(join(source, 'nothing'), '');
  chmodSync(join(source, 'file'), 0o640);
  linkSync(join(source, 'file'), join(source, 'linked'));
  symlinkSync('/etc/passwd', join(source, 'symlink'));
  symlinkSync('deep', join(source, 'inside'));
  utimesSync(join(source, 'file'), 1_000_000_000, 1_000_000_001);
  utimesSync(join(source, 'deep/er'), 1_000_000_000, 1_000_000_002);
  utimesSync(join(source, 'deep'), 1_000_000_000, 1_000_000_003);
  execFileSync('mkfifo', [join(source, 'pipe')]);
  const warnings: string[] = [];
  const chunks: Uint8Array[] = [];
  for await (const chunk of encodeEntries(readTree(source, { followLink: false, warn: (message) => warnings.push(message) }))) chunks.push(Uint8Array.from(chunk));
  t.match(warnings, [/pipe": not copied/]);
  // However it is cut.
  const whole = Buffer.concat(chunks);
  const cut: Uint8Array[] = [];
  for (let at = 0; at < whole.length; at += 77_777) cut.push(whole.subarray(at, at + 77_777));
  t.strictSame(await receive(cut, directory), []);
  t.strictSame(listing(join(directory, 'copy')), listing(source).filter((line) => !line.startsWith('pipe')));
  t.equal(statSync(join(directory, 'copy')).mode, statSync(source).mode);
});

t.test('what a hostile guest sends stays inside', async (t) => {
  const directory = scratchDir(t, 'hostile');
  const outside = join(directory, 'outside');
  mkdirSync(outside);
  writeFileSync(join(outside, 'kept'), 'kept');
  const cases: [string, TarEntry[]][] = [
    ['a link, then a file behind it', [entry('directory', ''), entry('symlink', 'd', { linkPath: outside }), entry('file', 'd/evil', { content: 'evil' })]],
    ['a link upwards, then a directory behind it', [entry('directory', ''), entry('symlink', 'd', { linkPath: '../outside' }), entry('directory', 'd/evil')]],
    ['a link, then a directory of the same name', [entry('directory', ''), entry('symlink', 'd', { linkPath: outside }), entry('directory', 'd'), entry('file', 'd/evil', { content: 'evil' })]],
    ['a top that is a link', [entry('symlink', '', { linkPath: outside }), entry('file', 'evil', { content: 'evil' })]],
    ['a hard link through a link', [entry('directory', ''), entry('symlink', 'd', { linkPath: outside }), entry('hardlink', 'h', { linkPath: 'd/kept' })]],
    ['a hard link to a link', [entry('directory', ''), entry('symlink', 'd', { linkPath: join(outside, 'kept') }), entry('hardlink', 'h', { linkPath: 'd' })]],
    ['a directory in the place of a file', [entry('directory', ''), entry('file', 'f'), entry('file', 'f/evil')]],
    ['a file in the place of a directory', [entry('directory', ''), entry('directory', 'd'), entry('file', 'd')]],
    ['a file whose directory was never sent', [entry('directory', ''), entry('file', 'never/f')]],
  ];
  for (const [index, [name, entries]] of cases.entries()) {
    const own = join(directory, `case-${index}`);
    mkdirSync(own);
    await t.rejects(receive(await encoded(entries), own), { name: 'RktError' }, name);
    t.strictSame(readdirSync(outside), ['kept'], name);
    t.notOk(execFileSync('find', [own, '-name', '.rkt-cp-*']).toString(), 'nothing half-made is left');
  }
  // A file over a link takes the link's place.
  const own = join(directory, 'over');
  mkdirSync(own);
  await receive(await encoded([entry('directory', ''), entry('symlink', 'l', { linkPath: join(outside, 'kept') }), entry('file', 'l', { content: 'new' })]), own);
  t.equal(readFileSync(join(outside, 'kept'), 'utf8'), 'kept');
  t.ok(lstatSync(join(own, 'copy/l')).isFile());
});

t.test('names, kinds and sizes that are none', async (t) => {
  const directory = scratchDir(t, 'nonsense');
  const base = { type: 'file', path: 'x', mode: 0o644, uid: 0, gid: 0, seconds: 0, nanoseconds: 0, sizeBytes: 0 };
  const nonsense: object[] = [
    { ...base, path: '../x' }, { ...base, path: '/etc/x' }, { ...base, path: 'a//b' }, { ...base, path: './x' }, { ...base, path: 'x\0y' }, { ...base, path: 'x'.repeat(256) },
    { ...base, path: `${'x/'.repeat(3000)}x` }, { ...base, path: '\u1234' }, { ...base, path: 7 }, { ...base, mode: 0o20000 }, { ...base, mode: -1 }, { ...base, uid: 2 ** 32 },
    { ...base, sizeBytes: -1 }, { ...base, sizeBytes: 1.5 }, { ...base, seconds: 1e300 }, { ...base, type: 'door' }, { ...base, type: 'symlink', target: '' }, { ...base, type: 'hardlink', target: '../x' },
    { ...base, xattrs: [] }, { ...base, xattrs: { 'user.x': 'xyz' } }, [], { type: 'failed', message: 7 }, {},
  ];
  for (const message of nonsense) await t.rejects(receive([encodeFrame(message)], directory), { code: 'GUEST', message: /broke the protocol/ }, JSON.stringify(message).slice(0, 60));
  await t.rejects(receive([Uint8Array.of(0xff, 0xff, 0xff, 0x7f)], directory), { message: /a frame of 2147483647 bytes/ });
  await t.rejects(receive([Uint8Array.of(2, 0, 0, 0, 0x7b, 0x7b)], directory), { message: /not JSON/ });
  for (const cut of [[], [Uint8Array.of(9)], [encodeFrame({ ...base, path: '', sizeBytes: 100 }), new Uint8Array(99)]]) {
    await t.rejects(receive(cut, directory), { code: 'GUEST', message: /ended before the copy was complete/ });
  }
  await t.rejects(receive([encodeFrame({ ...base, path: '', sizeBytes: Number.MAX_SAFE_INTEGER })], directory), { code: 'NO_SPACE' }, 'before anything of it is written');
  await t.rejects(receive([encodeFrame({ type: 'failed', message: 'because\u001b[31m\nof me' })], directory), { code: 'GUEST', message: 'because?[31m?of me' });
  t.strictSame(readdirSync(directory), [], 'nothing is left');
});

t.test('devices are not made, set-id bits fall, warnings end', async (t) => {
  const directory = scratchDir(t, 'special');
  const many = Array.from({ length: 150 }, (_, index) => entry('character', `c${index}`));
  const warnings = await receive(await encoded([entry('directory', '', { mode: 0o2755 }), entry('file', 'f', { mode: 0o6755 }), entry('block', 'b'), entry('fifo', 'p'), ...many]), directory);
  t.match(warnings[0] ?? '', /"b": not copied: it is a device/);
  t.strictSame(readdirSync(join(directory, 'copy')), ['f']);
  t.equal(statSync(join(directory, 'copy/f')).mode & 0o7777, 0o755);
  t.equal(statSync(join(directory, 'copy')).mode & 0o7777, 0o755);
  const said: string[] = [];
  const warn = limitedWarnings((message) => said.push(message));
  for (let i = 0; i < 5000; i++) warn('w');
  t.equal(said.length, 101);
});

t.test('memory does not grow with what a guest sends', async (t) => {
  const directory = scratchDir(t, 'endless');
  const frame = encodeFrame({ type: 'fifo', path: 'p', mode: 0, uid: 0, gid: 0, seconds: 0, nanoseconds: 0 });
  const block = Buffer.concat(Array.from({ length: 1000 }, () => frame));
  function* blocks(): Generator<Uint8Array> {
    yield encodeFrame({ type: 'directory', path: '', mode: 0o755, uid: 0, gid: 0, seconds: 0, nanoseconds: 0 });
    for (let i = 0; i < 5; i++) yield block;
    yield encodeFrame({ type: 'end' });
  }
  const before = process.memoryUsage();
  const warnings: string[] = [];
  await writeTree(readEntries(asyncOf(blocks()), { name: 'guest', warn: () => undefined }), { directory, name: 'copy' }, { archive: false, warn: (message) => void (warnings.length < 3 && warnings.push(message)) });
  const grownBytes = process.memoryUsage().rss - before.rss;
  t.ok(grownBytes < 64 << 20, `${grownBytes} bytes`);
  t.equal(warnings.length, 3);
});

t.test('where a copy goes', (t) => {
  const directory = scratchDir(t, 'place');
  mkdirSync(join(directory, 'd'));
  writeFileSync(join(directory, 'f'), '');
  const at = (name: string): string => `${directory}/${name}`;
  t.strictSame(placeFor(at('d'), { name: 'x', top: 'other' }), { directory: at('d'), name: 'x' });
  t.strictSame(placeFor(at('d'), { name: null, top: 'directory' }), { directory: at('d'), name: null });
  t.strictSame(placeFor(at('new'), { name: 'x', top: 'directory' }), { directory, name: 'new' });
  t.strictSame(placeFor(at('f'), { name: 'x', top: 'other' }), { directory, name: 'f' });
  t.throws(() => placeFor(at('f'), { name: 'x', top: 'directory' }), { message: /f is not a directory/ });
  t.throws(() => placeFor(at('f/'), { name: 'x', top: 'other' }), /not a directory/);
  t.throws(() => placeFor(at('new/'), { name: 'x', top: 'other' }), { message: /no such directory/ });
  t.throws(() => placeFor(at('no/where'), { name: 'x', top: 'other' }), { message: /no: no such directory/ });
  t.end();
});

t.test('members of an archive', async (t) => {
  const members: string[] = [];
  const entries = [entry('directory', ''), entry('file', 'a'), entry('hardlink', 'b', { linkPath: 'a' }), entry('symlink', 'c', { linkPath: 'a' }), entry('directory', 'd')];
  for (const name of ['rootfs', '']) for await (const member of membersOf(asyncOf(entries), name)) members.push(`${member.path} ${member.linkPath}`.trim());
  t.strictSame(members, ['rootfs/', 'rootfs/a', 'rootfs/b rootfs/a', 'rootfs/c a', 'rootfs/d/', './', 'a', 'b a', 'c a', 'd/']);
  t.notOk(existsSync('rootfs'));
});

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readlinkSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildInitramfs } from '../../initramfs/build.ts';
import { writeCpio } from '../../initramfs/cpio.ts';
import type { CpioEntry } from '../../initramfs/cpio.ts';
import { readCpioFile } from '../../initramfs/cpio-read.ts';

const hasCpio = spawnSync('cpio', ['--version']).status === 0;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Deterministic bytes of every value. */
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, index) => (index * 167 + (index >> 8)) & 0xff);

function cpio(args: string[], archive: Uint8Array, cwd?: string): string {
  const result = spawnSync('cpio', args, { input: archive, cwd, encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`cpio ${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

t.test('GNU cpio reads back what was written', { skip: hasCpio ? false : 'cpio is not installed' }, (t) => {
  const entries: CpioEntry[] = [
    { kind: 'directory', path: '.', mode: 0o755 },
    { kind: 'directory', path: 'a', mode: 0o700 },
    // Every padding of name and body.
    ...[0, 1, 2, 3, 4, 5, 4095, 4096].map((length): CpioEntry => ({ kind: 'file', path: `a/${'n'.repeat(1 + (length % 7))}${length}`, mode: 0o640, bytes: pattern(length) })),
    { kind: 'file', path: 'a/ünïcode', mode: 0o755, bytes: bytes('x') },
    { kind: 'symlink', path: 'link', target: 'a/ünïcode' },
  ];
  const archive = writeCpio(entries);
  const directory = mkdtempSync(join(tmpdir(), 'cpio-test-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  cpio(['-id', '--quiet'], archive, directory);

  for (const entry of entries) {
    if (entry.kind !== 'file') continue;
    t.ok(readFileSync(join(directory, entry.path)).equals(entry.bytes), `contents of ${entry.path}`);
    t.equal(statSync(join(directory, entry.path)).mode & 0o7777, entry.mode, `mode of ${entry.path}`);
    t.equal(statSync(join(directory, entry.path)).nlink, 1, `${entry.path} is not a hard link of another`);
  }
  t.equal(statSync(join(directory, 'a')).mode & 0o7777, 0o700);
  t.equal(readlinkSync(join(directory, 'link')), 'a/ünïcode');
  t.equal(readdirSync(join(directory, 'a')).length, entries.filter((entry) => entry.path.startsWith('a/')).length, 'nothing else was made');
  t.equal(archive.length % 512, 0, 'whole blocks');
  t.end();
});

t.test('paths the kernel would drop or misplace are refused', (t) => {
  const file = (path: string): CpioEntry => ({ kind: 'file', path, mode: 0o644, bytes: bytes('x') });
  for (const path of ['', '/etc', 'a/../b', 'a//b', './a', 'a/', '..', 'nul\0', 'TRAILER!!!']) {
    t.throws(() => writeCpio([{ kind: 'directory', path: 'a', mode: 0o755 }, file(path)]), { name: 'RangeError' }, JSON.stringify(path));
  }
  t.throws(() => writeCpio([file('x'), file('x')]), /occurs twice/);
  t.throws(() => writeCpio([file('missing/x')]), /must come before/);
  t.end();
});

t.test('an initramfs holds the agent, its mount points, a console and the modules in order', (t) => {
  const agent = pattern(5000);
  const modules = ['b_first', 'a_second'].map((name) => ({ name, bytes: bytes(name) }));
  const archive = buildInitramfs({ agent, modules });
  t.same(buildInitramfs({ agent, modules }), archive, 'same parts, same bytes');

  const plain = buildInitramfs({ agent });
  t.ok(plain.length < agent.length + 4096, 'hardly larger than the agent');
  if (hasCpio) {
    const listing = cpio(['-tv', '--quiet', '--numeric-uid-gid'], archive).trimEnd().split('\n').map((line) => line.split(/\s+/));
    const names = listing.map((fields) => fields.at(-1));
    t.same(names, ['.', 'dev', 'proc', 'sys', 'run', 'tmp', 'dev/console', 'init', 'modules', 'modules/000-b_first.ko', 'modules/001-a_second.ko', 'modules/order']);
    t.equal(listing[0]?.[0], 'drwxr-xr-x', 'apps of any user can pass the root directory');
    t.equal(listing[6]?.slice(0, 6).join(' '), 'crw------- 1 0 0 5, 1', '/dev/console');
    t.equal(listing[7]?.[0], '-rwxr-xr-x', '/init');
    t.equal(cpio(['-i', '--quiet', '--to-stdout', 'modules/order'], archive), '000-b_first.ko\n001-a_second.ko\n');
    t.notOk(cpio(['-t', '--quiet'], plain).includes('modules'), 'no modules, no directory');
  }
  t.end();
});

t.test('a file can be taken out of an initramfs again', (t) => {
  const agent = pattern(5001);
  const archive = buildInitramfs({ agent, modules: [{ name: 'x', bytes: bytes('module') }] });
  t.ok(Buffer.from(agent).equals(readCpioFile(archive, 'init') ?? bytes('missing')));
  t.same(readCpioFile(archive, 'modules/order'), bytes('000-x.ko\n'));
  t.equal(readCpioFile(archive, 'nothing'), undefined);
  for (const bad of [bytes('x'.repeat(200)), archive.subarray(0, 2000), Buffer.concat([archive.subarray(0, 54), bytes('zzzzzzzz'), archive.subarray(62)])]) {
    t.throws(() => readCpioFile(bad, 'nothing'), { code: 'BAD_INPUT' });
  }
  t.end();
});

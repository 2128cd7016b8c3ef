/** `rkt cp`: both directions, its conventions, and that nothing outside of the app or of the destination is ever touched. */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, createReadStream, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { encodeFrame } from '../src/wire/frame.ts';
import { entry, startFileServer } from './helpers/file-server.ts';
import { BUSYBOX, makeOciLayout, makeTar } from './helpers/make-image.ts';
import { seededRandom } from './helpers/random.ts';
import { eventually, makeHost, readyPod, type Host } from './helpers/rkt.ts';
import { scratchDir } from './helpers/scratch-dir.ts';

/** 1 GB where somebody has asked for it. */
const LARGE_BYTES = Number(process.env['RKT_TEST_CP_BYTES'] ?? 8_000_000);

// The guest's side as an ordinary process: what it must never do can be seen from outside.

t.test("the guest's side: links lead nowhere but into the app's root", async (t) => {
  const directory = scratchDir(t, 'confined');
  const [root, outside] = [join(directory, 'root'), join(directory, 'outside')];
  mkdirSync(join(root, 'inside'), { recursive: true });
  mkdirSync(outside);
  writeFileSync(join(outside, 'secret'), 'secret');
  writeFileSync(join(root, 'inside/file'), 'inside');
  symlinkSync('../../../../../..', join(root, 'up'));
  symlinkSync('/', join(root, 'slash'));
  symlinkSync(outside, join(root, 'absolute'));
  symlinkSync('../outside', join(root, 'relative'));
  symlinkSync('/inside', join(root, 'good'));
  const server = await startFileServer(t, root);

  for (const path of [`${outside}/secret`, '../outside/secret', 'absolute/secret', 'relative/secret', `up/${outside}/secret`, `slash${outside}/secret`, '/proc/self/root/etc/passwd']) {
    await t.rejects(server.out(path), { code: 'GUEST', message: /No such file or directory|symbolic links/ }, path);
  }
  t.strictSame((await server.out('good/file')).map(({ path, type }) => `${type} ${path}`), ['file '], 'links inside the root are followed inside the root');
  t.strictSame((await server.out('absolute')).map(({ type, linkPath }) => `${type} ${linkPath}`), [`symlink ${outside}`], 'at the end they are copied as they are');
  await t.rejects(server.out('absolute', { followLink: true }), { message: /No such file/ });
  t.strictSame((await server.out('/')).map(({ path }) => path), ['', 'absolute', 'good', 'inside', 'inside/file', 'relative', 'slash', 'up']);

  const evil = entry('file', 'evil', { content: 'evil' });
  for (const path of ['absolute', 'relative', outside, '/absolute/..']) await t.rejects(server.in({ path }, [evil]).then(() => { if (!existsSync(join(outside, 'evil'))) throw new Error('No such file'); }), path);
  for (const path of ['up', 'slash', '..', '/../..']) {
    await server.in({ path }, [evil]);
    t.ok(existsSync(join(root, 'evil')), `${path} is the app's own root`);
    rmSync(join(root, 'evil'));
  }
  // Below the destination no link is followed, wherever it leads.
  for (const name of ['absolute', 'relative', 'good', 'up']) {
    await t.rejects(server.in({ path: '/' }, [entry('file', `${name}/evil`, { content: 'evil' })]), { code: 'GUEST' }, name);
    await t.rejects(server.in({ path: '/' }, [entry('directory', name)]), { code: 'GUEST' }, name);
  }
  await t.rejects(server.in({ path: '/' }, [entry('symlink', 'new', { linkPath: outside }), entry('file', 'new/evil', { content: 'evil' })]), { code: 'GUEST' }, 'a link of the same tree');
  await t.rejects(server.in({ path: '/' }, [entry('hardlink', 'stolen', { linkPath: 'absolute/secret' })]), { code: 'GUEST' });
  t.strictSame(readdirSync(outside), ['secret']);
  t.strictSame(readdirSync(join(root, 'inside')), ['file']);
  t.notOk(readdirSync(root).some((name) => name.startsWith('.rkt-cp')), 'nothing half-made is left');
});

t.test("the guest's side: an app that swaps a directory for a link meanwhile (Kata commit 3dba12cd81)", async (t) => {
  const directory = scratchDir(t, 'race');
  const [root, outside] = [join(directory, 'root'), join(directory, 'outside')];
  mkdirSync(join(root, 'd'), { recursive: true });
  mkdirSync(outside);
  symlinkSync(outside, join(root, 'link'));
  const server = await startFileServer(t, root);
  let done = false;
  let swaps = 0;
  const swapping = (async () => {
    while (!done) {
      for (let i = 0; i < 20; i++, swaps++) {
        attempt(() => renameSync(join(root, 'd'), join(root, 'aside')));
        attempt(() => renameSync(join(root, 'link'), join(root, 'd')));
        attempt(() => renameSync(join(root, 'd'), join(root, 'link')));
        // The copy may have made it anew.
        attempt(() => renameSync(join(root, 'aside'), join(root, 'd')));
        if (existsSync(join(root, 'aside'))) attempt(() => rmSync(join(root, 'd'), { recursive: true }));
      }
      await setImmediate();
    }
  })();
  const entries = Array.from({ length: 200 }, (_, index) => [entry('directory', `d/${index}`), entry('file', `d/${index}/f`, { content: 'evil' })]).flat();
  let failures = 0;
  for (let round = 0; round < 8; round++) await server.in({ path: '/' }, entries).catch(() => failures++);
  done = true;
  await swapping;
  t.strictSame(readdirSync(outside), [], `after ${swaps} swaps, ${failures} copies noticed`);
});

t.test("the guest's side: owners, places and nonsense", async (t) => {
  const root = scratchDir(t, 'owners');
  mkdirSync(join(root, 'dir'));
  writeFileSync(join(root, 'file'), 'old');
  const server = await startFileServer(t, root);
  const isRoot = process.getuid?.() === 0;
  if (isRoot) {
    await server.in({ path: '/dir' }, [entry('directory', 'd', { uid: 7, gid: 8, mode: 0o2750 }), entry('file', 'd/f', { uid: 7, gid: 8, mode: 0o6755 }), entry('symlink', 'd/l', { linkPath: 'f', uid: 7 })]);
    for (const path of ['dir/d', 'dir/d/f', 'dir/d/l']) t.match(lstatSync(join(root, path)), { uid: 1234, gid: 5678 }, `${path} belongs to the app's user`);
    t.equal(statSync(join(root, 'dir/d/f')).mode & 0o7777, 0o755);
    await server.in({ path: '/dir', archive: true }, [entry('file', 'a', { uid: 7, gid: 8, mode: 0o6755 }), entry('symlink', 'al', { linkPath: 'x', uid: 7, gid: 8 })]);
    t.match(statSync(join(root, 'dir/a')), { uid: 7, gid: 8 });
    t.equal(statSync(join(root, 'dir/a')).mode & 0o7777, 0o6755);
    t.match(lstatSync(join(root, 'dir/al')), { uid: 7, gid: 8 });
  }
  t.equal(statSync(join(root, 'dir')).isDirectory(), true);
  await server.in({ path: '/dir', name: 'named', top: 'file' }, [entry('file', '', { content: 'one' })]);
  t.equal(readFileSync(join(root, 'dir/named'), 'utf8'), 'one');
  t.equal(statSync(join(root, 'dir/named')).mtimeMs, 1_600_000_000_500);
  await server.in({ path: '/file', name: 'named', top: 'file' }, [entry('file', '', { content: 'two' })]);
  t.equal(readFileSync(join(root, 'file'), 'utf8'), 'two');
  await server.in({ path: '/new', name: 'named', top: 'directory' }, [entry('directory', ''), entry('file', 'x')]);
  t.strictSame(readdirSync(join(root, 'new')), ['x']);
  t.match(await server.in({ path: '/' }, [entry('fifo', 'pipe'), entry('character', 'c')]), [/named pipe/, /device/]);
  await server.in({ path: '/' }, [entry('file', 'made/on/the/way', { content: 'x' })]);
  t.ok(existsSync(join(root, 'made/on/the/way')));
  for (const [fields, reason] of [
    [{ path: '/missing/x', top: 'file', name: 'x' }, /does not exist/], [{ path: '/missing/', top: 'file', name: 'x' }, /no such directory/], [{ path: '/missing' }, /no such directory/],
    [{ path: '/file', top: 'directory', name: 'x' }, /is not a directory/], [{ path: '/dir', top: 'file', name: '..' }, /not a name/], [{ path: '/dir', top: 'file', name: 'a/b' }, /not a name/],
  ] as const) await t.rejects(server.in(fields, [entry(fields.path === '/file' ? 'directory' : 'file', '')]), { message: reason }, JSON.stringify(fields));

  // Whatever is said, the next one is served.
  const random = seededRandom(7);
  const header = encodeFrame({ files: { direction: 'in', app: 'a', path: '/dir', name: null, top: 'entries', archive: false } });
  const bad = [Buffer.alloc(0), Buffer.from('{"files":7}'), ...['[]', '{}', '{"type":"file"}', '{"type":"file","path":"../../x","mode":0,"uid":0,"gid":0,"seconds":0,"nanoseconds":0,"sizeBytes":1}', '{"type":"symlink","path":"x"}'].map((text) => Buffer.concat([header, lengthOf(text), Buffer.from(text)]))];
  for (let i = 0; i < 40; i++) bad.push(Buffer.concat([header, random.bytes(random.below(300))]));
  for (const bytes of bad) {
    const socket = await server.dial();
    socket.end(bytes);
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
  }
  t.equal((await server.out('/file')).length, 1);
});

/** The other side is at it, too. */
function attempt(work: () => void): void {
  try {
    work();
  } catch {
    // The next round tries again.
  }
}

function lengthOf(text: string): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(Buffer.byteLength(text));
  return bytes;
}

// The whole way, with an app whose image has one program and nothing else.

async function startPod(t: { teardown(work: () => Promise<void>): void }, host: Host, flags: readonly string[]): Promise<string> {
  const image = makeOciLayout(join(host.workDir, 'image'), {
    user: '1000:1000',
    layers: [[{ path: 'busybox', mode: 0o755, content: readFileSync(BUSYBOX) }, { path: 'data/', type: 'directory', mode: 0o777 }, { path: 'data/of-image', content: 'image' }, { path: 'link', type: 'symlink', linkPath: 'data' }]],
  });
  const uuidFile = join(host.workDir, 'uuid');
  const { child, ended } = host.start(['run', '--net=none', `--uuid-file-save=${uuidFile}`, ...flags, image, '--exec', '/busybox', '--', 'sleep', '10000'], { timeoutMs: 3_600_000 });
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
    host.close();
  });
  return await eventually('the pod is ready', () => readyPod(host, uuidFile));
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

async function makeLarge(path: string): Promise<void> {
  const block = Buffer.from(seededRandom(1).bytes(1 << 16));
  const file = await open(path, 'w');
  for (let left = LARGE_BYTES, counter = 0; left > 0; left -= block.length, counter++) {
    block.writeUInt32LE(counter, 0);
    await file.write(block, 0, Math.min(left, block.length));
  }
  await file.close();
}

t.test('there and back again', { timeout: 3_600_000 }, async (t) => {
  const host = makeHost('cp');
  const uuid = await startPod(t, host, []);
  const cp = async (...args: string[]): Promise<string> => {
    const result = await host.rkt(['cp', ...args], { timeoutMs: 1_800_000 });
    return result.status === 0 ? result.stdout.toString('latin1') + result.stderr : `${String(result.status)} ${result.stderr}`;
  };
  const inPod = async (...command: string[]): Promise<string> => (await host.rkt(['enter', uuid, '/busybox', ...command])).stdout.toString();
  const here = (name: string): string => join(host.workDir, name);

  // A tree in, and out again.
  mkdirSync(here('tree/sub'), { recursive: true });
  writeFileSync(here('tree/file'), 'content\n');
  writeFileSync(here('tree/sub/with space'), 'x');
  symlinkSync('/nowhere', here('tree/dangling'));
  execFileSync('ln', [here('tree/file'), here('tree/linked')]);
  chmodSync(here('tree/sub'), 0o750);
  chmodSync(here('tree/file'), 0o4755);
  t.equal(await cp('tree', `${uuid.slice(0, 8)}:/data`), '');
  t.equal(await inPod('stat', '-c', '%u:%g %a %h %n', '/data/tree', '/data/tree/file', '/data/tree/sub'), '1000:1000 755 3 /data/tree\n1000:1000 755 2 /data/tree/file\n1000:1000 750 2 /data/tree/sub\n');
  t.equal(await cp(`${uuid}:data/tree`, 'back'), '');
  t.equal(execFileSync('diff', ['-r', '--no-dereference', here('tree'), here('back')]).toString(), '');
  t.equal(lstatSync(here('back/linked')).nlink, 2);

  // The conventions.
  mkdirSync(here('into'));
  t.equal(await cp(`${uuid}:/data/tree/.`, 'into'), '', 'content only');
  t.strictSame(readdirSync(here('into')).sort(), ['dangling', 'file', 'linked', 'sub']);
  t.equal(await cp(`${uuid}:image:/link`, 'as-link'), '', 'the app named');
  t.ok(lstatSync(here('as-link')).isSymbolicLink());
  t.equal(await cp('-L', '--app=image', `${uuid}:/link`, 'followed'), '');
  t.ok(existsSync(here('followed/of-image')));
  t.equal(await cp('tree/file', `${uuid}:/data/of-image`), '', 'a file over one of the image');
  t.equal(await inPod('cat', '/data/of-image'), 'content\n');
  t.equal(await cp('-a', 'tree/file', `${uuid}:/data/owned`), '');
  t.equal(await inPod('stat', '-c', '%u %a', '/data/owned'), `${String(process.getuid?.())} 4755\n`);

  // Archives.
  const listed = spawnSync('tar', ['tf', '-'], { input: Buffer.from(await cp(`${uuid}:/data/tree`, '-'), 'latin1'), encoding: 'utf8' });
  t.strictSame(listed.stdout.trim().split('\n').sort(), ['tree/', 'tree/dangling', 'tree/file', 'tree/linked', 'tree/sub/', 'tree/sub/with space'], listed.stderr);
  const into = await host.rkt(['cp', '-', `${uuid}:/data`], { input: gzipSync(makeTar([{ path: './tarred/deep/file', content: 'from tar' }])) });
  t.equal(into.status, 0, into.stderr);
  t.equal(await inPod('cat', '/data/tarred/deep/file'), 'from tar');
  for (const path of ['../evil', '/data/../../evil']) {
    const evil = await host.rkt(['cp', '-', `${uuid}:/data`], { input: makeTar([{ path, content: 'evil' }]) });
    t.match(evil.stderr, /path has a "\.\." in it/);
  }

  // What is refused, and why.
  for (const [source, destination, message] of [
    [`${uuid}:/none`, '.', /No such file or directory/], ['none', `${uuid}:/`, /none: no such file or directory/], ['a', 'b', /either source or destination/], [`${uuid}:/a`, `${uuid}:/b`, /cannot copy from one pod to another/],
    [`${uuid}:other:/a`, '.', /app "other" is not in the pod/], ['tree/file', `${uuid}:/proc/sys/kernel/hostname`, /made by the kernel/], ['tree', `${uuid}:/data/of-image`, /is not a directory/],
    [`${uuid}:/data`, 'tree/file', /is not a directory/], ['tree/file/', `${uuid}:/`, /is not a directory/], ['0000:/x', '.', /no matches found for "0000"/],
  ] as const) t.match(await cp(source, destination), message, `${source} ${destination}`);

  // Large, both ways; what is in the pod's log.
  await makeLarge(here('large'));
  const timed = async (...args: string[]): Promise<string> => {
    const begin = performance.now();
    t.equal(await cp(...args), '');
    return `${Math.round(LARGE_BYTES / 1000 / (performance.now() - begin))} MB/s`;
  };
  const speeds = [await timed('large', `${uuid}:/data/large`), await timed(`${uuid}:/data/large`, 'large-back')];
  t.equal(await hashOf(here('large-back')), await hashOf(here('large')), `in ${speeds.join(', out ')}`);
  if (LARGE_BYTES >= 1e9) t.comment(`${LARGE_BYTES} bytes: in ${speeds.join(', out ')}`);
  const log = (await host.rkt(['attest', 'log', uuid])).stdout.toString();
  t.match(log, /the host copied "\/data\/large" into app "image"/);
  t.match(log, /the host copied "\/data\/large" out of app "image"/);
});

t.test('a sealed pod gives and takes no files', async (t) => {
  const host = makeHost('cp-sealed');
  const uuid = await startPod(t, host, ['--sealed']);
  writeFileSync(join(host.workDir, 'file'), 'x');
  for (const args of [[`${uuid}:/data/of-image`, 'stolen'], ['file', `${uuid}:/data`]]) {
    const result = await host.rkt(['cp', ...args]);
    t.equal(result.status, 254);
    t.match(result.stderr, /^cp: the pod is sealed: no files can be copied from or to it\n$/);
  }
  t.notOk(existsSync(join(host.workDir, 'stolen')));
});

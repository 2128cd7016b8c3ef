/** Pods on the disk: states, transitions, lookups, and lookups while pods move. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { lockDirectory, lockFile } from '../../src/linux/flock.ts';
import { createPod, currentPath, lockExclusively, movePod, openPod, openPodByName, POD_DIRECTORIES, podPath, readExitCodes, readPodDetails, refreshState, resolveUUID, syncMoves, unlockPod, walkPods } from '../../src/pod/index.ts';
import type { PodDirectory } from '../../src/pod/index.ts';
import { podState } from '../../src/pod/state.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

/** A pod somewhere, unlocked. */
function podIn(dataDir: string, directory: PodDirectory, uuid = crypto.randomUUID() as string): string {
  mkdirSync(podPath(dataDir, directory, uuid), { recursive: true });
  return uuid;
}

t.test('state = directory × lock', async (t) => {
  const table: [PodDirectory, string, string][] = [
    ['embryo', 'embryo', 'embryo'],
    ['prepare', 'preparing', 'aborted prepare'],
    ['prepared', 'prepared', 'prepared'],
    ['run', 'running', 'exited'],
    ['exited-garbage', 'exited deleting', 'exited garbage'],
    ['garbage', 'deleting', 'garbage'],
  ];
  const dataDir = scratchDir(t, 'states');
  for (const [directory, locked, unlocked] of table) {
    t.equal(podState(directory, true), locked);
    const uuid = podIn(dataDir, directory);
    using pod = openPod(dataDir, uuid);
    t.equal(pod?.state, unlocked);
    const lock = lockDirectory(podPath(dataDir, directory, uuid), 'exclusive', { block: false });
    using held = openPod(dataDir, uuid);
    t.equal(held?.state, locked);
    lock?.release();
    if (pod !== undefined) t.equal(refreshState(pod), unlocked);
  }
});

t.test('a pod\'s life', async (t) => {
  const dataDir = scratchDir(t, 'life');
  const pod = createPod(dataDir);
  t.match(pod.uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  const seen: string[] = [];
  const look = (): void => {
    using other = openPod(dataDir, pod.uuid);
    seen.push(other?.state ?? 'none');
  };
  look();
  for (const directory of ['prepare', 'prepared', 'run', 'exited-garbage'] as const) {
    movePod(pod, directory);
    await syncMoves(pod);
    t.equal(currentPath(pod), podPath(dataDir, directory, pod.uuid));
    look();
  }
  t.strictSame(seen, ['embryo', 'preparing', 'prepared', 'running', 'exited deleting']);
  t.throws(() => movePod(pod, 'run'), /cannot move from exited-garbage to run/);
  rmSync(currentPath(pod), { recursive: true });
  unlockPod(pod);
  t.equal(refreshState(pod), 'gone');
  pod.close();
  pod.close();
  t.equal(openPod(dataDir, pod.uuid), undefined);
});

t.test('the lock lives as long as a descriptor, in another process, too', async (t) => {
  const dataDir = scratchDir(t, 'lock');
  const uuid = podIn(dataDir, 'run');
  const child = spawn('flock', ['--exclusive', podPath(dataDir, 'run', uuid), 'sh', '-c', 'echo locked; read line'], { stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  using pod = openPod(dataDir, uuid);
  t.equal(pod?.state, 'running');
  t.notOk(pod !== undefined && lockExclusively(pod));
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.stdin.end('\n');
  await ended;
  if (pod !== undefined) t.equal(refreshState(pod), 'exited');
  t.ok(pod !== undefined && lockExclusively(pod));
});

t.test('an exclusive lock is not taken on a pod that has moved', async (t) => {
  const dataDir = scratchDir(t, 'moved');
  const uuid = podIn(dataDir, 'prepared');
  mkdirSync(join(dataDir, 'pods/run'));
  using late = openPodByName(dataDir, uuid);
  renameSync(podPath(dataDir, 'prepared', uuid), podPath(dataDir, 'run', uuid));
  t.equal(lockExclusively(late), false);
  t.equal(refreshState(late), 'exited', 'and it holds no lock');
});

t.test('finding pods by the beginning of their UUID', async (t) => {
  const dataDir = scratchDir(t, 'lookup');
  podIn(dataDir, 'run', 'aaaa1111-0000-4000-8000-000000000000');
  podIn(dataDir, 'prepared', 'aaaa2222-0000-4000-8000-000000000000');
  podIn(dataDir, 'garbage', 'bbbb0000-0000-4000-8000-000000000000');
  mkdirSync(join(dataDir, 'pods/run/not-a-pod'));
  t.equal(resolveUUID(dataDir, 'aaaa1'), 'aaaa1111-0000-4000-8000-000000000000');
  t.equal(resolveUUID(dataDir, 'AAAA2'), 'aaaa2222-0000-4000-8000-000000000000');
  t.throws(() => resolveUUID(dataDir, 'aaaa'), /^ambiguous uuid, 2 matches$/);
  t.throws(() => resolveUUID(dataDir, 'bbbb'), /^no matches found for "bbbb"$/);
  t.throws(() => resolveUUID(dataDir, 'not'), /^no matches found for "not"$/);
  t.throws(() => resolveUUID(dataDir, ' '), /^UUID cannot be empty$/);
  using garbage = openPodByName(dataDir, 'bbbb0000-0000-4000-8000-000000000000');
  t.equal(garbage.state, 'garbage', 'a whole UUID is found everywhere');
});

t.test('a symbolic link is no pod', async (t) => {
  const dataDir = scratchDir(t, 'symlink');
  mkdirSync(join(dataDir, 'pods/run'), { recursive: true });
  const uuid = crypto.randomUUID();
  symlinkSync('/etc', podPath(dataDir, 'run', uuid));
  t.throws(() => openPod(dataDir, uuid));
});

/** Moves each pod through its life, as fast as another process can. */
const JUMP = 40;
const MOVER = `
const { renameSync } = require('node:fs');
const [base, directories, ...uuids] = process.argv.slice(1);
const names = directories.split(',');
process.stdout.write('moving\\n');
for (const uuid of uuids) {
  for (let index = 1; index < names.length; index++) renameSync(base + '/' + names[index - 1] + '/' + uuid, base + '/' + names[index] + '/' + uuid);
}
`;

t.test('a pod that is being moved is always found, once, and in a state it really had', async (t) => {
  const dataDir = scratchDir(t, 'race');
  const life: PodDirectory[] = ['embryo', 'prepare', 'prepared', 'run', 'exited-garbage'];
  const states = ['embryo', 'aborted prepare', 'prepared', 'exited', 'exited garbage'];
  for (const directory of POD_DIRECTORIES) mkdirSync(join(dataDir, 'pods', directory), { recursive: true });
  const uuids = Array.from({ length: 4000 }, () => podIn(dataDir, 'embryo'));
  const child = spawn(process.execPath, ['-e', MOVER, join(dataDir, 'pods'), life.join(','), ...uuids], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const complaints: string[] = [];
  let midway = 0;
  // The mover goes through the list in order: the reader waits at a pod ahead of it until it has passed, then jumps on.
  for (let index = 0, reached = -1; index < uuids.length; ) {
    const uuid = uuids[index] ?? '';
    using pod = openPod(dataDir, uuid);
    const now = pod === undefined ? -1 : states.indexOf(pod.state);
    if (now === -1) complaints.push(`${uuid}: ${pod?.state ?? 'not found'}`);
    if (now < reached) complaints.push(`${uuid}: back from ${reached} to ${now}`);
    if (now > 0 && now < life.length - 1) midway++;
    if (now === life.length - 1 || now === -1) {
      index += JUMP;
      reached = -1;
    } else {
      reached = now;
    }
  }
  t.strictSame(complaints.slice(0, 5), []);
  t.equal([...walkPods(dataDir)].length, uuids.length);
  t.comment(`${midway} lookups met a pod half-way`);
});

t.test('what is read of a pod', async (t) => {
  const dataDir = scratchDir(t, 'read');
  const uuid = podIn(dataDir, 'run');
  const path = podPath(dataDir, 'run', uuid);
  const image = { name: 'example.com/a', id: `sha512-${'b'.repeat(64)}` };
  const apps = ['one', 'two'].map((name) => ({ name, image, app: { exec: ['/x'], user: '0', group: '0' } }));
  writeFileSync(join(path, 'pod'), JSON.stringify({ acKind: 'PodManifest', acVersion: '0.8.11', apps }));
  for (const name of ['one', 'two']) {
    mkdirSync(join(path, 'appsinfo', name), { recursive: true });
    writeFileSync(join(path, 'appsinfo', name, 'manifest'), JSON.stringify({ acKind: 'ImageManifest', acVersion: '0.8.11', name: image.name, labels: [{ name: 'version', value: '3' }] }));
  }
  writeFileSync(join(path, 'pid'), '4711\n');
  writeFileSync(join(path, 'pod-created'), '');
  utimesSync(join(path, 'pod-created'), 1_700_000_000, 1_700_000_000);
  mkdirSync(join(path, 'status'));
  writeFileSync(join(path, 'status/one'), '137\n');
  writeFileSync(join(path, 'status/one-started'), '');
  writeFileSync(join(path, 'net-info.json'), JSON.stringify([{ netName: 'default', ip: '10.0.2.15' }]));
  using pod = openPodByName(dataDir, uuid);
  const details = readPodDetails(pod);
  t.strictSame(details.problems, []);
  t.equal(details.pid, 4711);
  t.equal(details.createdNs, 1_700_000_000_000_000_000n);
  t.strictSame(details.networks, [{ netName: 'default', ip: '10.0.2.15' }]);
  t.match(details.apps, [{ name: 'one', state: 'exited', exitCode: 137, imageName: 'example.com/a:3' }, { name: 'two', state: 'exited' }]);
  t.equal(details.apps[1]?.exitCode, undefined);
  t.strictSame([...readExitCodes(pod)], [['one', 137]]);

  rmSync(join(path, 'appsinfo/two'), { recursive: true });
  writeFileSync(join(path, 'net-info.json'), '{');
  const damaged = readPodDetails(pod);
  t.strictSame(damaged.apps.map(({ name }) => name), ['one']);
  t.equal(damaged.problems.length, 2, 'what cannot be read is told, the rest is there');
});

t.test('file locks', async (t) => {
  const path = join(scratchDir(t, 'flock'), 'lock');
  using first = lockFile(path, 'shared', { block: false });
  t.ok(first);
  using second = lockFile(path, 'shared', { block: false });
  t.ok(second, 'shared with shared');
  t.equal(lockFile(path, 'exclusive', { block: false }), null);
  const before = readdirSync('/proc/self/fd').length;
  t.equal(lockFile(path, 'exclusive', { block: false }), null);
  t.equal(readdirSync('/proc/self/fd').length, before, 'a failed attempt leaves no descriptor');
  first?.release();
  second?.release();
  using third = lockFile(path, 'exclusive', { block: true });
  t.ok(third);
  t.throws(() => lockDirectory(join(path, 'x'), 'shared', { block: false }));
  t.ok(existsSync(path));
});


/** Garbage collection and removal of pods in every state. */
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { lockDirectory } from '../../src/linux/flock.ts';
import { collectGarbage, openPod, openPodByName, POD_DIRECTORIES, podPath, removePod } from '../../src/pod/index.ts';
import type { GcHost, GcOptions, PodDirectory } from '../../src/pod/index.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

const HOUR_MS = 3_600_000;
const DEFAULTS: GcOptions = { gracePeriodMs: HOUR_MS / 2, expirePreparedMs: 24 * HOUR_MS, markOnly: false };
const AT_ONCE: GcOptions = { gracePeriodMs: -1, expirePreparedMs: -1, markOnly: false };

interface Told {
  host: GcHost;
  stdout: string[];
  stderr: string[];
  problems: string[];
  cleaned: string[];
  disconnected: string[];
}

function recorder(cleanUp?: () => void): Told {
  const told = { stdout: [] as string[], stderr: [] as string[], problems: [] as string[], cleaned: [] as string[], disconnected: [] as string[] };
  const host: GcHost = {
    print: (stream, line) => void told[stream].push(line),
    problem: (message) => void told.problems.push(message),
    forget: () => Promise.resolve(),
    cleanUpNetwork: async (pod) => void told.disconnected.push(pod.uuid),
    cleanUpStage1: (pod) => {
      told.cleaned.push(pod.uuid);
      cleanUp?.();
    },
  };
  return { ...told, host };
}

/** A pod with content of every kind. */
function podIn(dataDir: string, directory: PodDirectory): string {
  const uuid = crypto.randomUUID();
  const path = podPath(dataDir, directory, uuid);
  for (const name of POD_DIRECTORIES) mkdirSync(join(dataDir, 'pods', name), { recursive: true });
  mkdirSync(join(path, 'appsinfo/x'), { recursive: true });
  mkdirSync(join(path, 'stage1'));
  writeFileSync(join(path, 'stage1/manifest'), '{}');
  writeFileSync(join(path, 'appsinfo/x/manifest'), '{}');
  writeFileSync(join(path, 'scratch.img'), 'data');
  symlinkSync('ready', join(path, 'supervisor-status'));
  mkdirSync(join(dataDir, 'outside'), { recursive: true });
  writeFileSync(join(dataDir, 'outside/kept'), '');
  symlinkSync('../../../outside', join(path, 'link'));
  return uuid;
}

function stateOf(dataDir: string, uuid: string): string {
  using pod = openPod(dataDir, uuid);
  return pod?.state ?? 'gone';
}

t.test('first marked, then removed when the grace period is over', async (t) => {
  const dataDir = scratchDir(t, 'gc');
  const uuid = podIn(dataDir, 'run');
  const first = recorder();
  await collectGarbage(dataDir, DEFAULTS, first.host);
  t.equal(stateOf(dataDir, uuid), 'exited garbage');
  t.strictSame(first.stderr, [`moving pod "${uuid}" to garbage`, `pod "${uuid}" not removed: still within grace period (30m0s)`]);
  t.strictSame(first.stdout, []);

  const second = recorder();
  await collectGarbage(dataDir, AT_ONCE, second.host);
  t.equal(stateOf(dataDir, uuid), 'gone');
  t.strictSame(second.stdout, [`Garbage collecting pod "${uuid}"`]);
  t.strictSame(second.cleaned, [uuid], 'stage1 cleans up first');
  t.strictSame(second.disconnected, [uuid], 'and so do the networks');
  t.ok(existsSync(join(dataDir, 'outside/kept')), 'links are not followed');
});

t.test('--mark-only removes nothing', async (t) => {
  const dataDir = scratchDir(t, 'gc');
  const [exited, aborted, prepared] = [podIn(dataDir, 'run'), podIn(dataDir, 'prepare'), podIn(dataDir, 'prepared')];
  const told = recorder();
  await collectGarbage(dataDir, { ...AT_ONCE, markOnly: true }, told.host);
  t.equal(stateOf(dataDir, exited), 'exited garbage');
  t.equal(stateOf(dataDir, aborted), 'garbage');
  t.equal(stateOf(dataDir, prepared), 'prepared');
  t.strictSame(told.stdout, []);
});

t.test('failed and expired pods go at once, those in use stay', async (t) => {
  const dataDir = scratchDir(t, 'gc');
  const [aborted, prepared, embryo] = [podIn(dataDir, 'prepare'), podIn(dataDir, 'prepared'), podIn(dataDir, 'embryo')];
  const [running, preparing] = [podIn(dataDir, 'run'), podIn(dataDir, 'prepare')];
  const locks = [lockDirectory(podPath(dataDir, 'run', running), 'exclusive', { block: false }), lockDirectory(podPath(dataDir, 'prepare', preparing), 'exclusive', { block: false })];
  const told = recorder();
  await collectGarbage(dataDir, AT_ONCE, told.host);
  t.equal(stateOf(dataDir, aborted), 'gone');
  t.equal(stateOf(dataDir, prepared), 'gone');
  t.equal(stateOf(dataDir, embryo), 'embryo', 'someone may be making it just now');
  t.equal(stateOf(dataDir, running), 'running');
  t.equal(stateOf(dataDir, preparing), 'preparing');
  t.ok(told.stderr.includes(`moving failed prepare "${aborted}" to garbage`));
  t.ok(told.stderr.includes(`moving expired prepared pod "${prepared}" to garbage`));
  t.strictSame(told.cleaned, [], 'nothing of these was ever run');
  for (const lock of locks) lock?.release();
});

t.test('a problem with stage1 is told and does not keep the pod', async (t) => {
  const dataDir = scratchDir(t, 'gc');
  const [one, two] = [podIn(dataDir, 'run'), podIn(dataDir, 'run')];
  const told = recorder(() => {
    throw new Error('no stage1');
  });
  await collectGarbage(dataDir, AT_ONCE, told.host);
  t.strictSame(told.problems.sort(), [one, two].map((uuid) => `problem performing stage1 GC on "${uuid}"`).sort());
  t.strictSame(POD_DIRECTORIES.flatMap((directory) => readdirSync(join(dataDir, 'pods', directory))), []);
});

t.test('a removal that was interrupted is finished, quietly and whatever the grace period', async (t) => {
  const dataDir = scratchDir(t, 'gc');
  const uuid = podIn(dataDir, 'run');
  const interrupted = recorder();
  // The first thing that goes is the scratch disk.
  const path = podPath(dataDir, 'run', uuid);
  rmSync(join(path, 'scratch.img'));
  mkdirSync(join(path, 'scratch.img'));
  await collectGarbage(dataDir, AT_ONCE, interrupted.host);
  t.strictSame(interrupted.problems, [`unable to remove pod "${uuid}"`]);
  t.equal(stateOf(dataDir, uuid), 'garbage', 'not listed any more');
  rmSync(join(podPath(dataDir, 'garbage', uuid), 'stage1'), { recursive: true });
  rmSync(join(podPath(dataDir, 'garbage', uuid), 'scratch.img'), { recursive: true });
  const second = recorder();
  await collectGarbage(dataDir, DEFAULTS, second.host);
  t.equal(stateOf(dataDir, uuid), 'gone');
  t.strictSame([second.problems, second.cleaned], [[], []]);

  const half = podIn(dataDir, 'exited-garbage');
  rmSync(join(podPath(dataDir, 'exited-garbage', half), 'stage1'), { recursive: true });
  const third = recorder();
  await collectGarbage(dataDir, AT_ONCE, third.host);
  t.strictSame([third.problems, third.cleaned], [[], []], 'as older versions left it');
  t.equal(stateOf(dataDir, half), 'gone');
});

t.test('no grace period is none at all', async (t) => {
  const dataDir = scratchDir(t, 'gc');
  const uuids = [podIn(dataDir, 'run'), podIn(dataDir, 'prepared')];
  await collectGarbage(dataDir, { gracePeriodMs: 0, expirePreparedMs: 0, markOnly: false }, recorder().host);
  t.strictSame(uuids.map((uuid) => stateOf(dataDir, uuid)), ['gone', 'gone']);
});

t.test('a data directory that does not exist', async (t) => {
  const told = recorder();
  await collectGarbage(join(scratchDir(t, 'gc'), 'none'), AT_ONCE, told.host);
  t.strictSame([told.stdout, told.stderr, told.problems], [[], [], []]);
});

t.test('rm in every state', async (t) => {
  const dataDir = scratchDir(t, 'rm');
  const cases: [PodDirectory, boolean, string | undefined][] = [
    ['run', true, 'is currently running'],
    ['prepare', true, 'is currently being prepared'],
    ['embryo', false, 'is currently being prepared'],
    ['garbage', true, 'is currently being deleted'],
    ['run', false, undefined],
    ['prepare', false, undefined],
    ['prepared', false, undefined],
    ['exited-garbage', false, undefined],
    ['garbage', false, undefined],
  ];
  for (const [directory, locked, refusal] of cases) {
    const uuid = podIn(dataDir, directory);
    const lock = locked ? lockDirectory(podPath(dataDir, directory, uuid), 'exclusive', { block: false }) : null;
    const told = recorder();
    using pod = openPodByName(dataDir, uuid);
    t.equal(await removePod(pod, told.host), refusal === undefined, `${directory} ${String(locked)}`);
    if (refusal !== undefined) t.strictSame(told.stderr, [`pod "${uuid}" ${refusal}`]);
    t.equal(stateOf(dataDir, uuid) === 'gone', refusal === undefined);
    lock?.release();
  }
});

t.test('what is old enough is judged by when the pod was moved', async (t) => {
  const dataDir = scratchDir(t, 'gc');
  const uuid = podIn(dataDir, 'exited-garbage');
  // Neither mtime nor a file inside counts.
  utimesSync(podPath(dataDir, 'exited-garbage', uuid), 1, 1);
  await collectGarbage(dataDir, DEFAULTS, recorder().host);
  t.equal(stateOf(dataDir, uuid), 'exited garbage');
});

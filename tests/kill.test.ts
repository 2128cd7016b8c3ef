/**
 * Every process of a pod's life, and of commands on pods, killed at a random moment: afterwards `rkt gc` leaves nothing, `rkt list`
 * has never lied, and an exit status is recorded only where an app has ended by itself. RKT_TEST_KILL_LIVES=200 for the long form,
 * RKT_TEST_KILL_SEED for other moments.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { openPod, readPid, readPodDetails, refreshState, walkPods } from '../src/pod/index.ts';
import { busyboxImage } from './helpers/busybox.ts';
import { becomeNetworkHost, leftovers, reasonForNoNetwork } from './helpers/network-host.ts';
import { seededRandom } from './helpers/random.ts';
import { eventually, makeHost, processesMentioning, type Host, type RunResult } from './helpers/rkt.ts';

const LIVES = Number(process.env['RKT_TEST_KILL_LIVES'] ?? 14);
const SEED = Number(process.env['RKT_TEST_KILL_SEED'] ?? 1);
/** One at a time on each host; a pod waits more than it computes. */
const HOSTS = 2;
const LONGEST_NAP_MS = 1200;
/** From a command to the end of a short pod, on a quiet machine. */
const LIFE_MS = 2500;

const random = seededRandom(SEED);
const image = busyboxImage();
const hasNetwork = reasonForNoNetwork() === undefined;
if (hasNetwork) becomeNetworkHost();

/** Programs that a monitor starts and a pod cannot do without, by the name of the file. */
const HELPERS = ['qemu-system-x86_64', 'swtpm', 'virtiofsd'] as const;

type Test = Pick<typeof t, 'equal' | 'ok' | 'notOk' | 'match' | 'notMatch' | 'strictSame'>;

type Victim =
  | { kind: 'helper'; program: string }
  /** `rkt run` from its first moment, which becomes the monitor. */
  | { kind: 'run' }
  | { kind: 'agent' }
  /** Another command, on this pod or an earlier one. */
  | { kind: 'command'; name: 'prepare' | 'gc' | 'export' | 'cp' | 'enter' }
  | { kind: 'nobody' };

const VICTIMS: readonly Victim[] = [
  { kind: 'run' }, ...HELPERS.map((program): Victim => ({ kind: 'helper', program })), { kind: 'agent' }, { kind: 'command', name: 'prepare' }, { kind: 'run' },
  { kind: 'command', name: 'gc' }, { kind: 'command', name: 'export' }, { kind: 'command', name: 'cp' }, { kind: 'run' }, { kind: 'command', name: 'enter' }, { kind: 'nobody' },
];

function childrenOf(pid: number): { pid: number; program: string }[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      const parent = Number(readFileSync(`/proc/${name}/stat`, 'latin1').split(') ').at(-1)?.split(' ')[1]);
      const program = readFileSync(`/proc/${name}/cmdline`, 'latin1').split('\0')[0]?.split('/').at(-1) ?? '';
      return parent === pid ? [{ pid: Number(name), program }] : [];
    } catch {
      return []; // ended while we looked
    }
  });
}

interface Watched {
  lies: string[];
  /** What monitors have started. */
  helpers: Set<number>;
}

/** Looks all the time at what is said of pods. */
function watchPods(host: Host): () => Promise<Watched> {
  const lies: string[] = [];
  const helpers = new Set<number>();
  let done = false;
  const watching = (async () => {
    while (!done) {
      for (const pod of walkPods(host.dataDir, ['run'])) {
        const pid = readPid(pod);
        if (pod.state !== 'running' || pid === undefined) continue;
        if (!alive(pid) && refreshState(pod) === 'running') lies.push(`${pod.uuid} is "running" without its monitor ${pid}`);
        for (const child of childrenOf(pid)) helpers.add(child.pid);
      }
      await sleep(50);
    }
  })();
  return async () => {
    done = true;
    await watching;
    return { lies, helpers };
  };
}

function alive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.[0] !== 'Z';
  } catch {
    return false;
  }
}

interface Life {
  host: Host;
  uuidFile: string;
  started: ReturnType<Host['start']>;
}

const uuidOf = ({ uuidFile }: Life): string | undefined => (existsSync(uuidFile) ? readFileSync(uuidFile, 'utf8').trim() || undefined : undefined);

/** The monitor once its apps run; undefined: the pod has ended before. */
async function monitorOf(life: Life): Promise<number | undefined> {
  let ended = false;
  void life.started.ended.then(() => (ended = true));
  return await eventually('the pod runs, or has ended', () => {
    if (ended) return 'ended';
    const uuid = uuidOf(life);
    if (uuid === undefined) return undefined;
    using pod = openPod(life.host.dataDir, uuid);
    return pod !== undefined && readPodDetails(pod).apps.some(({ startedNs }) => startedNs !== undefined) ? readPid(pod) : undefined;
  }).then((found) => (found === 'ended' ? undefined : found));
}

/** Kills somebody; returns whether the pod itself was left alone. */
async function strike(victim: Victim, life: Life): Promise<boolean> {
  const { host, started } = life;
  if (victim.kind === 'nobody') return true;
  if (victim.kind === 'run') {
    await sleep(random.below(LIFE_MS));
    started.child.kill('SIGKILL');
    return false;
  }
  if (victim.kind === 'helper') {
    await sleep(random.below(LIFE_MS));
    const helper = childrenOf(started.child.pid ?? -1).find(({ program }) => program === victim.program);
    if (helper !== undefined) process.kill(helper.pid, 'SIGKILL');
    return helper === undefined;
  }
  const monitor = await monitorOf(life);
  const uuid = uuidOf(life);
  if (monitor === undefined || uuid === undefined) return true;
  if (victim.kind === 'agent') {
    // Only an app without any confinement can do that: it overwrites what the agent knows.
    const script = 'set -- $(grep " rw-p " /proc/1/maps | head -1 | tr - " "); dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((0x$1 / 4096)) count=$(((0x$2 - 0x$1) / 4096)) conv=notrunc';
    await host.rkt(['enter', uuid, '/bin/sh', '-c', script]);
    return false;
  }
  const earlier = readdirSync(join(host.dataDir, 'pods/run')).find((name) => name !== uuid) ?? uuid;
  const commands = {
    prepare: ['prepare', image], gc: ['gc', '--grace-period=0s'], export: ['export', earlier, join(host.workDir, 'killed.aci')],
    cp: ['cp', join(host.workDir, 'large'), `${uuid}:/tmp`], enter: ['enter', uuid, '/bin/sleep', '1000'],
  };
  const command = host.start(commands[victim.name]);
  await sleep(random.below(victim.name === 'export' ? LIFE_MS : 700));
  command.child.kill('SIGKILL');
  await command.ended;
  return true;
}

interface Lived {
  uuid: string | undefined;
  code: number;
  untouched: boolean;
  result: RunResult;
}

async function live(host: Host, number: number, victim: Victim): Promise<Lived> {
  const code = random.below(5);
  const script = `sleep ${(random.below(LONGEST_NAP_MS) / 1000).toFixed(3)}; exit ${code}`;
  const uuidFile = join(host.workDir, `uuid-${number}`);
  const insecure = victim.kind === 'agent' ? ['--insecure-options=all-run'] : [];
  const net = hasNetwork && number % 3 === 0 ? 'default' : 'none';
  const volume = number % 2 === 0 || (victim.kind === 'helper' && victim.program === 'virtiofsd') ? [`--volume=v,kind=host,source=${host.workDir}`, '--mount=volume=v,target=/mnt'] : [];
  const life: Life = { host, uuidFile, started: host.start([...insecure, 'run', `--net=${net}`, `--uuid-file-save=${uuidFile}`, ...volume, image, '--exec', '/bin/sh', '--', '-c', script]) };
  const [result, untouched] = await Promise.all([life.started.ended, strike(victim, life)]);
  return { uuid: uuidOf(life), code, untouched, result };
}

t.test('whoever is killed, nothing is left and nobody lies', { timeout: 3_600_000 }, async (t) => {
  const before = hasNetwork ? leftovers() : '';
  const hosts = Array.from({ length: HOSTS }, (_, index) => makeHost(`kill-${index}`));
  t.teardown(() => hosts.forEach((host) => host.close()));
  await Promise.all(hosts.map(async (host, index) => {
    // The image is there, and one pod has ended, before anybody is killed.
    const first = await host.rkt(['run', '--net=none', image, '--exec', '/bin/true']);
    t.equal(first.status, 0, first.stderr);
    writeFileSync(join(host.workDir, 'large'), Buffer.alloc(20_000_000, 'x'));
    for (let number = index; number < LIVES; number += HOSTS) {
      const victim = VICTIMS[number % VICTIMS.length]!;
      const name = `${number}: ${'program' in victim ? victim.program : 'name' in victim ? victim.name : victim.kind}`;
      const stopWatching = watchPods(host);
      const lived = await live(host, number, victim);
      const { lies, helpers } = await stopWatching();
      await eventually(`${name}: the processes of the pod have ended`, () => processesMentioning(host.dataDir).length === 0 && ![...helpers].some(alive), 20_000);
      t.strictSame(lies, [], `${name}: no lies`);
      await checkTruth(t, host, { ...lived, name });
    }
    await checkNothingLeft(t, host);
  }));
  if (hasNetwork) t.equal(leftovers(), before, 'no lease, no rule, no link, no namespace');
});

async function checkTruth(t: Test, host: Host, { uuid, code, untouched, result, name }: Lived & { name: string }): Promise<void> {
  const told = `${name} (app ${code}, rkt ${String(result.status ?? result.signal)})`;
  if (untouched) t.equal(result.status, code, `${told}: ${result.stderr}`);
  const listed = JSON.parse((await host.rkt(['list', '--format=json'])).stdout.toString()) as { name: string; state: string }[];
  for (const { name: pod, state } of listed) t.ok(['exited', 'exited garbage', 'aborted prepare', 'prepared'].includes(state), `${told}: ${pod} is ${state}`);
  using pod = uuid === undefined ? undefined : openPod(host.dataDir, uuid);
  if (pod === undefined || pod.directory !== 'run') return;
  const status = (await host.rkt(['status', pod.uuid])).stdout.toString();
  t.match(status, /^state=exited\n/, told);
  const recorded = /^app-busybox=(\d+)$/m.exec(status)?.[1];
  // What the monitor ended with it has recorded first.
  if (result.status === code) t.equal(recorded, String(code), `${told}: ${status}`);
  else t.ok(recorded === undefined || recorded === String(code), `${told}: ${status}`);
}

async function checkNothingLeft(t: Test, host: Host): Promise<void> {
  const collected = await host.rkt(['gc', '--grace-period=0s', '--expire-prepared=0s']);
  t.equal(collected.status, 0);
  t.notMatch(collected.stderr, /problem|unable|cannot/);
  for (const directory of readdirSync(join(host.dataDir, 'pods'))) {
    const names = readdirSync(join(host.dataDir, 'pods', directory));
    // One that was killed between making the directory and anything else is empty, and removed when it is a minute old.
    if (directory === 'embryo') for (const name of names) t.strictSame(readdirSync(join(host.dataDir, 'pods/embryo', name)), []);
    else t.strictSame(names, [], directory);
  }
  t.equal((await host.rkt(['list', '--no-legend'])).stdout.toString(), '');
  t.strictSame(processesMentioning(host.dataDir), [], 'no processes');
  t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), host.dataDir, 'no mounts');
  t.notOk(readFileSync('/proc/net/unix', 'utf8').includes(host.dataDir), 'no sockets');
}

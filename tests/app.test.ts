/**
 * `rkt app`: a pod without apps is started, apps join it, run and leave. RKT_TEST_APPS=N is how many come and go one after the
 * other (10), RKT_TEST_DISKS=N how many with an image of their own are there at once (3).
 */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { attestationOf } from './helpers/attestation.ts';
import { busyboxImage } from './helpers/busybox.ts';
import { busyboxMembers, makeOciLayout } from './helpers/make-image.ts';
import { eventually, makeHost, processesMentioning, readyPod } from './helpers/rkt.ts';
import type { Host, RunResult } from './helpers/rkt.ts';

const APP_COUNT = Number(process.env['RKT_TEST_APPS'] ?? 10);
const DISK_COUNT = Number(process.env['RKT_TEST_DISKS'] ?? 3);
const LONGEST_TEST_MS = 1_800_000;
/** What an app needs to look at the agent. */
const PTRACE = '--caps-retain=CAP_SYS_PTRACE,CAP_DAC_OVERRIDE';
const UNTIL_STOPPED = ['--exec=/bin/sh', '--', '-c', 'trap "exit 0" TERM; while :; do sleep 0.1; done'];

interface Sandbox {
  uuid: string;
  podDir: string;
  /** What it has printed so far. */
  output(): string;
  ended: Promise<RunResult>;
}

async function startSandbox(host: Host, ...args: readonly string[]): Promise<Sandbox> {
  const uuidFile = join(host.workDir, 'uuid');
  const { child, ended } = host.start(['app', 'sandbox', '--net=none', `--uuid-file-save=${uuidFile}`, ...args], { timeoutMs: LONGEST_TEST_MS });
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const early = ended.then(({ status, stderr }) => {
    throw new Error(`the sandbox has ended with ${status}: ${stderr}`);
  });
  early.catch(() => undefined);
  const uuid = await Promise.race([eventually('the sandbox is ready', () => readyPod(host, uuidFile), 120_000), early]);
  return { uuid, podDir: join(host.dataDir, 'pods/run', uuid), output: () => output, ended };
}

async function succeed(host: Host, ...args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await host.rkt(args);
  if (status !== 0) throw new Error(`rkt ${args.join(' ')}: exit status ${status}: ${stderr}`);
  return stdout.toString();
}

async function refused(host: Host, status: number, ...args: readonly string[]): Promise<string> {
  const result = await host.rkt(args);
  if (result.status !== status) throw new Error(`rkt ${args.join(' ')}: exit status ${result.status}, not ${status}: ${result.stdout.toString()}${result.stderr}`);
  return result.stderr;
}

const rowsOf = (text: string): string[] => text.trim().split('\n').map((line) => line.replace(/\t+/g, ' '));

function appStatus(text: string): Record<string, string> {
  return Object.fromEntries(text.trim().split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

function manifestApps(sandbox: Sandbox): string[] {
  return (JSON.parse(readFileSync(join(sandbox.podDir, 'pod'), 'utf8')) as { apps: { name: string }[] }).apps.map(({ name }) => name);
}

/** Everything of the agent's and the guest's kernel that apps could leave behind, from inside an app that may look. */
const LOOK = `
cat /proc/1/mounts
echo blocks: $(ls /sys/block)
echo devices: $(ls /sys/bus/pci/devices)
ls -l /proc/1/fd | sed -n 's/.* -> /descriptor /p' | sed 's/[0-9][0-9]*/N/g'
for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep . ; done
cd /proc/1/root
ls agent agent/disks agent/provided agent/scratch/apps agent/scratch/volumes 2>/dev/null
ls -d sys/fs/cgroup/app-*
`;

interface Traces {
  guest: string[];
  /** Kind and number of what the monitor and QEMU have open. */
  monitor: string[];
  qemu: string[];
}

const NOTHING: Traces = { guest: [], monitor: [], qemu: [] };

async function tracesOf(host: Host, sandbox: Sandbox): Promise<Traces> {
  const { qemuPid } = JSON.parse(readFileSync(join(sandbox.podDir, 'vm.json'), 'utf8')) as { qemuPid: number };
  const guest = (await succeed(host, 'app', 'exec', '--app=probe', sandbox.uuid, '/bin/sh', '-c', LOOK)).split('\n');
  return { guest, monitor: openFiles(Number(readFileSync(join(sandbox.podDir, 'pid'), 'utf8'))), qemu: openFiles(qemuPid) };
}

/** What there is more than before. Connections that come too late for their process are closed after half a minute, in the picture before, too. */
async function leftBehind(host: Host, sandbox: Sandbox, before: Traces): Promise<Traces> {
  let more = before;
  await eventually('nothing is left', async () => {
    const now = await tracesOf(host, sandbox);
    more = { guest: without(now.guest, before.guest), monitor: without(now.monitor, before.monitor), qemu: without(now.qemu, before.qemu) };
    return Object.values(more).every((list: string[]) => list.length === 0);
  }, 45_000).catch(() => undefined);
  return more;
}

function without(list: readonly string[], known: readonly string[]): string[] {
  const rest = [...known];
  return list.filter((item) => {
    const index = rest.indexOf(item);
    if (index >= 0) rest.splice(index, 1);
    return index < 0;
  });
}

function openFiles(pid: number): string[] {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory).flatMap((fd) => {
    try {
      return [readlinkSync(join(directory, fd)).replace(/\d+/g, 'N')];
    } catch {
      return []; // closed meanwhile
    }
  }).sort();
}

t.test('apps join, run and leave', async (t) => {
  const host = makeHost('app');
  t.teardown(host.close);
  const image = (await succeed(host, '--insecure-options=image', 'fetch', '--full', busyboxImage())).trim();
  const { failures, quote } = attestationOf(host);
  const sandboxFlags = ['--mem=512Mi', '--hostname=sand', '--user-annotation=owner=me', '--annotation=example.com/x=y'];
  const reference = join(host.workDir, 'reference.json');
  writeFileSync(reference, await succeed(host, 'attest', 'predict-sandbox', '--net=none', ...sandboxFlags));
  t.match(await refused(host, 1, 'app', 'sandbox', '--sealed'), /excludes --sealed/);

  const sandbox = await startSandbox(host, ...sandboxFlags);
  const { uuid } = sandbox;
  const add = (name: string, ...args: readonly string[]): Promise<string> => succeed(host, 'app', 'add', uuid, image, `--name=${name}`, ...args);

  t.equal(await succeed(host, 'app', 'list', uuid), 'NAME\tSTATE\n');
  t.equal(await succeed(host, 'app', 'list', '--no-legend', uuid), '\n', 'as rkt: not even nothing is printed');
  t.match(await succeed(host, 'list', '--no-legend'), new RegExp(`^${uuid.slice(0, 8)}\t-\t-\trunning`));

  await t.test('the life of an app', async (t) => {
    await add('worker', '--memory=64M', '--user=1000', '--group=1000', '--environment=WHO=you', '--user-label=tier=back', '--mnt-volume=name=data,kind=empty,target=/data,mode=0777,uid=0,gid=0', '--exec=/bin/sh', '--', '-c', 'echo "$WHO $(id -u) $(hostname)"; echo kept > /data/f; trap "exit 3" TERM; while :; do sleep 0.1; done');
    t.equal(await succeed(host, 'app', 'list', uuid), 'NAME\tSTATE\nworker\tcreated\n');
    t.match(await refused(host, 254, 'app', 'add', uuid, image, '--name=worker'), 'add: error: multiple apps with name worker');
    await succeed(host, 'app', 'start', uuid, '--app=worker');
    await eventually('the app has spoken', () => /worker\[\d+\]: you 1000 sand\r?\n/.test(sandbox.output()));
    t.strictSame(rowsOf(await succeed(host, 'app', 'list', '--no-legend', uuid)), ['worker running']);
    t.match(await refused(host, 254, 'app', 'start', uuid, '--app=worker'), /app "worker" is running already/);
    t.equal(await succeed(host, 'app', 'exec', '--app=worker', uuid, '/bin/cat', '/data/f'), 'kept\n');
    t.equal(await succeed(host, 'enter', uuid, '/bin/id', '-u'), '1000\n', 'the only app need not be named');
    const running = appStatus(await succeed(host, 'app', 'status', uuid, '--app=worker'));
    t.strictSame(Object.keys(running), ['name', 'state', 'image_id', 'created_at', 'started_at', 'mounts', 'user_labels']);
    t.match(running, { name: 'worker', state: 'running', image_id: image, mounts: ':/data:(read_only:false)', user_labels: 'tier:back' });

    await succeed(host, 'app', 'stop', uuid, '--app=worker');
    const status = JSON.parse(await succeed(host, 'app', 'status', '--format=json', uuid, '--app=worker')) as Record<string, unknown>;
    t.match(status, { name: 'worker', state: 'exited', exit_code: 3, image_id: image });
    t.ok((status['finished_at'] as number) >= (status['started_at'] as number) && (status['started_at'] as number) >= (status['created_at'] as number));
    await succeed(host, 'app', 'stop', uuid, '--app=worker');
    t.match(await refused(host, 254, 'app', 'start', uuid, '--app=worker'), /has exited, and an app runs only once/);
    t.match((await host.rkt(['app', 'exec', '--app=worker', uuid, '/bin/true'])).stderr, /app "worker" has ended/);
    t.match(await succeed(host, 'status', uuid), /^state=running\n/, 'the pod goes on');
    await succeed(host, 'app', 'rm', uuid, '--app=worker');
    t.equal(await succeed(host, 'app', 'list', uuid), 'NAME\tSTATE\n');
    t.strictSame(readdirSync(join(sandbox.podDir, 'status')), []);
    t.strictSame(readdirSync(join(sandbox.podDir, 'appsinfo')), []);
  });

  await t.test('what is refused leaves the pod as it was', async (t) => {
    const before = readFileSync(join(sandbox.podDir, 'pod'), 'utf8');
    t.match(await refused(host, 254, 'app', 'add', uuid), 'add: must provide the pod UUID and an IMAGEID');
    t.match(await refused(host, 254, 'app', 'add', uuid, image, image), 'add: must give only one app');
    t.match(await refused(host, 254, 'app', 'add', uuid, `sha512-${'0'.repeat(64)}`), /add: .*0000/);
    t.match(await refused(host, 254, 'app', 'add', uuid, image, '--name=big', '--memory=1G'), /memory limit is 954 MiB, the pod has 384 MiB left for limits/);
    t.match(await refused(host, 254, 'app', 'add', uuid, image, '--name=nobody', '--user=nosuchuser'), /nosuchuser/);
    t.match(await refused(host, 254, 'app', 'add', uuid, image, '--mnt-volume=name=v,kind=host,source=/tmp,target=/v'), /a directory of the host cannot be added to a running pod/);
    t.match(await refused(host, 254, 'app', 'start', uuid, '--app=none'), 'start: error: nonexistent app "none"');
    t.match(await refused(host, 254, 'app', 'rm', uuid, '--app=none'), 'rm: error: nonexistent app "none"');
    t.match(await refused(host, 1, 'app', 'status', uuid, '--app=none'), 'status: cannot find app "none" in the pod');
    t.match(await refused(host, 1, 'app', 'list', 'ffffffff'), /no matches found/);
    t.equal(readFileSync(join(sandbox.podDir, 'pod'), 'utf8'), before);
    t.strictSame(readdirSync(join(sandbox.podDir, 'appsinfo')), []);
    await add('broken', '--exec=/bin/nothing');
    t.match(await refused(host, 254, 'app', 'start', uuid, '--app=broken'), /Unable to open "\/bin\/nothing": No such file or directory/);
    t.match(await succeed(host, 'app', 'status', uuid, '--app=broken'), /state=exited\n[^]*exit_code=203\n/);
    await succeed(host, 'app', 'rm', uuid, '--app=broken');
  });

  await t.test('what is measured', async (t) => {
    await add('probe', PTRACE, ...UNTIL_STOPPED);
    await succeed(host, 'app', 'start', uuid, '--app=probe');
    const log = await succeed(host, 'attest', 'log', uuid);
    for (const what of [`app "worker" added, image "${image}"`, 'app "worker" started', 'app "worker" stopped', 'app "worker" removed', 'app "probe" added']) t.ok(log.includes(what), what);
    t.ok(log.indexOf('app "nobody" added') > 0, 'also what failed later was measured before');
    const found = await failures(await quote(uuid), [`--reference=${reference}`]);
    t.ok(found.length > 0 && found.every(({ text }) => text.startsWith('the policy does not allow this change: ')), found.map(({ text }) => text).join('\n'));
    t.ok(found.some(({ text }) => text.includes('app "probe" added')));
  });

  await t.test(`${APP_COUNT} apps one after the other leave nothing`, async (t) => {
    const cycle = async (number: number): Promise<void> => {
      await add(`app-${number}`, '--mnt-volume=name=own,kind=empty,target=/own', '--exec=/bin/sh', '--', '-c', 'mkdir -p /own/a/b /x/y; echo z > /own/a/b/f; exec sleep 600');
      await succeed(host, 'app', 'start', uuid, `--app=app-${number}`);
      await succeed(host, 'app', 'rm', uuid, `--app=app-${number}`);
    };
    await cycle(0);
    const before = await tracesOf(host, sandbox);
    for (let number = 1; number <= APP_COUNT; number++) await cycle(number);
    t.strictSame(await leftBehind(host, sandbox, before), NOTHING);
  });

  await t.test(`${DISK_COUNT} images at once, two apps of each`, async (t) => {
    const images: string[] = [];
    for (let number = 0; number < DISK_COUNT; number++) {
      const layout = join(host.workDir, `image-${number}`);
      makeOciLayout(layout, { layers: [busyboxMembers(), [{ path: 'number', content: String(number) }]] });
      images.push((await succeed(host, '--insecure-options=image', 'fetch', '--full', layout)).trim());
    }
    const before = await tracesOf(host, sandbox);
    const names = images.flatMap((_, number) => [`a-${number}`, `b-${number}`]);
    await Promise.all(names.map((name) => succeed(host, 'app', 'add', uuid, images[Number(name.slice(2))] ?? '', `--name=${name}`, '--exec=/bin/sleep', '--', '600')));
    t.strictSame(manifestApps(sandbox).sort(), ['probe', ...names].sort());
    const disks = (await succeed(host, 'app', 'exec', '--app=probe', uuid, '/bin/sh', '-c', 'ls -d /sys/block/vd* | wc -l')).trim();
    t.equal(Number(disks), 2 + DISK_COUNT, 'a disk for each image, and the one of the pod and the probe');
    for (const name of names) t.equal(await succeed(host, 'app', 'exec', `--app=${name}`, uuid, '/bin/cat', '/number'), name.slice(2));
    await Promise.all(names.map((name) => succeed(host, 'app', 'rm', uuid, `--app=${name}`)));
    t.strictSame(await leftBehind(host, sandbox, before), NOTHING);
  });

  t.equal(await succeed(host, 'stop', uuid), `"${uuid}"\n`);
  const { status, stderr } = await sandbox.ended;
  t.equal(status, 0, stderr);
  t.match(await succeed(host, 'app', 'list', '--no-legend', uuid), 'probe\texited\n');
  t.match(await refused(host, 254, 'app', 'add', uuid, image), `add: pod "${uuid}" isn't currently running`);
});

t.test('whoever is killed half-way, the pod can be told, changed and removed', async (t) => {
  const host = makeHost('app-crash');
  t.teardown(host.close);
  const image = (await succeed(host, '--insecure-options=image', 'fetch', '--full', busyboxImage())).trim();
  const sandbox = await startSandbox(host, '--tpm=off');
  const { uuid } = sandbox;
  for (let delayMs = 60; delayMs <= 260; delayMs += 50) {
    const { child, ended } = host.start(['app', 'add', uuid, image, `--name=cut-${delayMs}`, ...UNTIL_STOPPED]);
    await sleep(delayMs);
    child.kill('SIGKILL');
    await ended;
  }
  // As if the command had been killed between stage1's answer and the manifest.
  mkdirSync(join(sandbox.podDir, 'appsinfo/half'), { mode: 0o750 });
  const known = manifestApps(sandbox);
  await succeed(host, 'app', 'add', uuid, image, '--name=whole', ...UNTIL_STOPPED);
  t.strictSame(manifestApps(sandbox), [...known, 'whole']);
  t.strictSame(readdirSync(join(sandbox.podDir, 'appsinfo')).sort(), [...known, 'whole'].sort(), 'what was interrupted is gone');
  for (const app of [...known, 'whole']) await succeed(host, 'app', 'start', uuid, `--app=${app}`);
  for (const app of known) await succeed(host, 'app', 'rm', uuid, `--app=${app}`);

  process.kill(Number(readFileSync(join(sandbox.podDir, 'pid'), 'utf8')), 'SIGKILL');
  await sandbox.ended;
  t.match(await succeed(host, 'status', uuid), /^state=exited\n/);
  t.equal(await succeed(host, 'app', 'list', uuid), 'NAME\tSTATE\nwhole\texited\n');
  await succeed(host, 'gc', '--grace-period=0s');
  t.notOk(host.listing().some((path) => path.includes(uuid)), 'nothing of the pod is left');
  await eventually('no process is left', () => processesMentioning(uuid).length === 0);
});

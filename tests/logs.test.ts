/** What apps write: kept, bounded, read again, and never at the cost of anybody else. RKT_TEST_CHATTY_MIB=1024 makes the chatty app write that much. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildCache } from '../scripts/build-cache.ts';
import { buildProgram } from '../scripts/build-runtime.ts';
import { busyboxImage } from './helpers/busybox.ts';
import { eventually, makeHost, readyPod, type Host } from './helpers/rkt.ts';

const image = busyboxImage();
const CHATTY_MIB = Number(process.env['RKT_TEST_CHATTY_MIB'] ?? 12);
/** More than all pipes and sockets on the way hold. */
const BLOCKED_MIB = 4;
const LIMIT_PSS_KIB = 6144;

const shell = (script: string): string[] => ['--exec=/bin/sh', '--', '-c', script, '---'];
const app = (name: string, script: string, ...flags: string[]): string[] => [image, `--name=${name}`, ...flags, ...shell(script)];
const podDirectory = (host: Host, uuid: string): string => join(host.dataDir, 'pods/run', uuid);
const pssKib = (pid: number): number => Number(/^Pss:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]);

async function startPod(host: Host, args: readonly string[]): Promise<{ uuid: string; directory: string; child: ReturnType<Host['start']>['child']; ended: ReturnType<Host['start']>['ended'] }> {
  const uuidFile = join(host.workDir, `uuid-${readdirSync(host.workDir).length}`);
  const { child, ended } = host.start(['run', '--net=none', `--uuid-file-save=${uuidFile}`, ...args], { timeoutMs: 1_200_000 });
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  return { uuid, directory: podDirectory(host, uuid), child, ended };
}

t.test('output is kept, and read again', async (t) => {
  const host = makeHost('logs');
  t.teardown(host.close);
  const before = new Date();
  const pod = await startPod(host, [
    ...app('one', 'echo out; sleep 0.3; echo err >&2; printf par; sleep 0.3; echo tial; printf end'),
    // Later than all of the other, earlier than its end.
    ...app('two', 'sleep 2; echo second; echo nobody >&2', '--stderr=null'),
    ...app('three', 'tty; stty size; readlink /proc/self/fd/0', '--stdin=null', '--stdout=tty'),
    ...app('four', 'echo kept', '--stdout=stream'),
  ]);
  const ended = await pod.ended;
  t.equal(ended.status, 0, ended.stderr);
  const shown = ended.stdout.toString().replace(/^\[ *\d+\.\d+\] (\w+)\[\d+\]: /gm, '$1: ').split('\n').sort();
  t.same(shown, ['', 'one: end', 'one: out', 'one: partial', 'two: second'], 'what goes to attached clients only is not on the output of rkt');
  t.match(ended.stderr, /^\[ *\d+\.\d+\] one\[\d+\]: err$/m);
  t.notMatch(ended.stderr, /nobody/);

  const file = readFileSync(join(pod.directory, 'logs/one.log'), 'utf8');
  t.match(file, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stdout F out$/m);
  t.match(file, / stderr F err\n.* stdout P par\n.* stdout F tial\n.* stdout P end\n.* stdout F \n$/, 'the format of Kubernetes, where lines come in parts');
  t.equal(statSync(join(pod.directory, 'logs/one.log')).mode & 0o777, 0o640);

  const logs = async (...args: string[]): Promise<{ out: string; err: string }> => {
    const { status, stdout, stderr } = await host.rkt(['logs', pod.uuid, ...args]);
    t.equal(status, 0, stderr);
    return { out: stdout.toString(), err: stderr };
  };
  t.same(await logs('--app=one'), { out: 'out\npartial\nend\n', err: 'err\n' });
  t.match((await logs('--app=three')).out, /\/dev\/null\r\n$/, 'a terminal that nobody types at');
  t.same(await logs('--app=four'), { out: 'kept\n', err: '' });
  const all = await logs();
  t.match(all.out.replace(/^(three|four): [^\n]*\n/gm, ''), /^one: out\none: partial\none: end\ntwo: second\n$/, 'in the order of time, with names');
  t.equal(all.err, 'one: err\n');
  t.match((await logs('--app=one', '--tail=1')).out, /^end\n$/);
  t.match((await logs('--app=two', '--timestamps')).out, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z second\n$/);
  t.equal((await logs('--app=one', `--until=${before.toISOString()}`)).out, '');
  t.match((await logs('--app=one', `--since=${before.toISOString()}`)).out, /^out\n/);
  t.match((await logs('--app=one', '--since=1h', '-t')).out, /out\n/);

  t.match(await host.rkt(['logs', pod.uuid, '--app=five']), { status: 254, stderr: 'logs: app "five" is not in the pod: it has one, two, three, four\n' });
  t.match(await host.rkt(['logs', '--since=yesterday', pod.uuid]), { status: 254, stderr: /^logs: invalid argument "yesterday" for "--since" flag: expected a time/ });
  t.match(await host.rkt(['run', '--net=none', image, '--stdin=tty', '--stdout=stream']), { status: 254, stderr: /cannot be beside a "tty"/ });
  t.match(await host.rkt(['run', '--net=none', '--interactive', image, '--stdin=stream']), { status: 254, stderr: /^run: --interactive excludes --stdin/ });
  t.match(await host.rkt(['run', '--net=none', '--log-driver=journald', `--log-journal=${host.workDir}/none`, image]), { status: 254, stderr: /^stage1: --log-driver=journald: there is no journal: / });
});

t.test('files are rotated, followed across rotations, and every line is in the journal', async (t) => {
  const host = makeHost('logs-rotation');
  t.teardown(host.close);
  const program = await buildProgram({ entry: join(import.meta.dirname, 'helpers/fake-journal.ts'), output: join(buildCache(), 'tests/fake-journal') });
  const journal = spawn(program.output, [join(host.workDir, 'journal')], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => journal.kill());
  let told = '';
  journal.stdout.on('data', (chunk: Buffer) => (told += chunk.toString()));
  await eventually('the journal listens', () => told.includes('ready'));

  const LINES = 12_000;
  const pod = await startPod(host, [
    '--log-size-max=256Ki', '--log-files-max=3', '--log-driver=journald', `--log-journal=${host.workDir}/journal`,
    ...app('count', `while ! [ -e /go ]; do sleep 0.1; done; i=0; while [ $i -lt ${LINES} ]; do i=$((i+1)); echo "line $i of a log that is long enough to be rotated"; done; head -c 45000 /dev/zero | tr '\\0' x; echo; echo done >&2`),
  ]);
  const follower = host.rkt(['logs', '--follow', pod.uuid], { timeoutMs: 600_000 });
  t.equal((await host.rkt(['enter', pod.uuid, '/bin/touch', '/go'])).status, 0);
  const ended = await pod.ended;
  t.equal(ended.status, 0, ended.stderr);
  const expected = [...Array.from({ length: LINES }, (_, index) => `line ${index + 1} of a log that is long enough to be rotated`), 'x'.repeat(45_000), ''].join('\n');
  t.ok(ended.stdout.toString() === expected, 'the output of rkt');
  const followed = await follower;
  t.equal(followed.status, 0, followed.stderr);
  const lines = followed.stdout.toString().split('\n');
  // The kept files together are smaller than what was written: one who follows sees more than they hold, and nothing twice.
  const numbers = lines.flatMap((line) => /^line (\d+) /.exec(line)?.[1] ?? []).map(Number);
  t.ok(numbers.every((number, index) => index === 0 || number > numbers[index - 1]!), 'in order');
  t.equal(numbers.at(-1), LINES);
  t.equal(followed.stderr, 'done\n');

  const files = readdirSync(join(pod.directory, 'logs')).sort();
  t.same(files, ['count.log', 'count.log.1', 'count.log.2']);
  for (const file of files) t.ok(statSync(join(pod.directory, 'logs', file)).size <= 256 << 10, file);
  const kept = (await host.rkt(['logs', pod.uuid])).stdout.toString();
  t.ok(kept.length > (256 << 10) / 2 && expected.endsWith(kept), 'the end of it is kept');

  await eventually('the journal has the last line', () => told.includes('"done"'));
  const entries = told.split('\n').slice(1, -1).map((line) => JSON.parse(line) as { isFile: boolean; fields: Record<string, string> });
  const common = { RKT_POD: pod.uuid, RKT_APP: 'count', SYSLOG_IDENTIFIER: 'count' };
  t.match(entries.find(({ fields }) => fields['MESSAGE'] === 'done')?.fields, { ...common, PRIORITY: '3', RKT_STREAM: 'stderr' });
  t.match(entries.find(({ fields }) => fields['MESSAGE']?.startsWith('line') === true)?.fields, { ...common, PRIORITY: '6', RKT_STREAM: 'stdout' });
  t.ok(entries.some(({ fields }) => fields['MESSAGE'] === 'x'.repeat(45_000)), 'a long line is one entry');
  const lost = [...ended.stderr.matchAll(/the journal did not take (\d+) lines/g)].reduce((sum, [, count]) => sum + Number(count), 0);
  t.equal(entries.length + lost, LINES + 2, 'nothing is lost without a word');
  t.comment(`${lost} lines lost`);
});

t.test('a log where Kubernetes wants it, renamed and reopened', async (t) => {
  const host = makeHost('logs-kubernetes');
  t.teardown(host.close);
  const directory = join(host.workDir, 'kubernetes');
  mkdirSync(directory);
  const id = (await host.rkt(['fetch', '--full', image])).stdout.toString().trim();
  const manifest = {
    acVersion: '0.8.11', acKind: 'PodManifest',
    apps: [{
      name: 'one', image: { id }, annotations: [{ name: 'coreos.com/rkt/experiment/kubernetes-log-path', value: 'one_0.log' }],
      app: { exec: ['/bin/sh', '-c', 'echo first; while ! [ -e /go ]; do sleep 0.1; done; echo second'], user: '0', group: '0' },
    }],
    annotations: [{ name: 'coreos.com/rkt/experiment/logmode', value: 'k8s-plain' }, { name: 'coreos.com/rkt/experiment/kubernetes-log-dir', value: directory }],
  };
  const file = join(host.workDir, 'pod.json');
  writeFileSync(file, JSON.stringify(manifest));
  const pod = await startPod(host, [`--pod-manifest=${file}`]);
  const log = join(directory, 'one_0.log');
  await eventually('the first line is there', () => existsSync(log) && readFileSync(log, 'utf8').includes('first'));
  t.equal((await host.rkt(['logs', pod.uuid])).stdout.toString(), 'first\n');
  renameSync(log, `${log}.20261122-080000`);
  process.kill(Number(readFileSync(join(pod.directory, 'pid'), 'utf8')), 'SIGUSR1');
  t.equal((await host.rkt(['enter', pod.uuid, '/bin/touch', '/go'])).status, 0);
  t.equal((await pod.ended).status, 0);
  t.match(readFileSync(log, 'utf8'), /^\S+ stdout F second\n$/);
  t.notOk(existsSync(join(pod.directory, 'logs')), 'there is one log');

  manifest.apps[0]!.annotations[0]!.value = '../escape.log';
  writeFileSync(file, JSON.stringify(manifest));
  t.match(await host.rkt(['run', '--net=none', `--pod-manifest=${file}`]), { status: 254, stderr: /expected a path below the log directory, found "\.\.\/escape\.log"/ });
});

t.test('a chatty app makes nobody wait but itself', async (t) => {
  const host = makeHost('logs-chatty');
  t.teardown(host.close);
  // Made once and copied: what is measured is the way out, not an emulated processor's idea of a loop.
  const write = (mib: number): string => `yes 'a line of output, as programs write them when nobody looks' | head -c 1048576 > /tmp/text; i=0; while [ $i -lt ${mib} ]; do cat /tmp/text; i=$((i+1)); done`;
  const pod = await startPod(host, [
    // Nobody reads the output of rkt: this one waits, as at any pipe.
    ...app('blocked', `${write(BLOCKED_MIB)}; echo through >&2`),
    // Nobody is attached: this one never waits.
    ...app('chatty', write(CHATTY_MIB), '--stdout=stream'),
    ...app('ticker', 'while ! [ -e /go ]; do echo tick; sleep 0.1; done', '--stdout=stream'),
  ]);
  pod.child.stdout!.pause();
  const monitorPid = Number(readFileSync(join(pod.directory, 'pid'), 'utf8'));
  const ticks = (): number => readFileSync(join(pod.directory, 'logs/ticker.log'), 'utf8').split('\n').length;
  const started = performance.now();
  let peakKib = 0;
  let longestPauseMs = 0;
  let lastTick = { count: 0, atMs: performance.now() };
  await eventually('the chatty app has written everything', () => {
    peakKib = Math.max(peakKib, pssKib(monitorPid));
    const count = existsSync(join(pod.directory, 'logs/ticker.log')) ? ticks() : 0;
    if (count > lastTick.count) {
      longestPauseMs = Math.max(longestPauseMs, performance.now() - lastTick.atMs);
      lastTick = { count, atMs: performance.now() };
    }
    return existsSync(join(pod.directory, 'status/chatty'));
  }, 1_000_000);
  t.comment(`${CHATTY_MIB} MiB in ${Math.round(performance.now() - started)} ms, monitor at most ${peakKib} KiB, ticks at most ${Math.round(longestPauseMs)} ms apart`);
  t.equal(readFileSync(join(pod.directory, 'status/chatty'), 'utf8'), '0\n');
  t.ok(peakKib <= LIMIT_PSS_KIB, `the monitor takes ${peakKib} KiB`);
  t.ok(longestPauseMs < 20_000, 'the other app went on all the time');
  t.notOk(existsSync(join(pod.directory, 'status/blocked')), 'an app whose output nobody takes waits');
  const before = ticks();
  await eventually('ticks while another app is blocked', () => ticks() > before + 3);

  pod.child.stdout!.resume();
  t.equal((await host.rkt(['enter', '--app=ticker', pod.uuid, '/bin/touch', '/go'])).status, 0);
  const { status, stdout, stderr } = await pod.ended;
  t.equal(status, 0, stderr);
  t.match(stderr, /through/, 'and goes on when its output is taken');
  t.ok(stdout.length >= BLOCKED_MIB * 2 ** 20, `${stdout.length} bytes`);
  const kept = readdirSync(join(pod.directory, 'logs')).filter((name) => name.startsWith('chatty')).map((name) => statSync(join(pod.directory, 'logs', name)).size);
  t.ok(kept.length <= 5 && kept.every((size) => size <= 10 << 20), 'its log is bounded');
});

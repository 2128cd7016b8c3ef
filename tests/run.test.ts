/** `rkt run` of real images in real virtual machines: output, exit statuses, streams, signals, and what is left afterwards. */
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { busyboxImage } from './helpers/busybox.ts';
import { eventually, makeHost, processesMentioning, readyPod } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';

const PREFIX_LENGTH = 8;

t.jobs = 2;
const image = busyboxImage();

function shell(script: string): string[] {
  return [image, '--exec', '/bin/sh', '--', '-c', script];
}

function onlyPod(host: Host, state: string): string {
  const uuids = host
    .listing()
    .map((path) => new RegExp(`^pods/${state}/([0-9a-f-]{36})/$`).exec(path)?.[1])
    .filter((uuid) => uuid !== undefined);
  const uuid = uuids[0];
  if (uuids.length !== 1 || uuid === undefined) throw new Error(`${uuids.length} pods in ${state}`);
  return uuid;
}

t.test('output and exit status of an app', async (t) => {
  const host = makeHost('run');
  t.teardown(host.close);
  const result = await host.rkt(['run', '--net=none', ...shell('echo hi; echo oops >&2; exit 7')]);
  t.equal(result.stdout.toString(), 'hi\n');
  t.equal(result.stderr, 'oops\n');
  t.equal(result.status, 7);

  const uuid = onlyPod(host, 'run');
  const status = await host.rkt(['status', uuid]);
  t.match(status.stdout.toString(), /^state=exited\n/);
  t.match(status.stdout.toString(), /\nexited=true\napp-\S+=7\n$/);

  const gc = await host.rkt(['gc', '--grace-period=0s']);
  t.equal(gc.status, 0, gc.stderr);
  t.notOk(host.listing().some((path) => path.includes(uuid)), 'nothing of the pod is left');
});

t.test('100 MB through stdin and stdout', async (t) => {
  const host = makeHost('cat');
  t.teardown(host.close);
  const input = Buffer.concat(Array.from({ length: 10 }, () => randomBytes(10_000_000)));
  const result = await host.rkt(['run', '--net=none', '--interactive', image, '--exec', '/bin/cat'], { input, timeoutMs: 300_000 });
  t.equal(result.status, 0, result.stderr);
  t.equal(result.stdout.length, input.length);
  t.equal(createHash('sha256').update(result.stdout).digest('hex'), createHash('sha256').update(input).digest('hex'));
});

t.test('an interrupt stops the pod in order', async (t) => {
  const host = makeHost('interrupt');
  t.teardown(host.close);
  const { child, ended } = host.start(['run', '--net=none', ...shell('trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.1; done')]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await eventually('the app is up', () => output.includes('up'));
  child.kill('SIGINT');
  const result = await ended;
  t.equal(result.stdout.toString(), 'up\nbye\n');
  t.equal(result.status, 3, result.stderr);
});

t.test('an app that ignores TERM is killed after the grace period', async (t) => {
  const host = makeHost('stubborn');
  t.teardown(host.close);
  const { child, ended } = host.start(['run', '--net=none', ...shell('trap "" TERM; echo up; while :; do sleep 0.1; done')]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await eventually('the app is up', () => output.includes('up'));
  const begin = performance.now();
  child.kill('SIGTERM');
  const result = await ended;
  t.equal(result.status, 128 + 9, result.stderr);
  t.ok(performance.now() - begin < 60_000);
});

t.test('kill -9 of the monitor leaves no QEMU behind', async (t) => {
  const host = makeHost('kill9');
  t.teardown(host.close);
  const { child, ended } = host.start(['run', '--net=none', ...shell('echo up; sleep 600')]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await eventually('the app is up', () => output.includes('up'));
  const uuid = onlyPod(host, 'run');
  const vm = JSON.parse(readFileSync(join(host.dataDir, 'pods/run', uuid, 'vm.json'), 'utf8')) as { qemuPid: number };
  t.ok(existsSync(`/proc/${vm.qemuPid}`), 'QEMU runs');
  child.kill('SIGKILL');
  await ended;
  await eventually('QEMU has gone', () => !existsSync(`/proc/${vm.qemuPid}`), 5000);
  const status = await host.rkt(['status', uuid]);
  t.match(status.stdout.toString(), /^state=exited\n/);
  const gc = await host.rkt(['gc', '--grace-period=0s']);
  t.equal(gc.status, 0, gc.stderr);
  t.strictSame(processesMentioning(host.dataDir), []);
  t.notOk(host.listing().some((path) => path.includes(uuid)));
});

t.test('the first failing app ends the pod and gives its status', async (t) => {
  const host = makeHost('apps');
  t.teardown(host.close);
  const result = await host.rkt([
    'run', '--net=none',
    image, '--name=waits', '--exec', '/bin/sh', '--', '-c', 'echo waiting; sleep 600', '---',
    image, '--name=fails', '--exec', '/bin/sh', '--', '-c', 'sleep 1; echo failing; exit 9',
  ]);
  t.equal(result.status, 9, result.stderr);
  t.match(result.stdout.toString(), /^\[ *\d+\.\d{6}\] waits\[\d+\]: waiting$/m);
  t.match(result.stdout.toString(), /^\[ *\d+\.\d{6}\] fails\[\d+\]: failing$/m);
  const uuid = onlyPod(host, 'run');
  const status = await host.rkt(['status', uuid]);
  t.match(status.stdout.toString(), /\napp-fails=9\n/);
});

t.test('every app ends with 0: so does the pod', async (t) => {
  const host = makeHost('apps0');
  t.teardown(host.close);
  const result = await host.rkt([
    'run', '--net=none',
    image, '--name=one', '--exec', '/bin/true', '---',
    image, '--name=two', '--exec', '/bin/sh', '--', '-c', 'echo two',
  ]);
  t.equal(result.status, 0, result.stderr);
});

t.test('ten pods at once, and nothing left after gc', async (t) => {
  const host = makeHost('ten');
  t.teardown(host.close);
  const fetch = await host.rkt(['fetch', image]);
  t.equal(fetch.status, 0, fetch.stderr);
  const emptyHost = host.listing().filter((path) => !path.startsWith('cas/stage1') && !path.startsWith('cas/scratch') && !path.startsWith('cas/source'));
  const results = await Promise.all(
    Array.from({ length: 10 }, (_, index) => host.rkt(['run', '--net=none', ...shell(`echo pod ${index}; exit ${index}`)], { timeoutMs: 300_000 })),
  );
  results.forEach((result, index) => {
    t.equal(result.stdout.toString(), `pod ${index}\n`, result.stderr);
    t.equal(result.status, index);
  });
  const list = await host.rkt(['list', '--no-legend']);
  t.equal(list.stdout.toString().trim().split('\n').length, 10);
  const gc = await host.rkt(['gc', '--grace-period=0s']);
  t.equal(gc.status, 0, gc.stderr);
  t.strictSame(processesMentioning(host.dataDir), [], 'no process');
  t.notMatch(readFileSync('/proc/mounts', 'utf8'), host.dataDir, 'no mount');
  t.strictSame(
    host.listing().filter((path) => /^pods\/[^/]+\/./.test(path) || path.endsWith('.sock 0')),
    [], 'no pod, no socket');
  const before = new Set(emptyHost);
  const left = host.listing().filter((path) => !before.has(path) && !/^cas\/(stage1|scratch|source)|^tpm\/|^locks|^pods\/([^/]+\/)?$/.test(path));
  t.strictSame(left, [], 'no file');
});

t.test('enter, list, status and stop of a running pod', async (t) => {
  const host = makeHost('enter');
  t.teardown(host.close);
  const uuidFile = join(host.workDir, 'uuid');
  const { ended } = host.start(['run', '--net=none', `--uuid-file-save=${uuidFile}`, '--set-env=COLOUR=blue', image, '--name=app', '--exec', '/bin/sh', '--', '-c', 'echo ready > /tmp/ready; sleep 600 & wait']);
  const uuid = await eventually('the pod is ready', () => readyPod(host, uuidFile));
  const entered = await host.rkt(['enter', uuid.slice(0, PREFIX_LENGTH), '/bin/sh', '-c', 'echo $COLOUR; echo err >&2; cat; exit 5'], { input: 'typed\n' });
  t.equal(entered.stdout.toString(), 'blue\ntyped\n');
  t.equal(entered.stderr, 'err\n');
  t.equal(entered.status, 5);

  const missing = await host.rkt(['enter', uuid, '/bin/nothing-here']);
  t.not(missing.status, 0);
  t.match(missing.stderr, /nothing-here/);

  const list = await host.rkt(['list', '--full', '--no-legend']);
  t.match(list.stdout.toString(), new RegExp(`^${uuid}\\tapp\\t.*\\trunning\\t`));
  const status = await host.rkt(['status', '--format=json', uuid]);
  t.equal((JSON.parse(status.stdout.toString()) as { state: string }).state, 'running');
  const removed = await host.rkt(['rm', uuid]);
  t.equal(removed.status, 254);
  t.match(removed.stderr, /is currently running/);

  const stopped = await host.rkt(['stop', uuid]);
  t.equal(stopped.status, 0, stopped.stderr);
  t.match(stopped.stdout.toString(), uuid);
  await ended;
  const waited = await host.rkt(['status', '--wait', uuid]);
  t.match(waited.stdout.toString(), /^state=exited\n/);
  t.equal((await host.rkt(['rm', uuid])).status, 0);
  t.notOk(host.listing().some((path) => path.includes(uuid)));
});

t.test('prepare, then run-prepared; stop --force', async (t) => {
  const host = makeHost('prepare');
  t.teardown(host.close);
  const prepared = await host.rkt(['prepare', ...shell('echo prepared; sleep 600')]);
  t.equal(prepared.status, 0, prepared.stderr);
  const uuid = prepared.stdout.toString().trim();
  t.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  t.match((await host.rkt(['status', uuid])).stdout.toString(), /^state=prepared\n/);
  const manifest = JSON.parse((await host.rkt(['cat-manifest', uuid])).stdout.toString()) as { acKind: string; apps: unknown[] };
  t.equal(manifest.acKind, 'PodManifest');
  t.equal(manifest.apps.length, 1);

  const { child, ended } = host.start(['run-prepared', '--net=none', uuid]);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  await eventually('the app is up', () => output.includes('prepared'));
  const again = await host.rkt(['run-prepared', '--net=none', uuid]);
  t.equal(again.status, 254);
  t.match(again.stderr, /is not prepared/);
  const stopped = await host.rkt(['stop', '--force', uuid]);
  t.equal(stopped.status, 0, stopped.stderr);
  await ended;
  t.match((await host.rkt(['status', uuid])).stdout.toString(), /^state=exited\n/);
});

t.test('what an app is given: user, groups, environment, directory, memory, confinement', async (t) => {
  const host = makeHost('given');
  t.teardown(host.close);
  const result = await host.rkt([
    'run', '--net=none', '--hostname=pod-a', '--set-env=A=1', '--set-env=B=1',
    image, '--user=1000', '--group=1001', '--supplementary-gids=7,8', '--environment=B=2', '--working-dir=/tmp', '--memory=64M', '--cpu=500m',
    '--exec', '/bin/sh', '--', '-c',
    'id; pwd; echo $A $B $AC_APP_NAME; hostname; cat /proc/self/cgroup; grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status; touch /x 2>&1; ls -la /dev | wc -l; cat /proc/1/environ 2>&1 | head -c 100',
  ]);
  const output = result.stdout.toString();
  t.match(output, /^uid=1000\(user\) gid=1001 groups=(1001,)?7,8$/m, result.stderr);
  t.match(output, /^\/tmp$/m);
  t.match(output, /^1 2 \S+$/m);
  t.match(output, /^pod-a$/m);
  t.match(output, /^CapEff:\t0{16}$/m);
  t.match(output, /^Seccomp:\t2$/m);
  t.match(output, /touch: \/x: (Permission denied|Read-only)/m);
});

t.test('root in an app has no more than the default capabilities', async (t) => {
  const host = makeHost('caps');
  t.teardown(host.close);
  const result = await host.rkt(['run', '--net=none', ...shell('grep CapEff /proc/self/status; mount -t tmpfs x /tmp; echo mount $?; mknod /tmp/vda b 254 0 && dd if=/tmp/vda of=/dev/null bs=512 count=1; echo dd $?; ls /proc/1/root/ 2>&1; echo $?; echo 1 > /proc/sys/kernel/sysrq; echo 3 > /proc/sysrq-trigger; ls /modules /init')]);
  const output = result.stdout.toString();
  const DEFAULT_SET = 0xa80425fb;
  t.match(output, new RegExp(`^CapEff:\\t0{8}${DEFAULT_SET.toString(16)}$`, 'm'), output + result.stderr);
  t.match(output, /^mount [1-9]/m, 'no mounting');
  t.match(output, /^dd [1-9]/m, 'no disk');
  t.not(result.status, 0, 'the initramfs is out of sight');
});

t.test('a read-only root', async (t) => {
  const host = makeHost('readonly');
  t.teardown(host.close);
  const result = await host.rkt(['run', '--net=none', image, '--readonly-rootfs=true', '--exec', '/bin/sh', '--', '-c', 'touch /x; echo $?']);
  t.match(result.stdout.toString(), /^[1-9]/, result.stderr);
  t.match(result.stderr, /Read-only file system/);
});

t.test('user-mode network: an address, a route, name servers', async (t) => {
  const host = makeHost('net');
  t.teardown(host.close);
  const result = await host.rkt(['run', '--net=user', ...shell('ip addr show eth0; ip route; cat /etc/resolv.conf')]);
  const output = result.stdout.toString();
  t.equal(result.status, 0, result.stderr);
  t.match(output, /inet 10\.0\.2\.15\/24/);
  t.match(output, /^default via 10\.0\.2\.2/m);
  t.match(output, /^nameserver 10\.0\.2\.3/m);
});

t.test('without a network there is loopback only', async (t) => {
  const host = makeHost('nonet');
  t.teardown(host.close);
  const result = await host.rkt(['run', '--net=none', ...shell('ip -o link; ping -c 1 127.0.0.1 >/dev/null && echo lo works')]);
  t.notMatch(result.stdout.toString(), /eth0/);
  t.match(result.stdout.toString(), /lo works/, result.stderr);
});

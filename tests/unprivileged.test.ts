/** An ordinary user's pods, on a machine where root has never used rkt: an image from a registry, everything in the home directory, user-mode network with a published port, from fetch to gc. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { skopeo, startDockerRegistry } from './helpers/docker-registry.ts';
import { makeOciLayout } from './helpers/make-image.ts';
import { fetchPath, hideDirectories, run, startServer } from './helpers/network-host.ts';
import { eventually, PROGRAM } from './helpers/rkt.ts';
import { scratchDir } from './helpers/scratch-dir.ts';

/** Nobody's on purpose. */
const UID = 54321;

const home = mkdtempSync(join(tmpdir(), 'rkt-test-home-'));
t.teardown(() => rmSync(home, { recursive: true, force: true }));
const isRoot = process.getuid?.() === 0;
if (isRoot) {
  chownSync(home, UID, UID);
  hideDirectories(['/var/lib', '/run', '/etc/rkt', '/usr/lib/rkt']);
}
const program = isRoot ? reachableProgram() : PROGRAM;
chmodSync(home, 0o700);

const { host: registry } = await startDockerRegistry(t);
const layout = makeOciLayout(join(scratchDir(t, 'unprivileged'), 'web.oci'), { exec: ['/bin/busybox', 'httpd', '-f', '-p', '80', '-h', '/etc'], ports: ['80/tcp'] });
skopeo(['--insecure-policy', 'copy', '--dest-tls-verify=false', `oci:${layout}`, `docker://${registry}/team/web:1`]);
const image = `docker://${registry}/team/web:1`;

/** The checkout may lie where only root can go: shown, to this test alone, at a place for everybody. */
function reachableProgram(): string {
  const place = mkdtempSync(join(tmpdir(), 'rkt-test-program-'));
  chmodSync(place, 0o755);
  run(`mount --bind ${join(PROGRAM, '../..')} ${place}`);
  t.teardown(() => {
    run(`umount -l ${place}`);
    rmdirSync(place);
  });
  return join(place, 'bin/rkt');
}

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** With nothing in the environment but what every login has. */
function start(...args: string[]): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(program, ['--insecure-options=http', ...args], {
    cwd: home,
    env: { HOME: home, PATH: '/usr/local/bin:/usr/bin:/bin' },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(isRoot ? { uid: UID, gid: UID } : {}),
  });
  const text = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (text.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (text.stderr += chunk.toString()));
  return { child, ended: once(child, 'close').then(([status]) => ({ status: status as number | null, ...text })) };
}

async function rkt(...args: string[]): Promise<Ended> {
  return await start(...args).ended;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const reachable = isRoot && (statSync(program).mode & 0o005) !== 0o005 ? 'the program is not for others to run' : false;

t.test('from start to gc, with a published port', { skip: reachable }, async (t) => {
  const port = await freePort();
  const server = start('run', `--port=80-tcp:127.0.0.1:${port}`, '--uuid-file-save=uuid', '--hostname=mine', image);
  t.teardown(() => server.child.kill('SIGKILL'));
  const answer = (): string => fetchPath(undefined, { address: '127.0.0.1', port, path: '/hostname' });
  await eventually('the pod answers', () => answer() === 'mine');
  const uuid = readFileSync(join(home, 'uuid'), 'utf8').trim();
  t.ok(existsSync(join(home, '.local/share/rkt/pods/run', uuid)), 'in the home directory');
  const { qemuPid } = JSON.parse(readFileSync(join(home, '.local/share/rkt/pods/run', uuid, 'vm.json'), 'utf8')) as { qemuPid: number };
  if (isRoot) t.match(readFileSync(`/proc/${qemuPid}/status`, 'utf8'), new RegExp(`^Uid:\t${UID}\t${UID}\t${UID}\t${UID}$`, 'm'), 'no setuid helper');

  t.match((await rkt('list', '--no-legend')).stdout, /running.*default:ip4=10\.0\.2\.15, default:ip6=fec0::15$/m);
  t.match((await rkt('enter', uuid, '/bin/hostname')).stdout, 'mine');
  const outside = await startServer(undefined, { name: 'host', port: await freePort() });
  t.teardown(outside.close);
  for (const gateway of ['10.0.2.2', 'fec0::2']) t.match((await rkt('enter', uuid, '/bin/nc', gateway, String(outside.port))).stdout, /^host to /, `from the pod to the host by ${gateway}`);
  const taken = await rkt('run', `--port=80-tcp:127.0.0.1:${port}`, image);
  t.equal(taken.status, 254);
  t.match(taken.stderr, `run: port tcp-127.0.0.1:${port} is already in use on this host`);
  t.match((await rkt('run', '--port=80-tcp:80', image)).stderr, /^run: cannot use the port 0\.0\.0\.0:80: permission denied$/m);

  const stop = await rkt('stop', uuid);
  t.equal(stop.status, 0, stop.stderr);
  await server.ended;
  t.match((await rkt('status', uuid)).stdout, /^state=exited\n/);
  const prepared = await rkt('prepare', '--quiet', image);
  t.match(prepared.stdout, /^[0-9a-f-]{36}\n$/);
  const removed = await rkt('rm', prepared.stdout.trim());
  t.equal(removed.status, 0, removed.stderr);
  if (isRoot) t.notOk(['/var/lib/rkt', '/run/rkt'].some((path) => existsSync(path)), 'nothing elsewhere');
  const gc = await rkt('gc', '--grace-period=0s');
  t.equal(gc.status, 0, gc.stderr);
  t.strictSame(readdirSync(join(home, '.local/share/rkt/pods')).flatMap((state) => readdirSync(join(home, '.local/share/rkt/pods', state))), []);
});

t.test('volumes of the host', { skip: reachable }, async (t) => {
  const share = join(home, 'share');
  mkdirSync(share, { mode: 0o755 });
  writeFileSync(join(share, 'mine'), 'text\n');
  if (isRoot) for (const path of [share, join(share, 'mine')]) chownSync(path, UID, UID);
  const script = 'stat -c "%u %g" /share/mine; cat /one; echo new > /share/new; mkdir -m 777 /share/open; (echo x > /one) 2>/dev/null || echo read-only; (echo x > /share/../../etc/passwd) && echo own root';
  const result = await rkt('run', '--net=none', `--volume=share,kind=host,source=${share}`, `--volume=one,kind=host,source=${share}/mine,readOnly=true`, image, '--mount=volume=share,target=/share', '--mount=volume=one,target=/one', '--exec', '/bin/sh', '--', '-c', script);
  t.strictSame(result, { status: 0, stdout: '0 0\ntext\nread-only\nown root\n', stderr: '' });
  t.equal(readFileSync(join(share, 'new'), 'utf8'), 'new\n');
  if (isRoot) t.strictSame(['new', 'open'].map((name) => statSync(join(share, name)).uid), [UID, UID], 'what root of the pod writes is the user’s');
});

t.test("what is the system's is refused", { skip: reachable }, async (t) => {
  if (!isRoot) return void t.pass('skipped: it may be this user’s');
  const system = scratchDir(t, 'system');
  const refused = await rkt(`--dir=${system}`, 'run', image);
  t.strictSame(refused, { status: 254, stdout: '', stderr: 'run: cannot run as unprivileged user\n' });
  const network = await rkt('run', '--net=default-restricted', image);
  t.equal(network.status, 254);
  t.match(network.stderr, /^run: only root can join the network default-restricted\n/);
});

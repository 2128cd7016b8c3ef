/** The metadata service of the App Container specification, asked from inside pods. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { existsSync, lstatSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { request } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import { attestationOf } from './helpers/attestation.ts';
import { busyboxImage } from './helpers/busybox.ts';
import { makeAci } from './helpers/make-image.ts';
import { eventually, makeHost, PROGRAM } from './helpers/rkt.ts';
import type { Host } from './helpers/rkt.ts';
import { makeHelloImage, makeStubStage1 } from './helpers/stub-stage1.ts';

const host = makeHost('mds');
t.teardown(host.close);
const socket = join(host.workDir, 'mds/registration');
// Of every program that is started from here on.
process.env['RKT_METADATA_SOCKET'] = socket;
const { succeed, start, predict, pcrs } = attestationOf(host);

const OCI = busyboxImage();
const ANNOTATED = makeAci(join(host.workDir, 'annotated.aci'), { manifest: { annotations: [{ name: 'example.com/colour', value: 'of the image' }, { name: 'example.com/shape', value: 'round' }] } });
const SLEEP = ['--exec=/bin/sleep', '--', '600'];

interface Service {
  child: ChildProcess;
  errors(): string;
  end(): Promise<number | null>;
}

async function startService(args: readonly string[] = [], options: { of?: Host; fds?: readonly number[] } = {}): Promise<Service> {
  const fds = options.fds ?? [];
  // systemd tells which process the descriptors are for; the shell becomes it.
  const child = spawn('/bin/sh', ['-c', 'LISTEN_PID=$$ exec "$@"', 'sh', PROGRAM, `--dir=${(options.of ?? host).dataDir}`, '--debug', 'metadata-service', ...args], {
    stdio: ['ignore', 'inherit', 'pipe', ...fds],
    env: { ...process.env, ...(fds.length > 0 ? { LISTEN_FDS: String(fds.length) } : {}) },
  });
  let errors = '';
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve));
  t.teardown(() => child.kill('SIGKILL'));
  await eventually('the service is running', () => {
    if (child.exitCode !== null) throw new Error(errors);
    return errors.includes('Metadata service running...');
  });
  return {
    child,
    errors: () => errors,
    end: () => {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

interface Got {
  status: number;
  type: string;
  body: string;
}

/** What wget says in an app of the pod about a path below AC_METADATA_URL. */
async function ask(uuid: string, path: string, options: { form?: string; base?: string; app?: string } = {}): Promise<Got> {
  const { form, base = '$AC_METADATA_URL', app } = options;
  const command = `wget -S -qO - ${form === undefined ? '' : `--post-data="${form}"`} "${base}${path}" 2>&1`;
  const { stdout, stderr } = await host.rkt(['enter', ...(app === undefined ? [] : [`--app=${app}`]), uuid, '/bin/sh', '-c', command]);
  const text = stdout.toString();
  const [, headers = '', body = ''] = /^((?: .*\n)*)([^]*)$/.exec(text) ?? [];
  return { status: Number(/HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0), type: /Content-Type: ([^\r\n]+)/.exec(headers)?.[1] ?? '', body: text === '' ? stderr : body };
}

const V1 = '/acMetadata/v1';
const ASCII = 'text/plain; charset=us-ascii';

t.test('apps learn who they are, sign for it, and nobody else can', async (t) => {
  const first = await startService();
  t.equal(statSync(socket).mode & 0o777, 0o600, 'for root only');
  const two = ['--net=none', '--mds-register', OCI, '--name=plain', ...SLEEP, '---', ANNOTATED, '--name=annotated', '--annotation=example.com/colour=of the app', ...SLEEP];
  const reference = await predict('registered', two);
  const [a, b] = await Promise.all([start(two), start(['--net=none', '--mds-register', OCI, ...SLEEP])]);

  // A token is a secret of one run: nothing that is measured depends on it.
  const predicted = (JSON.parse(readFileSync(reference, 'utf8')) as { pcrs: Record<string, Record<string, string>> }).pcrs['sha256'] ?? {};
  const measured = (await pcrs(a.uuid)).pcrs['sha256'] ?? {};
  for (const pcr of ['0', '5', '11', '13']) t.equal(predicted[pcr], measured[pcr], `PCR ${pcr} is as predicted`);

  const manifestFile = readFileSync(join(host.dataDir, 'pods/run', a.uuid, 'pod'), 'utf8');
  t.strictSame(await ask(a.uuid, `${V1}/pod/uuid`, { app: 'plain' }), { status: 200, type: ASCII, body: a.uuid });
  t.strictSame(await ask(a.uuid, `${V1}/pod/manifest`, { app: 'plain' }), { status: 200, type: 'application/json', body: manifestFile });
  t.strictSame(await ask(a.uuid, `${V1}/pod/annotations`, { app: 'plain' }), { status: 200, type: 'application/json', body: '[]' });
  t.match(await ask(a.uuid, `${V1}/pod/annotations/example.com/none`, { app: 'plain' }), { status: 404 });
  const annotations = await ask(a.uuid, `${V1}/apps/annotated/annotations`, { app: 'plain' });
  t.equal(annotations.type, 'application/json');
  t.strictSame(JSON.parse(annotations.body), [{ name: 'example.com/colour', value: 'of the app' }, { name: 'example.com/shape', value: 'round' }]);
  t.match(await ask(a.uuid, `${V1}/apps/$AC_APP_NAME/annotations/example.com/colour`, { app: 'annotated' }), { status: 200, body: 'of the app' });
  const { apps } = JSON.parse(manifestFile) as { apps: { name: string; image: { id: string } }[] };
  t.strictSame(await ask(a.uuid, `${V1}/apps/annotated/image/id`, { app: 'plain' }), { status: 200, type: ASCII, body: apps[1]?.image.id ?? '' });
  t.match(JSON.parse((await ask(a.uuid, `${V1}/apps/annotated/image/manifest`, { app: 'plain' })).body), { acKind: 'ImageManifest', name: 'example.com/busybox' });
  for (const path of ['/pod', '/pod/none', '/pod/uuid/more', '/apps/nobody/image/id', '/apps/plain', '/apps/plain/image', '/none', '/pod/hmac/none', '']) {
    t.equal((await ask(b.uuid, `${V1}${path}`)).status, 404, path);
  }
  t.equal((await ask(b.uuid, `${V1}/pod/uuid`, { form: 'content=x' })).status, 405);
  t.equal((await ask(b.uuid, `${V1}/pod/hmac/sign`)).status, 405);

  const signature = (await ask(a.uuid, `${V1}/pod/hmac/sign`, { form: 'content=a%26b', app: 'plain' })).body;
  t.equal(Buffer.from(signature, 'base64').length, 64, 'HMAC-SHA512');
  const form = (content: string, uuid: string, of = signature): string => `content=${content}&uuid=${uuid}&signature=${encodeURIComponent(of)}`;
  const verify = async (fields: string): Promise<number> => (await ask(b.uuid, `${V1}/pod/hmac/verify`, { form: fields })).status;
  t.equal(await verify(form('a%26b', a.uuid)), 200, 'another pod verifies it');
  t.equal(await verify(form('a%26c', a.uuid)), 403, 'other content');
  t.equal(await verify(form('a%26b', b.uuid)), 403, 'not signed by that pod');
  t.equal(await verify(form('a%26b', a.uuid, 'AAAA')), 403, 'no signature');
  t.equal(await verify(form('a%26b', 'x')), 400);
  t.equal((await ask(b.uuid, `${V1}/pod/hmac/sign`, { form: 'content=' })).status, 400);

  // Pod B has somehow learnt the token of pod A.
  const { token } = JSON.parse(readFileSync(join(host.dataDir, 'pods/run', a.uuid, 'mds-registered'), 'utf8')) as { token: string };
  t.equal(statSync(join(host.dataDir, 'pods/run', a.uuid, 'mds-registered')).mode & 0o077, 0);
  t.match(token, /^[0-9a-f]{32}$/);
  const root = 'http://127.0.0.1:18112';
  t.equal((await ask(a.uuid, `/${token}${V1}/pod/uuid`, { base: root, app: 'plain' })).status, 200);
  t.equal((await ask(b.uuid, `/${token}${V1}/pod/uuid`, { base: root })).status, 401);
  t.equal((await ask(b.uuid, `/${'0'.repeat(32)}${V1}/pod/uuid`, { base: root })).status, 401);
  t.equal((await ask(b.uuid, '/', { base: root })).status, 401);
  t.notOk(first.errors().includes(token), 'tokens are not logged');
  const arguments_ = readFileSync(`/proc/${readFileSync(join(host.dataDir, 'pods/run', a.uuid, 'pid'), 'utf8').trim()}/cmdline`, 'utf8');
  t.notOk(arguments_.includes(token), 'and are no arguments of a program');

  // Pod B opens many connections and says nothing on them.
  await succeed(['enter', b.uuid, '/bin/sh', '-c', 'for i in $(seq 100); do (sleep 60 | nc 127.0.0.1 18112 >/dev/null 2>&1 &); done']);
  t.equal((await ask(a.uuid, `${V1}/pod/uuid`, { app: 'plain' })).status, 200, 'the other pod does not notice');
  const large = await ask(a.uuid, `${V1}/pod/hmac/sign`, { form: 'content=$(seq 20000)', app: 'plain' });
  t.equal(large.status, 200, large.body);

  // The service ends and comes back.
  const { status: busy, stderr } = await host.rkt(['metadata-service']);
  t.equal(busy, 254);
  t.match(stderr, `a metadata service is running already: it listens on ${socket}`);
  t.equal(await first.end(), 0);
  t.notOk(existsSync(socket));
  t.equal((await ask(a.uuid, `${V1}/pod/uuid`, { app: 'plain' })).status, 0, 'nobody answers');
  const second = await startService();
  t.equal((await ask(a.uuid, `${V1}/pod/uuid`, { app: 'plain' })).body, a.uuid);
  t.equal((await ask(a.uuid, `${V1}/pod/hmac/verify`, { form: form('a%26b', a.uuid), app: 'plain' })).status, 200, 'signatures are still good');

  const podSocket = join(host.workDir, 'mds/metadata', `${a.uuid}.sock`);
  t.ok(lstatSync(podSocket).isSocket());
  t.equal(await ofHost({ socketPath: podSocket }, `/${token}${V1}/pod/hmac/sign`, { method: 'POST', body: `content=${'x'.repeat(300_000)}` }), 413);
  for (const [method, path, body] of [['PUT', '/pods/x', ''], ['PUT', `/pods/${a.uuid}?token=short`, manifestFile], ['PUT', `/pods/${a.uuid}?token=${'a'.repeat(32)}`, '{}'], ['PUT', `/pods/${a.uuid}/plain`, 'no JSON']] as const) {
    t.equal(await ofHost({ socketPath: socket }, path, { method, body }), 400, `${method} ${path}`);
  }
  t.equal(await ofHost({ socketPath: socket }, `/pods/${b.uuid}?token=${token}`, { method: 'PUT', body: manifestFile }), 409, "another pod's token");
  t.equal(await ofHost({ socketPath: socket }, '/pods/00000000-0000-4000-8000-000000000000', { method: 'DELETE' }), 404);
  t.equal(await ofHost({ socketPath: socket }, '/'), 404);
  t.equal((await ask(a.uuid, `${V1}/pod/uuid`, { app: 'plain' })).status, 200, 'what was refused has changed nothing');
  await Promise.all([a, b].map(async ({ uuid, ended }) => {
    await host.rkt(['stop', '--force', uuid]);
    await ended;
  }));
  await succeed(['gc', '--grace-period=0s']);
  t.notOk(existsSync(podSocket), 'gc makes it forget the pod');
  t.equal(await second.end(), 0);
});

/** Status of the answer to a request from this host. */
async function ofHost(where: { port: number } | { socketPath: string }, path: string, options: { method?: string; body?: string } = {}): Promise<number> {
  return await new Promise((resolve, reject) => {
    request({ ...where, path, method: options.method ?? 'GET' }, (response) => resolve(response.resume().statusCode ?? 0)).on('error', reject).end(options.body);
  });
}

t.test('other stage1 images get the token as an argument, and a TCP port', async (t) => {
  const listener = createServer();
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address() as { port: number };
  const at = { port };
  const service = await startService([], { fds: [(listener as unknown as { _handle: { fd: number } })._handle.fd] });
  listener.close();
  const stub = `--stage1-path=${makeStubStage1(join(host.workDir, 'stub.aci'))}`;
  const { stdout } = await host.rkt(['run', '--net=none', '--mds-register', stub, makeHelloImage(join(host.workDir, 'hello.aci'))]);
  const token = /--mds-token=([0-9a-f]{32})/.exec(stdout.toString())?.[1] ?? '';
  t.equal(await ofHost(at, `/${token}${V1}/pod/uuid`), 200);
  t.equal(await ofHost(at, `/${'f'.repeat(32)}${V1}/pod/uuid`), 401);
  t.equal(await ofHost(at, '/pods/x'), 401, 'no registrations over TCP');
  const fly = await host.rkt(['run', '--net=host', '--mds-register', '--stage1-name=coreos.com/rkt/stage1-fly', OCI, '--exec=/bin/env']);
  t.match(fly.stdout.toString(), /^AC_METADATA_URL=http:\/\/127\.0\.0\.1:18112\/[0-9a-f]{32}$/m, fly.stderr);
  await succeed(['gc', '--grace-period=0s']);
  t.equal(await ofHost(at, `/${token}${V1}/pod/uuid`), 401);
  t.equal(await service.end(), 0);
});

t.test('without a service', async (t) => {
  const quick = makeHost('nomds', { quickClock: true });
  t.teardown(quick.close);
  const { status, stderr } = await quick.rkt(['run', '--net=none', '--mds-register', OCI, '--exec=/bin/true']);
  t.equal(status, 254);
  t.match(stderr, /^run: could not reach the metadata service\.\nMake sure metadata service is currently running or use\n"rkt run --mds-register=false" to skip pod registration\./);
  t.equal((await quick.rkt(['gc', '--grace-period=0s'])).status, 0);
});

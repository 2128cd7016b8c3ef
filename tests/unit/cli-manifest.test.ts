/** From images and flags to the manifest of a pod. */
import t from 'tap';
import type { Test } from 'tap';
import { buildPodManifest, finishPodManifest } from '../../src/stage0/pod-manifest.ts';
import type { AppRequest, PodRequest } from '../../src/stage0/pod-manifest.ts';
import { RktError } from '../../src/error.ts';
import type { App, ImageManifest } from '../../src/schema/index.ts';

const ID = `sha512-${'a'.repeat(64)}`;

function image(app: Partial<App> | null = {}, rest: Partial<ImageManifest> = {}): ImageManifest {
  const manifest: ImageManifest = { acKind: 'ImageManifest', acVersion: '0.8.11', name: 'example.com/web_server', ...rest };
  if (app !== null) manifest.app = { exec: ['/bin/web'], user: '0', group: '0', ...app };
  return manifest;
}

function appRequest(rest: Partial<AppRequest> = {}): AppRequest {
  return { imageID: ID, imageManifest: image(), verifiedBy: [], args: [], mounts: [], environment: [], annotations: [], userAnnotations: [], userLabels: [], isolators: [], ...rest };
}

function podRequest(apps: AppRequest[], rest: Partial<PodRequest> = {}): PodRequest {
  return { apps, volumes: [], ports: [], mounts: [], inheritedEnvironment: [], environment: [], ...rest };
}

function build(app: Partial<AppRequest> = {}, rest: Partial<PodRequest> = {}): ReturnType<typeof buildPodManifest> {
  return buildPodManifest(podRequest([appRequest(app)], rest));
}

function failsWith(t: Test, work: () => unknown, code: string, message: RegExp): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof RktError)) throw error;
    t.equal(error.code, code);
    t.match(error.message, message);
    return;
  }
  t.fail(`expected an error ${code}`);
}

t.test('who vouched for an image is part of the manifest, and nobody else can say it', async (t) => {
  const voucher = { kind: 'sigstore-key', keyDigest: 'sha256:1', reference: 'r' } as const;
  const claimed = { name: 'coreos.com/rkt/verified-by', value: 'me' };
  const annotationsOf = (request: Partial<AppRequest>): unknown => build(request).manifest.apps[0]?.annotations;
  t.strictSame(annotationsOf({ verifiedBy: [voucher, { kind: 'none', reason: 'no-policy' }], annotations: [claimed] }), [{ name: 'coreos.com/rkt/verified-by', value: JSON.stringify([voucher]) }]);
  t.equal(annotationsOf({ verifiedBy: [{ kind: 'none', reason: 'insecure-option' }], annotations: [claimed] }), undefined);
});

t.test('name, image and full app section', async (t) => {
  const { manifest } = build({ args: ['--port', '80'], imageManifest: image({}, { labels: [{ name: 'version', value: '1' }] }) });
  t.equal(manifest.acKind, 'PodManifest');
  const app = manifest.apps[0];
  t.equal(app?.name, 'web-server', 'last part of the name, made an ACName');
  t.strictSame(app?.image, { name: 'example.com/web_server', id: ID, labels: [{ name: 'version', value: '1' }] });
  t.strictSame(app?.app?.exec, ['/bin/web', '--port', '80']);
});

t.test('--exec replaces the whole exec, arguments are appended', async (t) => {
  t.strictSame(build({ exec: '/bin/sh', args: ['-c', 'x'], imageManifest: image({ exec: ['/bin/web', 'serve'] }) }).manifest.apps[0]?.app?.exec, ['/bin/sh', '-c', 'x']);
});

t.test('images without an app section', async (t) => {
  const { manifest } = build({ exec: '/bin/x', imageManifest: image(null) });
  t.strictSame(manifest.apps[0]?.app, { exec: ['/bin/x'], user: '0', group: '0' });
  failsWith(t, () => build({ imageManifest: image(null) }), 'BAD_IMAGE', /^image sha512-a+ has no app section and --exec argument is not provided$/);
  failsWith(t, () => build({ imageManifest: image({ exec: [] }) }), 'BAD_IMAGE', /^image "example.com\/web_server" has an empty "exec" \(try --exec=BINARY\)$/);
});

t.test('precedence of environments: inherited, image, --set-env-file, --set-env, --environment', async (t) => {
  const pair = (name: string, value: string): { name: string; value: string } => ({ name, value });
  const { manifest } = build(
    { imageManifest: image({ environment: [pair('A', 'image'), pair('B', 'image')] }), environment: [pair('D', 'app')] },
    { inheritedEnvironment: [pair('A', 'inherited'), pair('Z', 'inherited')], environment: [pair('B', 'file'), pair('C', 'file'), pair('C', 'set'), pair('D', 'set')] },
  );
  t.strictSame(Object.fromEntries((manifest.apps[0]?.app?.environment ?? []).map(({ name, value }) => [name, value])), { A: 'image', B: 'file', C: 'set', D: 'app', Z: 'inherited' });
});

t.test('isolators of flags replace those of the image of the same family, and only those', async (t) => {
  const { manifest } = build({
    imageManifest: image({
      isolators: [
        { name: 'resource/memory', value: { limit: '1G' } },
        { name: 'resource/cpu', value: { limit: '2' } },
        { name: 'os/linux/capabilities-remove-set', value: { set: ['CAP_KILL'] } },
        { name: 'os/linux/seccomp-remove-set', value: { set: ['@rkt/default-blacklist'] } },
      ],
    }),
    isolators: [
      { name: 'resource/memory', value: { request: '64M', limit: '64M' } },
      { name: 'os/linux/capabilities-retain-set', value: { set: ['CAP_CHOWN'] } },
    ],
  });
  t.strictSame(manifest.apps[0]?.app?.isolators?.map(({ name }) => name), ['resource/cpu', 'os/linux/seccomp-remove-set', 'resource/memory', 'os/linux/capabilities-retain-set']);
});

t.test('the other overrides', async (t) => {
  const { manifest } = build({
    name: 'other', user: 'www', group: '33', supplementaryGIDs: [5], workingDirectory: '/srv', readOnlyRootFS: true,
    annotations: [{ name: 'a', value: '2' }], userAnnotations: [{ name: 'Any', value: 'x' }], userLabels: [{ name: 'l', value: 'y' }],
    imageManifest: image({}, { annotations: [{ name: 'a', value: '1' }, { name: 'b', value: '1' }] }),
  });
  const [app] = manifest.apps;
  t.equal(app?.name, 'other');
  t.equal(app?.readOnlyRootFS, true);
  t.strictSame(app?.annotations, [{ name: 'a', value: '2' }, { name: 'b', value: '1' }]);
  t.has(app?.app, { user: 'www', group: '33', supplementaryGIDs: [5], workingDirectory: '/srv', userAnnotations: { Any: 'x' }, userLabels: { l: 'y' } });
  failsWith(t, () => build({ workingDirectory: 'relative' }), 'BAD_INPUT', /workingDirectory must be an absolute path/);
});

t.test('two apps of one name', async (t) => {
  failsWith(t, () => buildPodManifest(podRequest([appRequest(), appRequest()])), 'USAGE', /^error: multiple apps with name web-server$/);
  t.equal(buildPodManifest(podRequest([appRequest(), appRequest({ name: 'b' })])).manifest.apps.length, 2);
});

t.test('mounts and volumes', async (t) => {
  const empty = { name: 'data', kind: 'empty', mode: '0755', uid: 0, gid: 0 } as const;
  const { manifest, warnings } = build(
    { imageManifest: image({ mountPoints: [{ name: 'data', path: '/data' }, { name: 'cache', path: '/cache' }, { name: 'own', path: '/own' }] }), mounts: [{ volume: 'data', path: '/own' }] },
    { volumes: [empty], mounts: [{ volume: 'data', path: '/own' }, { volume: 'data', path: '/extra' }] },
  );
  t.strictSame(manifest.apps[0]?.mounts, [
    { volume: 'data', path: '/own' },
    { volume: 'data', path: '/extra' },
    { volume: 'data', path: '/data' },
    { volume: 'web-server-cache', path: '/cache' },
  ]);
  t.strictSame(manifest.volumes?.map(({ name }) => name), ['data', 'web-server-cache']);
  t.strictSame(warnings, ['no volume specified for mount point "cache", implicitly creating an "empty" volume. This volume will be removed when the pod is garbage-collected.']);
  failsWith(t, () => build({ mounts: [{ volume: 'nothing', path: '/x' }] }), 'USAGE', /there is no volume "nothing" to mount on \/x/);
});

t.test('a pod needs an app', async (t) => {
  failsWith(t, () => finishPodManifest({ acVersion: '0.8.11', acKind: 'PodManifest', apps: [] }, 'x.json'), 'BAD_INPUT', /^pod must contain at least one application$/);
});

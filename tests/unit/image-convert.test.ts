import t from 'tap';
import { convertImage } from '../../src/image/convert.ts';
import type { LayeredImage } from '../../src/image/layered-image.ts';
import type { OciRunConfig } from '../../src/schema/oci.ts';

const DIGEST = `sha256:${'0'.repeat(64)}`;

function image(config: OciRunConfig | undefined, more: Partial<LayeredImage> = {}): LayeredImage {
  return {
    source: 'oci',
    origin: '/x/app.oci',
    id: '',
    config: { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] }, ...(config === undefined ? {} : { config }) },
    configDigest: DIGEST,
    documents: { config: new Uint8Array(0) },
    naming: { fileName: 'app' },
    layers: [],
    ...more,
  };
}

t.test('the whole config', async (t) => {
  const manifest = convertImage(
    image(
      {
        Entrypoint: ['/entry'],
        Cmd: ['a', 'b'],
        User: 'www:staff',
        Env: ['PATH=/bin', 'EMPTY=', 'X=1', 'X=2=3'],
        WorkingDir: 'srv/../work',
        Volumes: { '/var/lib/data': {}, '/var/lib_data': {}, '/a': {} },
        ExposedPorts: { '80/tcp': {}, '53/udp': {}, '8000-8002/tcp': {}, '7': {} },
        Labels: { b: '2', a: '1' },
      },
      { manifestDigest: DIGEST, naming: { fileName: 'app', reference: 'quay.io/team/app:v2' } },
    ),
  );
  t.strictSame(manifest, {
    acKind: 'ImageManifest',
    acVersion: '0.8.11',
    name: 'quay.io/team/app',
    labels: [{ name: 'version', value: 'v2' }, { name: 'os', value: 'linux' }, { name: 'arch', value: 'amd64' }],
    app: {
      exec: ['/entry', 'a', 'b'],
      user: 'www',
      group: 'staff',
      workingDirectory: '/work',
      environment: [{ name: 'PATH', value: '/bin' }, { name: 'EMPTY', value: '' }, { name: 'X', value: '2=3' }],
      mountPoints: [{ name: 'volume-a', path: '/a' }, { name: 'volume-var-lib-data', path: '/var/lib/data' }, { name: 'volume-var-lib-data-1', path: '/var/lib_data' }],
      ports: [
        { name: '53-udp', protocol: 'udp', port: 53, count: 1, socketActivated: false },
        { name: '7', protocol: 'tcp', port: 7, count: 1, socketActivated: false },
        { name: '80-tcp', protocol: 'tcp', port: 80, count: 1, socketActivated: false },
        { name: '8000-8002-tcp', protocol: 'tcp', port: 8000, count: 3, socketActivated: false },
      ],
    },
    annotations: [
      { name: 'appc.io/docker/originalname', value: 'quay.io/team/app:v2' },
      { name: 'appc.io/docker/registryurl', value: 'quay.io' },
      { name: 'appc.io/docker/repository', value: 'team/app' },
      { name: 'appc.io/docker/tag', value: 'v2' },
      { name: 'appc.io/docker/imageid', value: DIGEST },
      { name: 'appc.io/docker/manifesthash', value: DIGEST },
      { name: 'appc.io/docker/entrypoint', value: '["/entry"]' },
      { name: 'appc.io/docker/cmd', value: '["a","b"]' },
      { name: 'appc.io/docker/labels', value: '{"a":"1","b":"2"}' },
    ],
  });
});

t.test('users', async (t) => {
  const users: [string | undefined, string, string][] = [[undefined, '0', '0'], ['', '0', '0'], ['1000', '1000', '1000'], ['1000:', '1000', '1000'], [':5', '0', '5'], ['a:b', 'a', 'b']];
  for (const [text, user, group] of users) t.match(convertImage(image(text === undefined ? {} : { User: text })).app, { user, group }, String(text));
});

t.test('names', async (t) => {
  t.match(convertImage(image({})), { name: 'app', labels: [{ name: 'os' }, { name: 'arch' }] });
  t.match(convertImage(image({}, { naming: { fileName: 'App_X', reference: 'latest' } })), { name: 'app_x', labels: [{ name: 'version', value: 'latest' }] });
  t.match(convertImage(image({}, { naming: { fileName: '???', reference: 'busybox:1' } })).name, 'registry-1.docker.io/library/busybox');
  t.match(convertImage(image({}, { naming: { fileName: '???' } })).name, 'image');
  t.strictSame(convertImage(image(undefined)).app?.exec, [], 'a config without run section still makes an app');
});

t.test('architectures', async (t) => {
  const names: [string, string | undefined, string][] = [['arm64', 'v8', 'aarch64'], ['386', undefined, 'i386'], ['arm', 'v6', 'armv6l'], ['arm', 'v7', 'armv7l'], ['s390x', undefined, 's390x']];
  for (const [architecture, variant, arch] of names) {
    const config = { architecture, os: 'linux', rootfs: { type: 'layers' as const, diff_ids: [] }, ...(variant === undefined ? {} : { variant }) };
    t.equal(convertImage(image({}, { config })).labels?.find((label) => label.name === 'arch')?.value, arch);
  }
});

t.test('what cannot be said is left out with a warning', async (t) => {
  const warnings: string[] = [];
  const manifest = convertImage(image({ Env: ['NOVALUE', 'my var=1', 'OK=1'], ExposedPorts: { 'x/tcp': {}, '70000/tcp': {} }, Volumes: { '': {} } }), (message) => warnings.push(message));
  t.strictSame(manifest.app?.environment, [{ name: 'OK', value: '1' }]);
  t.strictSame(manifest.app?.ports, []);
  t.strictSame(warnings.length, 5);
  for (const warning of warnings) t.match(warning, /^\/x\/app\.oci: .* is left out: /);
});

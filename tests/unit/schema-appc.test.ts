import t from 'tap';
import { RktError } from '../../src/error.ts';
import { app, checkValue, isolator, isolatorValue, parseImageManifest, parsePodManifest, sanitizeACIdentifier, sanitizeACName, volume } from '../../src/schema/index.ts';

const IMAGE = { acKind: 'ImageManifest', acVersion: '0.8.11', name: 'example.com/app' };
const APP = { exec: ['/bin/app'], user: '0', group: '0' };
const ID = `sha512-${'ab'.repeat(32)}`;
const POD = { acKind: 'PodManifest', acVersion: '0.8.11', apps: [{ name: 'app', image: { id: ID } }] };

function image(fields: object): string {
  return JSON.stringify({ ...IMAGE, ...fields });
}

function pod(fields: object): string {
  return JSON.stringify({ ...POD, ...fields });
}

t.test('an image manifest keeps known fields and drops others', async (t) => {
  const full = {
    ...IMAGE,
    labels: [
      { name: 'version', value: '1' },
      { name: 'os', value: 'linux' },
      { name: 'arch', value: 'amd64' },
    ],
    app: {
      ...APP,
      eventHandlers: [{ name: 'pre-start', exec: ['/x'] }],
      supplementaryGIDs: [1, 2],
      workingDirectory: '/w',
      environment: [{ name: 'A.b-c', value: '' }],
      mountPoints: [{ name: 'data', path: '/d', readOnly: true }],
      ports: [{ name: 'http', protocol: 'tcp', port: 80, count: 2, socketActivated: true }],
      isolators: [{ name: 'resource/memory', value: { limit: '1G', request: '1M' } }],
      userAnnotations: { any: 'thing' },
      userLabels: { ['__proto__']: 'x' },
    },
    dependencies: [{ imageName: 'example.com/base', imageID: ID, labels: [], size: 5 }],
    pathWhitelist: ['/a'],
    annotations: [{ name: 'created', value: 'now' }],
  };
  t.strictSame(parseImageManifest(JSON.stringify({ ...full, surprise: 1, app: { ...full.app, extra: {} } }), 'x'), full);
});

t.test('null and absent are the same, an absent app stays absent', async (t) => {
  t.strictSame(parseImageManifest(image({ app: null, labels: null }), 'x'), IMAGE);
  t.equal(parseImageManifest(image({ app: { user: 'a', group: 'b' } }), 'x').app?.exec.length, 0, 'exec may be missing');
  t.equal(parseImageManifest(image({ app: { ...APP, ports: [{ name: 'p', protocol: 'tcp', port: 1 }] } }), 'x').app?.ports?.[0]?.count, 1);
});

t.test('messages name file, field and expectation', async (t) => {
  const refused: [string, string | RegExp][] = [
    ['{', /^f\.aci: not valid JSON: /],
    ['[]', 'f.aci: expected an object, found a list'],
    ['{}', 'f.aci: acKind: missing or bad ACKind (must be "ImageManifest")'],
    [image({ acVersion: '1' }), 'f.aci: acVersion: expected a version such as 0.8.11, found "1"'],
    [image({ acVersion: undefined }), 'f.aci: acVersion: acVersion must be set'],
    [image({ name: '' }), 'f.aci: name: name must be set'],
    [image({ name: 'A' }), /^f\.aci: name: ACIdentifier must contain only lower case alphanumeric/],
    [image({ name: 'a--b' }), /^f\.aci: name: ACIdentifier/],
    [image({ labels: [{ name: 'name', value: '' }] }), 'f.aci: labels: invalid label name: "name"'],
    [image({ labels: [{ name: 'a', value: '' }, { name: 'a', value: '' }] }), 'f.aci: labels: duplicate labels of name "a"'],
    [image({ labels: [{ name: 'os', value: 'beos' }] }), 'f.aci: labels: bad os "beos" (must be one of: [darwin freebsd linux])'],
    [image({ labels: [{ name: 'os', value: 'darwin' }, { name: 'arch', value: 'amd64' }] }), 'f.aci: labels: bad arch "amd64" for darwin (must be one of: [x86_64 i386])'],
    [image({ labels: [{ name: 'os', value: 7 }] }), 'f.aci: labels[0].value: expected a string, found number 7'],
    [image({ annotations: [{ name: 'a', value: '' }, { name: 'a', value: '' }] }), 'f.aci: annotations: duplicate annotations of name "a"'],
    [image({ pathWhitelist: ['a'] }), 'f.aci: pathWhitelist[0]: expected an absolute path, found "a"'],
    [image({ app: { ...APP, user: '' } }), 'f.aci: app.user: user is required'],
    [image({ app: { ...APP, group: undefined } }), 'f.aci: app.group: group is required'],
    [image({ app: { ...APP, exec: 'sh' } }), 'f.aci: app.exec: expected a list, found the string "sh"'],
    [image({ app: { ...APP, workingDirectory: 'w' } }), 'f.aci: app.workingDirectory: workingDirectory must be an absolute path, found "w"'],
    [image({ app: { ...APP, environment: [{ name: '1a', value: '' }] } }), /^f\.aci: app\.environment\[0\]\.name: environment variable name must match/],
    [image({ app: { ...APP, environment: [{ name: 'a', value: '' }, { name: 'a', value: '' }] } }), 'f.aci: app.environment: duplicate environment variable of name "a"'],
    [image({ app: { ...APP, eventHandlers: [{ name: 'x', exec: [] }] } }), /bad eventHandler name "x"/],
    [image({ app: { ...APP, eventHandlers: [{ name: 'pre-start', exec: [] }, { name: 'pre-start', exec: [] }] } }), 'f.aci: app.eventHandlers: Only one eventHandler of name "pre-start" allowed'],
    [image({ app: { ...APP, mountPoints: [{ name: 'a', path: '' }] } }), 'f.aci: app.mountPoints[0].path: path must be set'],
    [image({ app: { ...APP, mountPoints: [{ path: '/a' }] } }), 'f.aci: app.mountPoints[0].name: name must be set'],
    [image({ app: { ...APP, ports: [{ name: 'a', protocol: 'tcp', port: 0 }] } }), 'f.aci: app.ports[0]: port must be in 1-65535 range'],
    [image({ app: { ...APP, ports: [{ name: 'a', protocol: 'tcp', port: 65535, count: 2 }] } }), 'f.aci: app.ports[0]: end of port range must be in 1-65535 range'],
    [image({ app: { ...APP, supplementaryGIDs: [-1] } }), 'f.aci: app.supplementaryGIDs[0]: expected a number from 0 to 4294967294, found -1'],
    [image({ dependencies: [{ imageName: 'a', imageID: 'md5-00' }] }), 'f.aci: dependencies[0].imageID: unrecognized hash type: md5, expected sha512'],
  ];
  for (const [text, message] of refused) t.throws(() => parseImageManifest(text, 'f.aci'), { code: 'BAD_IMAGE', message }, text.slice(0, 120));
});

t.test('isolators', async (t) => {
  const accepted = [
    { name: 'resource/cpu', value: { limit: '500m' } },
    { name: 'resource/block-iops', value: { default: true, limit: '1' } },
    { name: 'os/linux/capabilities-retain-set', value: { set: ['CAP_KILL'] } },
    { name: 'os/linux/capabilities-retain-set', value: { set: ['CAP_CHOWN'] } },
    { name: 'os/linux/seccomp-remove-set', value: { set: ['@rkt/default-blacklist'], errno: 'EPERM' } },
    { name: 'os/linux/no-new-privileges', value: true },
    { name: 'os/linux/no-new-privileges', value: false },
    { name: 'os/linux/oom-score-adj', value: -1000 },
    { name: 'os/linux/cpu-shares', value: 2 },
    { name: 'os/linux/selinux-context', value: { user: 'u', role: 'r', type: 't', level: 's0:c1' } },
    { name: 'os/linux/apparmor-profile', value: 'p' },
    { name: 'os/unix/sysctl', value: { 'net.ipv4.ip_forward': '1' } },
  ];
  const parsed = checkValue({ ...APP, isolators: accepted }, app, { origin: 'x' });
  t.strictSame(parsed.isolators, accepted);
  t.equal(isolatorValue(parsed.isolators, 'os/linux/no-new-privileges'), false, 'the last one counts');
  t.equal(isolatorValue(parsed.isolators, 'resource/memory'), undefined);
  t.equal(checkValue({ name: 'resource/cpu', value: { limit: 2 } }, isolator, { origin: 'x' }).name, 'resource/cpu', 'a quantity may be a number');

  const refused: [object[], string | RegExp][] = [
    [[{ name: 'foo/bar', value: 1 }], 'x: isolators[0]: invalid isolator "foo/bar"'],
    [[{ name: 'resource/memory', value: { limit: '16Mb' } }], /^x: isolators\[0\]\.value\.limit: expected a quantity such as 16Mi.*found "16Mb"$/],
    [[{ name: 'resource/memory', value: { limit: '-1' } }], 'x: isolators[0].value: must not be negative'],
    [[{ name: 'resource/cpu', value: { default: true, limit: '1' } }], 'x: isolators[0].value: default must be false'],
    [[{ name: 'resource/block-iops', value: { limit: '1' } }], 'x: isolators[0].value: default must be true'],
    [[{ name: 'resource/block-iops', value: { default: true, request: '1' } }], 'x: isolators[0].value: request not supported by this resource, must be empty'],
    [[{ name: 'os/linux/capabilities-retain-set', value: { set: [] } }], 'x: isolators[0].value.set: set must be non-empty'],
    [[{ name: 'os/linux/seccomp-retain-set', value: { set: ['a'], errno: 'eperm' } }], /errno must be an upper case string/],
    [[{ name: 'os/linux/oom-score-adj', value: 1001 }], 'x: isolators[0].value: os/linux/oom-score-adj must be between -1000 and 1000, got 1001'],
    [[{ name: 'os/linux/cpu-shares', value: 1 }], 'x: isolators[0].value: os/linux/cpu-shares must be between 2 and 262144, got 1'],
    [[{ name: 'os/linux/cpu-shares', value: 2 }, { name: 'os/linux/cpu-shares', value: 3 }], 'x: isolators: isolators set contains too many instances of type os/linux/cpu-shares'],
    [[{ name: 'os/linux/seccomp-retain-set', value: { set: ['a'] } }, { name: 'os/linux/seccomp-remove-set', value: { set: ['a'] } }], 'x: isolators: isolators set contains incompatible types'],
    [[{ name: 'os/linux/capabilities-remove-set', value: { set: ['a'] } }, { name: 'os/linux/capabilities-retain-set', value: { set: ['a'] } }], 'x: isolators: isolators set contains incompatible types'],
    [[{ name: 'os/linux/selinux-context', value: { user: 'a:b', role: 'r', type: 't', level: 'l' } }], 'x: isolators[0].value.user: invalid user value "a:b"'],
  ];
  for (const [isolators, message] of refused) t.throws(() => checkValue({ ...APP, isolators }, app, { origin: 'x' }), { code: 'BAD_INPUT', message });
});

t.test('pod manifests', async (t) => {
  const full = {
    ...POD,
    apps: [{ name: 'app', image: { name: 'a/b', id: ID, labels: [] }, app: APP, readOnlyRootFS: true, mounts: [{ volume: 'v', path: 'rel' }], annotations: [] }],
    volumes: [
      { name: 'v', kind: 'host', source: '/s', readOnly: true, recursive: false },
      { name: 'w', kind: 'empty', mode: '0755', uid: 0, gid: 0 },
    ],
    isolators: [{ name: 'unknown/one', value: { any: 1 } }, { name: 'resource/memory', value: { limit: '1G' } }],
    annotations: [{ name: 'coreos.com/rkt/x', value: 'y' }],
    ports: [{ name: 'p', hostPort: 80, hostIP: '1.2.3.4', podPort: { name: 'q', protocol: 'tcp', port: 1, count: 1 } }],
    userAnnotations: { a: 'b' },
    userLabels: {},
  };
  t.strictSame(parsePodManifest(JSON.stringify(full), 'pod'), full);

  const refused: [string, string | RegExp][] = [
    ['{}', 'pod: acVersion: acVersion must be set'],
    [pod({ acKind: 'X' }), 'pod: acKind: missing or bad ACKind (must be "PodManifest")'],
    [pod({ apps: [{ name: 'a_b', image: { id: ID } }] }), /^pod: apps\[0\]\.name: ACName must contain only/],
    [pod({ apps: [{ name: 'a', image: {} }] }), 'pod: apps[0].image.id: expected a string, found nothing'],
    [pod({ apps: [...POD.apps, ...POD.apps] }), 'pod: apps: duplicate apps of name "app"'],
    [pod({ volumes: [{ name: 'v', kind: 'host', source: 's' }] }), 'pod: volumes[0]: source for host volume must be absolute path'],
    [pod({ volumes: [{ name: 'v', kind: 'host', source: '/s', uid: 1 }] }), 'pod: volumes[0]: uid for host volume must not be set'],
    [pod({ volumes: [{ name: 'v', kind: 'empty', source: '/s' }] }), 'pod: volumes[0]: source for empty volume must be empty'],
    [pod({ volumes: [{ name: 'v', kind: 'empty', mode: '0755', uid: 0 }] }), 'pod: volumes[0]: gid for empty volume must be set'],
    [pod({ volumes: [{ name: 'v', kind: 'empty', mode: '0999', uid: 0, gid: 0 }] }), /mode for empty volume must be an octal number/],
    [pod({ volumes: [{ name: 'v', kind: 'x' }] }), 'pod: volumes[0]: unrecognized volume kind: should be one of "empty", "host"'],
    [pod({ volumes: [full.volumes[0], full.volumes[0]] }), 'pod: volumes: duplicate volume name "v"'],
    [pod({ isolators: [{ name: 'os/linux/cpu-shares', value: 1 }] }), /must be between 2 and 262144/],
    [pod({ ports: [{ name: 'p', hostPort: 0 }] }), 'pod: ports[0].hostPort: expected a number from 1 to 65535, found 0'],
  ];
  for (const [text, message] of refused) t.throws(() => parsePodManifest(text, 'pod'), { code: 'BAD_INPUT', message }, text.slice(0, 120));
  t.throws(() => checkValue({ name: 'v', kind: 'host' }, volume, { origin: '--volume', path: 'v' }), new RktError('BAD_INPUT', '--volume: v: source for host volume cannot be empty'));
});

t.test('sanitised names are legal names', async (t) => {
  const identifiers: [string, string | undefined][] = [
    ['registry-1.docker.io/library/Foo__Bar', 'registry-1.docker.io/library/foo_bar'],
    ['-a b-', 'a_b'],
    ['a-/-b', 'a/b'],
    ['Größe', 'gr_e'],
    ['---', undefined],
    ['', undefined],
  ];
  for (const [text, expected] of identifiers) t.equal(sanitizeACIdentifier(text), expected, text);
  t.equal(sanitizeACName('volume//var/lib_x'), 'volume-var-lib-x');
  t.equal(sanitizeACName('80/tcp'), '80-tcp');
  t.equal(sanitizeACName('a'.repeat(500))?.length, 200);
});

import t from 'tap';
import { parseDockerArchive, parseOciConfig, parseOciIndex, parseOciManifest } from '../../src/schema/oci.ts';

const DIGEST = `sha256:${'0a'.repeat(32)}`;
const DESCRIPTOR = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: DIGEST, size: 2 };
const MANIFEST = { schemaVersion: 2, config: DESCRIPTOR, layers: [DESCRIPTOR] };
const CONFIG = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [DIGEST] } };

t.test('documents are read', async (t) => {
  t.strictSame(parseOciManifest(JSON.stringify({ ...MANIFEST, more: 1 }), 'm'), MANIFEST);
  t.strictSame(parseOciManifest(JSON.stringify({ schemaVersion: 2, config: DESCRIPTOR, layers: null }), 'm').layers, [], 'no layers is a valid image');
  t.strictSame(parseOciIndex(JSON.stringify({ schemaVersion: 2, manifests: [{ ...DESCRIPTOR, platform: { os: 'linux', architecture: 'arm', variant: 'v7', 'os.version': 'x' } }] }), 'i').manifests[0]?.platform, { os: 'linux', architecture: 'arm', variant: 'v7' });
  t.strictSame(parseOciConfig(JSON.stringify({ ...CONFIG, history: [], config: { Cmd: null, Env: ['A=b'], Volumes: { '/v': {} } } }), 'c').config, { Env: ['A=b'], Volumes: { '/v': {} } });
  t.strictSame(parseDockerArchive(JSON.stringify([{ Config: 'c.json', RepoTags: null, Layers: ['a/layer.tar'] }]), 'd'), [{ Config: 'c.json', RepoTags: [], Layers: ['a/layer.tar'] }]);
});

t.test('messages name document, field and expectation', async (t) => {
  const refused: [() => unknown, string | RegExp][] = [
    [() => parseOciManifest(JSON.stringify({ ...MANIFEST, schemaVersion: 1 }), 'm'), 'm: schemaVersion: image manifests of schema version 1 are not supported: expected 2'],
    [() => parseOciManifest(JSON.stringify({ ...MANIFEST, manifests: [] }), 'm'), 'm: must not have a field "manifests"'],
    [() => parseOciIndex(JSON.stringify({ schemaVersion: 2, manifests: [], layers: [] }), 'i'), 'i: must not have a field "layers"'],
    [() => parseOciManifest(JSON.stringify({ ...MANIFEST, config: { ...DESCRIPTOR, digest: 'sha256:../../etc' } }), 'm'), /^m: config\.digest: expected a digest sha256:/],
    [() => parseOciManifest(JSON.stringify({ ...MANIFEST, config: { ...DESCRIPTOR, digest: DIGEST.toUpperCase() } }), 'm'), /config\.digest/],
    [() => parseOciManifest(JSON.stringify({ ...MANIFEST, config: { ...DESCRIPTOR, digest: `sha512:${'0'.repeat(64)}` } }), 'm'), /config\.digest/],
    [() => parseOciManifest(JSON.stringify({ ...MANIFEST, layers: [{ ...DESCRIPTOR, size: -1 }] }), 'm'), /^m: layers\[0\]\.size: expected a number from 0 /],
    [() => parseOciManifest(JSON.stringify({ ...MANIFEST, layers: [{ ...DESCRIPTOR, size: 1.5 }] }), 'm'), 'm: layers[0].size: expected a whole number, found number 1.5'],
    [() => parseOciConfig(JSON.stringify({ ...CONFIG, os: undefined }), 'c'), 'c: os: expected a string, found nothing'],
    [() => parseOciConfig(JSON.stringify({ ...CONFIG, rootfs: { type: 'x', diff_ids: [] } }), 'c'), 'c: rootfs.type: expected "layers"'],
    [() => parseOciConfig(JSON.stringify({ ...CONFIG, config: { Env: 'A=b' } }), 'c'), 'c: config.Env: expected a list, found the string "A=b"'],
    [() => parseDockerArchive('[]', 'd'), 'd: expected at least one image'],
  ];
  for (const [parse, message] of refused) t.throws(parse, { code: 'BAD_IMAGE', message });
});

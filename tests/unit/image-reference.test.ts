import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseImageString } from '../../src/image/index.ts';
import { parseDockerReference, sameDockerReference } from '../../src/image/docker-reference.ts';
import { nameOfFile } from '../../src/image/reference.ts';
import { scratchDir } from '../helpers/scratch-dir.ts';

t.test('paths, URLs, transports, IDs', async (t) => {
  const cwd = scratchDir(t, 'reference');
  mkdirSync(join(cwd, 'layout'));
  writeFileSync(join(cwd, 'plainfile'), '');
  writeFileSync(join(cwd, 'with:colon'), '');
  const parsed: [string, object][] = [
    ['sha512-abcd', { kind: 'id', id: 'sha512-abcd' }],
    ['/x/y', { kind: 'file', path: '/x/y' }],
    ['./x', { kind: 'file', path: join(cwd, 'x') }],
    ['../x', { kind: 'file', path: join(cwd, '../x') }],
    ['x.aci', { kind: 'file', path: join(cwd, 'x.aci') }],
    ['x.tar', { kind: 'file', path: join(cwd, 'x.tar') }],
    ['plainfile', { kind: 'file', path: join(cwd, 'plainfile') }],
    ['layout', { kind: 'file', path: join(cwd, 'layout') }],
    ['with:colon', { kind: 'file', path: join(cwd, 'with:colon') }],
    ['file:///a%20b', { kind: 'file', path: '/a b' }],
    ['file:x', { kind: 'file', path: join(cwd, 'x') }],
    ['oci:layout', { kind: 'oci', path: join(cwd, 'layout') }],
    ['oci:layout:v1', { kind: 'oci', path: join(cwd, 'layout'), ref: 'v1' }],
    ['oci:with:colon', { kind: 'oci', path: join(cwd, 'with:colon') }],
    ['oci:with:colon:v1', { kind: 'oci', path: join(cwd, 'with:colon'), ref: 'v1' }],
    ['oci:missing:v1', { kind: 'oci', path: join(cwd, 'missing'), ref: 'v1' }],
    ['oci-archive:plainfile:v1', { kind: 'oci', path: join(cwd, 'plainfile'), ref: 'v1' }],
    ['docker-archive:plainfile:busybox:1.36', { kind: 'docker-archive', path: join(cwd, 'plainfile'), ref: 'busybox:1.36' }],
    ['docker-archive:/m', { kind: 'docker-archive', path: '/m' }],
    ['docker://busybox', { kind: 'docker', reference: { registry: 'registry-1.docker.io', repository: 'library/busybox' } }],
    ['docker:quay.io/a/b:v1', { kind: 'docker', reference: { registry: 'quay.io', repository: 'a/b', tag: 'v1' } }],
    [`docker://a/b@sha256:${'0'.repeat(64)}`, { kind: 'docker', reference: { registry: 'registry-1.docker.io', repository: 'a/b', digest: `sha256:${'0'.repeat(64)}` } }],
    ['https://example.com/a.aci?x=1', { kind: 'url', url: 'https://example.com/a.aci?x=1' }],
    ['http://example.com/a.aci', { kind: 'url', url: 'http://example.com/a.aci' }],
    ['coreos.com/etcd', { kind: 'appc', app: { name: 'coreos.com/etcd', labels: {} } }],
    ['coreos.com/etcd:v3,os=linux,arch=amd64', { kind: 'appc', app: { name: 'coreos.com/etcd', labels: { version: 'v3', os: 'linux', arch: 'amd64' } } }],
    ['busybox', { kind: 'appc', app: { name: 'busybox', labels: {} } }],
    ['cimd:docker:v=0:busybox', { kind: 'docker', reference: { registry: 'registry-1.docker.io', repository: 'library/busybox' } }],
    ['cimd:appc:v=0:coreos.com/etcd?version=v3.0.3&os=linux&arch=amd64', { kind: 'appc', app: { name: 'coreos.com/etcd', labels: { version: 'v3.0.3', os: 'linux', arch: 'amd64' } } }],
    ['cimd:aci-archive:v=0:file%3A%2F%2F%2Fa.aci', { kind: 'file', path: '/a.aci' }],
    ['cimd:aci-archive:v=0:https%3A%2F%2Fexample.com%2Fa.aci', { kind: 'url', url: 'https://example.com/a.aci' }],
  ];
  for (const [text, expected] of parsed) t.strictSame(parseImageString(text, cwd), { ...expected, text }, text);

  const refused: [string, { code: string; message?: string | RegExp }][] = [
    ['', { code: 'USAGE' }],
    ['docker://Busybox', { code: 'USAGE', message: 'docker://Busybox: not a name of an image in a registry' }],
    ['docker://Team/app', { code: 'USAGE', message: 'docker://Team/app: repository names are lower case' }],
    ['docker://', { code: 'USAGE' }],
    ['docker://a@sha256:00', { code: 'USAGE', message: /expected a digest sha256:/ }],
    [`docker://${'a/'.repeat(130)}a`, { code: 'USAGE', message: /longer than 255 characters$/ }],
    ['https://example.com/a.tar', { code: 'USAGE', message: 'invalid image string "https://example.com/a.tar"' }],
    ['https://user:secret@example.com/a.aci', { code: 'USAGE', message: 'https://example.com/a.aci: credentials belong into auth.d of the configuration directory, not into a URL' }],
    ['https://', { code: 'USAGE' }],
    ['docker-daemon:x', { code: 'UNSUPPORTED' }],
    ['a:b:c', { code: 'USAGE', message: /more than one colon$/ }],
    ['a:', { code: 'USAGE' }],
    ['a,name=b', { code: 'USAGE', message: /"name=b" is no label$/ }],
    ['a,b', { code: 'USAGE' }],
    ['a:1,version=2', { code: 'USAGE', message: /the label "version" is there twice$/ }],
    ['Upper', { code: 'USAGE' }],
    ['cimd:docker:busybox', { code: 'USAGE' }],
    ['cimd:other:v=0:x', { code: 'USAGE', message: /unknown type of distribution "other"/ }],
    ['cimd:aci-archive:v=0:%', { code: 'USAGE' }],
    ['file://host/x', { code: 'USAGE' }],
    ['oci:', { code: 'USAGE', message: 'oci:: a path is missing' }],
    ['oci:layout:', { code: 'USAGE' }],
  ];
  for (const [text, error] of refused) t.throws(() => parseImageString(text, cwd), error, text);
});

t.test('names of files', async (t) => {
  const names: [string, string][] = [['/a/busybox.oci', 'busybox'], ['b.oci.tar.gz', 'b'], ['/c/d', 'd'], ['e.1.aci', 'e.1'], ['f.tzst', 'f']];
  for (const [path, name] of names) t.equal(nameOfFile(path), name);
});

t.test('names as Docker writes them', async (t) => {
  const parsed: [string, object | undefined][] = [
    ['busybox', { registry: 'registry-1.docker.io', repository: 'library/busybox' }],
    ['busybox:1.36', { registry: 'registry-1.docker.io', repository: 'library/busybox', tag: '1.36' }],
    ['docker.io/library/busybox:latest', { registry: 'registry-1.docker.io', repository: 'library/busybox', tag: 'latest' }],
    ['a/b/c', { registry: 'registry-1.docker.io', repository: 'a/b/c' }],
    ['localhost:5000/a:v_1', { registry: 'localhost:5000', repository: 'a', tag: 'v_1' }],
    ['quay.io/a/b@sha256:00', { registry: 'quay.io', repository: 'a/b', digest: 'sha256:00' }],
    ['Upper', undefined],
    ['a b', undefined],
    ['', undefined],
  ];
  for (const [text, expected] of parsed) t.strictSame(parseDockerReference(text), expected, text);
  t.ok(sameDockerReference('busybox', 'docker.io/library/busybox:latest'));
  t.notOk(sameDockerReference('busybox', 'busybox:1'));
});

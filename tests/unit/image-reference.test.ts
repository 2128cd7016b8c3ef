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
  ];
  for (const [text, expected] of parsed) t.strictSame(parseImageString(text, cwd), { ...expected, text }, text);

  const refused: [string, { code: string; message?: string | RegExp }][] = [
    ['', { code: 'USAGE' }],
    ['docker://busybox', { code: 'UNSUPPORTED', message: 'docker://busybox: fetching from a registry (docker:) is not supported' }],
    ['docker:busybox', { code: 'UNSUPPORTED' }],
    ['https://example.com/a.aci', { code: 'UNSUPPORTED', message: /web server/ }],
    ['cimd:docker:v=0:busybox', { code: 'UNSUPPORTED' }],
    ['coreos.com/etcd', { code: 'UNSUPPORTED', message: 'coreos.com/etcd: no such file, and finding images by name is not supported' }],
    ['coreos.com/etcd:v3', { code: 'UNSUPPORTED', message: /by name/ }],
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

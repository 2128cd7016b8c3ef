/** Small images for tests, in every format, from Debian's busybox-static: real content without a registry. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { tar } from './tar-writer.ts';

export const BUSYBOX = '/bin/busybox';

export interface TarMember {
  path: string;
  type?: 'file' | 'directory' | 'symlink' | 'hardlink' | 'character' | 'block' | 'fifo';
  mode?: number;
  uid?: number;
  gid?: number;
  mtimeSeconds?: number;
  content?: string | Uint8Array;
  linkPath?: string;
  device?: { major: number; minor: number };
}

export type TestCompression = 'none' | 'gzip' | 'zstd' | 'xz' | 'bzip2';

export interface ImageOptions {
  /** Entrypoint; default `/bin/sh`. */
  exec?: string[];
  /** `USER[:GROUP]`; default root. */
  user?: string;
  env?: string[];
  workingDirectory?: string;
  volumes?: string[];
  ports?: string[];
  labels?: Record<string, string>;
  stopSignal?: string;
  /** Layers, lowest first; default one with busybox. An ACI gets them all in one. */
  layers?: TarMember[][];
  compression?: TestCompression;
  /** GOARCH; default amd64. */
  architecture?: string;
  /** Reference the image gets in its archive. */
  reference?: string;
  /** Fields put over those of the appc manifest. */
  manifest?: Record<string, unknown>;
}

const TYPE_FLAGS = { file: '0', hardlink: '1', symlink: '2', character: '3', block: '4', directory: '5', fifo: '6' } as const;

export function makeTar(members: readonly TarMember[]): Buffer {
  return Buffer.from(
    tar(
      members.map((member) => ({
        path: member.path,
        flag: TYPE_FLAGS[member.type ?? 'file'],
        data: member.content ?? '',
        mode: member.mode ?? (member.type === 'directory' ? 0o755 : 0o644),
        uid: member.uid ?? 0,
        gid: member.gid ?? 0,
        mtime: member.mtimeSeconds ?? 1_700_000_000,
        link: member.linkPath ?? '',
        device: member.device ?? { major: 0, minor: 0 },
      })),
    ),
  );
}

/** Programs that are links to busybox. */
const APPLETS = ['sh', 'ash', 'cat', 'echo', 'env', 'true', 'false', 'ls', 'id', 'sleep', 'ps', 'mount', 'stat', 'grep', 'head', 'tail', 'wc', 'dd', 'sha256sum', 'hostname', 'ip', 'nc', 'wget', 'kill', 'mkdir', 'rm', 'cp', 'ln', 'touch', 'chmod', 'chown', 'stty', 'tty', 'uname', 'date', 'printf', 'test', 'seq', 'yes', 'sync', 'nproc', 'free', 'ping', 'od', 'tr', 'cut', 'sort', 'find', 'readlink'];

/** A root file system: busybox with its links, users, the usual directories. */
export function busyboxMembers(): TarMember[] {
  return [
    ...['bin', 'dev', 'etc', 'home', 'proc', 'root', 'sys', 'usr', 'usr/bin', 'var'].map((path): TarMember => ({ path: `${path}/`, type: 'directory' })),
    { path: 'tmp/', type: 'directory', mode: 0o1777 },
    { path: 'home/user/', type: 'directory', uid: 1000, gid: 1000 },
    { path: 'bin/busybox', mode: 0o755, content: readFileSync(BUSYBOX) },
    ...APPLETS.map((name): TarMember => ({ path: `bin/${name}`, type: 'hardlink', linkPath: 'bin/busybox' })),
    { path: 'etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' },
    { path: 'etc/group', content: 'root:x:0:\nuser:x:1000:\nstaff:x:50:user\nnogroup:x:65534:\n' },
  ];
}

export function compress(data: Uint8Array, compression: TestCompression): Buffer {
  switch (compression) {
    case 'none':
      return Buffer.from(data);
    case 'gzip':
      return gzipSync(data, { level: 1 });
    case 'zstd':
      return zstdCompressSync(data, { params: { [constants.ZSTD_c_checksumFlag]: 1 } });
    case 'xz':
    case 'bzip2': {
      const done = spawnSync(compression, ['-1', '-c'], { input: data, maxBuffer: 2 ** 30 });
      if (done.status !== 0) throw new Error(`${compression}: ${String(done.error ?? done.stderr)}`);
      return done.stdout;
    }
  }
}

const APPC_ARCHITECTURES: Readonly<Record<string, string>> = { amd64: 'amd64', arm64: 'aarch64', '386': 'i386', s390x: 's390x' };

export function aciManifest(options: ImageOptions = {}): Record<string, unknown> {
  const [user = '0', group = user] = (options.user ?? '0').split(':');
  return {
    acKind: 'ImageManifest',
    acVersion: '0.8.11',
    name: 'example.com/busybox',
    labels: [
      { name: 'version', value: '1.0.0' },
      { name: 'os', value: 'linux' },
      { name: 'arch', value: APPC_ARCHITECTURES[options.architecture ?? 'amd64'] },
    ],
    app: {
      exec: options.exec ?? ['/bin/sh'],
      user,
      group,
      ...(options.workingDirectory === undefined ? {} : { workingDirectory: options.workingDirectory }),
      environment: (options.env ?? []).map((text) => ({ name: text.slice(0, text.indexOf('=')), value: text.slice(text.indexOf('=') + 1) })),
    },
    ...options.manifest,
  };
}

export function aciMembers(options: ImageOptions = {}): TarMember[] {
  const below = (options.layers ?? [busyboxMembers()]).flat();
  return [
    { path: 'manifest', content: JSON.stringify(aciManifest(options)) },
    { path: 'rootfs/', type: 'directory' },
    ...below.map((member) => ({ ...member, path: `rootfs/${member.path}`, ...(member.type === 'hardlink' ? { linkPath: `rootfs/${member.linkPath}` } : {}) })),
  ];
}

/** Writes an ACI. Returns the path. */
export function makeAci(path: string, options: ImageOptions = {}): string {
  return writeInto(path, compress(makeTar(aciMembers(options)), options.compression ?? 'gzip'));
}

interface Blob {
  mediaType: string;
  digest: string;
  size: number;
  bytes: Buffer;
}

export interface LayeredParts {
  config: Blob;
  /** As stored. */
  layers: Blob[];
  diffIDs: string[];
  uncompressed: Buffer[];
}

function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function blobOf(mediaType: string, bytes: Buffer): Blob {
  return { mediaType, digest: digestOf(bytes), size: bytes.length, bytes };
}

function jsonBlob(mediaType: string, value: unknown): Blob {
  return blobOf(mediaType, Buffer.from(JSON.stringify(value)));
}

/** Config and layers of an OCI image. */
export function layeredParts(options: ImageOptions = {}): LayeredParts {
  const uncompressed = (options.layers ?? [busyboxMembers()]).map(makeTar);
  const compression = options.compression ?? 'gzip';
  const suffix = compression === 'none' ? '' : `+${compression}`;
  const layers = uncompressed.map((tar) => blobOf(`application/vnd.oci.image.layer.v1.tar${suffix}`, compress(tar, compression)));
  const diffIDs = uncompressed.map(digestOf);
  const asMap = (names: string[] | undefined): Record<string, object> | undefined => (names === undefined ? undefined : Object.fromEntries(names.map((name) => [name, {}])));
  const config = jsonBlob('application/vnd.oci.image.config.v1+json', {
    created: '2024-01-01T00:00:00Z',
    architecture: options.architecture ?? 'amd64',
    os: 'linux',
    config: {
      Entrypoint: options.exec ?? ['/bin/sh'],
      User: options.user,
      Env: options.env ?? ['PATH=/bin:/usr/bin'],
      WorkingDir: options.workingDirectory,
      Volumes: asMap(options.volumes),
      ExposedPorts: asMap(options.ports),
      Labels: options.labels,
      StopSignal: options.stopSignal,
    },
    rootfs: { type: 'layers', diff_ids: diffIDs },
  });
  return { config, layers, diffIDs, uncompressed };
}

function descriptorOf({ mediaType, digest, size }: Blob): { mediaType: string; digest: string; size: number } {
  return { mediaType, digest, size };
}

/** Files of an OCI image layout with one image for each option set; more than one makes a multi-platform index below the top one. */
export function ociLayoutFiles(images: readonly ImageOptions[]): Map<string, Buffer> {
  const files = new Map<string, Buffer>([['oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}')]]);
  const add = (blob: Blob): Blob => {
    files.set(`blobs/${blob.digest.replace(':', '/')}`, blob.bytes);
    return blob;
  };
  const manifests = images.map((options) => {
    const { config, layers } = layeredParts(options);
    const manifest = add(jsonBlob('application/vnd.oci.image.manifest.v1+json', { schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json', config: descriptorOf(add(config)), layers: layers.map((layer) => descriptorOf(add(layer))) }));
    return { ...descriptorOf(manifest), platform: { os: 'linux', architecture: options.architecture ?? 'amd64' } };
  });
  const [only] = manifests;
  const top = manifests.length === 1 && only !== undefined ? only : descriptorOf(add(jsonBlob('application/vnd.oci.image.index.v1+json', { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests })));
  const reference = images[0]?.reference;
  const annotations = reference === undefined ? {} : { annotations: { 'org.opencontainers.image.ref.name': reference } };
  files.set('index.json', Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [{ ...top, ...annotations }] })));
  return files;
}

/** Writes an OCI image layout directory. Returns the path. */
export function makeOciLayout(path: string, ...images: ImageOptions[]): string {
  for (const [name, bytes] of ociLayoutFiles(images.length === 0 ? [{}] : images)) writeInto(join(path, name), bytes);
  return path;
}

/** Writes an OCI image layout as a tar; the first image's `compression` is that of its layers, `archive` that of the tar. */
export function makeOciTar(path: string, options: ImageOptions = {}, archive: TestCompression = 'none'): string {
  const members = [...ociLayoutFiles([options])].map(([name, content]): TarMember => ({ path: name, content }));
  return writeInto(path, compress(makeTar(members), archive));
}

/** Writes an archive as `docker save` does. Returns the path. */
export function makeDockerArchive(path: string, ...images: ImageOptions[]): string {
  const members = new Map<string, TarMember>();
  const add = (name: string, content: Buffer): string => {
    members.set(name, { path: name, content });
    return name;
  };
  const list = (images.length === 0 ? [{}] : images).map((options: ImageOptions) => {
    const { config, diffIDs, uncompressed } = layeredParts(options);
    return {
      Config: add(`${config.digest.slice('sha256:'.length)}.json`, config.bytes),
      RepoTags: options.reference === undefined ? null : [options.reference],
      Layers: uncompressed.map((tar, position) => add(`${(diffIDs[position] ?? '').slice('sha256:'.length)}.tar`, tar)),
    };
  });
  add('manifest.json', Buffer.from(JSON.stringify(list)));
  return writeInto(path, makeTar([...members.values()]));
}

function writeInto(path: string, bytes: Uint8Array): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
  return path;
}

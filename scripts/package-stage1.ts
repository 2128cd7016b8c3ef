/**
 * Makes a stage1 image out of dist/stage1-FLAVOR/: the manifest beside its files, and the ACI.
 * Deterministic: same parts, same bytes, wherever and whenever it is built.
 */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Kernel } from '../kernel-config/kernel.ts';
import { writeTar } from '../src/rootfs/index.ts';
import type { TarEntry } from '../src/rootfs/index.ts';

export interface Flavor {
  name: string;
  /** Besides `run`, which is `/init`: the same program under other names. */
  entrypoints: readonly string[];
  /** Files of the image besides `init`. */
  files: readonly string[];
  annotations: Readonly<Record<string, string>>;
}

/** A virtual machine: it reads disks, and networks are stage0's, which hands over descriptors of tap devices. */
export function kvmFlavor(kernel: Pick<Kernel, 'release' | 'source'>): Flavor {
  return {
    name: 'coreos.com/rkt/stage1-kvm',
    entrypoints: ['app/add', 'app/rm', 'app/start', 'app/stop', 'attach', 'enter', 'export', 'gc', 'predict', 'stop'],
    files: ['initramfs', 'kernel'],
    annotations: { 'rkt/rootfs': 'disk', 'rkt/network': 'tap', 'rkt/metadata': 'token-file', 'rkt/kernel-source': kernel.source, 'rkt/kernel-release': kernel.release },
  };
}

/** A process of this host in another root directory. */
export const FLY_FLAVOR: Flavor = {
  name: 'coreos.com/rkt/stage1-fly',
  entrypoints: ['attach', 'enter', 'export', 'gc', 'stop'],
  files: [],
  annotations: { 'rkt/rootfs': 'directory', 'rkt/network': 'host', 'rkt/metadata': 'token-file' },
};

const INTERFACE_VERSION = '6';
const PREFIX = 'coreos.com/rkt/stage1/';

/** The appc image manifest, as text. Pure. */
export function stage1Manifest({ name, entrypoints, annotations }: Flavor, version: string): string {
  const all = {
    [`${PREFIX}run`]: '/init',
    ...Object.fromEntries(entrypoints.map((entrypoint) => [PREFIX + entrypoint, `/${programName(entrypoint)}`])),
    [`${PREFIX}interface-version`]: INTERFACE_VERSION,
    ...annotations,
  };
  return `${JSON.stringify({
    acKind: 'ImageManifest',
    acVersion: '0.8.11',
    name,
    labels: [{ name: 'version', value: version }, { name: 'os', value: 'linux' }, { name: 'arch', value: 'amd64' }],
    annotations: Object.entries(all).map(([annotation, value]) => ({ name: annotation, value })),
  })}\n`;
}

/** As rkt called them: `app_add` is the entrypoint `app/add`. */
function programName(entrypoint: string): string {
  return entrypoint.replace('/', '_');
}

/** What the image holds, by the names of its root directory. */
export type Stage1Files = ReadonlyMap<string, Uint8Array>;

/** The ACI: an uncompressed tar, because it is read once per machine and size matters less than the wait. Pure. */
export async function stage1Archive(flavor: Flavor, version: string, files: Stage1Files): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of writeTar(members(flavor, version, files))) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* members(flavor: Flavor, version: string, files: Stage1Files): AsyncGenerator<TarEntry> {
  yield member('file', 'manifest', { content: new TextEncoder().encode(stage1Manifest(flavor, version)) });
  yield member('directory', 'rootfs/', { mode: 0o755 });
  yield member('file', 'rootfs/init', { mode: 0o755, content: contentOf(files, 'init') });
  for (const entrypoint of flavor.entrypoints) yield member('hardlink', `rootfs/${programName(entrypoint)}`, { mode: 0o755, linkPath: 'rootfs/init' });
  for (const name of flavor.files) yield member('file', `rootfs/${name}`, { content: contentOf(files, name) });
}

function contentOf(files: Stage1Files, name: string): Uint8Array {
  const content = files.get(name);
  if (content === undefined) throw new Error(`the stage1 image has no ${name}`);
  return content;
}

/** Owner root, time 0. */
function member(type: TarEntry['type'], path: string, { mode = 0o644, content = new Uint8Array(0), linkPath = '' }: { mode?: number; content?: Uint8Array; linkPath?: string }): TarEntry {
  return {
    type, path, mode, linkPath,
    uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, device: { major: 0, minor: 0 }, xattrs: new Map(), extents: undefined,
    sizeBytes: content.length,
    body: (async function* () {
      if (content.length > 0) yield { offsetBytes: 0, data: content };
    })(),
  };
}

export interface PackageOptions {
  flavor: Flavor;
  /** Holds the image's files; gets the manifest. */
  directory: string;
  /** Where the ACI goes. */
  output: string;
}

/** Files appear whole, and keep their time when they have not changed. */
export async function packageStage1({ flavor, directory, output }: PackageOptions): Promise<void> {
  const { version } = JSON.parse(await readFile(join(import.meta.dirname, '../package.json'), 'utf8')) as { version: string };
  const names = ['init', ...flavor.files];
  const files = new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(directory, name))] as const)));
  await replace(join(directory, 'manifest'), new TextEncoder().encode(stage1Manifest(flavor, version)));
  await replace(output, await stage1Archive(flavor, version, files));
}

async function replace(path: string, content: Uint8Array): Promise<void> {
  const old = await readFile(path).catch(() => null);
  // Whoever imports the image by path need not look again.
  if (old?.equals(content) === true) return;
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}

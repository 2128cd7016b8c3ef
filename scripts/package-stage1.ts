/**
 * Makes the stage1 image out of dist/stage1-kvm/{init,kernel,initramfs}: the manifest beside them, and dist/stage1-kvm.aci.
 * Deterministic: same parts, same bytes, wherever and whenever it is built.
 */
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Kernel } from '../kernel-config/kernel.ts';

export interface Stage1Parts {
  /** The monitor, a static ELF. */
  init: Uint8Array;
  kernel: Uint8Array;
  kernelRelease: string;
  /** `own`: built from kernel-config/; `debian`: the distribution's. */
  kernelSource: 'own' | 'debian';
  initramfs: Uint8Array;
  /** Of rkt: the image's version label. */
  version: string;
}

export const STAGE1_NAME = 'coreos.com/rkt/stage1-kvm';
/** The entrypoints are one program under several names. */
const OTHER_ENTRYPOINTS = ['enter', 'export', 'gc', 'predict', 'stop'] as const;
const INTERFACE_VERSION = '6';
const BLOCK_BYTES = 512;

/** The appc image manifest, as text. Pure. */
export function stage1Manifest(parts: Pick<Stage1Parts, 'version' | 'kernelRelease' | 'kernelSource'>): string {
  const annotation = (name: string, value: string): { name: string; value: string } => ({ name, value });
  return `${JSON.stringify({
    acKind: 'ImageManifest',
    acVersion: '0.8.11',
    name: STAGE1_NAME,
    labels: [{ name: 'version', value: parts.version }, { name: 'os', value: 'linux' }, { name: 'arch', value: 'amd64' }],
    annotations: [
      annotation('coreos.com/rkt/stage1/run', '/init'),
      ...OTHER_ENTRYPOINTS.map((name) => annotation(`coreos.com/rkt/stage1/${name}`, `/${name}`)),
      annotation('coreos.com/rkt/stage1/interface-version', INTERFACE_VERSION),
      // Networks are stage0's; this stage1 takes descriptors of tap devices.
      annotation('rkt/network', 'tap'),
      annotation('rkt/kernel-source', parts.kernelSource),
      annotation('rkt/kernel-release', parts.kernelRelease),
    ],
  })}\n`;
}

/** The ACI: an uncompressed tar, because it is read once per machine and size matters less than the wait. Pure. */
export function stage1Archive(parts: Stage1Parts): Uint8Array {
  const manifest = new TextEncoder().encode(stage1Manifest(parts));
  const chunks: Uint8Array[] = [];
  const add = (header: TarHeader, body: Uint8Array = new Uint8Array(0)): void => {
    chunks.push(tarHeader(header), body, new Uint8Array((BLOCK_BYTES - (body.length % BLOCK_BYTES)) % BLOCK_BYTES));
  };
  add({ path: 'manifest', mode: 0o644, sizeBytes: manifest.length, type: '0' }, manifest);
  add({ path: 'rootfs/', mode: 0o755, sizeBytes: 0, type: '5' });
  add({ path: 'rootfs/init', mode: 0o755, sizeBytes: parts.init.length, type: '0' }, parts.init);
  for (const name of OTHER_ENTRYPOINTS) add({ path: `rootfs/${name}`, mode: 0o755, sizeBytes: 0, type: '1', link: 'rootfs/init' });
  add({ path: 'rootfs/initramfs', mode: 0o644, sizeBytes: parts.initramfs.length, type: '0' }, parts.initramfs);
  add({ path: 'rootfs/kernel', mode: 0o644, sizeBytes: parts.kernel.length, type: '0' }, parts.kernel);
  chunks.push(new Uint8Array(2 * BLOCK_BYTES));
  return concat(chunks);
}

export interface PackageOptions {
  /** Holds init, kernel and initramfs; gets the manifest. */
  directory: string;
  /** Where the ACI goes. */
  output: string;
  kernel: Pick<Kernel, 'release' | 'source'>;
}

/** Files appear whole, and keep their time when they have not changed. */
export async function packageStage1({ directory, output, kernel }: PackageOptions): Promise<void> {
  const { version } = JSON.parse(await readFile(join(import.meta.dirname, '../package.json'), 'utf8')) as { version: string };
  const part = (name: string): Promise<Uint8Array> => readFile(join(directory, name));
  const [init, kernelImage, initramfs] = await Promise.all([part('init'), part('kernel'), part('initramfs')]);
  const parts: Stage1Parts = { init, kernel: kernelImage, initramfs, kernelRelease: kernel.release, kernelSource: kernel.source, version };
  await replace(join(directory, 'manifest'), new TextEncoder().encode(stage1Manifest(parts)));
  await replace(output, stage1Archive(parts));
}

async function replace(path: string, content: Uint8Array): Promise<void> {
  const old = await readFile(path).catch(() => null);
  // Whoever imports the image by path need not look again.
  if (old?.equals(content) === true) return;
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}

interface TarHeader {
  path: string;
  mode: number;
  sizeBytes: number;
  /** ustar type flag: file, hard link, directory. */
  type: '0' | '1' | '5';
  link?: string;
}

/** POSIX ustar; owner root, time 0. */
function tarHeader(header: TarHeader): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  const put = (offset: number, text: string): void => block.set(new TextEncoder().encode(text), offset);
  const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, '0');
  put(0, header.path);
  put(100, octal(header.mode, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  put(124, octal(header.sizeBytes, 11));
  put(136, octal(0, 11));
  put(148, '        ');
  put(156, header.type);
  put(157, header.link ?? '');
  put(257, 'ustar\u0000');
  put(263, '00');
  put(148, `${octal(block.reduce((sum, byte) => sum + byte, 0), 6)}\u0000 `);
  return block;
}

function concat(chunks: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    joined.set(chunk, offset);
    offset += chunk.length;
  }
  return joined;
}

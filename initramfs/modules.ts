import { readdirSync, readFileSync, existsSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { basename, join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { RktError } from '../src/error.ts';
import { readModuleInfo } from './module-info.ts';

export interface KernelModule {
  /** As the kernel calls it: underscores, no suffix. */
  name: string;
  /** The module, uncompressed and without signature. */
  bytes: Uint8Array;
}

/** Without these no pod can run; each is a module or built into the kernel. */
const REQUIRED_MODULES = ['virtio_pci', 'virtio_blk', 'virtio_net', 'vmw_vsock_virtio_transport', 'dm_verity', 'erofs', 'ext4', 'overlay'];

/**
 * Loaded when the kernel has them as modules. Hashes come first: dm-verity and ext4 ask for them by algorithm name,
 * which a guest without modprobe cannot resolve. Plain C on purpose: under emulation the vector forms are three times slower.
 */
const HASH_MODULES = ['sha256_generic', 'crc32c_generic', 'crc32c_cryptoapi'];
const OPTIONAL_MODULES = ['tpm_tis', 'tpm_crb', 'virtiofs', 'virtio_balloon', 'virtio_console', 'vmgenid'];

/** scripts/sign-file.c: what closes a signed module; before it stand a 12-byte descriptor and the signature. */
const SIGNATURE_TRAILER = '~Module signature appended~\n';
const SIGNATURE_DESCRIPTOR_BYTES = 12;

export interface ModuleSource {
  /** Directory of one kernel's modules, as `/lib/modules/6.1.0-56-cloud-amd64`. */
  moduleDir: string;
  /** Kernel release, for messages. */
  release: string;
}

/**
 * Modules a pod's guest needs from a distribution kernel, each after the ones it depends on. The order is the same
 * for the same kernel. Built-in drivers are left out; optional ones that the kernel does not have, too.
 * Throws RktError UNSUPPORTED if the kernel lacks a driver no pod can do without, NOT_FOUND without its modules.
 */
export function modulesFor(source: ModuleSource): KernelModule[] {
  const { moduleDir, release } = source;
  if (!existsSync(join(moduleDir, 'modules.builtin'))) {
    throw new RktError('NOT_FOUND', `no modules of kernel ${release} in ${moduleDir}`, {
      hint: 'install the modules that belong to this kernel, or use a kernel with all drivers built in',
    });
  }
  const files = findModuleFiles(join(moduleDir, 'kernel'));
  const builtIn = readBuiltIn(join(moduleDir, 'modules.builtin'));
  const loadOrder: KernelModule[] = [];
  const visited = new Set<string>();

  function add(name: string, neededBy: string): void {
    if (visited.has(name) || builtIn.has(name)) return;
    visited.add(name);
    const file = files.get(name);
    if (file === undefined) throw new RktError('UNSUPPORTED', `kernel ${release} has no driver ${name}, which ${neededBy} needs`);
    const bytes = stripSignature(readModule(file));
    for (const dependency of readModuleInfo(bytes, file).depends) add(canonicalName(dependency), name);
    loadOrder.push({ name, bytes });
  }

  for (const name of HASH_MODULES) if (files.has(name)) add(name, 'a pod');
  for (const name of REQUIRED_MODULES) add(name, 'a pod');
  for (const name of OPTIONAL_MODULES) if (files.has(name)) add(name, 'a pod');
  return loadOrder;
}

function findModuleFiles(directory: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const name = moduleName(entry.name);
    if (name !== undefined) files.set(name, join(entry.parentPath, entry.name));
  }
  return files;
}

function readBuiltIn(path: string): Set<string> {
  const names = readFileSync(path, 'utf8').split('\n').map((line) => moduleName(basename(line)));
  return new Set(names.filter((name) => name !== undefined));
}

/** `dm-verity.ko.xz` → `dm_verity`; undefined for a file that is no module. */
function moduleName(fileName: string): string | undefined {
  const match = /^(.+)\.ko(\.(gz|xz|zst))?$/.exec(fileName);
  return match?.[1] === undefined ? undefined : canonicalName(match[1]);
}

function canonicalName(name: string): string {
  return name.replaceAll('-', '_');
}

function readModule(file: string): Uint8Array {
  const bytes = readFileSync(file);
  if (file.endsWith('.gz')) return gunzipSync(bytes);
  if (file.endsWith('.zst')) return zstdDecompressSync(bytes);
  if (!file.endsWith('.xz')) return bytes;
  const result = spawnSync('xz', ['-dc'], { input: bytes, maxBuffer: 1 << 28 });
  if (result.status !== 0) {
    throw new RktError('MISSING_DEPENDENCY', `cannot unpack ${file} with xz`, { hint: 'apt-get install xz-utils', cause: result.error });
  }
  return result.stdout;
}

/** The initramfs as a whole is measured; checking each module's RSA signature again costs time under emulation and proves nothing. */
function stripSignature(module: Uint8Array): Uint8Array {
  const bytes = Buffer.from(module.buffer, module.byteOffset, module.byteLength);
  const trailer = bytes.length - SIGNATURE_TRAILER.length;
  if (trailer < SIGNATURE_DESCRIPTOR_BYTES || bytes.toString('latin1', trailer) !== SIGNATURE_TRAILER) return module;
  const signatureBytes = bytes.readUInt32BE(trailer - 4);
  return module.subarray(0, trailer - SIGNATURE_DESCRIPTOR_BYTES - signatureBytes);
}

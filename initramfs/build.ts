import { writeCpio, type CpioEntry } from './cpio.ts';

export interface InitramfsParts {
  /** The agent: a static ELF, becomes `/init`. */
  agent: Uint8Array;
  /** Modules for a kernel that needs them, in load order; none for a kernel with everything built in. */
  modules?: readonly { name: string; bytes: Uint8Array }[];
}

/** Mount points of the agent, and what `/init` needs before it has mounted anything. */
const DIRECTORIES = ['dev', 'proc', 'sys', 'run', 'tmp'];

/**
 * The guest's first root file system: `/init`, empty directories, `/dev/console`, and with modules
 * `/modules/NNN-name.ko` and `/modules/order` (one file name per line, in load order).
 * An uncompressed cpio archive: unpacking costs a guest under emulation more than the few hundred KiB it would save.
 * Same parts, same bytes.
 */
export function buildInitramfs(parts: InitramfsParts): Uint8Array<ArrayBuffer> {
  const modules = (parts.modules ?? []).map((module, index) => ({
    fileName: `${String(index).padStart(3, '0')}-${module.name}.ko`,
    bytes: module.bytes,
  }));
  const entries: CpioEntry[] = [
    // An app's root is reached through this directory: it must be open to every user.
    { kind: 'directory', path: '.', mode: 0o755 },
    ...DIRECTORIES.map((path): CpioEntry => ({ kind: 'directory', path, mode: 0o755 })),
    // The kernel opens it as PID 1's standard streams, before devtmpfs can be mounted.
    { kind: 'characterDevice', path: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    { kind: 'file', path: 'init', mode: 0o755, bytes: parts.agent },
  ];
  if (modules.length > 0) {
    const order = modules.map((module) => `${module.fileName}\n`).join('');
    entries.push({ kind: 'directory', path: 'modules', mode: 0o755 });
    entries.push(...modules.map((module): CpioEntry => ({ kind: 'file', path: `modules/${module.fileName}`, mode: 0o644, bytes: module.bytes })));
    entries.push({ kind: 'file', path: 'modules/order', mode: 0o644, bytes: new TextEncoder().encode(order) });
  }
  return writeCpio(entries);
}

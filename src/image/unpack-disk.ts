/**
 * What an image shows, as files of this machine: only when a person asks for it. Every name is one component of a tree whose
 * directories are made here, and nothing is ever opened through a name that came from the image, so no name leads elsewhere.
 */
import { chmodSync, closeSync, lchownSync, linkSync, lutimesSync, mkdirSync, openSync, symlinkSync, utimesSync, writeSync } from 'node:fs';
import { RktError } from '../error.ts';
import { makeSpecialFile, setXattr } from '../linux/special-file.ts';
import { entriesOfDisk } from '../rootfs/index.ts';
import type { ErofsDisk, TarEntry } from '../rootfs/index.ts';
import { fileError } from '../store/fs-error.ts';
import { goOnUnless } from './interruption.ts';

export interface UnpackOptions {
  /** Owners, devices and attributes as in the image; else all belongs to who unpacks, and what only root can make is left out. */
  asRoot: boolean;
  onWarning: (message: string) => void;
  /** Ends it before it is whole. */
  signal?: AbortSignal;
}

const WARNINGS_MAX = 10;

/** `directory` must not exist. Throws RktError. */
export async function unpackDisk(disk: ErofsDisk, directory: string, { asRoot, onWarning, signal }: UnpackOptions): Promise<void> {
  const directories: { path: string; entry: TarEntry }[] = [];
  let warnings = 0;
  const warn = (message: string): void => {
    if (warnings++ < WARNINGS_MAX) onWarning(message);
  };
  try {
    for await (const entry of entriesOfDisk(disk)) {
      if (signal !== undefined) await goOnUnless(signal);
      const path = entry.path === './' ? directory : `${directory}/${textOf(entry.path).replace(/\/$/, '')}`;
      if (entry.type === 'hardlink') {
        linkSync(`${directory}/${textOf(entry.linkPath)}`, path);
        continue;
      }
      if (!(await make(path, entry, { asRoot, warn, signal }))) continue;
      if (entry.type === 'directory') directories.push({ path, entry });
      else setAttributes(path, entry, { asRoot, warn });
    }
    // Their times change with what is put into them, and one may not be writable.
    for (const { path, entry } of directories.reverse()) setAttributes(path, entry, { asRoot, warn });
  } catch (error) {
    throw fileError(error, `cannot write ${directory}`);
  }
}

interface Making {
  asRoot: boolean;
  warn: (message: string) => void;
  signal?: AbortSignal | undefined;
}

async function make(path: string, entry: TarEntry, { asRoot, warn, signal }: Making): Promise<boolean> {
  switch (entry.type) {
    case 'directory':
      mkdirSync(path, { mode: 0o700 });
      return true;
    case 'symlink':
      symlinkSync(textOf(entry.linkPath), path);
      return true;
    case 'file':
      await writeContent(path, entry, signal);
      return true;
    case 'fifo':
      makeSpecialFile(path, { type: 'fifo', mode: entry.mode, device: entry.device });
      return true;
    case 'character':
    case 'block':
      if (asRoot) makeSpecialFile(path, { type: entry.type, mode: entry.mode, device: entry.device });
      else warn(`${path}: a device, left out: only root can make it`);
      return asRoot;
    case 'hardlink':
      throw new RktError('INTERNAL', 'a hard link is made elsewhere');
  }
}

async function writeContent(path: string, entry: TarEntry, signal: AbortSignal | undefined): Promise<void> {
  const fd = openSync(path, 'wx', 0o600);
  try {
    let endBytes = 0;
    for await (const { offsetBytes, data } of entry.body) {
      if (signal !== undefined) await goOnUnless(signal);
      for (let at = 0; at < data.length; ) at += writeSync(fd, data, at, data.length - at, offsetBytes + at);
      endBytes = offsetBytes + data.length;
    }
    // A hole at the end: the last byte makes the file as long as it is.
    if (endBytes < entry.sizeBytes) writeSync(fd, new Uint8Array(1), 0, 1, entry.sizeBytes - 1);
  } finally {
    closeSync(fd);
  }
}

function setAttributes(path: string, entry: TarEntry, { asRoot, warn }: Making): void {
  const seconds = entry.mtime.seconds + entry.mtime.nanoseconds / 1e9;
  if (asRoot) lchownSync(path, entry.uid, entry.gid);
  if (entry.type === 'symlink') return lutimesSync(path, seconds, seconds);
  for (const [name, value] of entry.xattrs) {
    try {
      setXattr(path, textOf(name), value);
    } catch (error) {
      warn(error instanceof Error ? `${error.message}: left out` : String(error));
    }
  }
  // Behind chown, which takes setuid away.
  chmodSync(path, entry.mode);
  utimesSync(path, seconds, seconds);
}

/** Names are bytes. What is no UTF-8 cannot be written with text, and is refused rather than changed. */
function textOf(name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(name, 'latin1'));
  } catch (cause) {
    throw new RktError('UNSUPPORTED', `${JSON.stringify(name)}: a name that is not UTF-8 cannot be unpacked`, { cause, hint: 'export the image instead' });
  }
}

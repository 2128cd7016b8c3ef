import { existsSync, linkSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { busyboxMembers, makeOciLayout } from './make-image.ts';

/** An OCI layout directory with busybox, made once per user of the machine's temporary directory and shared by all test files. */
export function busyboxImage(): string {
  const path = join(tmpdir(), `rkt-test-images-${process.getuid?.() ?? 0}`, 'busybox.oci');
  if (existsSync(path)) return path;
  mkdirSync(dirname(path), { recursive: true });
  const half = mkdtempSync(join(dirname(path), 'half-'));
  makeOciLayout(join(half, 'image'));
  try {
    renameSync(join(half, 'image'), path);
  } catch (error) {
    // Another test file was faster; its image is the same.
    if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
  } finally {
    rmSync(half, { recursive: true, force: true });
  }
  return path;
}

/** The same root file system as a directory, for engines that take one. */
export function busyboxTree(directory: string): string {
  for (const member of busyboxMembers()) {
    const path = join(directory, member.path);
    if (member.type === 'directory') mkdirSync(path, { recursive: true });
    else if (member.type === 'hardlink') linkSync(join(directory, member.linkPath ?? ''), path);
    else writeFileSync(path, member.content ?? '', { mode: member.mode ?? 0o644 });
  }
  return directory;
}

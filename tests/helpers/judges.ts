/** Programs that judge a disk from outside: erofs-utils, cryptsetup, the running kernel. */
import { execFileSync, spawnSync } from 'node:child_process';
import type { DiskGeometry } from '../../src/rootfs/index.ts';

const BLOCK = 4096;

export function fsckErofs(disk: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('fsck.erofs', [disk], { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

/** `veritysetup verify`, with the root hash expected. */
export function veritysetup(disk: string, geometry: DiskGeometry): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('veritysetup', ['verify', disk, disk, geometry.rootHashHex, `--hash-offset=${geometry.dataBlocks * BLOCK}`], { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

/** Why the kernel here cannot be asked, or undefined. */
export function reasonNotToMount(): string | undefined {
  if (process.getuid?.() !== 0) return 'not root';
  const { stdout } = spawnSync('cat', ['/proc/filesystems'], { encoding: 'utf8' });
  if (!/\berofs\b/.test(stdout)) return 'this kernel has no EROFS';
  if (spawnSync('losetup', ['-f']).status !== 0) return 'no loop devices';
  return undefined;
}

/** Loop mounts a disk read-only; returns how to undo it. */
export function mountErofs(disk: string, directory: string): () => void {
  execFileSync('mount', ['-t', 'erofs', '-o', 'loop,ro', disk, directory]);
  return () => void execFileSync('umount', [directory]);
}

/**
 * The writable disk of a pod: a sparse file with an empty ext4 file system, which only the guest ever mounts.
 * Made once by mke2fs as a template; a pod's disk is a copy of the few blocks in it that are not zero.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, fsyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, readSync, renameSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { dataExtents } from '../linux/sparse.ts';
import type { Extent } from '../linux/sparse.ts';
import { openStore } from '../store/index.ts';

/** Size the guest sees; on the host it takes what is written. */
export const SCRATCH_SIZE_BYTES = 16 * 2 ** 30;
const FILE_MODE = 0o600;

/**
 * No journal (the disk dies with the pod), no checksums of metadata (they would cost the guest time and tell nothing:
 * the disk is private), no spare copies, all metadata at the front. `uninit_bg` with discarded (zero) inode tables
 * means that the guest has nothing to initialise. Fixed identifiers and time: the same bytes on every machine,
 * whatever its mke2fs.conf says.
 */
const MKE2FS_ARGUMENTS = [
  '-q', '-F', '-t', 'ext4', '-b', '4096', '-I', '256', '-m', '0', '-i', '32768', '-G', '256',
  '-O', 'none,ext_attr,filetype,extent,flex_bg,uninit_bg,sparse_super2,dir_index,large_file,huge_file,dir_nlink,extra_isize',
  '-U', '9b6f1f0c-7d0e-4c53-8d5b-3f1a52e0c2a1',
  '-E', 'hash_seed=5c1f5ee2-94d1-4a0f-b6a3-0a8f4d2f6b7c,num_backup_sb=0,lazy_itable_init=1,discard,root_owner=0:0',
] as const;

/** The template beside which its list of extents lies; the list is written last and makes the pair complete. */
interface Template {
  imagePath: string;
  extents: Extent[];
}

/** Creates a pod's disk. Throws RktError MISSING_DEPENDENCY when the template has to be made and mke2fs is not there. */
export function createScratchDisk(dataDir: string, path: string, sizeBytes: number = SCRATCH_SIZE_BYTES): void {
  const template = readTemplate(dataDir, sizeBytes) ?? makeTemplate(dataDir, sizeBytes);
  const source = openSync(template.imagePath, constants.O_RDONLY);
  try {
    const target = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, FILE_MODE);
    try {
      ftruncateSync(target, sizeBytes);
      for (const extent of template.extents) copyExtent(source, target, extent);
    } finally {
      closeSync(target);
    }
  } finally {
    closeSync(source);
  }
}

function copyExtent(source: number, target: number, extent: Extent): void {
  const data = Buffer.allocUnsafe(extent.lengthBytes);
  const bytesRead = readSync(source, data, 0, data.length, extent.offsetBytes);
  if (bytesRead !== data.length) throw new RktError('IO', 'the template of the writable disk is shorter than its list of extents says');
  for (let written = 0; written < data.length; ) written += writeSync(target, data, written, data.length - written, extent.offsetBytes + written);
}

function templatePaths(dataDir: string, sizeBytes: number): { image: string; extents: string } {
  const base = join(dataDir, 'cas', 'scratch', `ext4-${sizeBytes}`);
  return { image: `${base}.img`, extents: `${base}.extents.json` };
}

function readTemplate(dataDir: string, sizeBytes: number): Template | undefined {
  const paths = templatePaths(dataDir, sizeBytes);
  let text: string;
  try {
    text = readFileSync(paths.extents, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  return { imagePath: paths.image, extents: JSON.parse(text) as Extent[] };
}

function makeTemplate(dataDir: string, sizeBytes: number): Template {
  const paths = templatePaths(dataDir, sizeBytes);
  const workspace = openStore(dataDir).openWorkspace();
  try {
    const image = join(workspace.path, 'scratch.img');
    const fd = openSync(image, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      ftruncateSync(fd, sizeBytes);
      runMke2fs(image);
      fsyncSync(fd);
      const extents = dataExtents(fd);
      const list = join(workspace.path, 'extents.json');
      writeFileSync(list, JSON.stringify(extents));
      mkdirSync(dirname(paths.image), { recursive: true, mode: 0o750 });
      // Two processes that get here at once make the same bytes, so whoever is last changes nothing.
      renameSync(image, paths.image);
      renameSync(list, paths.extents);
      return { imagePath: paths.image, extents };
    } finally {
      closeSync(fd);
    }
  } finally {
    workspace.remove();
  }
}

function runMke2fs(image: string): void {
  const result = spawnSync('mke2fs', [...MKE2FS_ARGUMENTS, image], {
    env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, MKE2FS_CONFIG: '/dev/null', E2FSPROGS_FAKE_TIME: '1', LC_ALL: 'C' },
    encoding: 'utf8',
  });
  if (isErrno(result.error, 'ENOENT')) {
    throw new RktError('MISSING_DEPENDENCY', 'mke2fs is not installed: it makes the writable disk of pods', { hint: 'apt-get install e2fsprogs' });
  }
  if (result.error !== undefined || result.status !== 0) {
    throw new RktError('IO', `mke2fs could not make the writable disk: ${result.stderr.trim()}`, { cause: result.error });
  }
}

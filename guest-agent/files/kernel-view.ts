/** Directories whose files are the kernel's own words: reading them is not copying, and writing them changes the machine. */
import { CGROUP2_SUPER_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC } from '../../runtime/abi.gen.ts';
import { fileSystemTypeOf } from './at.ts';

export function isKernelView(fd: number): boolean {
  return [PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP2_SUPER_MAGIC].includes(fileSystemTypeOf(fd));
}

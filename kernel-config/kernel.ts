/** A kernel ready to be put into the stage1 image. */
export interface Kernel {
  /** ELF `vmlinux` (own) or bzImage (debian). */
  path: string;
  /** As `uname -r` prints it. */
  release: string;
  source: 'own' | 'debian';
  /** Where its modules are, for `modulesFor`; absent if everything is built in. */
  moduleDir?: string;
}

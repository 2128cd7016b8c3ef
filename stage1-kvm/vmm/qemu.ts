/** Finds and starts QEMU. */
import { ENOENT } from '../../runtime/abi.gen.ts';
import { isErrno, SysError } from '../../runtime/linux/errors.ts';
import { exists } from '../../runtime/linux/files.ts';
import { Stage1Error } from '../error.ts';
import { startJailed, type JailedProcess } from '../jail.ts';

const QEMU_PATHS = ['/usr/bin/qemu-system-x86_64', '/usr/local/bin/qemu-system-x86_64'];
/** Users of pods, far from any that a system hands out: the lower 28 bits come from the pod's UUID. */
const FIRST_UID = 0x50000000;

/** The pod's own user and group. Pure. */
export function podUserId(uuid: string): number {
  return FIRST_UID + Number.parseInt(uuid.slice(0, 7), 16);
}

/** @throws Stage1Error naming the package to install */
export function findQemu(): string {
  const path = QEMU_PATHS.find((candidate) => exists(candidate));
  if (path === undefined) throw new Stage1Error('qemu-system-x86_64 is not installed', 'install it: apt-get install qemu-system-x86');
  return path;
}

/** @returns pid. @throws Stage1Error */
export function startQemu(process: JailedProcess): number {
  try {
    return startJailed(process);
  } catch (error) {
    if (isErrno(error, ENOENT)) throw new Stage1Error('qemu-system-x86_64 cannot be executed', 'install it: apt-get install qemu-system-x86');
    if (error instanceof SysError) throw new Stage1Error(`starting QEMU: ${error.message}`);
    throw error;
  }
}

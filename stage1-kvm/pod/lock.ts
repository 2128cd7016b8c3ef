/** The pod's lock, which stage0 took and this process inherited. */
import { setCloseOnExec } from '../../runtime/linux/fds.ts';
import { environmentVariable } from '../../runtime/linux/process.ts';

/** The descriptor that holds it stays open as long as this process lives, and nobody else's. */
export function keepLockPrivate(): void {
  const fd = Number(environmentVariable('RKT_LOCK_FD') ?? NaN);
  if (Number.isInteger(fd) && fd > 2) setCloseOnExec(fd);
}

/**
 * Kernel parameters of the pod (appc: os/unix/sysctl). The kernel is the pod's own, so all of /proc/sys may be set; but its apps
 * share it, so no two of them can want different values.
 */
import { ENOENT } from '../../runtime/abi.gen.ts';
import { isErrno } from '../../runtime/linux/errors.ts';
import { writeControlFile } from '../../runtime/linux/files.ts';
import { fail } from '../checked.ts';

/** Programs that the kernel would run outside of every app, unconfined. */
const HELPER_PROGRAMS: readonly string[] = ['kernel/modprobe', 'kernel/hotplug', 'kernel/poweroff_cmd'];
const CORE_PATTERN = 'kernel/core_pattern';

/** Path below /proc/sys → value and the app that asked for it. */
const applied = new Map<string, { value: string; app: string }>();

/** Throws for a key that does not exist, a value that the kernel refuses, or one that another app wants otherwise. */
export function applySysctls(app: string, sysctls: ReadonlyMap<string, string>): void {
  for (const [key, value] of sysctls) {
    const path = sysctlPath(key);
    const field = `os/unix/sysctl.${key}`;
    if (path === undefined) fail(field, 'key such as net.ipv4.ip_forward');
    if (HELPER_PROGRAMS.includes(path) || (path === CORE_PATTERN && value.startsWith('|'))) throw new Error(`${field}: the kernel would run this program outside of the app`);
    const earlier = applied.get(path);
    if (earlier !== undefined && earlier.app !== app && earlier.value !== value) throw new Error(`${field}: is to be "${value}", but app "${earlier.app}" wants "${earlier.value}": the apps of a pod share one kernel`);
    try {
      writeControlFile(`/proc/sys/${path}`, value);
    } catch (error) {
      if (isErrno(error, ENOENT)) throw new Error(`${field}: the kernel of the pod has no such parameter`);
      throw new Error(`${field}: ${error instanceof Error ? error.message : String(error)}`);
    }
    applied.set(path, { value, app });
  }
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/-';

/** As sysctl(8) reads keys: where the first separator is a slash, dots belong to names; else the two change places. */
export function sysctlPath(key: string): string | undefined {
  const letters = [...key];
  if (letters.some((letter) => !LETTERS.includes(letter))) return undefined;
  const isPath = letters.find((letter) => letter === '.' || letter === '/') === '/';
  const path = isPath ? key : letters.map((letter) => (letter === '.' ? '/' : letter === '/' ? '.' : letter)).join('');
  const parts = path.split('/');
  return parts.length > 1 && parts.every((part) => part !== '' && part !== '.' && part !== '..') ? path : undefined;
}

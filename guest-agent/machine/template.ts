/**
 * /proc and /sys as apps see them, made once and copied into each app (rkt: stage1/init/common/units.go, InaccessiblePaths and
 * ReadOnlyPaths). The agent has time for it while the host answers.
 */
import { MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY } from '../../runtime/abi.gen.ts';
import { exists, makeDirectories, makeDirectory, writeFile } from '../../runtime/linux/files.ts';
import { bind, mount, remountBind } from '../../runtime/linux/mount.ts';
import { TEMPLATE } from './layout.ts';

const HIDDEN_FILES = ['/proc/config.gz', '/proc/kallsyms', '/proc/sched_debug', '/proc/kcore', '/proc/kmem', '/proc/mem'];
const HIDDEN_DIRECTORIES = ['/sys/firmware', '/sys/fs', '/sys/hypervisor', '/sys/module', '/sys/power'];
/** The rest of rkt's list is below /sys, which is read-only as a whole. /proc/1 is the agent: root in an app has its uid. */
const READ_ONLY = ['/proc/1', '/proc/bus', '/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/proc/sys/vm/panic_on_oom', '/proc/sysrq-trigger'];

const PSEUDO_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC;
const EMPTY_FILE = `${TEMPLATE}/hidden-file`;
const EMPTY_DIRECTORY = `${TEMPLATE}/hidden-directory`;

export const TEMPLATE_PROC = `${TEMPLATE}/proc`;
export const TEMPLATE_SYS = `${TEMPLATE}/sys`;

/** Needs /agent. Paths the kernel does not have are left out. */
export function buildTemplate(): void {
  for (const directory of [TEMPLATE_PROC, TEMPLATE_SYS]) makeDirectories(directory);
  makeDirectory(EMPTY_DIRECTORY, 0);
  writeFile(EMPTY_FILE, '', { mode: 0 });
  mount(TEMPLATE_PROC, { type: 'proc', source: 'proc', flags: PSEUDO_FLAGS });
  mount(TEMPLATE_SYS, { type: 'sysfs', source: 'sysfs', flags: PSEUDO_FLAGS | MS_RDONLY });
  for (const path of HIDDEN_FILES) hide(path, EMPTY_FILE);
  for (const path of HIDDEN_DIRECTORIES) hide(path, EMPTY_DIRECTORY);
  for (const path of READ_ONLY) {
    const target = TEMPLATE + path;
    if (!exists(target)) continue;
    bind(target, target);
    remountBind(target, PSEUDO_FLAGS | MS_RDONLY);
  }
}

function hide(path: string, cover: string): void {
  const target = TEMPLATE + path;
  if (!exists(target)) return;
  bind(cover, target);
  remountBind(target, PSEUDO_FLAGS | MS_RDONLY);
}

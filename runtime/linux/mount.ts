/** Mounts and mount namespaces. */
import {
  AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, CLONE_NEWNS, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH, MS_BIND, MS_MOVE, MS_REC, MS_REMOUNT, NR_mount, NR_mount_setattr, NR_move_mount,
  NR_open_tree, NR_setns, NR_umount2, NR_unshare, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE, mount_attr_attr_set, sizeof_mount_attr,
} from '../abi.gen.ts';
import { check } from './errors.ts';

export interface FileSystem {
  type: string;
  /** A device or, for file systems without one, a name for /proc/mounts. */
  source: string;
  /** MS_… */
  flags?: number;
  /** Options of the file system, comma-separated. */
  data?: string;
}

export function mount(target: string, { type, source, flags = 0, data }: FileSystem): void {
  check(sys.call(NR_mount, source, target, type, flags, data ?? null), 'mount', target);
}

/** Shows `source` at `target`, with what is mounted below it unless `recursive` is false. */
export function bind(source: string, target: string, options: { recursive?: boolean } = {}): void {
  const flags = MS_BIND | (options.recursive === false ? 0 : MS_REC);
  check(sys.call(NR_mount, source, target, null, flags, null), 'bind', target);
}

/** Changes flags (MS_RDONLY, MS_NODEV …) of one mount, not of the file system below. */
export function remountBind(target: string, flags: number): void {
  check(sys.call(NR_mount, null, target, null, MS_REMOUNT | MS_BIND | flags, null), 'remount', target);
}

export function moveMount(source: string, target: string): void {
  check(sys.call(NR_mount, source, target, null, MS_MOVE, null), 'move mount', target);
}

/** MS_PRIVATE, MS_SLAVE or MS_SHARED for a mount and all below it. */
export function setPropagation(target: string, propagation: number): void {
  check(sys.call(NR_mount, null, target, null, propagation | MS_REC, null), 'set propagation', target);
}

export function unmount(target: string, flags = 0): void {
  check(sys.call(NR_umount2, target, flags), 'umount', target);
}

/** A descriptor of a detached copy of the mount tree at `path`; attachMount puts it somewhere, once. */
export function cloneMount(path: string, options: { recursive?: boolean } = {}): number {
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (options.recursive ? AT_RECURSIVE : 0);
  return check(sys.call(NR_open_tree, AT_FDCWD, path, flags), 'open_tree', path);
}

export function attachMount(fd: number, target: string): void {
  check(sys.call(NR_move_mount, fd, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), 'move_mount', target);
}

/** The same for the place a descriptor stands for. */
export function cloneMountOf(placeFd: number, options: { recursive?: boolean } = {}): number {
  const flags = AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (options.recursive ? AT_RECURSIVE : 0);
  return check(sys.call(NR_open_tree, placeFd, '', flags), 'open_tree', placeFd);
}

/** On the place a descriptor stands for: no name is looked up. */
export function attachMountAt(fd: number, targetFd: number): void {
  check(sys.call(NR_move_mount, fd, '', targetFd, '', MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), 'move_mount', targetFd);
}

/** Adds MOUNT_ATTR_… to a detached mount and all below it. */
export function setMountAttributes(fd: number, attributes: number): void {
  const buffer = new Uint8Array(sizeof_mount_attr);
  new DataView(buffer.buffer).setBigUint64(mount_attr_attr_set, BigInt(attributes), true);
  check(sys.call(NR_mount_setattr, fd, '', AT_EMPTY_PATH | AT_RECURSIVE, buffer, sizeof_mount_attr), 'mount_setattr', fd);
}

/** This process gets mounts of its own. */
export function unshareMounts(): void {
  check(sys.call(NR_unshare, CLONE_NEWNS), 'unshare');
}

/** Enters the namespace a descriptor of /proc/PID/ns/… stands for; `type` is CLONE_NEW…, checked by the kernel. */
export function enterNamespace(fd: number, type: number): void {
  check(sys.call(NR_setns, fd, type), 'setns', fd);
}

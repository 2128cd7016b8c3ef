/**
 * Network namespaces that live as a file (a bind mount of nsfs, as `ip netns` keeps them) instead of by a process.
 * Entering one concerns the calling thread only: what runs inside must be synchronous, and Node's other threads stay out.
 */
import { closeSync, mkdirSync, openSync, rmSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from './errno.ts';
import { callInts, callMixed, systemCallError } from './libc.ts';

const CLONE_NEWNET = 0x40000000;
const MS_BIND = 0x1000;
const MNT_DETACH = 2;
const NSFS_MAGIC = 0x6e736673;
const OWN_NAMESPACE = '/proc/thread-self/ns/net';

/** Makes a namespace with nothing in it but a loopback interface that is down. The file must not exist, its directory may. */
export function createNetworkNamespace(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  closeSync(openSync(path, 'wx', 0o444));
  try {
    leaveAndReturn(() => {
      const made = callInts('unshare', CLONE_NEWNET);
      if (made.value === -1) throw systemCallError('cannot make a network namespace', made.errno);
      const bound = callMixed('mount', [OWN_NAMESPACE, path, 'none', MS_BIND, 0]);
      if (bound.value === -1) throw systemCallError(`cannot mount the network namespace ${path}`, bound.errno);
    });
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
}

/** Calls `work`, which must not wait for anything, with this thread in the namespace. */
export function insideNetworkNamespace<T>(path: string, work: () => T): T {
  const fd = openSync(path, 'r');
  try {
    return leaveAndReturn(() => {
      enter(fd, path);
      return work();
    });
  } finally {
    closeSync(fd);
  }
}

/** Whether the file is a namespace: after a restart of the host, or in another mount namespace, it is an empty file or not there. */
export function isNetworkNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}

/** Lets go of the namespace; it ends, with every interface in it, when nobody else holds it. Nothing happens when it is gone. */
export function removeNetworkNamespace(path: string): void {
  if (isNetworkNamespace(path)) {
    const { value, errno } = callMixed('umount2', [path, MNT_DETACH]);
    if (value === -1) throw systemCallError(`cannot unmount the network namespace ${path}`, errno);
  }
  rmSync(path, { force: true });
}

function leaveAndReturn<T>(work: () => T): T {
  const own = openSync(OWN_NAMESPACE, 'r');
  try {
    return work();
  } finally {
    try {
      enter(own, 'of this process');
    } catch (cause) {
      throw new RktError('INTERNAL', 'this process is lost in the network namespace of a pod', { cause });
    } finally {
      closeSync(own);
    }
  }
}

function enter(fd: number, name: string): void {
  const { value, errno } = callInts('setns', fd, CLONE_NEWNET);
  if (value === -1) throw systemCallError(`cannot enter the network namespace ${name}`, errno);
}

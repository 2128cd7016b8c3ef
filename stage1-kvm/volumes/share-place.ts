/**
 * Where virtiofsd runs: a mount namespace in which the source of one volume is mounted in one place, without set-uid programs and
 * device nodes and, if so, without writing. virtiofsd makes that place its root. As an ordinary user the same happens in a user
 * namespace, where that user is root and nobody else exists.
 */
import {
  AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_LAST_CAP, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, CAP_SYS_ADMIN, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID,
  CLONE_NEWUSER, CLONE_NEWUTS, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MOVE_MOUNT_F_EMPTY_PATH, MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT,
  NR_close, NR_mount, NR_mount_setattr, NR_move_mount, NR_open_tree, NR_openat, NR_openat2, NR_prctl, NR_prlimit64, NR_seccomp, NR_write, O_CLOEXEC, O_CREAT, O_EXCL, O_PATH, O_WRONLY, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE,
  PR_CAPBSET_DROP, RLIMIT_NOFILE, RESOLVE_NO_SYMLINKS, SECCOMP_SET_MODE_FILTER, mount_attr_attr_set, mount_attr_propagation, open_how_flags, open_how_resolve, sizeof_mount_attr, sizeof_open_how,
} from '../../runtime/abi.gen.ts';
import { check } from '../../runtime/linux/errors.ts';
import type { Step } from '../../runtime/linux/process.ts';
import { IGNORE_FAILURE, type Operation } from '../../runtime/sys.ts';
import type { JailPlace } from '../jail.ts';
import { modeFilter } from './mode-filter.ts';

/** Hidden in the namespace by what is mounted on it. Every system has it. */
export const SHARED_DIRECTORY = '/tmp';
/** The name of a source that is a single file, alone in its directory. */
export const SHARED_FILE_NAME = 'file';
/** virtiofsd keeps a descriptor for each file that the guest's kernel remembers. */
const OPEN_FILES = 262_144n;
/** What it needs to set up its own namespaces, and of that what it keeps. */
const CAPABILITIES: readonly number[] = [CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_SYS_ADMIN];
/** Of the mount that holds a single file: its root and the file. */
const FILE_MOUNT_OPTIONS = 'size=4k,nr_inodes=2,mode=755';

export interface ShareSource {
  /** Absolute, without symbolic links. */
  path: string;
  kind: 'directory' | 'file';
  readOnly: boolean;
  recursive: boolean;
  /** Of this process, where it is not root. */
  user: { uid: number; gid: number } | null;
}

export function sharePlace(source: ShareSource): JailPlace {
  const { user } = source;
  return {
    namespaces: CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | (user === null ? 0 : CLONE_NEWUSER),
    enter: (at) => enterSteps(source, at),
    restrict: [...boundingSetSteps(), { name: 'seccomp', operation: [NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, modeFilter()] }],
    openFiles: allowedOpenFiles(),
  };
}

/** Nobody can have more than what this process was given. */
function allowedOpenFiles(): bigint {
  const limits = new BigUint64Array(2);
  check(sys.call(NR_prlimit64, 0, RLIMIT_NOFILE, null, limits), 'prlimit');
  const hard = limits[1] ?? 0n;
  return hard < OPEN_FILES ? hard : OPEN_FILES;
}

function enterSteps({ path, kind, readOnly, recursive, user }: ShareSource, at: number): Step[] {
  const steps: Step[] = [];
  /** @returns what stands for its result */
  const add = (name: string, ...operation: Operation): { result: number } => {
    steps.push({ name, operation });
    return { result: at + steps.length - 1 };
  };
  if (user !== null) {
    for (const [file, text] of [['setgroups', 'deny'], ['uid_map', `0 ${user.uid} 1`], ['gid_map', `0 ${user.gid} 1`]] as const) {
      const fd = add('user namespace', NR_openat, AT_FDCWD, `/proc/self/${file}`, O_WRONLY | O_CLOEXEC, 0);
      add('user namespace', NR_write, fd, text, text.length);
      add('user namespace', NR_close, fd);
    }
  }
  add('private mounts', NR_mount, null, '/', null, MS_REC | MS_PRIVATE, null);
  // A link that has taken the place of a directory since the source was looked at leads nowhere.
  const opened = add(`open ${path}`, NR_openat2, AT_FDCWD, path, openHow(), sizeof_open_how);
  const tree = add(`bind ${path}`, NR_open_tree, opened, '', AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
  add(`protect ${path}`, NR_mount_setattr, tree, '', AT_EMPTY_PATH | AT_RECURSIVE, mountAttributes(readOnly), sizeof_mount_attr);
  let target = SHARED_DIRECTORY;
  if (kind === 'file') {
    const name = 'directory of the file';
    const flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    add(name, NR_mount, 'file', SHARED_DIRECTORY, 'tmpfs', flags, FILE_MOUNT_OPTIONS);
    target = `${SHARED_DIRECTORY}/${SHARED_FILE_NAME}`;
    add(name, NR_close, add(name, NR_openat, AT_FDCWD, target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600));
    add(name, NR_mount, null, SHARED_DIRECTORY, null, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, null);
  }
  add(`mount ${path}`, NR_move_mount, tree, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  return steps;
}

function openHow(): Uint8Array {
  const how = new Uint8Array(sizeof_open_how);
  const view = new DataView(how.buffer);
  view.setBigUint64(open_how_flags, BigInt(O_PATH | O_CLOEXEC), true);
  view.setBigUint64(open_how_resolve, BigInt(RESOLVE_NO_SYMLINKS), true);
  return how;
}

/** For every mount of the tree. Private: what is mounted later on this host would come without these attributes. */
function mountAttributes(readOnly: boolean): Uint8Array {
  const attributes = new Uint8Array(sizeof_mount_attr);
  const view = new DataView(attributes.buffer);
  view.setBigUint64(mount_attr_attr_set, BigInt(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (readOnly ? MOUNT_ATTR_RDONLY : 0)), true);
  view.setBigUint64(mount_attr_propagation, BigInt(MS_PRIVATE), true);
  return attributes;
}

function boundingSetSteps(): Step[] {
  const steps: Step[] = [];
  for (let capability = 0; capability <= CAP_LAST_CAP; capability++) {
    // Newer than this host's kernel: there is none to drop.
    if (!CAPABILITIES.includes(capability)) steps.push({ name: 'capabilities', operation: [NR_prctl + IGNORE_FAILURE, PR_CAPBSET_DROP, capability, 0, 0, 0] });
  }
  return steps;
}

/** Where pods live below the data directory, and what the parts of a pod directory are called. See docs/pod-directory.md. */
import { join } from 'node:path';

/** In the order of a pod's life: a pod only ever moves to the right. */
export const POD_DIRECTORIES = ['embryo', 'prepare', 'prepared', 'run', 'exited-garbage', 'garbage'] as const;
export type PodDirectory = (typeof POD_DIRECTORIES)[number];

export const POD_FILES = {
  manifest: 'pod',
  manifestLock: 'pod.lck',
  created: 'pod-created',
  apps: 'appsinfo',
  appManifest: 'manifest',
  appDisk: 'disk.json',
  appTreeStoreID: 'treeStoreID',
  /** Of an app that has joined the running pod. */
  appRuntime: 'app.json',
  appLiveRoot: 'rootfs',
  stage1: 'stage1',
  stage1Manifest: 'stage1/manifest',
  stage1Rootfs: 'stage1/rootfs',
  stage1Options: 'stage1-options.json',
  startFlags: 'start-flags.json',
  scratch: 'scratch.img',
  pid: 'pid',
  parentPid: 'ppid',
  status: 'status',
  outOfMemory: 'out-of-memory',
  supervisorStatus: 'supervisor-status',
  networks: 'net-info.json',
  guestNetwork: 'network.json',
  resolvConf: 'rkt-resolv.conf',
  hosts: 'rkt-hosts',
} as const;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether the text is a whole UUID in lower case, the only form that names a pod directory. */
export function isUUID(text: string): boolean {
  return UUID.test(text);
}

export function podsPath(dataDir: string): string {
  return join(dataDir, 'pods');
}

export function podDirectoryPath(dataDir: string, directory: PodDirectory): string {
  return join(dataDir, 'pods', directory);
}

export function podPath(dataDir: string, directory: PodDirectory, uuid: string): string {
  return join(dataDir, 'pods', directory, uuid);
}

/** Pods on the disk: where they are, what state they are in, how they move on and how they go away. */
export { formatDuration, parseDuration } from './duration.ts';
export { collectGarbage, deletePod, removePod } from './gc.ts';
export type { GcHost, GcOptions } from './gc.ts';
export { currentPath, openPod, pathInPod, refreshState, walkPods } from './handle.ts';
export type { PodHandle } from './handle.ts';
export { isUUID, POD_DIRECTORIES, POD_FILES, podPath } from './layout.ts';
export type { PodDirectory } from './layout.ts';
export { createPod, fsyncPath, lockExclusively, lockQuietly, lockShared, movePod, syncMoves, unlockPod } from './lifecycle.ts';
export { openPodByName, readUUIDFile, resolveUUID } from './lookup.ts';
export { isReady, readAppImageManifest, readExitCodes, readContainerPid, readPid, readPodDetails, readPodManifest, readPodManifestText } from './read.ts';
export type { AppDetails, AppState, PodDetails, PodNetwork } from './read.ts';
export { requirePid, requireRunning } from './running.ts';
export { hasEnded, hasRun } from './state.ts';
export type { PodState } from './state.ts';

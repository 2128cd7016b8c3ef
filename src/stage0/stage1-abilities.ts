/** What a stage1 image wants from stage0, as annotations of its manifest say. */
import { RktError } from '../error.ts';
import type { ImageManifest } from '../schema/index.ts';
import { annotationValue } from './entrypoint.ts';

/** `disk`: rendered disks, for a virtual machine to read. `directory`: laid out as files of this host, as rkt did for every stage1. */
export type RootfsKind = 'disk' | 'directory';

export function rootfsKind(stage1: ImageManifest): RootfsKind {
  const value = annotationValue(stage1, 'rkt/rootfs') ?? 'directory';
  if (value !== 'disk' && value !== 'directory') throw new RktError('UNSUPPORTED', `stage1 image ${stage1.name}: annotation rkt/rootfs: expected disk or directory, found ${JSON.stringify(value)}`);
  return value;
}

/**
 * `tap`: stage0 sets networks up and hands over descriptors of tap devices. `host`: the pod is in this host's network. `own`: stage1
 * does it all itself, as rkt's did.
 */
export type NetworkKind = 'tap' | 'host' | 'own';

export function networkKind(stage1: ImageManifest): NetworkKind {
  const value = annotationValue(stage1, 'rkt/network');
  if (value === undefined) return 'own';
  if (value !== 'tap' && value !== 'host') throw new RktError('UNSUPPORTED', `stage1 image ${stage1.name}: annotation rkt/network: expected tap or host, found ${JSON.stringify(value)}`);
  return value;
}

/** Whether it reads the pod's token for the metadata service from `mds-registered`; others get it as an argument, which everybody on this host can read. */
export function readsTokenFile(stage1: ImageManifest): boolean {
  return annotationValue(stage1, 'rkt/metadata') === 'token-file';
}

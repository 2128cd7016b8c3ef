/** How a pod manifest says that apps may join and leave the running pod (rkt's name for it). */
import { labelValue } from '../schema/index.ts';
import type { PodManifest } from '../schema/index.ts';

export const MUTABLE_ANNOTATION = 'coreos.com/rkt/stage1/mutable';

export function isMutable(manifest: PodManifest): boolean {
  return labelValue(manifest.annotations, MUTABLE_ANNOTATION) === 'true';
}

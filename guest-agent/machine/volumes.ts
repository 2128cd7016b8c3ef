/** Which volume goes where in an app (appc spec, pods.md; implicit volumes as rkt: stage1/init/common/mount.go). */
import type { AppManifest, EmptyVolume, MountPoint, Volume } from '../app/manifest.ts';

export interface PlannedMount {
  path: string;
  readOnly: boolean;
  /** Undefined: the image's own directory, kept writable. */
  volume: EmptyVolume | undefined;
}

export interface VolumePlan {
  mounts: PlannedMount[];
  warnings: string[];
}

/** Docker and OCI images list the paths of their volumes as mount points of this name; what the image has there is kept. */
const CONVERTED_VOLUME_PREFIX = 'volume-';

/** Throws for a volume that is not there or of a kind that cannot be had. */
export function planVolumes(app: AppManifest, volumes: readonly Volume[]): VolumePlan {
  const byName = new Map(volumes.map((volume) => [volume.name, volume]));
  const plan: VolumePlan = { mounts: [], warnings: [] };
  const taken = new Set<string>();
  for (const { volume: name, path } of app.mounts) {
    const volume = byName.get(name);
    if (volume === undefined) throw new Error(`no volume "${name}" for the mount of ${path}`);
    const mountPoint = app.mountPoints.find((candidate) => candidate.path === path);
    taken.add(path);
    plan.mounts.push(planned(app.name, volume, { path, mountPoint }));
  }
  for (const mountPoint of app.mountPoints) {
    if (taken.has(mountPoint.path)) continue;
    const volume = byName.get(mountPoint.name);
    if (volume !== undefined) plan.mounts.push(planned(app.name, volume, { path: mountPoint.path, mountPoint }));
    else planImplicit(plan, app.name, mountPoint);
  }
  // Outer before inner: a mount on /data must not cover one on /data/log.
  plan.mounts.sort((a, b) => (a.path < b.path ? -1 : 1));
  return plan;
}

function planned(appName: string, volume: Volume, { path, mountPoint }: { path: string; mountPoint: MountPoint | undefined }): PlannedMount {
  if (volume.kind === 'host') throw new Error(`volume "${volume.name}": kind "host" is not supported yet`);
  const readOnly = volume.readOnly || (mountPoint?.readOnly ?? false);
  const isImagesOwn = mountPoint !== undefined && isConverted(mountPoint) && volume.name === implicitName(appName, mountPoint);
  return { path, readOnly, volume: isImagesOwn ? undefined : volume };
}

const isConverted = ({ name }: MountPoint): boolean => name.startsWith(CONVERTED_VOLUME_PREFIX);
/** Of the volume that nobody asked for by another name. */
const implicitName = (appName: string, { name }: MountPoint): string => `${appName}-${name}`;

function planImplicit(plan: VolumePlan, appName: string, mountPoint: MountPoint): void {
  plan.warnings.push(`no volume specified for mount point "${mountPoint.name}", implicitly creating an "empty" volume. This volume will be removed when the pod is garbage-collected.`);
  const volume: Volume = { kind: 'empty', name: implicitName(appName, mountPoint), mode: 0o755, uid: 0, gid: 0, readOnly: false };
  plan.mounts.push(planned(appName, volume, { path: mountPoint.path, mountPoint }));
}

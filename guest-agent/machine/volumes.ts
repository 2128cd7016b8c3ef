/** Which volume goes where in an app (appc spec, pods.md; implicit volumes as rkt: stage1/init/common/mount.go). */
import type { AppManifest, EmptyVolume, HostVolume, MountPoint, Volume } from '../app/manifest.ts';

export interface PlannedMount {
  path: string;
  readOnly: boolean;
  /** Undefined: the image's own directory, kept writable. */
  volume: EmptyVolume | HostVolume | undefined;
  /** Name of the app when the volume came with this mount of it alone; null: it is the pod's. */
  owner: string | null;
  /** As long as nothing is in the volume, it gets what the image has in this place. */
  takesContent: boolean;
}

export interface VolumePlan {
  mounts: PlannedMount[];
  warnings: string[];
}

/** Docker and OCI images list the paths of their volumes as mount points of this name. */
const CONVERTED_VOLUME_PREFIX = 'volume-';

/** Throws for a volume that is not there. */
export function planVolumes(app: AppManifest, volumes: readonly Volume[]): VolumePlan {
  const byName = new Map(volumes.map((volume) => [volume.name, volume]));
  const plan: VolumePlan = { mounts: [], warnings: [] };
  const taken = new Set<string>();
  for (const { volume: name, path, appVolume } of app.mounts) {
    const volume = appVolume ?? byName.get(name);
    if (volume === undefined) throw new Error(`no volume "${name}" for the mount of ${path}`);
    const mountPoint = app.mountPoints.find((candidate) => candidate.path === path);
    taken.add(path);
    plan.mounts.push({ ...planned(app.name, volume, { path, mountPoint }), owner: appVolume === undefined ? null : app.name });
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

/** What the volume says about writing counts more than what the image says. */
function planned(appName: string, volume: Volume, { path, mountPoint }: { path: string; mountPoint: MountPoint | undefined }): PlannedMount {
  const { readOnly = mountPoint?.readOnly ?? false, ...plain } = volume;
  const isOwn = isImagesOwn(appName, volume, mountPoint);
  return { path, readOnly, volume: isOwn ? undefined : plain, owner: null, takesContent: !isOwn && isOverImage(volume, mountPoint) };
}

/** Whether it is the volume that nobody asked for: what the image has in its place is kept, and no volume needed. */
export function isImagesOwn(appName: string, volume: Volume, mountPoint: MountPoint | undefined): boolean {
  return mountPoint !== undefined && isOverImage(volume, mountPoint) && volume.name === implicitName(appName, mountPoint);
}

function isOverImage({ kind }: Volume, mountPoint: MountPoint | undefined): boolean {
  return kind === 'empty' && mountPoint?.name.startsWith(CONVERTED_VOLUME_PREFIX) === true;
}

/** Of the volume that nobody asked for by another name. */
const implicitName = (appName: string, { name }: MountPoint): string => `${appName}-${name}`;

function planImplicit(plan: VolumePlan, appName: string, mountPoint: MountPoint): void {
  plan.warnings.push(`no volume specified for mount point "${mountPoint.name}", implicitly creating an "empty" volume. This volume will be removed when the pod is garbage-collected.`);
  const volume: Volume = { kind: 'empty', name: implicitName(appName, mountPoint), mode: 0o755, uid: 0, gid: 0, readOnly: undefined };
  plan.mounts.push(planned(appName, volume, { path: mountPoint.path, mountPoint }));
}

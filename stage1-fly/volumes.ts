/** Which volume goes where in the app of a pod without a virtual machine. Pure. */
import { asBoolean, asList, asObject, asString, optional } from '../guest-agent/checked.ts';
import type { AppManifest, MountPoint, PodManifest, Volume } from '../guest-agent/app/manifest.ts';
import { isImagesOwn } from '../guest-agent/machine/volumes.ts';
import { Stage1Error } from '../stage1-kvm/error.ts';

export interface VolumeMount {
  /** In the app. */
  path: string;
  volume: Volume;
  readOnly: boolean;
  /** With what is mounted below the source. As rkt's fly not unless it was asked for: it may be the whole host. */
  recursive: boolean;
}

/** Outer mounts before inner ones. @throws Stage1Error for a volume that is not there */
export function planVolumes(app: AppManifest, pod: PodManifest, manifestText: string): VolumeMount[] {
  const recursive = recursiveVolumes(manifestText);
  const mounts = new Map<string, VolumeMount>();
  const add = (path: string, name: string, point: MountPoint | undefined): void => {
    const volume = pod.volumes.find((candidate) => candidate.name === name);
    if (volume === undefined) throw new Stage1Error(`app "${app.name}": there is no volume "${name}" to mount on ${path}`);
    if (!isImagesOwn(app.name, volume, point)) mounts.set(path, { path, volume, readOnly: volume.readOnly ?? point?.readOnly ?? false, recursive: recursive.has(name) });
  };
  for (const point of app.mountPoints) if (!app.mounts.some(({ path }) => path === point.path)) add(point.path, point.name, point);
  for (const { path, volume } of app.mounts) add(path, volume, app.mountPoints.find((point) => point.path === path));
  return [...mounts.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function recursiveVolumes(manifestText: string): Set<string> {
  const names = new Set<string>();
  asList(asObject(JSON.parse(manifestText), 'pod manifest')['volumes'], 'volumes', (value, field) => {
    const volume = asObject(value, field);
    if (optional(volume['recursive'], `${field}.recursive`, asBoolean) === true) names.add(asString(volume['name'], `${field}.name`));
  });
  return names;
}

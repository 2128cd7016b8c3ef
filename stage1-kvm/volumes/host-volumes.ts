/** The directories and files of this host that a pod gets to see, as its manifest names them (appc spec, pods.md). Pure. */
import { Stage1Error } from '../error.ts';

export interface HostVolume {
  /** By which the guest finds it. */
  tag: string;
  name: string;
  /** Null: a volume of the pod; else of the mount of this app alone. */
  app: string | null;
  /** Absolute, or in the pod directory. */
  source: string;
  /** Nobody in the pod writes to it. */
  readOnly: boolean;
  /** With what is mounted below the source. */
  recursive: boolean;
}

/**
 * The content of an app's image as a directory of the pod: read, never written to, by the guest.
 * @param index of the app
 */
export function liveRoot(app: string, index: number): HostVolume {
  return { tag: `root-${index + 1}`, name: `image of app ${app}`, app: null, source: `appsinfo/${app}/rootfs`, readOnly: true, recursive: false };
}

type Json = { readonly [key: string]: unknown };

/**
 * In the order of the manifest, the pod's before those of apps.
 * @param text the pod manifest file
 * @throws Stage1Error naming the volume
 */
export function parseHostVolumes(text: string): HostVolume[] {
  const manifest = JSON.parse(text) as Json;
  const apps = objects(manifest['apps']);
  const found: Omit<HostVolume, 'tag'>[] = [];
  for (const volume of objects(manifest['volumes'])) {
    if (isHost(volume)) found.push(hostVolume(volume, { app: null, readOnly: () => isEverywhereReadOnly(String(volume['name']), apps) }));
  }
  for (const app of apps) {
    for (const mount of objects(app['mounts'])) {
      const [volume] = objects([mount['appVolume']]);
      if (volume === undefined || !isHost(volume)) continue;
      found.push(hostVolume(volume, { app: String(app['name']), readOnly: () => mountPointAt(app, mount['path'])?.['readOnly'] === true }));
    }
  }
  return found.map((volume, index) => ({ tag: `volume-${index + 1}`, ...volume }));
}

const isHost = (volume: Json): boolean => volume['kind'] === 'host';

/** @param context `readOnly` is asked when the volume itself does not say */
function hostVolume(volume: Json, { app, readOnly }: { app: string | null; readOnly: () => boolean }): Omit<HostVolume, 'tag'> {
  const { name, source } = volume;
  if (typeof name !== 'string' || typeof source !== 'string' || !source.startsWith('/') || source.includes('\0')) {
    throw new Stage1Error(`pod: volume ${JSON.stringify(name)}: source for host volume must be absolute path`);
  }
  return { name, app, source, readOnly: volume['readOnly'] === undefined ? readOnly() : volume['readOnly'] === true, recursive: volume['recursive'] !== false };
}

/** What images say of their mount points counts where the volume says nothing: then no app of the pod may write. */
function isEverywhereReadOnly(name: string, apps: readonly Json[]): boolean {
  const points = apps.flatMap((app) => {
    const mounts = objects(app['mounts']);
    const mounted = mounts.filter((mount) => mount['volume'] === name && mount['appVolume'] === undefined).map((mount) => mountPointAt(app, mount['path']));
    const byName = mountPoints(app).filter((point) => point['name'] === name && !mounts.some((mount) => mount['path'] === point['path']));
    return [...mounted, ...byName];
  });
  return points.length > 0 && points.every((point) => point?.['readOnly'] === true);
}

function mountPoints(app: Json): Json[] {
  const [section] = objects([app['app']]);
  return objects(section?.['mountPoints']);
}

const mountPointAt = (app: Json, path: unknown): Json | undefined => mountPoints(app).find((point) => point['path'] === path);

function objects(value: unknown): Json[] {
  return Array.isArray(value) ? value.filter((item): item is Json => typeof item === 'object' && item !== null) : [];
}

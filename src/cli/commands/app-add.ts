import { RktError } from '../../error.ts';
import { openPodByName, requireRunning } from '../../pod/index.ts';
import type { RuntimeApp, Volume } from '../../schema/index.ts';
import { addApp } from '../../stage0/mutable-pod.ts';
import { buildPodManifest, requireAppSection } from '../../stage0/pod-manifest.ts';
import { openStore } from '../../store/index.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import type { ImageArgument, ImageCommandLine } from '../flags/image-arguments.ts';
import * as flags from '../flags/table.ts';
import { fetchImages } from '../images.ts';
import { appRequest } from '../pod-options.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export async function run({ images }: ImageCommandLine, context: CommandContext): Promise<Outcome> {
  const [uuid, image, ...others] = images;
  if (uuid === undefined || image === undefined) throw usage('must provide the pod UUID and an IMAGEID');
  if (others.length > 0) throw usage('must give only one app');
  if (flags.ADDED_APP_FLAGS.some((flag) => uuid.flags.has(flag)) || uuid.args.length > 0) throw usage('flags and arguments of the app follow its image');
  using pod = openPodByName(context.dataDir(), uuid.image);
  requireRunning(pod);
  const app = await runtimeApp(image, context);
  addApp(pod, { store: openStore(context.dataDir()), app, debug: context.debug });
  return success(NOTHING);
}

/** The app with its volumes in its mounts: the rest of the pod has none for it. */
async function runtimeApp(image: ImageArgument, context: CommandContext): Promise<RuntimeApp> {
  const wanted = { text: image.image, ...(image.flags.has(flags.exec) ? {} : { accept: requireAppSection }) };
  const [fetched] = await fetchImages([wanted], { store: openStore(context.dataDir()), context, pullPolicy: 'never' });
  const given = image.flags.all(flags.mntVolume);
  rejectHostVolumes(given.map(({ volume }) => volume));
  const { manifest, warnings } = buildPodManifest({
    apps: [{ ...appRequest(image, fetched), mounts: given.map(({ volume, path }) => ({ volume: volume.name, path })) }],
    volumes: given.map(({ volume }) => volume),
    ports: [],
    mounts: [],
    inheritedEnvironment: [],
    environment: [],
  });
  for (const warning of warnings) context.reporter.note(warning);
  const [app] = manifest.apps;
  if (app === undefined) throw new RktError('INTERNAL', 'the manifest has no app');
  const volumes = new Map((manifest.volumes ?? []).map((volume) => [volume.name, volume]));
  return { ...app, ...(app.mounts === undefined ? {} : { mounts: app.mounts.map((mount) => ({ ...mount, appVolume: volumes.get(mount.volume) })) }) };
}

function rejectHostVolumes(volumes: readonly Volume[]): void {
  const host = volumes.find(({ kind }) => kind === 'host');
  if (host !== undefined) throw new RktError('UNSUPPORTED', `volume ${JSON.stringify(host.name)}: a directory of the host cannot be added to a running pod`, { hint: 'kind=empty can; `rkt run --volume` takes directories of the host' });
}

/** What `run` and `prepare` have in common: everything up to a pod directory. */
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { RktError } from '../error.ts';
import type { PodHandle } from '../pod/index.ts';
import { parsePodManifest, PRIMARY_GROUP } from '../schema/index.ts';
import type { ImageManifest, PodManifest } from '../schema/index.ts';
import { checkHostVolumes } from '../stage0/host-volumes.ts';
import { isolatorWarnings } from '../stage0/isolator-rules.ts';
import { buildPodManifest, finishPodManifest, requireAppSection } from '../stage0/pod-manifest.ts';
import { discardPod, preparePod } from '../stage0/prepare.ts';
import type { PrepareRequest } from '../stage0/prepare.ts';
import { rootfsKind } from '../stage0/stage1-abilities.ts';
import { checkMachine } from '../stage0/stage1-check.ts';
import { findStage1 } from '../stage0/stage1-image.ts';
import { openStore } from '../store/index.ts';
import type { Stage1Image, Store } from '../store/index.ts';
import type { CommandContext } from './context.ts';
import type { FlagValues } from './flags/flag.ts';
import type { ImageCommandLine } from './flags/image-arguments.ts';
import * as flags from './flags/table.ts';
import { fetchImages, pullOptions, signatureOf } from './images.ts';
import type { FetchImagesOptions } from './images.ts';
import { networkSettings } from './network-settings.ts';
import { machineOptions, podRequest, stage1Choice } from './pod-options.ts';

export interface MadePod {
  pod: PodHandle;
  manifest: PodManifest;
}

export interface MakePodOptions {
  warn(message: string): void;
  /** Throws when the pod's stage1 cannot do what will be asked of it. */
  accept?(stage1: ImageManifest): void;
  /** The pod is not going to run: what it would share with this host need not be here. */
  onPaper?: boolean;
}

/** The pod is in `prepare`, locked by this process. */
export async function makePod(commandLine: ImageCommandLine, context: CommandContext, { warn, accept, onPaper = false }: MakePodOptions): Promise<MadePod> {
  const store = openStore(context.dataDir());
  const pull = pullOptions(commandLine.pod, context, 'new');
  const stage1 = await chosenStage1(commandLine.pod, context, store);
  const machine = machineOptions(commandLine.pod, context);
  checkMachine(stage1.manifest, machine);
  accept?.(stage1.manifest);
  const { manifest, warnings } = await podManifestOf(commandLine, { store, context, ...pull });
  for (const warning of warnings) warn(warning);
  if (rootfsKind(stage1.manifest) === 'disk' && !onPaper) checkHostVolumes(manifest);
  const pod = prepare({ store, stage1, manifest, machine }, commandLine.pod, context);
  try {
    if (rootfsKind(stage1.manifest) === 'directory') {
      const { prepareRootDirectories } = await import('../stage0/root-directories.ts');
      await prepareRootDirectories(pod, { store, stage1, manifest, overlay: commandLine.pod.last(flags.noOverlay) !== true, log: (message) => context.reporter.debug('stage0', message), warn });
    } else if (machine.rootfs === 'virtiofs') {
      const { makeLiveRoots } = await import('../stage0/live-roots.ts');
      await makeLiveRoots(pod, { store, manifest, warn });
    }
  } catch (error) {
    discardPod(pod);
    throw error;
  }
  return { pod, manifest };
}

/** The same for a pod whose manifest is there already, and names no apps. */
export async function layOutPod(values: FlagValues, context: CommandContext, { manifest, machine, accept }: Pick<PrepareRequest, 'manifest' | 'machine'> & { accept(stage1: ImageManifest): void }): Promise<PodHandle> {
  const store = openStore(context.dataDir());
  const stage1 = await chosenStage1(values, context, store);
  accept(stage1.manifest);
  return prepare({ store, stage1, manifest, machine }, values, context);
}

function chosenStage1(values: FlagValues, context: CommandContext, store: Store): Promise<Stage1Image> {
  const { pullPolicy = 'new' } = pullOptions(values, context, 'new');
  return findStage1(stage1Choice(values), {
    store,
    config: context.config(),
    installDir: context.installDir,
    cwd: context.cwd,
    fetchOptions: { store, pullPolicy, network: networkSettings(context), log: (message) => context.reporter.debug('image', message) },
  });
}

function prepare(request: Omit<PrepareRequest, 'onUUID' | 'log'>, values: FlagValues, context: CommandContext): PodHandle {
  const uuidFile = values.last(flags.uuidFileSave);
  return preparePod({
    ...request,
    onUUID: (uuid) => {
      if (uuidFile !== undefined) saveUUID(resolve(context.cwd, uuidFile), uuid);
    },
    log: (message) => context.reporter.debug('stage0', message),
  });
}

async function podManifestOf(commandLine: ImageCommandLine, options: FetchImagesOptions): Promise<{ manifest: PodManifest; warnings: string[] }> {
  const { context } = options;
  const file = commandLine.pod.last(flags.podManifest);
  if (file !== undefined) {
    const manifest = await readPodManifestFile(resolve(context.cwd, file), options);
    return { manifest, warnings: isolatorWarnings(manifest) };
  }
  const wanted = commandLine.images.map(({ image, flags: given }) => ({ text: image, ...signatureOf(given), ...(given.has(flags.exec) ? {} : { accept: requireAppSection }) }));
  const fetched = await fetchImages(wanted, options);
  return buildPodManifest(podRequest(commandLine, fetched, context));
}

/** A manifest someone wrote: its images are fetched by ID, and an app without a section gets that of its image. */
async function readPodManifestFile(path: string, options: FetchImagesOptions): Promise<PodManifest> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new RktError('IO', `cannot read the pod manifest ${path}`, { cause });
  }
  const manifest = parsePodManifest(text, path);
  const images = await fetchImages(manifest.apps.map(({ image }) => ({ text: image.id })), options);
  for (const [index, app] of manifest.apps.entries()) {
    const image = images[index];
    if (image === undefined) continue;
    app.image = { ...app.image, id: image.id, name: app.image.name ?? image.manifest.name };
    if (app.app === undefined) {
      app.app = image.manifest.app;
      // What it says about the image's user belongs to the section.
      const annotation = image.manifest.annotations?.find(({ name }) => name === PRIMARY_GROUP);
      if (annotation !== undefined) app.annotations = [...(app.annotations ?? []).filter(({ name }) => name !== PRIMARY_GROUP), annotation];
    }
    if (app.app === undefined) throw new RktError('BAD_IMAGE', `${path}: apps[${index}]: neither the manifest nor the image has an app section`);
  }
  return finishPodManifest(manifest, path);
}

function saveUUID(path: string, uuid: string): void {
  try {
    writeFileSync(path, uuid);
  } catch (cause) {
    throw new RktError('IO', 'error saving pod UUID to file', { cause });
  }
}

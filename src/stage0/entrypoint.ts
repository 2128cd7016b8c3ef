/** The programs of a stage1 image, named by annotations of its manifest (rkt's stage1 interface). */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { POD_FILES } from '../pod/index.ts';
import type { ImageManifest } from '../schema/index.ts';
import { stage1RootOf } from './root-layout.ts';

export type AppEntrypoint = 'app/add' | 'app/start' | 'app/stop' | 'app/rm';
export type Entrypoint = 'run' | 'attach' | 'enter' | 'export' | 'stop' | 'gc' | 'predict' | AppEntrypoint;

const PREFIX = 'coreos.com/rkt/stage1/';

/** Version of the interface a stage1 speaks; 1 when it does not say. */
export function interfaceVersion(manifest: ImageManifest): number {
  const text = annotationValue(manifest, `${PREFIX}interface-version`) ?? '1';
  const version = Number(text);
  if (!Number.isSafeInteger(version) || version < 1) throw new RktError('BAD_IMAGE', `stage1 image ${manifest.name}: annotation ${PREFIX}interface-version: expected a number, found ${JSON.stringify(text)}`);
  return version;
}

/** Path of an entrypoint relative to the pod directory, checked to be there. That of `run` is the one in the pod's own mounts. */
export function entrypointPath(podDir: string, manifest: ImageManifest, entrypoint: Entrypoint): string {
  const name = annotationValue(manifest, PREFIX + entrypoint);
  if (name === undefined) throw new RktError('UNSUPPORTED', `stage1 image ${manifest.name} has no entrypoint ${JSON.stringify(entrypoint)} (annotation ${PREFIX}${entrypoint})`);
  const path = join(stage1RootOf(podDir), join('/', name));
  try {
    accessSync(join(podDir, path), constants.X_OK);
  } catch (cause) {
    throw new RktError('BAD_IMAGE', `stage1 image ${manifest.name}: its entrypoint ${name} cannot be executed`, { cause });
  }
  return entrypoint === 'run' ? join(POD_FILES.stage1Rootfs, join('/', name)) : path;
}

/** For an entrypoint that is about an app: how a stage1 reaches the inside of the pod, if it has no better way of its own. */
export function crossingEnvironment(podDir: string, manifest: ImageManifest, { pid, app }: { pid: number; app: string }): Record<string, string> {
  return { RKT_STAGE1_ENTERCMD: entrypointPath(podDir, manifest, 'enter'), RKT_STAGE1_ENTERPID: String(pid), RKT_STAGE1_ENTERAPP: app };
}

export function annotationValue(manifest: ImageManifest, name: string): string | undefined {
  return manifest.annotations?.find((annotation) => annotation.name === name)?.value;
}

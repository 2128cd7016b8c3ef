/** What isolators of a pod must agree on beyond each being right by itself. */
import { RktError } from '../error.ts';
import { hasNoEffect, isPodIsolator, sysctlPath } from '../schema/index.ts';
import type { PodManifest } from '../schema/index.ts';

/** Throws RktError BAD_INPUT for what could only be ignored, or for two apps that want different things of the one kernel. */
export function checkIsolators(manifest: PodManifest, origin: string): void {
  for (const [index, isolator] of (manifest.isolators ?? []).entries()) {
    if (!isPodIsolator(isolator)) {
      throw new RktError('BAD_INPUT', `${origin}: isolators[${index}]: ${JSON.stringify(isolator.name)} cannot be said of a pod as a whole, only resource/memory and resource/cpu can`, { hint: 'give it to each app' });
    }
  }
  rejectSysctlConflicts(manifest, origin);
}

function rejectSysctlConflicts(manifest: PodManifest, origin: string): void {
  const settings = new Map<string, { value: string; app: string }>();
  for (const { name: app, app: section } of manifest.apps) {
    for (const isolator of section?.isolators ?? []) {
      if (isolator.name !== 'os/unix/sysctl') continue;
      for (const [key, value] of Object.entries(isolator.value)) {
        const path = sysctlPath(key) ?? key;
        const earlier = settings.get(path);
        if (earlier !== undefined && earlier.value !== value) {
          throw new RktError('BAD_INPUT', `${origin}: app ${JSON.stringify(app)}: os/unix/sysctl: ${key} is to be ${JSON.stringify(value)}, but ${JSON.stringify(earlier.value)} for app ${JSON.stringify(earlier.app)}: the apps of a pod share one kernel`);
        }
        settings.set(path, { value, app });
      }
    }
  }
}

/** What is accepted without effect is at least said. */
export function isolatorWarnings(manifest: PodManifest): string[] {
  return manifest.apps.flatMap(({ name, app }) => (app?.isolators ?? []).filter(hasNoEffect).map((isolator) => `app ${JSON.stringify(name)}: isolator ${isolator.name} has no effect`));
}

/** Which app of a pod a command is about. */
import { RktError } from '../error.ts';
import { readPodManifest } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { Reporter } from './reporter.ts';

/** The wanted one, or the only one there is. Throws RktError NOT_FOUND, USAGE. */
export function chooseApp(pod: PodHandle, wanted: string | undefined, { command, reporter }: { command: string; reporter: Reporter }): string {
  const names = readPodManifest(pod).apps.map(({ name }) => name);
  if (wanted !== undefined) {
    requireApp(names, wanted);
    return wanted;
  }
  const [only] = names;
  if (only !== undefined && names.length === 1) return only;
  reporter.note('pod contains multiple apps:');
  for (const name of names) reporter.note(`\t${name}`);
  throw new RktError('USAGE', `specify app using "rkt ${command} --app= ..."`);
}

/** Throws RktError NOT_FOUND. */
export function requireApp(names: readonly string[], wanted: string): void {
  if (!names.includes(wanted)) throw new RktError('NOT_FOUND', `app ${JSON.stringify(wanted)} is not in the pod: it has ${names.join(', ')}`);
}

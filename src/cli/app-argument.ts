/** The app that a command of the group `app` is about: `UUID --app=NAME`. */
import { openPodByName } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { ArgumentInput } from './command.ts';
import type { CommandContext } from './context.ts';
import { usage } from './flags/flag.ts';
import * as flags from './flags/table.ts';

/** Throws RktError USAGE, NOT_FOUND, AMBIGUOUS, and what `work` throws. */
export function withChosenApp<T>({ values, positional }: ArgumentInput, context: CommandContext, work: (pod: PodHandle, app: string) => T): T {
  const [uuid, ...others] = positional;
  if (uuid === undefined || others.length > 0) throw usage('must provide the pod UUID');
  const app = values.last(flags.app);
  if (app === undefined) throw usage('must provide the app: --app=NAME');
  using pod = openPodByName(context.dataDir(), uuid);
  return work(pod, app);
}

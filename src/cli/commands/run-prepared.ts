import { RktError } from '../../error.ts';
import { lockExclusively, openPodByName } from '../../pod/index.ts';
import { readStage1Manifest, runPod } from '../../stage0/run.ts';
import { checkStart } from '../../stage0/stage1-check.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import type { Outcome } from '../reporter.ts';
import { runRequest } from '../run-options.ts';

/** Comes back only with an error: the process becomes the stage1 of the pod. */
export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const [uuid] = positional;
  if (uuid === undefined || positional.length > 1) throw usage('expected one UUID');
  const request = await runRequest(values, context);
  using pod = openPodByName(context.dataDir(), uuid);
  // Another run-prepared may be first: then the lock is taken, or the pod is gone from `prepared`.
  if (pod.state !== 'prepared' || !lockExclusively(pod)) throw new RktError('STATE', `pod "${pod.uuid}" is not prepared`);
  checkStart(readStage1Manifest(pod), request, (warning) => context.reporter.note(warning));
  return await runPod(pod, request);
}

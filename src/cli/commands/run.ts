import { runPod } from '../../stage0/run.ts';
import { checkStart } from '../../stage0/stage1-check.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import type { ImageCommandLine } from '../flags/image-arguments.ts';
import { makePod } from '../make-pod.ts';
import { checkPodFlags } from '../pod-options.ts';
import type { Outcome } from '../reporter.ts';
import { runRequest } from '../run-options.ts';

/** Comes back only with an error: the process becomes the stage1 of the pod. */
export async function run(commandLine: ImageCommandLine, context: CommandContext): Promise<Outcome> {
  checkPodFlags(commandLine);
  const request = await runRequest(commandLine.pod, context);
  if (request.interactive && commandLine.images.length > 1) throw usage('interactive option only supports one image');
  if (request.interactive && request.machine.sealed === true) throw usage('a sealed pod takes no input: --sealed excludes --interactive');
  const note = (warning: string): void => context.reporter.note(warning);
  const { pod } = await makePod(commandLine, context, { warn: note, accept: (stage1) => checkStart(stage1, request, note) });
  return await runPod(pod, request);
}

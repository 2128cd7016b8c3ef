import { RktError } from '../../error.ts';
import { rootfsKind } from '../../stage0/stage1-abilities.ts';
import { checkStart } from '../../stage0/stage1-check.ts';
import type { CommandContext } from '../context.ts';
import type { ImageCommandLine } from '../flags/image-arguments.ts';
import * as flags from '../flags/table.ts';
import { makePod } from '../make-pod.ts';
import { checkPodFlags } from '../pod-options.ts';
import { predictionOf } from '../prediction.ts';
import type { Outcome } from '../reporter.ts';
import { runRequest } from '../run-options.ts';

/** Goes the way of `run` up to where the pod would be started, and removes it then. */
export async function run(commandLine: ImageCommandLine, context: CommandContext): Promise<Outcome> {
  checkPodFlags(commandLine);
  const request = await runRequest(commandLine.pod, context);
  const note = (warning: string): void => context.reporter.note(warning);
  const { pod } = await makePod(commandLine, context, {
    warn: note,
    accept: (stage1) => {
      if (rootfsKind(stage1) !== 'disk') throw new RktError('UNSUPPORTED', `stage1 image ${stage1.name} runs no virtual machine: nothing of its pods is measured`);
      checkStart(stage1, request, note);
    },
    onPaper: true,
  });
  return await predictionOf(pod, request, commandLine.pod.last(flags.predictionFormat) ?? 'json');
}

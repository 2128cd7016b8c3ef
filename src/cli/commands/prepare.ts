import { finishPreparing } from '../../stage0/prepare.ts';
import type { CommandContext } from '../context.ts';
import type { ImageCommandLine } from '../flags/image-arguments.ts';
import * as flags from '../flags/table.ts';
import { makePod } from '../make-pod.ts';
import { checkPodFlags } from '../pod-options.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export async function run(commandLine: ImageCommandLine, context: CommandContext): Promise<Outcome> {
  checkPodFlags(commandLine);
  const quiet = commandLine.pod.last(flags.quiet) ?? false;
  const { pod, manifest } = await makePod(commandLine, context, {
    warn: (warning) => {
      if (!quiet) context.reporter.note(warning);
    },
  });
  await finishPreparing(pod, manifest);
  return success({ kind: 'lines', lines: [pod.uuid] });
}

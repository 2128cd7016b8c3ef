import { readPodManifest, readPodManifestText } from '../../pod/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import * as flags from '../flags/table.ts';
import { openPodArgument } from '../pod-argument.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export function run(input: ArgumentInput, context: CommandContext): Outcome {
  using pod = openPodArgument(input, context);
  readPodManifest(pod);
  // What was written is what is shown, field by field, known or not.
  return success({ kind: 'json', value: JSON.parse(readPodManifestText(pod)), pretty: input.values.last(flags.prettyPrint) ?? true });
}

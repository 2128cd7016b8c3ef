/** The one pod that a command is about: `UUID` or `--uuid-file=FILE`, perhaps with more arguments behind it. */
import { openPodByName, readUUIDFile } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { ArgumentInput } from './command.ts';
import type { CommandContext } from './context.ts';
import { usage } from './flags/flag.ts';
import * as flags from './flags/table.ts';

/** The arguments with the pod's name as the first of them, wherever it was given. Throws RktError IO. */
export function argumentsOfPod({ values, positional }: ArgumentInput): readonly string[] {
  const uuidFile = values.last(flags.uuidFile);
  return uuidFile === undefined ? positional : [readUUIDFile(uuidFile), ...positional];
}

/** The caller closes it. Throws RktError USAGE, IO, NOT_FOUND, AMBIGUOUS. */
export function openPodArgument(input: ArgumentInput, context: CommandContext): PodHandle {
  const [name, ...more] = argumentsOfPod(input);
  if (name === undefined || more.length > 0) throw usage('expected one UUID, or --uuid-file');
  return openPodByName(context.dataDir(), name);
}

/** The one pod that a command is about: `UUID` or `--uuid-file=FILE`. */
import { openPodByName, readUUIDFile } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import type { ArgumentInput } from './command.ts';
import type { CommandContext } from './context.ts';
import { usage } from './flags/flag.ts';
import * as flags from './flags/table.ts';

/** The caller closes it. Throws RktError USAGE, NOT_FOUND, AMBIGUOUS. */
export function openPodArgument({ values, positional }: ArgumentInput, context: CommandContext): PodHandle {
  const uuidFile = values.last(flags.uuidFile);
  if (positional.length !== (uuidFile === undefined ? 1 : 0)) throw usage('expected one UUID, or --uuid-file');
  return openPodByName(context.dataDir(), uuidFile === undefined ? (positional[0] ?? '') : readUUIDFile(uuidFile));
}

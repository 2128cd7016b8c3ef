import { openPodByName, readPodManifest, readPodManifestText, readUUIDFile } from '../../pod/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export function run({ values, positional }: ArgumentInput, context: CommandContext): Outcome {
  const uuidFile = values.last(flags.uuidFile);
  if (positional.length !== (uuidFile === undefined ? 1 : 0)) throw usage('expected one UUID, or --uuid-file');
  using pod = openPodByName(context.dataDir(), uuidFile === undefined ? (positional[0] ?? '') : readUUIDFile(uuidFile));
  readPodManifest(pod);
  // What was written is what is shown, field by field, known or not.
  return success({ kind: 'json', value: JSON.parse(readPodManifestText(pod)), pretty: values.last(flags.prettyPrint) ?? true });
}

import { openPodByName, readUUIDFile, removePod } from '../../pod/index.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { gcHost } from '../gc-host.ts';
import { failure, NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const uuidFile = values.last(flags.uuidFile);
  if ((positional.length === 0) === (uuidFile === undefined)) throw usage('expected UUIDs, or --uuid-file');
  const names = uuidFile === undefined ? positional : [readUUIDFile(uuidFile)];
  let failed = false;
  for (const name of names) {
    if (!(await removeOne(name, context))) failed = true;
  }
  if (!failed) return success(NOTHING);
  context.reporter.note('failed to remove one or more pods');
  return failure();
}

async function removeOne(name: string, context: CommandContext): Promise<boolean> {
  try {
    using pod = openPodByName(context.dataDir(), name);
    if (!(await removePod(pod, gcHost(context)))) return false;
    context.reporter.print(`"${pod.uuid}"`);
    return true;
  } catch (error) {
    context.reporter.error(error, 'cannot get pod');
    return false;
  }
}

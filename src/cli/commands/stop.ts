import { RktError } from '../../error.ts';
import { hasEnded, openPodByName, readUUIDFile } from '../../pod/index.ts';
import { stopPod } from '../../stage0/stage1-calls.ts';
import type { StopOptions } from '../../stage0/stage1-calls.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { failure, NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

/** What rkt ends with when the file of `--uuid-file` cannot be read. */
const UUID_FILE_STATUS = 1;

export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const uuidFile = values.last(flags.uuidFile);
  if ((positional.length === 0) === (uuidFile === undefined)) throw usage('expected UUIDs, or --uuid-file');
  let names = positional;
  if (uuidFile !== undefined) {
    try {
      names = [readUUIDFile(uuidFile)];
    } catch (error) {
      context.reporter.error(error);
      return { result: NOTHING, exitStatus: UUID_FILE_STATUS };
    }
  }
  const options = { force: values.last(flags.force) ?? false, graceMs: values.last(flags.stopGracePeriod) };
  // All at a time: each may take its whole grace period.
  const stopped = await Promise.all(names.map((name) => stopOne(name, options, context)));
  const failed = stopped.filter((done) => !done).length;
  if (failed === 0) return success(NOTHING);
  context.reporter.note(`failed to stop ${failed} pod(s)`);
  return failure();
}

async function stopOne(name: string, options: StopOptions, context: CommandContext): Promise<boolean> {
  try {
    using pod = openPodByName(context.dataDir(), name);
    if (hasEnded(pod.state)) {
      context.reporter.note(`pod "${pod.uuid}" is already stopped`);
      return true;
    }
    if (pod.state !== 'running') throw new RktError('STATE', `pod "${pod.uuid}" is not running`);
    try {
      await stopPod(pod, options);
    } catch (error) {
      context.reporter.error(error, `error stopping "${pod.uuid}"`);
      return false;
    }
    context.reporter.print(`"${pod.uuid}"`);
    return true;
  } catch (error) {
    context.reporter.error(error);
    return false;
  }
}

import { runPod } from '../../stage0/run.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import { NOTHING } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';
import { layOutSandbox, sandboxRequest } from '../sandbox.ts';

/** What rkt ends with when a sandbox cannot be started. */
const SANDBOX_FAILURE_STATUS = 1;

/** Comes back only with an error: the process becomes the stage1 of the pod. */
export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  try {
    if (positional.length > 0) throw usage('an app sandbox takes no arguments: add apps with `rkt app add`');
    const request = await sandboxRequest(values, context);
    const pod = await layOutSandbox(values, context, request);
    return await runPod(pod, request);
  } catch (error) {
    context.reporter.error(error);
    return { result: NOTHING, exitStatus: SANDBOX_FAILURE_STATUS };
  }
}

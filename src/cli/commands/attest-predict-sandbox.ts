import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { predictionOf } from '../prediction.ts';
import type { Outcome } from '../reporter.ts';
import { layOutSandbox, sandboxRequest } from '../sandbox.ts';

/** Goes the way of `app sandbox` up to where the pod would be started, and removes it then. */
export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  if (positional.length > 0) throw usage('a sandbox takes no arguments');
  const request = await sandboxRequest(values, context);
  const pod = await layOutSandbox(values, context, request);
  return await predictionOf(pod, request, values.last(flags.predictionFormat) ?? 'json');
}

import { startApp } from '../../stage0/mutable-pod.ts';
import { withChosenApp } from '../app-argument.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

export function run(input: ArgumentInput, context: CommandContext): Outcome {
  withChosenApp(input, context, (pod, app) => startApp(pod, app, { debug: context.debug }));
  return success(NOTHING);
}

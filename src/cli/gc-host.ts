/** Connects the garbage collector to the reporter and to stage1. */
import type { GcHost } from '../pod/index.ts';
import { cleanUpStage1 } from '../stage0/stage1-calls.ts';
import type { CommandContext } from './context.ts';

export function gcHost(context: CommandContext): GcHost {
  const { reporter } = context;
  return {
    print: (stream, line) => (stream === 'stdout' ? reporter.print(line) : reporter.note(line)),
    problem: (message, cause) => reporter.error(cause, message),
    cleanUpStage1: (pod) => cleanUpStage1(pod, { debug: context.debug }),
  };
}

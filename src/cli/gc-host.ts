/** Connects the garbage collector to the reporter and to stage1. */
import type { GcHost } from '../pod/index.ts';
import { disconnectPod } from '../stage0/network-release.ts';
import { cleanUpStage1 } from '../stage0/stage1-calls.ts';
import { isRegistered } from '../metadata/registered-file.ts';
import type { CommandContext } from './context.ts';
import { networkDirectories } from './network-directories.ts';

export function gcHost(context: CommandContext): GcHost {
  const { reporter } = context;
  return {
    print: (stream, line) => (stream === 'stdout' ? reporter.print(line) : reporter.note(line)),
    problem: (message, cause) => reporter.error(cause, message),
    forget: async (pod) => {
      // Few pods were registered.
      if (isRegistered(pod)) await (await import('../metadata/index.ts')).unregisterPod(pod);
    },
    cleanUpNetwork: async (pod) => disconnectPod(pod, (await networkDirectories(context)).plugins),
    cleanUpStage1: (pod) => cleanUpStage1(pod, { debug: context.debug, localConfigDir: context.localConfigDir }),
  };
}

/** Flags of `run` and `run-prepared` that decide how a pod is started. */
import { RktError } from '../error.ts';
import { checkNetworks } from '../stage0/run.ts';
import type { RunRequest } from '../stage0/run.ts';
import type { CommandContext } from './context.ts';
import { inheritedEnvironment } from './environment.ts';
import { usage } from './flags/flag.ts';
import type { FlagValues } from './flags/flag.ts';
import { combineNetworks } from './flags/network.ts';
import type { NetworkChoice } from './flags/network.ts';
import * as flags from './flags/table.ts';
import { machineOptions } from './pod-options.ts';

/** Throws before anything is made when the pod could not be started in this way. */
export function runRequest(values: FlagValues, context: CommandContext): RunRequest {
  if (values.last(flags.ipc) === 'parent') throw new RktError('UNSUPPORTED', 'flavor kvm requires private IPC namespace (try to remove --ipc)');
  const networks = chosenNetworks(values);
  checkNetworks(networks);
  const hostname = values.last(flags.hostname);
  return {
    networks,
    interactive: values.last(flags.interactive) ?? false,
    ...(hostname === undefined || hostname === '' ? {} : { hostname }),
    localConfigDir: context.localConfigDir,
    insecure: context.insecure,
    machine: machineOptions(values, context),
    timing: values.last(flags.timing) ?? false,
    debug: context.debug,
    startNs: context.startNs,
    env: inheritedEnvironment(),
    log: (message) => context.reporter.debug('stage0', message),
  };
}

function chosenNetworks(values: FlagValues): NetworkChoice[] {
  try {
    return combineNetworks(values.all(flags.net));
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
}

/** Flags of `run` and `run-prepared` that decide how a pod is started. */
import { resolve } from 'node:path';
import { planNetworks } from '../stage0/network-plan.ts';
import type { NameSettings } from '../stage0/pod-network.ts';
import type { RunRequest } from '../stage0/run.ts';
import { hasPassedSockets } from '../stage0/socket-activation.ts';
import type { CommandContext } from './context.ts';
import { inheritedEnvironment } from './environment.ts';
import { usage } from './flags/flag.ts';
import type { FlagValues } from './flags/flag.ts';
import { combineNetworks } from './flags/network.ts';
import type { NetworkChoice } from './flags/network.ts';
import { flagArguments, isStartFlag } from './flags/rebuild.ts';
import { networkDirectories } from './network-directories.ts';
import * as flags from './flags/table.ts';
import { machineOptions } from './pod-options.ts';

/** Throws before anything is made when the pod could not be started in this way. */
export async function runRequest(values: FlagValues, context: CommandContext): Promise<RunRequest> {
  const networks = chosenNetworks(values);
  const names = nameSettings(values);
  const network = await planNetworks(networks, {
    isRoot: context.uid === 0,
    directories: () => networkDirectories(context),
    warn: (message) => context.reporter.note(message),
  });
  // A supervisor's sockets need no network; which port is whose is seen when the pod is known.
  if (network.kind === 'none' && values.has(flags.port) && !hasPassedSockets()) throw usage("--port flag does not work with 'none' networking");
  const journal = values.last(flags.logJournal);
  const hostname = values.last(flags.hostname);
  const ipc = values.last(flags.ipc);
  return {
    networks,
    network,
    names,
    interactive: values.last(flags.interactive) ?? false,
    ...(hostname === undefined || hostname === '' ? {} : { hostname }),
    ...(ipc === undefined ? {} : { ipc }),
    localConfigDir: context.localConfigDir,
    insecure: { ...context.insecure },
    machine: machineOptions(values, context),
    logs: {
      driver: values.last(flags.logDriver),
      sizeMaxBytes: values.last(flags.logSizeMax),
      filesMax: values.last(flags.logFilesMax),
      journal: journal === undefined ? undefined : resolve(context.cwd, journal),
    },
    timing: values.last(flags.timing) ?? false,
    startFlags: flagArguments([...context.globals.given(), ...values.given()].filter(({ flag }) => isStartFlag(flag)), context.cwd),
    mdsRegister: values.last(flags.mdsRegister) ?? false,
    debug: context.debug,
    startNs: context.startNs,
    env: inheritedEnvironment(),
    log: (message) => context.reporter.debug('stage0', message),
    warn: (message) => context.reporter.note(message),
  };
}

function chosenNetworks(values: FlagValues): NetworkChoice[] {
  try {
    return combineNetworks(values.all(flags.net));
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
}

function nameSettings(values: FlagValues): NameSettings {
  const servers = values.all(flags.dns).flat();
  const word = servers.find((server) => server === 'host' || server === 'none');
  const dns = {
    nameservers: servers,
    search: values.all(flags.dnsSearch).flat(),
    options: values.all(flags.dnsOpt).flat(),
    ...(values.has(flags.dnsDomain) ? { domain: values.last(flags.dnsDomain) ?? '' } : {}),
  };
  const says = Object.values(dns).some(({ length }) => length > 0);
  if (word !== undefined && (servers.length > 1 || dns.search.length > 0 || dns.options.length > 0 || dns.domain !== undefined)) throw usage(`--dns=${word} cannot be combined with other --dns options`);

  const entries = values.all(flags.hostsEntry).flat();
  const hostsEntries = entries.filter((entry) => entry !== null);
  if (entries.length > hostsEntries.length && entries.length > 1) throw usage('--hosts-entry=host cannot be combined with other entries');
  return {
    resolv: word === 'host' || word === 'none' ? word : says ? 'stage0' : 'default',
    dns,
    hosts: entries.includes(null) ? 'host' : entries.length > 0 ? 'stage0' : 'default',
    hostsEntries,
  };
}

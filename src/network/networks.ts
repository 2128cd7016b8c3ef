/** Which networks there are on this host, and which of them a pod gets. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { BUILTIN_NETWORKS } from './builtin.ts';
import { parseNetworkConfiguration } from './cni/configuration.ts';
import type { NetworkConfiguration } from './cni/configuration.ts';

export interface KnownNetwork {
  configuration: NetworkConfiguration;
  /** The file it was read from; null for those that come with rkt. */
  path: string | null;
  fileName: string;
}

export interface KnownNetworks {
  /** In the order of their file names; each name once. */
  networks: KnownNetwork[];
  /** Files that say nothing usable, and networks that are defined twice. */
  problems: RktError[];
}

/** `--net=NAME[:ARGS]` */
export interface NetworkChoice {
  name: string;
  /** `K=V;K2=V2` */
  args?: string;
}

export interface ChosenNetwork extends KnownNetwork {
  args: string;
}

export interface NetworkDirectories {
  /** Of configurations; an earlier one wins over a later one that defines the same network. */
  configurations: readonly string[];
  /** Of plugins, in the order of the search. */
  plugins: readonly string[];
}

const EXTENSIONS = ['.conf', '.conflist', '.json'];

/** Where networks and plugins are looked for: rkt's own places, then those that container runtimes share. */
export function networkDirectories(options: { localConfigDir: string; pluginsDir?: string | undefined }): NetworkDirectories {
  const ownConfigurations = join(options.localConfigDir, 'net.d');
  return {
    configurations: [ownConfigurations, '/etc/cni/net.d'],
    // rkt looks for plugins beside the configurations first.
    plugins: [ownConfigurations, ...(options.pluginsDir === undefined ? [] : [options.pluginsDir]), '/usr/lib/rkt/plugins/net', '/opt/cni/bin', '/usr/lib/cni'],
  };
}

/** Reads all configurations. A bad file spoils nothing but itself. */
export function readNetworks(directories: readonly string[]): KnownNetworks {
  const networks = new Map<string, KnownNetwork>();
  const problems: RktError[] = [];
  const define = (network: KnownNetwork): void => {
    const { name } = network.configuration;
    const earlier = networks.get(name);
    if (earlier === undefined) networks.set(name, network);
    else if (earlier.path !== null && network.path !== null) problems.push(new RktError('BAD_INPUT', `${JSON.stringify(name)} network already defined in ${earlier.path}, ignoring ${network.path}`));
  };
  for (const directory of directories) {
    for (const fileName of configurationFiles(directory, problems)) {
      const path = join(directory, fileName);
      try {
        define({ configuration: parseNetworkConfiguration(readFileSync(path, 'utf8'), path), path, fileName });
      } catch (error) {
        problems.push(error instanceof RktError ? error : new RktError('IO', `cannot read the network configuration ${path}`, { cause: error }));
      }
    }
  }
  for (const { fileName, text } of BUILTIN_NETWORKS) define({ configuration: parseNetworkConfiguration(text, fileName), path: null, fileName });
  return { networks: [...networks.values()].sort((a, b) => (a.fileName < b.fileName ? -1 : 1)), problems };
}

function configurationFiles(directory: string, problems: RktError[]): string[] {
  try {
    return readdirSync(directory).filter((name) => EXTENSIONS.some((extension) => name.endsWith(extension))).sort();
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTDIR')) problems.push(new RktError('IO', `cannot read the network configurations in ${directory}`, { cause: error }));
    return [];
  }
}

/** In the order of the file names, whatever the order of the choices, as rkt has it: the first is the pod's eth0. Throws RktError NOT_FOUND. */
export function chooseNetworks(choices: readonly NetworkChoice[], { networks, problems }: KnownNetworks): ChosenNetwork[] {
  const isAll = choices.some(({ name }) => name === 'all');
  const missing = choices.filter(({ name }) => name !== 'all' && !networks.some(({ configuration }) => configuration.name === name)).map(({ name }) => name);
  if (missing.length > 0) {
    const cause = problems.length === 0 ? {} : { hint: `these configurations could not be used: ${problems.map(({ message }) => message).join('; ')}` };
    throw new RktError('NOT_FOUND', `networks not found: ${missing.join(', ')}`, cause);
  }
  return networks.flatMap((network) => {
    const choice = choices.find(({ name }) => name === network.configuration.name);
    return choice === undefined && !isAll ? [] : [{ ...network, args: choice?.args ?? '' }];
  });
}

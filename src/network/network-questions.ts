/** Questions to the plugins of a network that concern no particular pod. */
import { RktError } from '../error.ts';
import type { NetworkConfiguration } from './cni/configuration.ts';
import { findPlugin } from './cni/plugin.ts';
import type { PluginHost } from './cni/plugin.ts';
import { chooseVersion, collectGarbage, networkStatus } from './cni/runtime.ts';
import type { Attachment } from './cni/runtime.ts';

/** What a question to plugins came to; `unchecked` is nothing bad, they were not asked or cannot tell. */
export type Finding = 'good' | 'unchecked' | RktError;

export async function findingOf(question: () => Promise<boolean>): Promise<Finding> {
  try {
    return (await question()) ? 'good' : 'unchecked';
  } catch (error) {
    if (error instanceof RktError) return error;
    throw error;
  }
}

/** Whether the plugins are there and, where they can tell, whether they are ready. */
export function networkReadiness(configuration: NetworkConfiguration, host: PluginHost): Promise<Finding> {
  return findingOf(async () => {
    const missing = configuration.plugins.map(({ type }) => type).filter((type) => findPlugin(type, host.pluginDirs) === undefined);
    if (missing.length > 0) throw new RktError('MISSING_DEPENDENCY', `there is no CNI plugin ${missing.join(', ')} in ${host.pluginDirs.join(', ')}`);
    return networkStatus({ ...configuration, version: await chooseVersion(configuration, host) }, host);
  });
}

/** Lets the plugins remove what belongs to none of the attachments. */
export function collectUnused(configuration: NetworkConfiguration, valid: readonly Pick<Attachment, 'containerId' | 'ifName'>[], host: PluginHost): Promise<Finding> {
  return findingOf(async () => collectGarbage({ ...configuration, version: await chooseVersion(configuration, host) }, valid, host));
}

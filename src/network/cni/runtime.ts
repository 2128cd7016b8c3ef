/**
 * What a container runtime does with a network: CNI specification, section 3 (lifecycle, deriving execution
 * configuration). Operations on one pod must not overlap; the caller holds the pod's lock.
 */
import { RktError } from '../../error.ts';
import { arrayOf, objectOf, parseDocument, stringValue } from '../../schema/check.ts';
import type { JsonObject, Network, NetworkConfiguration, PluginConfiguration } from './configuration.ts';
import { runPlugin } from './plugin.ts';
import type { CniCommand, PluginHost } from './plugin.ts';
import { parseResult } from './result.ts';
import type { Result } from './result.ts';
import { isAtLeast } from './version.ts';
import type { CniVersion } from './version.ts';

/** One pod in one network. */
export interface Attachment {
  containerId: string;
  /** File of the network namespace; empty when it is gone. */
  namespacePath: string;
  ifName: string;
  /** `K=V;K2=V2`, may be empty. */
  args: string;
  /** By capability; a plugin gets those it asks for. */
  capabilityArgs: Readonly<Record<string, unknown>>;
}

/** Of all versions that the configuration allows the newest that every plugin speaks. Asks the plugins only when there is a choice. */
export async function chooseVersion(configuration: NetworkConfiguration, host: PluginHost): Promise<CniVersion> {
  const [first, ...others] = configuration.versions;
  if (first === undefined) throw new RktError('INTERNAL', `network ${JSON.stringify(configuration.name)} has no version`);
  if (others.length === 0) return first;
  const types = [...new Set(configuration.plugins.map(({ type }) => type))];
  const supported = await Promise.all(types.map((type) => supportedVersions(configuration.name, { type, version: first }, host)));
  const version = configuration.versions.find((candidate) => supported.every((versions) => versions.includes(candidate)));
  if (version !== undefined) return version;
  const lists = types.map((type, index) => `${type}: ${supported[index]?.join(', ') ?? ''}`);
  throw new RktError('UNSUPPORTED', `network ${JSON.stringify(configuration.name)}: no version of ${configuration.versions.join(', ')} is spoken by all plugins (${lists.join('; ')})`);
}

async function supportedVersions(network: string, { type, version }: { type: string; version: CniVersion }, host: PluginHost): Promise<string[]> {
  const text = await runPlugin({ command: 'VERSION', network, type, configuration: { cniVersion: version }, variables: {} }, host);
  const answer = objectOf<{ supportedVersions: string[] }>({ supportedVersions: arrayOf(stringValue) });
  return parseDocument(text, answer, { origin: `plugin ${type} (VERSION)`, code: 'BAD_INPUT' }).supportedVersions;
}

/** Calls the plugins in order. `onResult` hears of each result, so that what has been done is known even when a later plugin fails. */
export async function addNetwork(network: Network, attachment: Attachment, host: PluginHost & { onResult(result: JsonObject): void }): Promise<Result> {
  let last: Result | undefined;
  for (const plugin of network.plugins) {
    const text = await call('ADD', { network, plugin, attachment, previous: last?.raw }, host);
    last = parseResult(text, `network ${JSON.stringify(network.name)}: result of plugin ${plugin.type}`);
    host.onResult(last.raw);
  }
  if (last === undefined) throw new RktError('INTERNAL', `network ${JSON.stringify(network.name)} has no plugins`);
  return last;
}

/** Calls the plugins in reverse order and stops at the first that fails; may be called again. `result`: what ADD gave, if it came that far. */
export async function deleteNetwork(network: Network, attachment: Attachment, host: PluginHost & { result: JsonObject | undefined }): Promise<void> {
  for (const plugin of [...network.plugins].reverse()) await call('DEL', { network, plugin, attachment, previous: host.result }, host);
}

/** Throws what the first plugin that is not content says. False: this network does not want to be checked. */
export async function checkNetwork(network: Network, attachment: Attachment, host: PluginHost & { result: JsonObject }): Promise<boolean> {
  if (network.disableCheck) return false;
  for (const plugin of network.plugins) await call('CHECK', { network, plugin, attachment, previous: host.result }, host);
  return true;
}

/**
 * Lets the plugins remove what belongs to none of these attachments; one that fails keeps none of the others from it. Throws
 * what the first of those says. False: the network does not know how, or does not want it.
 */
export async function collectGarbage(network: Network, valid: readonly Pick<Attachment, 'containerId' | 'ifName'>[], host: PluginHost): Promise<boolean> {
  if (network.disableGc || !isAtLeast(network.version, '1.1.0')) return false;
  const attachments = valid.map(({ containerId, ifName }) => ({ containerID: containerId, ifname: ifName }));
  const failures: unknown[] = [];
  for (const plugin of network.plugins) {
    await call('GC', { network, plugin, additions: { 'cni.dev/valid-attachments': attachments } }, host).catch((error: unknown) => failures.push(error));
  }
  if (failures.length > 0) throw failures[0];
  return true;
}

/** Asks whether ADD would work. Throws what the first plugin that is not ready says. False: the network cannot tell. */
export async function networkStatus(network: Network, host: PluginHost): Promise<boolean> {
  if (!isAtLeast(network.version, '1.1.0')) return false;
  for (const plugin of network.plugins) await call('STATUS', { network, plugin }, host);
  return true;
}

interface Call {
  network: Network;
  plugin: PluginConfiguration;
  attachment?: Attachment;
  previous?: JsonObject | undefined;
  additions?: JsonObject;
}

function call(command: CniCommand, { network, plugin, attachment, previous, additions }: Call, host: PluginHost): Promise<string> {
  const { capabilities: _declared, ...own } = plugin.raw;
  const runtimeConfig = Object.fromEntries(Object.entries(attachment?.capabilityArgs ?? {}).filter(([name]) => plugin.capabilities.includes(name)));
  const configuration: JsonObject = {
    ...own,
    cniVersion: network.version,
    name: network.name,
    ...(Object.keys(runtimeConfig).length === 0 ? {} : { runtimeConfig }),
    ...(previous === undefined ? {} : { prevResult: previous }),
    ...additions,
  };
  return runPlugin({ command, network: network.name, type: plugin.type, configuration, variables: attachment === undefined ? {} : variablesOf(attachment) }, host);
}

function variablesOf({ containerId, namespacePath, ifName, args }: Attachment): Record<string, string> {
  return {
    CNI_CONTAINERID: containerId,
    CNI_NETNS: namespacePath,
    CNI_IFNAME: ifName,
    // The arguments are for whichever plugin of the chain knows them.
    CNI_ARGS: args === '' ? '' : `IgnoreUnknown=1;${args}`,
  };
}

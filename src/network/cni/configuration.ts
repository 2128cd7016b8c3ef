/** Network configurations as administrators write them: CNI specification, section 1 (`.conflist`), and the single plugin of older files (`.conf`, `.json`). */
import { RktError } from '../../error.ts';
import { arrayOf, booleanValue, mapOf, matching, objectOf, oneOf, optional, parseDocument, refined, stringValue, withDefault } from '../../schema/check.ts';
import type { Check, Place } from '../../schema/check.ts';
import { TAP_MODES } from '../tap-mode.ts';
import type { TapMode } from '../tap-mode.ts';
import { usableVersions } from './version.ts';
import type { CniVersion } from './version.ts';

export type JsonObject = Record<string, unknown>;

export interface PluginConfiguration {
  /** File name of the plugin. */
  type: string;
  /** Names of the capability arguments it asks for. */
  capabilities: string[];
  /** Whether it hides the pod behind the host's address. */
  ipMasq: boolean;
  /** Everything it was configured with. */
  raw: JsonObject;
}

/** A network as it is used: with the one version that all its plugins speak. */
export type Network = Omit<NetworkConfiguration, 'versions'> & { version: CniVersion };

export interface NetworkConfiguration {
  name: string;
  /** Newest first. */
  versions: CniVersion[];
  plugins: PluginConfiguration[];
  disableCheck: boolean;
  disableGc: boolean;
  /** Our own key, `"rkt": {"tap": …}`: how virtual machines are connected. */
  tapMode?: TapMode;
}

/** Of a file; no configuration is anywhere near. */
const MAX_CONFIGURATION_BYTES = 1 << 20;

/** Network and plugin names become file names and parts of rules (CNI specification: "network name"). */
const networkName = matching(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}$/, 'a network name (letters, digits, "_", ".", "-")');
const pluginType = refined(matching(/^[^/\0]+$/, 'the file name of a plugin'), (type) => (type === '.' || type === '..' ? 'expected the file name of a plugin' : undefined));

const jsonObject: Check<JsonObject> = (value, place) => mapOf((item: unknown) => item)(value, place);

interface PluginFields {
  type: string;
  capabilities?: Record<string, boolean>;
  ipMasq?: boolean;
}

const pluginFields = objectOf<PluginFields>({ type: pluginType, capabilities: optional(mapOf(booleanValue)), ipMasq: optional(booleanValue) });

const plugin: Check<PluginConfiguration> = (value, place) => {
  const fields = pluginFields(value, place);
  return {
    type: fields.type,
    capabilities: Object.entries(fields.capabilities ?? {}).flatMap(([name, isWanted]) => (isWanted ? [name] : [])),
    ipMasq: fields.ipMasq ?? false,
    raw: jsonObject(value, place),
  };
};

/** As libcni: `"true"` is written by some tools. */
const flag: Check<boolean> = (value, place) => (value === 'true' ? true : value === 'false' ? false : withDefault(booleanValue, false)(value, place));

const rktKey = objectOf<{ tap?: TapMode }>({ tap: optional(oneOf(TAP_MODES)) });

interface Head {
  name: string;
  cniVersion: string;
  cniVersions: string[];
  disableCheck: boolean;
  disableGC: boolean;
  rkt: { tap?: TapMode };
}

const head = objectOf<Head>({
  name: networkName,
  cniVersion: withDefault(stringValue, ''),
  cniVersions: withDefault(arrayOf(stringValue), []),
  disableCheck: flag,
  disableGC: flag,
  rkt: (value, place) => rktKey(value ?? {}, place),
});

const chain = objectOf<{ plugins: PluginConfiguration[] }>({
  plugins: refined(arrayOf(plugin), (plugins) => (plugins.length === 0 ? 'expected at least one plugin' : undefined)),
});

export const networkConfiguration: Check<NetworkConfiguration> = (value, place: Place) => {
  const object = jsonObject(value, place);
  const { name, disableCheck, disableGC, rkt, ...declared } = head(object, place);
  // A file with one plugin is a list of one; which of the two it is does not depend on its name.
  const plugins = 'plugins' in object ? chain(object, place).plugins : [plugin(object, place)];
  const versions = usableVersions(declared, place.origin);
  return { name, versions, plugins, disableCheck, disableGc: disableGC, ...(rkt.tap === undefined ? {} : { tapMode: rkt.tap }) };
};

/** Throws RktError BAD_INPUT or UNSUPPORTED that names file and field. */
export function parseNetworkConfiguration(text: string, origin: string): NetworkConfiguration {
  if (text.length > MAX_CONFIGURATION_BYTES) throw new RktError('BAD_INPUT', `${origin}: larger than ${MAX_CONFIGURATION_BYTES} bytes`);
  return parseDocument(text, networkConfiguration, { origin, code: 'BAD_INPUT' });
}

/** The network as a `.conflist` would have it. */
export function configurationOf({ name, version, disableCheck, disableGc, plugins, tapMode }: Network): JsonObject {
  const rkt = tapMode === undefined ? {} : { rkt: { tap: tapMode } };
  return { cniVersion: version, name, disableCheck, disableGC: disableGc, ...rkt, plugins: plugins.map(({ raw }) => raw) };
}

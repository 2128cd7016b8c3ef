/** What plugins answer: results (CNI specification, section 5) and errors. */
import { arrayOf, integerValue, objectOf, optional, parseDocument, stringValue, withDefault } from '../../schema/check.ts';
import type { JsonObject } from './configuration.ts';

export interface ResultInterface {
  name: string;
  mac?: string;
  /** Absent for interfaces of the host. */
  sandbox?: string;
}

export interface ResultIp {
  /** CIDR form. */
  address: string;
  gateway?: string;
  /** Index into `interfaces`. */
  interface?: number;
}

export interface Dns {
  nameservers: string[];
  search: string[];
  options: string[];
  domain?: string;
}

export interface Result {
  interfaces: ResultInterface[];
  ips: ResultIp[];
  dns: Dns;
  /** As the plugin wrote it: what the next one gets. */
  raw: JsonObject;
}

export interface PluginFailure {
  code: number;
  msg: string;
  details: string;
}

const dns = objectOf<Dns>({
  nameservers: withDefault(arrayOf(stringValue), []),
  search: withDefault(arrayOf(stringValue), []),
  options: withDefault(arrayOf(stringValue), []),
  domain: optional(stringValue),
});

const result = objectOf<Omit<Result, 'raw'>>({
  interfaces: withDefault(arrayOf(objectOf<ResultInterface>({ name: stringValue, mac: optional(stringValue), sandbox: optional(stringValue) })), []),
  ips: withDefault(arrayOf(objectOf<ResultIp>({ address: stringValue, gateway: optional(stringValue), interface: optional(integerValue) })), []),
  dns: (value, place) => dns(value ?? {}, place),
});

/** Throws RktError BAD_INPUT that names the field. */
export function parseResult(text: string, origin: string): Result {
  return parseDocument(text, (value, place) => ({ ...result(value, place), raw: value as JsonObject }), { origin, code: 'BAD_INPUT' });
}

const failure = objectOf<PluginFailure>({ code: integerValue, msg: withDefault(stringValue, ''), details: withDefault(stringValue, '') });

/** Undefined when the text is not what a plugin should print when it fails. */
export function parseFailure(text: string): PluginFailure | undefined {
  try {
    return parseDocument(text, failure, { origin: '', code: 'BAD_INPUT' });
  } catch {
    return undefined;
  }
}

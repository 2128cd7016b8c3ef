/** Host messages as they arrive: nothing about their shape is known. Throws BadFieldError naming the field. */
import type { ForwardHeader, HostMessage, HostShare, Network, NetworkInterface, StartApp, Stdio, StreamHeader, StreamName, TerminalSize, VerityDisk } from '../src/wire/messages.ts';
import { asBoolean, asInteger, asList, asObject, asString, fail, optional, parseHex } from './checked.ts';

export type StartMessage = Extract<HostMessage, { type: 'start' }>;
export type InspectMessage = Extract<HostMessage, { type: 'inspect' }>;
export type ExecMessage = Extract<HostMessage, { type: 'exec' }>;
export type ChangeMessage = Extract<HostMessage, { type: 'app-add' | 'app-start' | 'app-stop' | 'app-remove' }>;

const asCount = asInteger({ min: 0, max: Number.MAX_SAFE_INTEGER });
const asSize16 = asInteger({ min: 0, max: 65535 });
const asPort = asInteger({ min: 1, max: 65535 });
const asSignal = asInteger({ min: 1, max: 64 });
const asGraceMs = asInteger({ min: 0, max: 24 * 3600 * 1000 });

export function parseHostMessage(message: object): HostMessage {
  const fields = asObject(message, 'message');
  const type = asString(fields['type'], 'type');
  switch (type) {
    case 'start':
      return parseStart(message);
    case 'exec':
      return {
        type,
        request: asCount(fields['request'], 'request'),
        app: asString(fields['app'], 'app'),
        argv: asNonEmptyList(fields['argv'], 'argv'),
        env: parseVariables(fields['env'], 'env'),
        stdio: parseStdio(fields['stdio'], 'stdio'),
        isExpected: optional(fields['isExpected'], 'isExpected', asBoolean) ?? false,
      };
    case 'app-add':
      return {
        type,
        request: asCount(fields['request'], 'request'),
        app: parseStartApp(fields['app'], 'app'),
        manifest: asString(fields['manifest'], 'manifest'),
      };
    case 'app-start':
    case 'app-remove':
      return { type, request: asCount(fields['request'], 'request'), app: asString(fields['app'], 'app') };
    case 'app-stop':
      return { type, request: asCount(fields['request'], 'request'), app: asString(fields['app'], 'app'), graceMs: asGraceMs(fields['graceMs'], 'graceMs') };
    case 'attach':
      return { type, request: asCount(fields['request'], 'request'), app: asString(fields['app'], 'app'), stream: asString(fields['stream'], 'stream') };
    case 'signal':
      return { type, process: asCount(fields['process'], 'process'), signal: asSignal(fields['signal'], 'signal') };
    case 'resize':
      return { type, process: asCount(fields['process'], 'process'), size: parseSize(fields['size'], 'size') };
    case 'shutdown':
      return { type, graceMs: asGraceMs(fields['graceMs'], 'graceMs') };
    case 'usage':
      return { type, request: asCount(fields['request'], 'request') };
    case 'processes':
      return { type, request: asCount(fields['request'], 'request'), app: asString(fields['app'], 'app') };
    case 'ping':
      return { type, request: asCount(fields['request'], 'request') };
    case 'inspect':
      return { type, app: asString(fields['app'], 'app'), disk: parseDisk(fields['disk'], 'disk'), written: fields['written'] === null ? null : parseWritten(fields['written']) };
    case 'endorsement':
      return { type, request: asCount(fields['request'], 'request'), endorsement: parseEndorsement(fields['endorsement']), error: optional(fields['error'], 'error', asString) };
    default:
      throw fail('type', 'known message type');
  }
}

const STREAM_NAMES: readonly string[] = ['stdin', 'stdout', 'stderr', 'tty'] satisfies StreamName[];

export function parseStreamHeader(message: object): StreamHeader | ForwardHeader {
  const fields = asObject(message, 'stream header');
  if (fields['forward'] !== undefined) return { forward: asPort(fields['forward'], 'forward') };
  const stream = asString(fields['stream'], 'stream');
  if (!STREAM_NAMES.includes(stream)) fail('stream', 'stdin, stdout, stderr or tty');
  return { process: asCount(fields['process'], 'process'), stream: stream as StreamName };
}

function parseStart(message: object): StartMessage {
  const fields = asObject(message, 'start');
  const insecure = asObject(fields['insecure'], 'insecure');
  return {
    type: 'start',
    version: asCount(fields['version'], 'version'),
    uuid: asString(fields['uuid'], 'uuid'),
    hostname: asString(fields['hostname'], 'hostname'),
    podManifest: asString(fields['podManifest'], 'podManifest'),
    apps: asList(fields['apps'], 'apps', parseStartApp),
    scratch: parseScratch(fields['scratch']),
    shares: asList(fields['shares'], 'shares', parseShare),
    network: fields['network'] === null || fields['network'] === undefined ? null : parseNetwork(fields['network']),
    wallClockNs: asString(fields['wallClockNs'], 'wallClockNs'),
    entropyHex: asHex(fields['entropyHex'], 'entropyHex'),
    insecure: {
      capabilities: asBoolean(insecure['capabilities'], 'insecure.capabilities'),
      paths: asBoolean(insecure['paths'], 'insecure.paths'),
      seccomp: asBoolean(insecure['seccomp'], 'insecure.seccomp'),
    },
    hostLogHex: fields['hostLogHex'] === null ? null : asHex(fields['hostLogHex'], 'hostLogHex'),
    sealed: asBoolean(fields['sealed'], 'sealed'),
    ...(fields['metadataToken'] === undefined ? {} : { metadataToken: asHex(fields['metadataToken'], 'metadataToken') }),
  };
}

function parseEndorsement(value: unknown): Extract<HostMessage, { type: 'endorsement' }>['endorsement'] {
  if (value === null) return null;
  const endorsement = asObject(value, 'endorsement');
  return {
    attest: asHex(endorsement['attest'], 'endorsement.attest'),
    signature: asHex(endorsement['signature'], 'endorsement.signature'),
    certificatesPem: asString(endorsement['certificatesPem'], 'endorsement.certificatesPem'),
    endorsementKeyCertificatesPem: asString(endorsement['endorsementKeyCertificatesPem'], 'endorsement.endorsementKeyCertificatesPem'),
  };
}

function asNonEmptyList(value: unknown, field: string): string[] {
  const list = asList(value, field, asString);
  if (list.length === 0) fail(field, 'at least one element');
  return list;
}

function asHex(value: unknown, field: string): string {
  const text = asString(value, field);
  if (parseHex(text) === undefined) fail(field, 'lower-case hexadecimal digits');
  return text;
}

function parseVariables(value: unknown, field: string): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const [name, content] of Object.entries(asObject(value ?? {}, field))) {
    if (name === '' || name.includes('=') || name.includes('\0')) fail(`${field}.${name}`, 'name without =');
    variables[name] = asString(content, `${field}.${name}`);
  }
  return variables;
}

function parseStdio(value: unknown, field: string): Stdio {
  const stdio = asObject(value, field);
  const kind = asString(stdio['kind'], `${field}.kind`);
  const flag = (name: string, assumed: boolean): boolean => optional(stdio[name], `${field}.${name}`, asBoolean) ?? assumed;
  if (kind === 'tty') return { kind, size: parseSize(stdio['size'], `${field}.size`), stdin: flag('stdin', true), stdout: flag('stdout', true), stderr: flag('stderr', true) };
  if (kind !== 'streams') fail(`${field}.kind`, '"streams" or "tty"');
  return { kind, stdin: asBoolean(stdio['stdin'], `${field}.stdin`), stdout: flag('stdout', true), stderr: flag('stderr', true), announced: flag('announced', false) };
}

function parseSize(value: unknown, field: string): TerminalSize {
  const size = asObject(value, field);
  return { rows: asSize16(size['rows'], `${field}.rows`), cols: asSize16(size['cols'], `${field}.cols`) };
}

function parseStartApp(value: unknown, field: string): StartApp {
  const app = asObject(value, field);
  return {
    name: asString(app['name'], `${field}.name`),
    process: asCount(app['process'], `${field}.process`),
    disk: parseDisk(app['disk'], `${field}.disk`),
    ...(app['share'] === undefined ? {} : { share: asString(app['share'], `${field}.share`) }),
    stdio: parseStdio(app['stdio'], `${field}.stdio`),
  };
}

function parseDisk(value: unknown, field: string): VerityDisk {
  const disk = asObject(value, field);
  const rootHashHex = asHex(disk['rootHashHex'], `${field}.rootHashHex`);
  if (rootHashHex.length !== 64) fail(`${field}.rootHashHex`, '64 hexadecimal digits');
  return {
    serial: asString(disk['serial'], `${field}.serial`),
    dataBlocks: asCount(disk['dataBlocks'], `${field}.dataBlocks`),
    hashStartBlock: asCount(disk['hashStartBlock'], `${field}.hashStartBlock`),
    rootHashHex,
  };
}

function parseWritten(value: unknown): InspectMessage['written'] {
  const written = asObject(value, 'written');
  return { serial: asString(written['serial'], 'written.serial'), layer: asInteger({ min: 1, max: 65535 })(written['layer'], 'written.layer') };
}

function parseScratch(value: unknown): StartMessage['scratch'] {
  const scratch = asObject(value, 'scratch');
  const kind = asString(scratch['kind'], 'scratch.kind');
  if (kind === 'disk') return { kind, serial: asString(scratch['serial'], 'scratch.serial') };
  if (kind !== 'tmpfs') fail('scratch.kind', '"disk" or "tmpfs"');
  return { kind, sizeBytes: asCount(scratch['sizeBytes'], 'scratch.sizeBytes') };
}

function parseShare(value: unknown, field: string): HostShare {
  const share = asObject(value, field);
  const kind = asString(share['kind'], `${field}.kind`);
  if (kind !== 'directory' && kind !== 'file') fail(`${field}.kind`, '"directory" or "file"');
  return { tag: asString(share['tag'], `${field}.tag`), volume: asString(share['volume'], `${field}.volume`), app: optional(share['app'], `${field}.app`, asString) ?? null, kind };
}

function parseNetwork(value: unknown): Network {
  const network = asObject(value, 'network');
  const dns = asObject(network['dns'], 'network.dns');
  return {
    interfaces: asList(network['interfaces'], 'network.interfaces', parseInterface),
    dns: {
      nameservers: asList(dns['nameservers'], 'network.dns.nameservers', asString),
      search: asList(dns['search'], 'network.dns.search', asString),
      options: asList(dns['options'], 'network.dns.options', asString),
      domain: optional(dns['domain'], 'network.dns.domain', asString),
    },
    writeResolvConf: asBoolean(network['writeResolvConf'], 'network.writeResolvConf'),
    hosts: asList(network['hosts'], 'network.hosts', (item, field) => {
      const host = asObject(item, field);
      return { address: asString(host['address'], `${field}.address`), names: asList(host['names'], `${field}.names`, asString) };
    }),
  };
}

function parseInterface(value: unknown, field: string): NetworkInterface {
  const item = asObject(value, field);
  return {
    mac: asString(item['mac'], `${field}.mac`),
    name: asString(item['name'], `${field}.name`),
    addresses: asList(item['addresses'], `${field}.addresses`, asString),
    routes: asList(item['routes'], `${field}.routes`, (route, routeField) => {
      const fields = asObject(route, routeField);
      return {
        destination: asString(fields['destination'], `${routeField}.destination`),
        gateway: optional(fields['gateway'], `${routeField}.gateway`, asString),
        source: optional(fields['source'], `${routeField}.source`, asString),
        metric: optional(fields['metric'], `${routeField}.metric`, asInteger({ min: 0, max: 0xffffffff })),
      };
    }),
    neighbours: asList(item['neighbours'], `${field}.neighbours`, (neighbour, neighbourField) => {
      const fields = asObject(neighbour, neighbourField);
      return { address: asString(fields['address'], `${neighbourField}.address`), mac: asString(fields['mac'], `${neighbourField}.mac`) };
    }),
    mtu: optional(item['mtu'], `${field}.mtu`, asInteger({ min: 68, max: 65535 })),
  };
}

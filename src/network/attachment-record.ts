/**
 * What a pod directory remembers of the pod's networks: `net/IFNAME.json`, written and flushed before the first plugin is
 * called, and again with each result. Whatever is recorded can be undone, whoever has ended meanwhile.
 */
import { closeSync, constants, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { isNetworkNamespace } from '../linux/network-namespace.ts';
import { mapOf, objectOf, oneOf, optional, parseDocument, stringValue } from '../schema/check.ts';
import type { Check } from '../schema/check.ts';
import { configurationOf, networkConfiguration } from './cni/configuration.ts';
import type { JsonObject, Network, NetworkConfiguration } from './cni/configuration.ts';
import type { Attachment } from './cni/runtime.ts';
import { namespacePath } from './places.ts';
import { TAP_MODES } from './tap-mode.ts';
import type { TapMode } from './tap-mode.ts';

const FORMAT_VERSION = '1';
const DIRECTORY = 'net';
const DIRECTORY_MODE = 0o750;
const FILE_MODE = 0o640;

export interface AttachmentRecord {
  network: Network;
  attachment: Omit<Attachment, 'namespacePath'>;
  /** Of the last plugin that has answered. */
  result?: JsonObject;
  /** Absent until the virtual machine's side is connected. */
  tapMode?: TapMode;
}

/** Relative to the pod directory. */
export function recordName(ifName: string): string {
  return join(DIRECTORY, `${ifName}.json`);
}

/** `durable`: the record has to be on the disk before anything happens that it tells of. */
export function writeRecord(podDir: string, record: AttachmentRecord, options: { durable: boolean }): void {
  const { network, attachment, result, tapMode } = record;
  const content = { formatVersion: FORMAT_VERSION, configuration: configurationOf(network), ...attachment, result, tapMode };
  mkdirSync(join(podDir, DIRECTORY), { recursive: true, mode: DIRECTORY_MODE });
  const path = join(podDir, recordName(attachment.ifName));
  const fd = openSync(`${path}.new`, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, FILE_MODE);
  try {
    writeFileSync(fd, JSON.stringify(content));
    if (options.durable) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.new`, path);
  if (options.durable) flush(join(podDir, DIRECTORY));
}

function flush(directory: string): void {
  const fd = openSync(directory, constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** What plugins are to be told of the attachment now: the namespace may be gone. */
export function currentAttachment({ attachment }: AttachmentRecord): Attachment {
  const path = namespacePath(attachment.containerId);
  return { ...attachment, namespacePath: isNetworkNamespace(path) ? path : '' };
}

export function removeRecord(podDir: string, ifName: string): void {
  rmSync(join(podDir, recordName(ifName)), { force: true });
}

/** In the order of the interfaces. Throws RktError BAD_INPUT for a record that somebody has changed. */
export function readRecords(podDir: string): AttachmentRecord[] {
  let names: string[];
  try {
    names = readdirSync(join(podDir, DIRECTORY));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
  const interfaces = names.filter((name) => name.endsWith('.json'));
  return interfaces.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).map((name) => readRecord(join(podDir, DIRECTORY, name)));
}

interface RecordFile {
  formatVersion: '1';
  configuration: NetworkConfiguration;
  containerId: string;
  ifName: string;
  args: string;
  capabilityArgs: JsonObject;
  result?: JsonObject;
  tapMode?: TapMode;
}

const anyObject: Check<JsonObject> = mapOf((item: unknown) => item);

const recordFile = objectOf<RecordFile>({
  formatVersion: oneOf([FORMAT_VERSION]),
  configuration: networkConfiguration,
  containerId: stringValue,
  ifName: stringValue,
  args: stringValue,
  capabilityArgs: anyObject,
  result: optional(anyObject),
  tapMode: optional(oneOf(TAP_MODES)),
});

function readRecord(path: string): AttachmentRecord {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new RktError('IO', `cannot read ${path}`, { cause });
  }
  const { configuration, containerId, ifName, args, capabilityArgs, result, tapMode } = parseDocument(text, recordFile, { origin: path, code: 'BAD_INPUT' });
  const { versions: [version], ...network } = configuration;
  if (version === undefined) throw new RktError('BAD_INPUT', `${path}: the configuration has no version`);
  return {
    network: { ...network, version },
    attachment: { containerId, ifName, args, capabilityArgs },
    ...(result === undefined ? {} : { result }),
    ...(tapMode === undefined ? {} : { tapMode }),
  };
}

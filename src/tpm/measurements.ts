/**
 * What is measured of a pod, where, and in which form: the one table that host, guest, predictor and verifier share.
 *
 * Each measurement is an EV_EVENT_TAG event whose content is canonical JSON (RFC 8785), so that a verifier can recompute it,
 * and whose digests are hashes of the whole event data, so that there is no text in a log that no digest covers.
 */
import { RktError } from '../error.ts';
import { equalBytes, isHex } from './bytes.ts';
import { canonicalJson, isJsonObject, type Json, type JsonObject } from './canonical-json.ts';
import { encodeLogEvent, encodeTaggedEvent, parseTaggedEvent, type LogEvent, type TaggedEvent } from './event-log.ts';
import { EV_EVENT_TAG, EV_SEPARATOR } from './event-types.ts';
import { digestsOf, type BankHashes } from './hash-algorithms.ts';
import { HOST_PCRS, PCR } from './pcr-table.ts';

/** Digests are lower-case hexadecimal SHA-256 unless their name says otherwise. */
export type Measurement =
  | { kind: 'vmm'; name: string; sha256: string }
  /** The first code that runs in the guest. */
  | { kind: 'firmware'; name: string; sha256: string }
  /** Machine, CPU, memory, accelerator, devices: no paths, no UUID. */
  | { kind: 'vmm-configuration'; configuration: JsonObject }
  | { kind: 'kernel'; sha256: string }
  | { kind: 'initramfs'; sha256: string }
  | { kind: 'command-line'; text: string }
  | { kind: 'policy'; sealed: boolean; /** Sorted. */ insecureOptions: readonly string[] }
  /** By the host, before the guest runs; ties everything else to one pod. */
  | { kind: 'pod'; uuid: string; /** Of the measured form in canonical JSON. */ manifestSha256: string }
  | { kind: 'phase'; phase: Phase }
  /** What the host told the agent: a host that measures one policy and orders another is found out. */
  | { kind: 'agent-policy'; sealed: boolean; /** Of those that concern the guest; sorted. */ insecureOptions: readonly string[] }
  /** In its measured form: see measured-manifest.ts. */
  | { kind: 'pod-manifest'; manifest: JsonObject }
  | { kind: 'app'; name: string; imageId: string; rootHash: string; /** Of the app's part of the measured manifest. */ manifestSha256: string }
  /** Ends the launch, well or badly (then with its error): nothing that looks like a part of the launch may follow. */
  | { kind: 'launch'; error: string | null }
  | { kind: 'enter'; app: string; command: readonly string[] }
  | { kind: 'attach'; app: string; stream: string }
  | { kind: 'copy'; app: string; direction: 'in' | 'out'; path: string }
  | { kind: 'app-add'; name: string; imageId: string; rootHash: string; /** The app's measured form. */ manifest: JsonObject }
  | { kind: 'app-start'; name: string }
  | { kind: 'app-stop'; name: string }
  | { kind: 'app-remove'; name: string }
  | { kind: 'volume-add'; volume: JsonObject };

export type Phase = (typeof PHASES)[number];
export const PHASES = ['enter', 'ready', 'exit'] as const;

export type MeasurementKind = Measurement['kind'];
type OfKind<K extends MeasurementKind> = Extract<Measurement, { kind: K }>;

/** Who measures it, and when. */
export type Stage = 'host' | 'launch' | 'mutation' | 'phase';

type FieldCheck = (value: unknown) => boolean;

interface Rule<K extends MeasurementKind> {
  /** taggedEventID. Never reused. */
  tag: number;
  pcr: number;
  stage: Stage;
  fields: { readonly [F in Exclude<keyof OfKind<K>, 'kind'>]: FieldCheck };
  /** One line for a person. */
  explain(measurement: OfKind<K>): string;
}

const isText: FieldCheck = (value) => typeof value === 'string';
const isTexts: FieldCheck = (value) => Array.isArray(value) && value.every(isText);
const isBoolean: FieldCheck = (value) => typeof value === 'boolean';
const isSha256: FieldCheck = (value) => typeof value === 'string' && isHex(value, 64);

function oneOf(...values: readonly Json[]): FieldCheck {
  return (value) => values.some((candidate) => candidate === value);
}

/** "rkt" and a number. */
const TAG_BASE = 0x726b7400;

/** In the place of an app's root hash, as src/wire has it: its image comes from a directory of the host. */
const UNVERIFIED = '0'.repeat(64);

const RULES: { readonly [K in MeasurementKind]: Rule<K> } = {
  'vmm': {
    tag: TAG_BASE + 0x01, pcr: PCR.vmm, stage: 'host', fields: { name: isText, sha256: isSha256 },
    explain: ({ name, sha256 }) => `virtual machine monitor ${quoteText(name)}, SHA-256 ${sha256}`,
  },
  'firmware': {
    tag: TAG_BASE + 0x02, pcr: PCR.vmm, stage: 'host', fields: { name: isText, sha256: isSha256 },
    explain: ({ name, sha256 }) => `firmware ${quoteText(name)}, SHA-256 ${sha256}`,
  },
  'vmm-configuration': {
    tag: TAG_BASE + 0x03, pcr: PCR.vmm, stage: 'host', fields: { configuration: isJsonObject },
    explain: ({ configuration }) => `virtual machine ${shortJson(configuration)}`,
  },
  'kernel': {
    tag: TAG_BASE + 0x04, pcr: PCR.kernel, stage: 'host', fields: { sha256: isSha256 },
    explain: ({ sha256 }) => `kernel, SHA-256 ${sha256}`,
  },
  'initramfs': {
    tag: TAG_BASE + 0x05, pcr: PCR.initramfs, stage: 'host', fields: { sha256: isSha256 },
    explain: ({ sha256 }) => `initramfs with the agent, SHA-256 ${sha256}`,
  },
  'command-line': {
    tag: TAG_BASE + 0x06, pcr: PCR.commandLine, stage: 'host', fields: { text: isText },
    explain: ({ text }) => `kernel command line ${quoteText(text)}`,
  },
  'policy': {
    tag: TAG_BASE + 0x07, pcr: PCR.policy, stage: 'host', fields: { sealed: isBoolean, insecureOptions: isTexts },
    explain: ({ sealed, insecureOptions }) => `${sealed ? 'sealed' : 'not sealed'}, ${insecureOptions.length === 0 ? 'no insecure options' : `insecure options ${insecureOptions.map(quoteText).join(', ')}`}`,
  },
  'pod': {
    tag: TAG_BASE + 0x08, pcr: PCR.rkt, stage: 'host', fields: { uuid: isText, manifestSha256: isSha256 },
    explain: ({ uuid, manifestSha256 }) => `pod ${quoteText(uuid)}, manifest SHA-256 ${manifestSha256}`,
  },
  'phase': {
    tag: TAG_BASE + 0x10, pcr: PCR.phases, stage: 'phase', fields: { phase: oneOf(...PHASES) },
    explain: ({ phase }) => ({ enter: 'the agent has begun', ready: 'all apps have been started', exit: 'the pod is ending' })[phase],
  },
  'agent-policy': {
    tag: TAG_BASE + 0x23, pcr: PCR.pod, stage: 'launch', fields: { sealed: isBoolean, insecureOptions: isTexts },
    explain: ({ sealed, insecureOptions }) => `the agent keeps the pod ${sealed ? 'sealed' : 'open to the host'}, ${insecureOptions.length === 0 ? 'all protections on' : `without ${insecureOptions.map(quoteText).join(', ')}`}`,
  },
  'pod-manifest': {
    tag: TAG_BASE + 0x20, pcr: PCR.pod, stage: 'launch', fields: { manifest: isJsonObject },
    explain: ({ manifest }) => `pod manifest ${shortJson(manifest)}`,
  },
  'app': {
    tag: TAG_BASE + 0x21, pcr: PCR.pod, stage: 'launch', fields: { name: isText, imageId: isText, rootHash: isSha256, manifestSha256: isSha256 },
    explain: ({ name, imageId, rootHash }) => `app ${quoteText(name)}, image ${quoteText(imageId)}, ${rootHash === UNVERIFIED ? 'from a directory of the host that nothing vouches for' : `disk with verity root hash ${rootHash}`}`,
  },
  'launch': {
    tag: TAG_BASE + 0x22, pcr: PCR.pod, stage: 'launch', fields: { error: (value) => value === null || isText(value) },
    explain: ({ error }) => (error === null ? 'the launch is complete' : `the launch failed: ${quoteText(error)}`),
  },
  'enter': {
    tag: TAG_BASE + 0x30, pcr: PCR.pod, stage: 'mutation', fields: { app: isText, command: isTexts },
    explain: ({ app, command }) => `the host ran ${command.map(quoteText).join(' ')} in app ${quoteText(app)}`,
  },
  'attach': {
    tag: TAG_BASE + 0x31, pcr: PCR.pod, stage: 'mutation', fields: { app: isText, stream: isText },
    explain: ({ app, stream }) => `the host attached to ${quoteText(stream)} of app ${quoteText(app)}`,
  },
  'copy': {
    tag: TAG_BASE + 0x32, pcr: PCR.pod, stage: 'mutation', fields: { app: isText, direction: oneOf('in', 'out'), path: isText },
    explain: ({ app, direction, path }) => `the host copied ${quoteText(path)} ${direction === 'in' ? 'into' : 'out of'} app ${quoteText(app)}`,
  },
  'app-add': {
    tag: TAG_BASE + 0x33, pcr: PCR.pod, stage: 'mutation', fields: { name: isText, imageId: isText, rootHash: isSha256, manifest: isJsonObject },
    explain: ({ name, imageId, rootHash }) => `app ${quoteText(name)} added, image ${quoteText(imageId)}, disk with verity root hash ${rootHash}`,
  },
  'app-start': { tag: TAG_BASE + 0x34, pcr: PCR.pod, stage: 'mutation', fields: { name: isText }, explain: ({ name }) => `app ${quoteText(name)} started` },
  'app-stop': { tag: TAG_BASE + 0x35, pcr: PCR.pod, stage: 'mutation', fields: { name: isText }, explain: ({ name }) => `app ${quoteText(name)} stopped` },
  'app-remove': { tag: TAG_BASE + 0x36, pcr: PCR.pod, stage: 'mutation', fields: { name: isText }, explain: ({ name }) => `app ${quoteText(name)} removed` },
  'volume-add': {
    tag: TAG_BASE + 0x37, pcr: PCR.pod, stage: 'mutation', fields: { volume: isJsonObject },
    explain: ({ volume }) => `volume added: ${shortJson(volume)}`,
  },
};

const KIND_OF_TAG: ReadonlyMap<number, MeasurementKind> = new Map(
  (Object.entries(RULES) as [MeasurementKind, { tag: number }][]).map(([kind, { tag }]) => [tag, kind]),
);

/** The rule of a measurement's own kind, which TypeScript cannot follow through the table. */
function ruleOf(kind: MeasurementKind): Rule<MeasurementKind> {
  return RULES[kind] as unknown as Rule<MeasurementKind>;
}

export function stageOf(kind: MeasurementKind): Stage {
  return RULES[kind].stage;
}

export type EventData = Omit<LogEvent, 'digests'>;

/** An event with the digests of all banks, and its record for the log. */
export interface MeasuredEvent extends LogEvent {
  record: Uint8Array<ArrayBuffer>;
}

/** @throws RktError BAD_INPUT for a measurement that has no canonical form, LIMIT for one that is too large */
export function eventOf(measurement: Measurement, hashes?: BankHashes): MeasuredEvent {
  return withRecord(unrecordedEventOf(measurement, hashes));
}

/** `eventOf` for when the record has time. */
export function unrecordedEventOf(measurement: Measurement, hashes?: BankHashes): LogEvent {
  const { kind, ...fields } = measurement;
  if (!Object.hasOwn(RULES, kind)) refuse(`there is no measurement of kind ${quoteText(String(kind))}`);
  const { tag, pcr } = RULES[kind];
  const content = new TextEncoder().encode(canonicalJson(fields as JsonObject));
  const data = encodeTaggedEvent({ tag, content });
  return { pcr, type: EV_EVENT_TAG, data, digests: digestsOf(data, hashes) };
}

const SEPARATOR_DATA = new Uint8Array(4);

/** EV_SEPARATOR in every PCR of the host, in ascending order: what comes later into one of them is not the host's. */
export function hostSeparators(hashes?: BankHashes): MeasuredEvent[] {
  const digests = digestsOf(SEPARATOR_DATA, hashes);
  return HOST_PCRS.map((pcr) => withRecord({ pcr, type: EV_SEPARATOR, data: SEPARATOR_DATA, digests }));
}

export function withRecord(event: LogEvent): MeasuredEvent {
  return { ...event, record: encodeLogEvent(event) };
}

export function isSeparator({ type, data }: LogEvent): boolean {
  return type === EV_SEPARATOR && equalBytes(data, SEPARATOR_DATA);
}

/**
 * The measurement an event is.
 * @throws RktError BAD_INPUT: it is none of ours, sits in another PCR, or is not exactly what `eventOf` would have made
 */
export function measurementOf(event: LogEvent): Measurement {
  const tagged = parseTaggedEvent(event) ?? refuse('its data is no tagged event');
  const kind = KIND_OF_TAG.get(tagged.tag) ?? refuse(`its tag 0x${tagged.tag.toString(16)} is unknown`);
  const { pcr } = RULES[kind];
  if (event.pcr !== pcr) refuse(`a measurement of kind "${kind}" belongs into PCR ${pcr}, not ${event.pcr}`);
  return { kind, ...contentOf(kind, tagged) } as unknown as Measurement;
}

function contentOf(kind: MeasurementKind, { content }: TaggedEvent): JsonObject {
  const value = parseJson(content);
  if (!isJsonObject(value)) refuse(`the content of a measurement of kind "${kind}" is no JSON object`);
  // One meaning, one text: nothing can hide in spaces, escapes, double keys or bytes that are no UTF-8.
  if (!equalBytes(new TextEncoder().encode(canonicalJson(value)), content)) refuse(`the content of a measurement of kind "${kind}" is not canonical JSON`);
  const fields = ruleOf(kind).fields as Readonly<Record<string, FieldCheck>>;
  for (const [name, isValid] of Object.entries(fields)) if (!Object.hasOwn(value, name) || !isValid(value[name])) refuse(`field "${name}" of a measurement of kind "${kind}" is missing or wrong`);
  for (const name of Object.keys(value)) if (!Object.hasOwn(fields, name)) refuse(`a measurement of kind "${kind}" has no field ${quoteText(name)}`);
  return value;
}

function parseJson(content: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(content));
  } catch {
    return refuse('its content is no JSON');
  }
}

export function explain(measurement: Measurement): string {
  return ruleOf(measurement.kind).explain(measurement as never);
}

/** In double quotes; whatever could change how a terminal shows the rest of the line is escaped. */
export function quoteText(text: string): string {
  let shown = '';
  for (const character of JSON.stringify(text)) {
    const isPrintable = character >= ' ' && character <= '~';
    shown += isPrintable ? character : [...character].map((part) => `\\u{${(part.codePointAt(0) ?? 0).toString(16)}}`).join('');
  }
  return shown;
}

const SHORT_LENGTH = 160;

function shortJson(value: JsonObject): string {
  const text = quoteText(canonicalJson(value)).slice(1, -1).split('\\"').join('"');
  return text.length <= SHORT_LENGTH ? text : `${text.slice(0, SHORT_LENGTH)}… (${text.length} characters)`;
}

function refuse(reason: string): never {
  throw new RktError('BAD_INPUT', `event that is no measurement of rkt: ${reason}`);
}

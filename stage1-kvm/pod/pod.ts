/** What the monitor needs to know of a pod: its apps in manifest order, their limits and their disks. */
import { Stage1Error } from '../error.ts';
import type { ResourceLimits } from '../vmm/size.ts';
import { parseQuantity } from './quantity.ts';

export interface AppDisk {
  /** Relative to the pod directory. */
  path: string;
  sizeBytes: number;
  dataBlocks: number;
  hashStartBlock: number;
  rootHashHex: string;
}

export interface PodApp extends ResourceLimits {
  name: string;
  /** Of the image the app's disk was rendered from. */
  imageId: string;
}

type Json = { readonly [key: string]: unknown };

/**
 * @param text the pod manifest file
 * @throws Stage1Error naming the field
 */
export function parsePodApps(text: string): PodApp[] {
  const manifest = parseObject('pod', text);
  const apps = manifest['apps'];
  if (!Array.isArray(apps)) throw new Stage1Error('pod: apps must be a list');
  const names = new Set<string>();
  return apps.map((entry: unknown, index) => {
    if (!isObject(entry)) throw new Stage1Error(`pod: apps[${index}] must be an object`);
    const name = entry['name'];
    // The name becomes a file name below appsinfo/ and status/.
    if (typeof name !== 'string' || !isAcName(name)) throw new Stage1Error(`pod: apps[${index}].name must be an AC name`);
    if (names.has(name)) throw new Stage1Error(`pod: two apps are named "${name}"`);
    names.add(name);
    const image = entry['image'];
    const imageId = isObject(image) ? image['id'] : undefined;
    if (typeof imageId !== 'string') throw new Stage1Error(`pod: apps[${index}].image.id must be a text`);
    const app = entry['app'];
    return { name, imageId, ...limitsOf(isObject(app) ? app : {}) };
  });
}

/**
 * Isolators of the pod as a whole.
 * @param text the pod manifest file
 * @throws Stage1Error naming the field
 */
export function parsePodLimits(text: string): ResourceLimits {
  return limitsOf(parseObject('pod', text));
}

function limitsOf({ isolators }: Json): ResourceLimits {
  const list = Array.isArray(isolators) ? (isolators as unknown[]) : [];
  return { memoryLimitBytes: limitOf(list, 'resource/memory'), cpuLimit: limitOf(list, 'resource/cpu') };
}

/**
 * @param where names the file in messages
 * @throws Stage1Error naming the field
 */
export function parseAppDisk(where: string, text: string): AppDisk {
  const disk = parseObject(where, text);
  if (disk['formatVersion'] !== 1) throw new Stage1Error(`${where}: formatVersion must be 1`);
  const number = (field: string): number => {
    const value = disk[field];
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new Stage1Error(`${where}: ${field} must be a non-negative integer`);
    return value;
  };
  const path = disk['path'];
  if (typeof path !== 'string' || path === '') throw new Stage1Error(`${where}: path must be a file name`);
  const rootHashHex = disk['rootHashHex'];
  if (typeof rootHashHex !== 'string' || !isHex(rootHashHex, 64)) throw new Stage1Error(`${where}: rootHashHex must be 64 hexadecimal digits`);
  return { path, sizeBytes: number('sizeBytes'), dataBlocks: number('dataBlocks'), hashStartBlock: number('hashStartBlock'), rootHashHex };
}

/** The limit of the last isolator of that name: a flag's isolator is appended behind the image's. */
function limitOf(isolators: readonly unknown[], name: string): number | null {
  let limit: number | null = null;
  for (const isolator of isolators) {
    if (!isObject(isolator) || isolator['name'] !== name || !isObject(isolator['value'])) continue;
    const text = isolator['value']['limit'];
    if (text === undefined || text === null) continue;
    const value = typeof text === 'string' ? parseQuantity(text) : null;
    if (value === null) throw new Stage1Error(`pod: isolator ${name}: limit "${String(text)}" is not a quantity`);
    limit = value;
  }
  return limit;
}

function parseObject(where: string, text: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Stage1Error(`${where}: ${(error as Error).message}`);
  }
  if (!isObject(value)) throw new Stage1Error(`${where}: expected a JSON object`);
  return value;
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** appc spec, types: lower-case letters, digits and inner dashes. */
export function isAcName(text: string): boolean {
  if (text.length === 0 || text.length > 255 || text[0] === '-' || text[text.length - 1] === '-') return false;
  for (const character of text) if (!'abcdefghijklmnopqrstuvwxyz0123456789-'.includes(character)) return false;
  return true;
}

function isHex(text: string, length: number): boolean {
  if (text.length !== length) return false;
  for (const digit of text) if (!'0123456789abcdef'.includes(digit)) return false;
  return true;
}

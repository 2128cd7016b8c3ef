/** JSON in the one form that everybody computes alike (RFC 8785). */
import { RktError } from '../error.ts';

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

const MAX_DEPTH = 64;

/**
 * Keys in the order of their UTF-16 code units, numbers and strings as ECMAScript prints them. Absent (undefined) fields are
 * left out, as JSON.stringify does.
 * @throws RktError BAD_INPUT for what has no canonical form: numbers that are not finite, strings that are no Unicode
 */
export function canonicalJson(value: Json): string {
  return encode(value, 0);
}

function encode(value: unknown, depth: number): string {
  if (depth > MAX_DEPTH) refuse(`it is nested more than ${MAX_DEPTH} levels deep`);
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'number') return Number.isFinite(value) ? JSON.stringify(value) : refuse(`${value} is no JSON number`);
  if (typeof value === 'string') return encodeString(value);
  if (Array.isArray(value)) return `[${value.map((item: unknown) => encode(item, depth + 1)).join(',')}]`;
  if (typeof value !== 'object') refuse(`it holds a ${typeof value}`);
  const fields = value as Readonly<Record<string, unknown>>;
  const present = Object.keys(fields).filter((key) => fields[key] !== undefined).sort();
  return `{${present.map((key) => `${encodeString(key)}:${encode(fields[key], depth + 1)}`).join(',')}}`;
}

function encodeString(text: string): string {
  return text.isWellFormed() ? JSON.stringify(text) : refuse('a string holds half of a surrogate pair');
}

function refuse(reason: string): never {
  throw new RktError('BAD_INPUT', `JSON without a canonical form: ${reason}`);
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

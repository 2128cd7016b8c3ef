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
  if (typeof value === 'string') return encodeString(value);
  if (depth > MAX_DEPTH) refuse(`it is nested more than ${MAX_DEPTH} levels deep`);
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'number') return Number.isFinite(value) ? JSON.stringify(value) : refuse(`${value} is no JSON number`);
  if (Array.isArray(value)) return encodeList(value, depth);
  if (typeof value !== 'object') refuse(`it holds a ${typeof value}`);
  return encodeFields(value as Readonly<Record<string, unknown>>, depth);
}

function encodeList(items: readonly unknown[], depth: number): string {
  let text = '';
  for (const item of items) text += `${text === '' ? '[' : ','}${encode(item, depth + 1)}`;
  return text === '' ? '[]' : `${text}]`;
}

function encodeFields(fields: Readonly<Record<string, unknown>>, depth: number): string {
  let text = '';
  for (const key of Object.keys(fields).sort()) {
    const value = fields[key];
    if (value !== undefined) text += `${text === '' ? '{' : ','}${encodeString(key)}:${encode(value, depth + 1)}`;
  }
  return text === '' ? '{}' : `${text}}`;
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

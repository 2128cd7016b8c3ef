/** Reading JSON whose shape is not known yet. Errors name the field: `app.user: string expected`. */
import { fromHex } from '../src/tpm/bytes.ts';

export class BadFieldError extends Error {
  override readonly name = 'BadFieldError';
}

export type JsonObject = { readonly [key: string]: unknown };

export function fail(field: string, expected: string): never {
  throw new BadFieldError(`${field}: ${expected} expected`);
}

export function asObject(value: unknown, field: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(field, 'object');
  return value as JsonObject;
}

/** A missing value is an empty list. */
export function asList<T>(value: unknown, field: string, item: (value: unknown, field: string) => T): T[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) fail(field, 'list');
  return value.map((element: unknown, index) => item(element, `${field}[${index}]`));
}

export function asString(value: unknown, field: string): string {
  if (typeof value !== 'string') fail(field, 'string');
  if (value.includes('\0')) fail(field, 'string without NUL');
  return value;
}

export const optional = <T>(value: unknown, field: string, read: (value: unknown, field: string) => T): T | undefined =>
  value === undefined || value === null ? undefined : read(value, field);

export function asBoolean(value: unknown, field: string): boolean {
  if (typeof value !== 'boolean') fail(field, 'true or false');
  return value;
}

export interface Range {
  min: number;
  max: number;
}

export const asInteger = (range: Range) => (value: unknown, field: string): number => {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < range.min || value > range.max) {
    fail(field, `integer from ${range.min} to ${range.max}`);
  }
  return value;
};

/** Uids and gids; 2^32-1 means "unchanged" to the kernel and is none. */
export const asId = asInteger({ min: 0, max: 0xfffffffe });

/** Digits only, as an integer; undefined for anything else. */
export function parseDecimal(text: string): number | undefined {
  if (text === '' || text.length > 15 || ![...text].every((digit) => digit >= '0' && digit <= '9')) return undefined;
  return Number(text);
}

/** Lower-case digits; undefined for anything else. */
export function parseHex(text: string): Uint8Array | undefined {
  if (text !== text.toLowerCase()) return undefined;
  try {
    return fromHex(text, '');
  } catch {
    return undefined;
  }
}

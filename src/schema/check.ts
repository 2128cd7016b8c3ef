/**
 * Small validators for JSON that came from outside. A check takes a value and where it stands, and gives back a typed
 * copy that holds known fields only, or throws an RktError `ORIGIN: FIELD: WHAT WAS EXPECTED`.
 * JSON null is the same as an absent field, as in Go.
 */
import { RktError } from '../error.ts';
import type { ErrorCode } from '../error.ts';

/** Where a value stands. */
export interface Place {
  /** File, URL or option the document came from: the beginning of every message. */
  readonly origin: string;
  /** `app.mountPoints[1].name`; empty for the document itself. */
  readonly path: string;
  readonly code: ErrorCode;
}

export type Check<T> = (value: unknown, place: Place) => T;

export function fail(place: Place, message: string): never {
  throw new RktError(place.code, [place.origin, place.path, message].filter((part) => part !== '').join(': '));
}

export function fieldOf(place: Place, name: string): Place {
  return { ...place, path: place.path === '' ? name : `${place.path}.${name}` };
}

function itemOf(place: Place, index: number): Place {
  return { ...place, path: `${place.path}[${index}]` };
}

/** How a value is called in a message. */
function describe(value: unknown): string {
  if (value === undefined || value === null) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'string') return `the string ${quote(value)}`;
  return `${typeof value} ${String(value)}`;
}

/** A string in double quotes, cut to a length that fits a message. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}

export const anyValue: Check<unknown> = (value) => value;

export const stringValue: Check<string> = (value, place) =>
  typeof value === 'string' ? value : fail(place, `expected a string, found ${describe(value)}`);

export const booleanValue: Check<boolean> = (value, place) =>
  typeof value === 'boolean' ? value : fail(place, `expected true or false, found ${describe(value)}`);

/** A whole number that a double holds exactly. */
export const integerValue: Check<number> = (value, place) =>
  typeof value === 'number' && Number.isSafeInteger(value) ? value : fail(place, `expected a whole number, found ${describe(value)}`);

export function integerBetween(minimum: number, maximum: number): Check<number> {
  return (value, place) => {
    const number = integerValue(value, place);
    return number >= minimum && number <= maximum ? number : fail(place, `expected a number from ${minimum} to ${maximum}, found ${number}`);
  };
}

export function oneOf<const T extends string>(values: readonly T[]): Check<T> {
  return (value, place) =>
    values.find((candidate) => candidate === value) ?? fail(place, `expected one of ${values.map(quote).join(', ')}, found ${describe(value)}`);
}

export function matching(pattern: RegExp, expectation: string): Check<string> {
  return (value, place) => {
    const text = stringValue(value, place);
    return pattern.test(text) ? text : fail(place, `expected ${expectation}, found ${quote(text)}`);
  };
}

export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value, place) => (value === undefined || value === null ? undefined : check(value, place));
}

/** An absent field gets a default. */
export function withDefault<T>(check: Check<T>, fallback: T): Check<T> {
  return (value, place) => (value === undefined || value === null ? fallback : check(value, place));
}

export function arrayOf<T>(check: Check<T>): Check<T[]> {
  return (value, place) => {
    if (!Array.isArray(value)) fail(place, `expected a list, found ${describe(value)}`);
    return value.map((item: unknown, index) => check(item, itemOf(place, index)));
  };
}

/** An object used as a map. Any key is allowed, `__proto__` too: it stays an ordinary key. */
export function mapOf<T>(check: Check<T>): Check<Record<string, T>> {
  return (value, place) =>
    Object.fromEntries(Object.entries(plainObject(value, place)).map(([key, item]) => [key, check(item, fieldOf(place, key))]));
}

/** An object with known fields; others are ignored, as the appc and OCI specifications ask. Absent fields stay absent. */
export function objectOf<T extends object>(fields: { readonly [K in keyof Required<T>]: Check<T[K]> }): Check<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  return (value, place) => {
    const source = plainObject(value, place);
    const result: Partial<T> = {};
    for (const name of names) {
      const given = Object.hasOwn(source, name) ? source[name] : undefined;
      const checked = fields[name](given, fieldOf(place, name));
      if (checked !== undefined) result[name] = checked;
    }
    return result as T;
  };
}

/** Adds a rule that looks at the whole checked value. The rule returns its complaint, or undefined. */
export function refined<T>(check: Check<T>, complaint: (value: T) => string | undefined): Check<T> {
  return (value, place) => {
    const checked = check(value, place);
    const message = complaint(checked);
    return message === undefined ? checked : fail(place, message);
  };
}

/** A message when a name occurs twice. `what` reads like `duplicate labels of name`. */
export function duplicateComplaint(names: readonly string[], what: string): string | undefined {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name)) return `${what} ${quote(name)}`;
    seen.add(name);
  }
  return undefined;
}

function plainObject(value: unknown, place: Place): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(place, `expected an object, found ${describe(value)}`);
  return value as Record<string, unknown>;
}

/** Parses and checks a JSON document. */
export function parseDocument<T>(text: string, check: Check<T>, source: { origin: string; code: ErrorCode }): T {
  const place: Place = { ...source, path: '' };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new RktError(source.code, `${source.origin}: not valid JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
  return check(value, place);
}

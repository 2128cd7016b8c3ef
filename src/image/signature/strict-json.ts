/**
 * JSON for documents that decide about trust: a field given twice is an error, since programs disagree about which one
 * counts (RFC 8259, section 4), and so is a field nobody knows.
 */
import { RktError } from '../../error.ts';
import type { ErrorCode } from '../../error.ts';
import { fail, fieldOf, objectOf, parseDocument } from '../../schema/check.ts';
import type { Check, Place } from '../../schema/check.ts';

/** Parses and checks a document in which no object has a field twice. Throws RktError with the given code. */
export function parseStrictDocument<T>(text: string, check: Check<T>, source: { origin: string; code: ErrorCode }): T {
  // Valid JSON first: what looks for duplicates does not have to be a parser then.
  const parsed = parseDocument(text, check, source);
  const duplicate = duplicateField(text);
  if (duplicate !== undefined) throw new RktError(source.code, `${source.origin}: the field ${JSON.stringify(duplicate)} is given twice`);
  return parsed;
}

const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:,]/g;

/** A field that an object of a valid JSON text has twice. */
function duplicateField(text: string): string | undefined {
  /** Names of the objects that are open; undefined for a list. */
  const open: (Set<string> | undefined)[] = [];
  let pending: string | undefined;
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(undefined);
    else if (token === '}' || token === ']') open.pop();
    else if (token === ':') {
      // Only an object has colons: the string before one is a name.
      const name = JSON.parse(pending ?? '""') as string;
      const names = open.at(-1);
      if (names?.has(name) === true) return name;
      names?.add(name);
    }
    pending = token;
  }
  return undefined;
}

/** As `objectOf`, and every field must be known. */
export function exactObjectOf<T extends object>(fields: { readonly [K in keyof Required<T>]: Check<T[K]> }): Check<T> {
  const check = objectOf<T>(fields);
  return (value, place) => {
    const result = check(value, place);
    refuseUnknown(value as object, Object.keys(fields), place);
    return result;
  };
}

function refuseUnknown(value: object, known: readonly string[], place: Place): void {
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown !== undefined) fail(fieldOf(place, unknown), `unknown field, expected one of ${known.join(', ')}`);
}

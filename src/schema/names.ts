/** Names of appc (spec: "AC Identifier Type", "AC Name Type") and image IDs. */
import { fail, quote, stringValue } from './check.ts';
import type { Check } from './check.ts';

const AC_IDENTIFIER = /^[a-z0-9]+([-._~/][a-z0-9]+)*$/;
const AC_NAME = /^[a-z0-9]+(-[a-z0-9]+)*$/;
const IMAGE_ID = /^sha512-[0-9a-f]{64}$/;
const SEMANTIC_VERSION = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/;

/** Longest name accepted, so that a name always fits into a file name with something around it. */
const NAME_MAX_BYTES = 200;

export function isACIdentifier(text: string): boolean {
  return AC_IDENTIFIER.test(text);
}

export function isACName(text: string): boolean {
  return AC_NAME.test(text) && text.length <= NAME_MAX_BYTES;
}

export function isImageId(text: string): boolean {
  return IMAGE_ID.test(text);
}

export const acIdentifier: Check<string> = (value, place) => {
  const text = value === undefined || value === null ? '' : stringValue(value, place);
  if (text === '') fail(place, `${fieldName(place.path)} must be set`);
  if (isACIdentifier(text)) return text;
  return fail(place, `ACIdentifier must contain only lower case alphanumeric characters plus "-._~/", single and not at its edges, found ${quote(text)}`);
};

export const acName: Check<string> = (value, place) => {
  const text = value === undefined || value === null ? '' : stringValue(value, place);
  if (text === '') fail(place, `${fieldName(place.path)} must be set`);
  if (isACName(text)) return text;
  if (AC_NAME.test(text)) fail(place, `ACName must not be longer than ${NAME_MAX_BYTES} characters, found ${quote(text)}`);
  return fail(place, `ACName must contain only lower case alphanumeric characters plus "-", single and not at its edges, found ${quote(text)}`);
};

/** `sha512-` and hexadecimal digits, full or shortened. */
export const imageHash: Check<string> = (value, place) => {
  const text = stringValue(value, place);
  const dash = text.indexOf('-');
  if (dash === -1) fail(place, `badly formatted hash string, expected sha512-…, found ${quote(text)}`);
  if (text.slice(0, dash) !== 'sha512') fail(place, `unrecognized hash type: ${text.slice(0, dash)}, expected sha512`);
  if (!/^[0-9a-f]{2,128}$/.test(text.slice(dash + 1))) fail(place, `badly formatted hash string, expected hexadecimal digits after sha512-, found ${quote(text)}`);
  return text;
};

export const semanticVersion: Check<string> = (value, place) => {
  const text = value === undefined || value === null ? '' : stringValue(value, place);
  if (text === '') fail(place, `${fieldName(place.path)} must be set`);
  return SEMANTIC_VERSION.test(text) ? text : fail(place, `expected a version such as 0.8.11, found ${quote(text)}`);
};

/** The nearest legal ACIdentifier, or undefined when nothing is left of the text. */
export function sanitizeACIdentifier(text: string): string | undefined {
  return sanitize(text, /[^a-z0-9._~/-]/g, { filler: '_', separators: /[-._~/]+/g });
}

/** The nearest legal ACName, or undefined when nothing is left of the text. */
export function sanitizeACName(text: string): string | undefined {
  return sanitize(text, /[^a-z0-9-]/g, { filler: '-', separators: /-+/g })?.slice(0, NAME_MAX_BYTES).replace(/-$/, '');
}

function sanitize(text: string, illegal: RegExp, options: { filler: string; separators: RegExp }): string | undefined {
  const legal = text.toLowerCase().replace(illegal, options.filler);
  // One separator between two words: a slash counts most, since it cuts a name into its parts.
  const single = legal.replace(options.separators, (run) => (run.includes('/') ? '/' : run.slice(0, 1)));
  const trimmed = single.replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, '');
  return trimmed === '' ? undefined : trimmed;
}

function fieldName(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1);
}

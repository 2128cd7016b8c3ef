/** Numbers as tar archives write them. All return undefined for what is no number or does not fit; the caller knows the field's name. */

/**
 * A numeric header field: octal text padded with spaces or NULs (POSIX ustar), or, if the first byte has its top bit set,
 * big-endian two's complement of the remaining bits (GNU tar manual, "Extensions to the archive format").
 * An empty field is 0.
 */
export function parseNumberField(field: Uint8Array): number | undefined {
  const first = field[0] ?? 0;
  return (first & 0x80) !== 0 ? parseBase256(field, first) : parseOctal(field);
}

function parseBase256(field: Uint8Array, first: number): number | undefined {
  const negative = (first & 0x40) !== 0;
  let value = negative ? BigInt(first) - 256n : BigInt(first & 0x7f);
  for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : undefined;
}

const SPACE = 0x20;

function parseOctal(field: Uint8Array): number | undefined {
  let at = 0;
  let end = field.length;
  while (at < end && isPadding(field[at])) at++;
  while (end > at && isPadding(field[end - 1])) end--;
  let value = 0;
  for (; at < end; at++) {
    const digit = (field[at] ?? 0) - 0x30;
    // Some writers end the number with a NUL and leave what was behind it.
    if (field[at] === 0 || field[at] === SPACE) break;
    if (digit < 0 || digit > 7) return undefined;
    value = value * 8 + digit;
  }
  return Number.isSafeInteger(value) ? value : undefined;
}

function isPadding(byte: number | undefined): boolean {
  return byte === 0 || byte === SPACE;
}

/** Decimal digits only, no sign. */
export function parseDecimal(text: string): number | undefined {
  if (text.length === 0 || text.length > 16) return undefined;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 0x30;
    if (digit < 0 || digit > 9) return undefined;
  }
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** A PAX time: `[-]SECONDS[.FRACTION]` (POSIX.1-2017 pax, "pax Extended Header File Times"); more than nine digits are cut. */
export function parsePaxTime(text: string): { seconds: number; nanoseconds: number } | undefined {
  const negative = text.startsWith('-');
  const unsigned = negative ? text.slice(1) : text;
  const dot = unsigned.indexOf('.');
  const whole = parseDecimal(dot < 0 ? unsigned : unsigned.slice(0, dot));
  const digits = dot < 0 ? '' : unsigned.slice(dot + 1);
  const fraction = digits === '' ? 0 : parseDecimal(digits.slice(0, 9).padEnd(9, '0'));
  if (whole === undefined || fraction === undefined) return undefined;
  if (!negative) return { seconds: whole, nanoseconds: fraction };
  if (fraction === 0) return { seconds: whole === 0 ? 0 : -whole, nanoseconds: 0 };
  return { seconds: -whole - 1, nanoseconds: 1_000_000_000 - fraction };
}

import { byteStringFrom } from './bytes.ts';
import type { PaxRecord } from './pax.ts';

const SCHILY = 'SCHILY.xattr.';
const LIBARCHIVE = 'LIBARCHIVE.xattr.';

/**
 * The xattr a PAX record carries, if it carries one. `SCHILY.xattr.NAME` holds the value as it is (star, GNU tar, Go, bsdtar),
 * `LIBARCHIVE.xattr.NAME` in base64 with the name percent-encoded (bsdtar writes both).
 * A value that is no base64 gives `value: undefined`.
 */
export function xattrOfRecord(record: PaxRecord): { name: string; value: Uint8Array | undefined; secondary: boolean } | undefined {
  if (record.key.startsWith(SCHILY)) {
    return { name: decodeGnuName(record.key.slice(SCHILY.length)), value: record.value, secondary: false };
  }
  if (record.key.startsWith(LIBARCHIVE)) {
    return { name: decodePercent(record.key.slice(LIBARCHIVE.length)), value: decodeBase64(record.value), secondary: true };
  }
  return undefined;
}

/** GNU tar writes `=` (which would end the key) as %3D and `%` as %25, nothing else. */
function decodeGnuName(name: string): string {
  return name.replace(/%(3D|25)/g, (_, code: string) => (code === '3D' ? '=' : '%'));
}

function decodePercent(name: string): string {
  return name.replace(/%([0-9A-Fa-f]{2})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

function decodeBase64(encoded: Uint8Array): Uint8Array | undefined {
  const text = byteStringFrom(encoded).replace(/=+$/, '');
  if (text.length % 4 === 1) return undefined;
  const bytes = new Uint8Array(Math.floor((text.length * 3) / 4));
  let bits = 0;
  let held = 0;
  let filled = 0;
  for (const character of text) {
    const digit = BASE64.indexOf(character);
    if (digit < 0) return undefined;
    bits = ((bits << 6) | digit) & 0xfff;
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes[filled++] = (bits >> held) & 0xff;
    }
  }
  return bytes;
}

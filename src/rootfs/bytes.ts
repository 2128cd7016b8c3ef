/** A stream of bytes. Chunks may have any size; the reader does not change them and is done with one when it asks for the next. */
export type ByteSource = AsyncIterable<Uint8Array>;

/**
 * Names in archives are bytes, not text. They are kept as byte strings: one UTF-16 unit (0–255) per byte, so that any name
 * passes unharmed, compares in byte order and costs one byte a character.
 */
export function byteStringFrom(bytes: Uint8Array): string {
  if (bytes.length <= MAX_ARGUMENTS) return String.fromCharCode(...bytes);
  let text = '';
  for (let start = 0; start < bytes.length; start += MAX_ARGUMENTS) {
    text += String.fromCharCode(...bytes.subarray(start, start + MAX_ARGUMENTS));
  }
  return text;
}

const MAX_ARGUMENTS = 4096;

/** The bytes of a byte string, written to `target` at `offset`. */
export function copyByteString(text: string, target: Uint8Array, offset: number): void {
  for (let i = 0; i < text.length; i++) target[offset + i] = text.charCodeAt(i);
}

export function bytesOf(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  copyByteString(text, bytes, 0);
  return bytes;
}

/** The byte string of ordinary text, as UTF-8. */
export function byteStringOfText(text: string): string {
  return byteStringFrom(new TextEncoder().encode(text));
}

const MAX_SHOWN_BYTES = 160;

/** A byte string for a message: in quotes, control characters and what is no UTF-8 escaped, long ones cut. */
export function quoteName(name: string): string {
  const cut = name.length > MAX_SHOWN_BYTES ? `${name.slice(0, MAX_SHOWN_BYTES)}` : name;
  let shown = '';
  for (const character of decodeLeniently(cut)) {
    const code = character.codePointAt(0) ?? 0;
    if (character === '"' || character === '\\') shown += `\\${character}`;
    else if (code < 0x20 || (code >= 0x7f && code < 0xa0)) shown += `\\x${code.toString(16).padStart(2, '0')}`;
    else if (isInvisible(code)) shown += `\\u{${code.toString(16)}}`;
    else shown += character;
  }
  return `"${shown}${cut === name ? '' : '…'}"`;
}

/** Direction marks and line separators can make a message on a terminal say something else than it does. */
function isInvisible(code: number): boolean {
  return (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code === 0xfeff;
}

function decodeLeniently(name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytesOf(name));
  } catch {
    // No UTF-8 (or cut in the middle of a character): each byte for itself.
    return name;
  }
}

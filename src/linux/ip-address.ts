/** IP addresses as bytes (4 or 16) and as text. */
import { RktError } from '../error.ts';
import { callMixed } from './libc.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;

/** Undefined for what is no IP address. */
export function parseIpAddress(text: string): Buffer | undefined {
  const family = text.includes(':') ? AF_INET6 : AF_INET;
  const bytes = Buffer.alloc(family === AF_INET ? 4 : 16);
  return !text.includes('\0') && callMixed('inet_pton', [family, text, bytes]).value === 1 ? bytes : undefined;
}

/** The shortest form (RFC 5952). */
export function formatIpAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join('.');
  if (address.length !== 16) throw new RktError('INTERNAL', `an IP address of ${address.length} bytes`);
  const words = Array.from({ length: 8 }, (_, index) => (((address[index * 2] ?? 0) << 8) | (address[index * 2 + 1] ?? 0)).toString(16));
  const zeros = longestZeroRun(words);
  if (zeros.length < 2) return words.join(':');
  return `${words.slice(0, zeros.start).join(':')}::${words.slice(zeros.start + zeros.length).join(':')}`;
}

function longestZeroRun(words: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let current = { start: 0, length: 0 };
  words.forEach((word, index) => {
    current = word === '0' ? { start: current.length === 0 ? index : current.start, length: current.length + 1 } : { start: 0, length: 0 };
    if (current.length > best.length) best = current;
  });
  return best;
}

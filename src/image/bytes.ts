/** Streams of bytes and their sums. */
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import { digestHex } from '../store/digest.ts';

/** Passes a stream on and feeds it to a hash (and whoever else wants to know) on the way. */
export async function* observed(source: ByteSource, observe: (chunk: Uint8Array) => void): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    observe(chunk);
    yield chunk;
  }
}

export function digestAlgorithm(digest: string): 'sha256' | 'sha512' {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256';
}

export function hasherOf(digest: string): Hash {
  return createHash(digestAlgorithm(digest));
}

/** Throws RktError DIGEST. `name` says what was hashed. */
export function requireDigest(name: string, expected: string, foundHex: string): void {
  const found = `${digestAlgorithm(expected)}:${foundHex}`;
  if (found !== expected) throw new RktError('DIGEST', `${name}: wrong digest: expected ${expected}, found ${found}`);
}

export function requireDigestOf(bytes: Uint8Array, expected: string, name: string): void {
  requireDigest(name, expected, digestHex(digestAlgorithm(expected), bytes));
}

/** Text of a JSON document; bytes that are no UTF-8 are refused rather than replaced. */
export function utf8Text(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new RktError('BAD_IMAGE', `${name}: not valid UTF-8`, { cause });
  }
}

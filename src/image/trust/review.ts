/** Showing a key to a person, and asking whether to trust it: rkt's words. */
import { readSync } from 'node:fs';
import { isatty } from 'node:tty';
import { isErrno } from '../../linux/errno.ts';
import { fingerprintText } from './public-key.ts';
import type { ParsedPublicKey } from './public-key.ts';

/** Where questions go and answers come from. */
export interface Reviewer {
  /** One or more lines about keys, without a newline at the end. */
  show(text: string): void;
  /** A line for standard error. */
  log(text: string): void;
  /** Whether there is somebody to ask. */
  canAsk(): boolean;
  /** The next line of the answer with its newline; undefined at the end of input. */
  readLine(): string | undefined;
}

export function showKey(reviewer: Reviewer, { prefix, location, keys }: { prefix: string; location: string; keys: readonly ParsedPublicKey[] }): void {
  reviewer.log(`prefix: ${JSON.stringify(prefix)}\nkey: ${JSON.stringify(location)}`);
  for (const key of keys) {
    reviewer.show(`gpg key fingerprint is: ${fingerprintText(key.fingerprint)}`);
    for (const fingerprint of key.subkeyFingerprints) reviewer.show(`    Subkey fingerprint: ${fingerprintText(fingerprint)}`);
    for (const userId of key.userIds) reviewer.show(`\t${printable(userId)}`);
  }
}

/** Asks until it is answered. Undefined: the input has ended. */
export function askForTrust(reviewer: Reviewer, question = 'Are you sure you want to trust this key (yes/no)?'): boolean | undefined {
  for (;;) {
    reviewer.show(question);
    const answer = reviewer.readLine();
    if (answer === undefined) return undefined;
    if (answer === 'yes\n') return true;
    if (answer === 'no\n') return false;
    reviewer.show("Please enter 'yes' or 'no'");
  }
}

/** Both ends of the talk are a terminal. */
export function canAskTerminal(): boolean {
  return isatty(0) && isatty(2);
}

/** Reads byte by byte: what follows the line belongs to somebody else. */
export function readLineOfInput(): string | undefined {
  const byte = Buffer.alloc(1);
  const line: number[] = [];
  const MAX_LINE_BYTES = 4096;
  while (line.length < MAX_LINE_BYTES) {
    let count: number;
    try {
      count = readSync(0, byte);
    } catch (error) {
      if (isErrno(error, 'EAGAIN', 'EINTR')) continue;
      throw error;
    }
    if (count === 0) return undefined;
    line.push(byte[0] ?? 0);
    if (byte[0] === 0x0a) break;
  }
  return Buffer.from(line).toString();
}

/** Text that somebody else chose, without what would steer a terminal. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g, '?');
}

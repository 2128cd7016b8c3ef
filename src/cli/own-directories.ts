/** Where rkt keeps what belongs to an ordinary user (XDG Base Directory Specification), and whether a user may keep pods in a directory. */
import { statSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { RktError } from '../error.ts';

const OTHERS_WRITE = 0o002;

export function userDataDir(): string {
  return xdgDirectory('XDG_DATA_HOME', '.local/share');
}

export function userConfigDir(): string {
  return xdgDirectory('XDG_CONFIG_HOME', '.config');
}

/** A relative path is no answer, says the specification. */
function xdgDirectory(variable: string, fallback: string): string {
  const value = process.env[variable];
  if (value !== undefined && isAbsolute(value)) return join(value, 'rkt');
  const home = process.env['HOME'];
  if (home === undefined || !isAbsolute(home)) throw new RktError('USAGE', `neither ${variable} nor HOME says where files of rkt go`, { hint: 'set HOME, or name a directory with --dir' });
  return join(home, fallback, 'rkt');
}

/** Whether the directory, or the nearest one above it that exists, is the user's own or everybody's. */
export function isOwnDirectory(path: string, uid: number): boolean {
  const status = statSync(path, { throwIfNoEntry: false });
  if (status !== undefined) return uid === 0 || status.uid === uid || (status.mode & OTHERS_WRITE) !== 0;
  const parent = dirname(path);
  return parent !== path && isOwnDirectory(parent, uid);
}

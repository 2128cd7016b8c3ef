/** Mounts, and a view of them that belongs to this process. */
import { readFileSync } from 'node:fs';
import { callInts, callMixed, systemCallError } from './libc.ts';

const CLONE_NEWNS = 0x20000;
const MS_REC = 0x4000;
const MS_SLAVE = 0x80000;
const MS_SHARED = 0x100000;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/**
 * From now on this process sees mounts that the host makes, and its own stay with it and with what it becomes. Only the calling
 * thread: that is the one that becomes another program.
 */
export function ownMounts(): void {
  const { value, errno } = callInts('unshare', CLONE_NEWNS);
  if (value === -1) throw systemCallError('cannot make a mount namespace', errno);
  mount({ target: '/', flags: MS_REC | MS_SLAVE });
  // For programs that make namespaces of their own from here: they are to see what this one sees.
  mount({ target: '/', flags: MS_REC | MS_SHARED });
}

export interface Overlay {
  lower: string;
  upper: string;
  work: string;
}

/** Shows `lower` with changes that go to `upper`. `work` is an empty directory beside `upper`. */
export function mountOverlay(target: string, { lower, upper, work }: Overlay): void {
  const options = Object.entries({ lowerdir: lower, upperdir: upper, workdir: work }).map(([name, path]) => `${name}=${escaped(path)}`);
  mount({ source: 'overlay', target, type: 'overlay', data: options.join(',') });
}

/** Overlayfs takes colons and commas for separators (kernel: Documentation/filesystems/overlayfs.rst). */
function escaped(path: string): string {
  return path.replace(/[\\:,]/g, '\\$&');
}

interface Mount {
  source?: string;
  target: string;
  type?: string;
  flags?: number;
  data?: string;
}

function mount({ source = 'none', target, type = 'none', flags = 0, data = '' }: Mount): void {
  const { value, errno } = callMixed('mount', [source, target, type, flags, data]);
  if (value === -1) throw systemCallError(`cannot mount ${type === 'none' ? '' : `${type} on `}${target}`, errno);
}

/** What is mounted on a directory and below it, the innermost first (proc(5), /proc/PID/mountinfo). */
export function mountsBelow(directory: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => unescaped(line.split(' ')[4] ?? ''))
    .filter((path) => path === directory || path.startsWith(`${directory}/`))
    .reverse();
}

/** Spaces and the like are written as `\040`. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** Gone from sight at once, and for good when nobody uses it any more. */
export function unmount(path: string): void {
  const { value, errno } = callMixed('umount2', [path, MNT_DETACH | UMOUNT_NOFOLLOW]);
  if (value === -1) throw systemCallError(`cannot unmount ${path}`, errno);
}

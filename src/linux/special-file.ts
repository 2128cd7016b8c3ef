/** What Node has no call for when a file system tree is written: devices, FIFOs, extended attributes. */
import { callMixed, systemCallError } from './libc.ts';

const TYPES = { character: 0o020000, block: 0o060000, fifo: 0o010000 } as const;

export interface SpecialFile {
  type: keyof typeof TYPES;
  mode: number;
  device: { major: number; minor: number };
}

/** mknod(2). Nothing may have the name yet. */
export function makeSpecialFile(path: string, { type, mode, device }: SpecialFile): void {
  const { value, errno } = callMixed('mknod', [path, TYPES[type] | mode, deviceNumber(device)]);
  if (value === -1) throw systemCallError(`cannot make ${path}`, errno);
}

/** glibc's makedev(3). */
function deviceNumber({ major, minor }: { major: number; minor: number }): number {
  return (minor & 0xff) + (major & 0xfff) * 2 ** 8 + (minor & ~0xff) * 2 ** 12;
}

/** lsetxattr(2). */
export function setXattr(path: string, name: string, value: Uint8Array): void {
  const data = Buffer.from(value);
  // An array of no length is no pointer for ffi-rs.
  const { value: result, errno } = callMixed('lsetxattr', [path, name, data.length === 0 ? Buffer.alloc(1) : data, data.length, 0]);
  if (result === -1) throw systemCallError(`cannot set ${name} of ${path}`, errno);
}

/** What kind of file a kernel is, by its first bytes. */
import { Stage1Error } from '../error.ts';
import type { KernelFormat } from './machine.ts';

/** As many bytes of the file as `kernelFormat` looks at. */
export const KERNEL_HEAD_BYTES = 0x210;
/** linux/Documentation/arch/x86/boot.rst: "HdrS" */
const BZIMAGE_MAGIC_OFFSET = 0x202;

/** @throws Stage1Error when it is neither an x86-64 ELF nor a bzImage */
export function kernelFormat(path: string, head: Uint8Array): KernelFormat {
  if (hasBytes(head, 0, [0x7f, 0x45, 0x4c, 0x46])) {
    // EI_CLASS 64 bit, e_machine x86-64
    if (head[4] === 2 && head[18] === 62 && head[19] === 0) return 'elf';
    throw new Stage1Error(`${path}: not a kernel for x86-64`);
  }
  if (hasBytes(head, BZIMAGE_MAGIC_OFFSET, [0x48, 0x64, 0x72, 0x53])) return 'bzimage';
  throw new Stage1Error(`${path}: not a Linux kernel (neither ELF nor bzImage)`);
}

function hasBytes(bytes: Uint8Array, offset: number, expected: readonly number[]): boolean {
  return expected.every((byte, i) => bytes[offset + i] === byte);
}

import { RktError } from '../src/error.ts';

/** What can be learned from a kernel file without running it. */
export interface KernelImage {
  format: 'bzImage' | 'elf';
  /** As `uname -r` prints it in the guest: names the directory of its modules. */
  release: string;
  /** Has the Xen PVH entry note: QEMU can start it uncompressed, without its own boot loader stage. */
  pvh: boolean;
  /** Takes virtio-mmio devices from its command line, which a microvm without ACPI needs. */
  virtioMmioFromCommandLine: boolean;
}

const ELF_MAGIC = [0x7f, 0x45, 0x4c, 0x46];
const PT_NOTE = 4;
/** include/xen/interface/elfnote.h: 32-bit entry point of a PVH guest. */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;
/** Documentation/arch/x86/boot.rst: "HdrS" at 0x202, pointer to the version string at 0x20e, both relative to 0x200. */
const SETUP_MAGIC_OFFSET = 0x202;
const SETUP_VERSION_POINTER_OFFSET = 0x20e;
const SETUP_POINTER_BASE = 0x200;
const RELEASE_MAX_BYTES = 64;

const decoder = new TextDecoder();

/** Looks into an x86-64 kernel file; `name` is for messages. Throws RktError BAD_INPUT if it is neither a bzImage nor an ELF file of Linux. */
export function inspectKernel(bytes: Uint8Array, name: string): KernelImage {
  try {
    return inspect(bytes, name);
  } catch (error) {
    // A field that points outside of a damaged file.
    if (error instanceof RangeError) throw notAKernel(name);
    throw error;
  }
}

function inspect(bytes: Uint8Array, name: string): KernelImage {
  if (ELF_MAGIC.every((byte, index) => bytes[index] === byte)) {
    const banner = indexOfText(bytes, 'Linux version ');
    if (banner < 0) throw notAKernel(name);
    return {
      format: 'elf',
      release: readWord(bytes, banner + 'Linux version '.length),
      pvh: hasPvhNote(bytes),
      virtioMmioFromCommandLine: indexOfText(bytes, 'virtio_mmio.device\0') >= 0,
    };
  }
  if (bytes.length > 0x400 && decoder.decode(bytes.subarray(SETUP_MAGIC_OFFSET, SETUP_MAGIC_OFFSET + 4)) === 'HdrS') {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const version = SETUP_POINTER_BASE + view.getUint16(SETUP_VERSION_POINTER_OFFSET, true);
    return { format: 'bzImage', release: readWord(bytes, version), pvh: false, virtioMmioFromCommandLine: false };
  }
  throw notAKernel(name);
}

function notAKernel(name: string): RktError {
  return new RktError('BAD_INPUT', `${name}: not a Linux kernel for x86-64 (expected a bzImage or an uncompressed vmlinux)`);
}

function hasPvhNote(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerOffset = Number(view.getBigUint64(32, true));
  const headerBytes = view.getUint16(54, true);
  const headerCount = view.getUint16(56, true);
  for (let index = 0; index < headerCount; index++) {
    const header = headerOffset + index * headerBytes;
    if (view.getUint32(header, true) !== PT_NOTE) continue;
    let note = Number(view.getBigUint64(header + 8, true));
    const end = note + Number(view.getBigUint64(header + 32, true));
    while (note + 12 <= end) {
      const nameBytes = view.getUint32(note, true);
      const bodyBytes = view.getUint32(note + 4, true);
      const isXen = decoder.decode(bytes.subarray(note + 12, note + 15)) === 'Xen';
      if (isXen && view.getUint32(note + 8, true) === XEN_ELFNOTE_PHYS32_ENTRY) return true;
      note += 12 + roundUp4(nameBytes) + roundUp4(bodyBytes);
    }
  }
  return false;
}

function roundUp4(value: number): number {
  return (value + 3) & ~3;
}

function readWord(bytes: Uint8Array, offset: number): string {
  let end = offset;
  while (end - offset < RELEASE_MAX_BYTES && (bytes[end] ?? 0) > 0x20) end++;
  return decoder.decode(bytes.subarray(offset, end));
}

function indexOfText(bytes: Uint8Array, text: string): number {
  // Buffer's search is native; a plain Uint8Array would be compared byte by byte over 15 MB.
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).indexOf(text, 0, 'latin1');
}

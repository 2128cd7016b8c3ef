import { RktError } from '../src/error.ts';

const MAGIC = '070701';
const HEADER_BYTES = 110;
const FIELD_BYTES = 8;
/** Positions of fields in the header, counted behind the magic. */
const SIZE_FIELD = 6;
const NAME_SIZE_FIELD = 11;

const decoder = new TextDecoder();

/** The content of one file of a "newc" cpio archive, or undefined when it is not in it. Throws RktError BAD_INPUT on anything else. */
export function readCpioFile(archive: Uint8Array, path: string): Uint8Array | undefined {
  let offset = 0;
  while (offset + HEADER_BYTES <= archive.length) {
    if (decoder.decode(archive.subarray(offset, offset + MAGIC.length)) !== MAGIC) throw new RktError('BAD_INPUT', `initramfs: expected an uncompressed cpio archive (newc) at byte ${offset}`);
    const nameBytes = headerField(archive, offset, NAME_SIZE_FIELD);
    const sizeBytes = headerField(archive, offset, SIZE_FIELD);
    const bodyStart = roundUp4(offset + HEADER_BYTES + nameBytes);
    const name = decoder.decode(archive.subarray(offset + HEADER_BYTES, offset + HEADER_BYTES + nameBytes - 1));
    if (bodyStart + sizeBytes > archive.length) throw new RktError('BAD_INPUT', `initramfs: ${name} is cut off`);
    if (name === path) return archive.subarray(bodyStart, bodyStart + sizeBytes);
    if (name === 'TRAILER!!!') return undefined;
    offset = roundUp4(bodyStart + sizeBytes);
  }
  return undefined;
}

function headerField(archive: Uint8Array, offset: number, index: number): number {
  const start = offset + MAGIC.length + index * FIELD_BYTES;
  const text = decoder.decode(archive.subarray(start, start + FIELD_BYTES));
  if (!/^[0-9a-fA-F]{8}$/.test(text)) throw new RktError('BAD_INPUT', `initramfs: bad cpio header at byte ${offset}`);
  return parseInt(text, 16);
}

function roundUp4(value: number): number {
  return Math.ceil(value / 4) * 4;
}

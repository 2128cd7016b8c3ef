import { RktError } from '../src/error.ts';

export interface ModuleInfo {
  name: string;
  /** Modules that must be loaded before, as modpost wrote them. */
  depends: string[];
}

/** Elf64_Ehdr and Elf64_Shdr of elf(5). */
const SECTION_TABLE_OFFSET_FIELD = 40;
const SECTION_HEADER_BYTES_FIELD = 58;
const SECTION_COUNT_FIELD = 60;
const NAME_SECTION_FIELD = 62;

const decoder = new TextDecoder();

/**
 * Reads the `.modinfo` section of a kernel module (uncompressed, x86-64): the same source depmod has for modules.dep.
 * `file` is for messages. Throws RktError BAD_INPUT if it is no module.
 */
export function readModuleInfo(module: Uint8Array, file: string): ModuleInfo {
  const section = findSection(module, '.modinfo');
  if (section === undefined) throw new RktError('BAD_INPUT', `${file}: not a kernel module (no .modinfo section)`);
  const info = new Map<string, string>();
  for (const line of decoder.decode(section).split('\0')) {
    const equals = line.indexOf('=');
    if (equals > 0) info.set(line.slice(0, equals), line.slice(equals + 1));
  }
  const depends = info.get('depends') ?? '';
  return { name: info.get('name') ?? '', depends: depends === '' ? [] : depends.split(',') };
}

function findSection(elf: Uint8Array, wanted: string): Uint8Array | undefined {
  if (elf.length < 64 || elf[0] !== 0x7f || elf[1] !== 0x45 || elf[4] !== 2) return undefined;
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  const table = Number(view.getBigUint64(SECTION_TABLE_OFFSET_FIELD, true));
  const headerBytes = view.getUint16(SECTION_HEADER_BYTES_FIELD, true);
  const count = view.getUint16(SECTION_COUNT_FIELD, true);
  if (table + headerBytes * count > elf.length) return undefined;

  function contents(index: number): Uint8Array {
    const header = table + index * headerBytes;
    const start = Number(view.getBigUint64(header + 24, true));
    return elf.subarray(start, start + Number(view.getBigUint64(header + 32, true)));
  }

  const names = contents(view.getUint16(NAME_SECTION_FIELD, true));
  for (let index = 0; index < count; index++) {
    const nameStart = view.getUint32(table + index * headerBytes, true);
    const nameEnd = names.indexOf(0, nameStart);
    if (decoder.decode(names.subarray(nameStart, nameEnd)) === wanted) return contents(index);
  }
  return undefined;
}

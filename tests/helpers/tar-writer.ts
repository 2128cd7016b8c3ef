/** Writes tar archives byte by byte, sound and broken ones. Names may be text (written as UTF-8) or bytes. */

export type TarName = string | Uint8Array;

export interface TarMember {
  path: TarName;
  /** Type flag; a file unless said otherwise. */
  flag?: string;
  data?: Uint8Array | string;
  mode?: number;
  uid?: number;
  gid?: number;
  mtime?: number;
  link?: TarName;
  device?: { major: number; minor: number };
  /** Records of an extended header in front. */
  pax?: readonly (readonly [key: string, value: string | Uint8Array])[];
  magic?: 'ustar' | 'gnu' | 'v7';
  prefix?: string;
  /** Bytes to put over the finished header; the checksum is computed afterwards. */
  patch?: readonly { offset: number; bytes: string | Uint8Array }[];
  /** The size field, where it is not the length of the data. */
  sizeField?: number;
}

const BLOCK = 512;
const MAGICS = { ustar: 'ustar\x0000', gnu: 'ustar  \0', v7: '' } as const;
const encoder = new TextEncoder();

export function bytes(text: TarName): Uint8Array {
  return typeof text === 'string' ? encoder.encode(text) : text;
}

export function latin1(text: string): Uint8Array {
  const result = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) result[i] = text.charCodeAt(i);
  return result;
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function padToBlock(data: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(data.length / BLOCK) * BLOCK);
  padded.set(data);
  return padded;
}

export const END_OF_ARCHIVE = new Uint8Array(2 * BLOCK);

/** A whole archive: members and two zero blocks. */
export function tar(members: readonly TarMember[]): Uint8Array {
  return concat(...members.map(tarMember), END_OF_ARCHIVE);
}

/** A member with what belongs in front of it and its padded content. */
export function tarMember(member: TarMember): Uint8Array {
  const data = bytes(member.data ?? '');
  const front = member.pax === undefined ? new Uint8Array(0) : tarMember({ path: 'PaxHeader', flag: 'x', data: paxData(member.pax) });
  return concat(front, tarHeader({ ...member, sizeField: member.sizeField ?? data.length }), padToBlock(data));
}

export function paxData(records: readonly (readonly [key: string, value: string | Uint8Array])[]): Uint8Array {
  return concat(
    ...records.map(([key, value]) => {
      const body = concat(latin1(` ${key}=`), bytes(value), latin1('\n'));
      let length = body.length;
      while (length !== body.length + String(length).length) length = body.length + String(length).length;
      return concat(latin1(String(length)), body);
    }),
  );
}

export function octal(value: number, length: number): Uint8Array {
  return latin1(value.toString(8).padStart(length - 1, '0').slice(-(length - 1)) + '\0');
}

/** GNU's base-256 form. */
export function base256(value: bigint, length: number): Uint8Array {
  const field = new Uint8Array(length);
  let rest = BigInt.asUintN(length * 8, value);
  for (let i = length - 1; i >= 0; i--) {
    field[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  field[0] = value < 0n ? 0xff : 0x80;
  return field;
}

function numberField(value: number, length: number): Uint8Array {
  const fits = value >= 0 && value < 8 ** (length - 1);
  return fits ? octal(value, length) : base256(BigInt(value), length);
}

export function tarHeader(member: TarMember): Uint8Array {
  const header = new Uint8Array(BLOCK);
  const put = (offset: number, data: Uint8Array, length: number): void => header.set(data.subarray(0, length), offset);
  put(0, bytes(member.path), 100);
  put(100, numberField(member.mode ?? (member.flag === '5' ? 0o755 : 0o644), 8), 8);
  put(108, numberField(member.uid ?? 0, 8), 8);
  put(116, numberField(member.gid ?? 0, 8), 8);
  put(124, numberField(member.sizeField ?? 0, 12), 12);
  put(136, numberField(member.mtime ?? 0, 12), 12);
  put(156, latin1(member.flag ?? '0'), 1);
  put(157, bytes(member.link ?? ''), 100);
  put(257, latin1(MAGICS[member.magic ?? 'ustar']), 8);
  if (member.device !== undefined) {
    put(329, numberField(member.device.major, 8), 8);
    put(337, numberField(member.device.minor, 8), 8);
  }
  put(345, bytes(member.prefix ?? ''), 155);
  for (const { offset, bytes: patched } of member.patch ?? []) header.set(typeof patched === 'string' ? latin1(patched) : patched, offset);
  return withChecksum(header);
}

/** Sets a header's checksum to what it must be. */
export function withChecksum(header: Uint8Array): Uint8Array {
  header.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of header) sum += byte;
  header.set(latin1(`${sum.toString(8).padStart(6, '0')}\0 `), 148);
  return header;
}

/** A GNU `@LongLink` in front of a member: `L` for its path, `K` for its link target. */
export function gnuLong(flag: 'L' | 'K', name: TarName): Uint8Array {
  return tarMember({ path: '././@LongLink', flag, magic: 'gnu', data: concat(bytes(name), new Uint8Array(1)) });
}

export interface SparsePiece {
  offset: number;
  data: Uint8Array;
}

/** A sparse file in each of GNU tar's formats. */
export function sparseMember(format: 'old' | '0.0' | '0.1' | '1.0', file: { path: string; size: number; pieces: readonly SparsePiece[] }): Uint8Array {
  const { path, size, pieces } = file;
  const data = concat(...pieces.map((piece) => piece.data));
  switch (format) {
    case 'old':
      return oldSparse(file, data);
    case '0.0': {
      const map = pieces.flatMap((piece): [string, string][] => [
        ['GNU.sparse.offset', String(piece.offset)],
        ['GNU.sparse.numbytes', String(piece.data.length)],
      ]);
      return tarMember({ path, data, pax: [['GNU.sparse.size', String(size)], ['GNU.sparse.numblocks', String(pieces.length)], ...map] });
    }
    case '0.1': {
      const map = pieces.map((piece) => `${piece.offset},${piece.data.length}`).join(',');
      return tarMember({ path: 'GNUSparseFile.1/x', data, pax: [['GNU.sparse.size', String(size)], ['GNU.sparse.numblocks', String(pieces.length)], ['GNU.sparse.name', path], ['GNU.sparse.map', map]] });
    }
    case '1.0': {
      const map = padToBlock(latin1(`${pieces.length}\n${pieces.map((piece) => `${piece.offset}\n${piece.data.length}\n`).join('')}`));
      return tarMember({ path: 'GNUSparseFile.1/x', data: concat(map, data), pax: [['GNU.sparse.major', '1'], ['GNU.sparse.minor', '0'], ['GNU.sparse.name', path], ['GNU.sparse.realsize', String(size)]] });
    }
  }
}

function oldSparse(file: { path: string; size: number; pieces: readonly SparsePiece[] }, data: Uint8Array): Uint8Array {
  const extents = file.pieces.map((piece) => concat(numberField(piece.offset, 12), numberField(piece.data.length, 12)));
  const header = tarHeader({
    path: file.path,
    flag: 'S',
    magic: 'gnu',
    sizeField: data.length,
    patch: [
      { offset: 386, bytes: concat(...extents.slice(0, 4)) },
      { offset: 482, bytes: extents.length > 4 ? '\x01' : '\0' },
      { offset: 483, bytes: numberField(file.size, 12) },
    ],
  });
  const blocks: Uint8Array[] = [];
  for (let at = 4; at < extents.length; at += 21) {
    const block = new Uint8Array(BLOCK);
    block.set(concat(...extents.slice(at, at + 21)));
    block[504] = at + 21 < extents.length ? 1 : 0;
    blocks.push(block);
  }
  return concat(header, ...blocks, padToBlock(data));
}

/** An archive as a stream of chunks; `sizes` are used in turn. */
export async function* stream(archive: Uint8Array, sizes: readonly number[] = [65536]): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = 0, i = 0; at < archive.length; i++) {
    const size = sizes[i % sizes.length] ?? 1;
    yield archive.subarray(at, at + size);
    at += size;
  }
}

import { RktError, type ErrorCode } from '../error.ts';
import { ByteReader } from './byte-reader.ts';
import { byteStringFrom, quoteName, type ByteSource } from './bytes.ts';
import { BodyMapParser, checkSparseMap, OLD_SPARSE, parseOldRealSize, parseOldSparseMap, parsePaxSparse } from './gnu-sparse.ts';
import { DEFAULT_TAR_LIMITS, type TarLimits } from './limits.ts';
import { parsePaxRecords, type PaxRecord } from './pax.ts';
import { xattrOfRecord } from './pax-xattr.ts';
import type { Extent, TarData, TarEntry, TarEntryType, TarTime } from './tar-entry.ts';
import { hasValidChecksum, isZeroBlock, parseHeader, TAR_BLOCK_BYTES, type TarHeader } from './tar-header.ts';
import { parseDecimal, parsePaxTime } from './tar-number.ts';

export interface ReadTarOptions {
  limits?: Partial<TarLimits>;
  /** Stands at the beginning of messages. */
  name?: string;
}

/**
 * Reads an uncompressed tar stream entry by entry: V7, ustar, star, PAX, GNU with its sparse formats.
 *
 * Where tools differ, this reader takes the side of Go's archive/tar (what container tools read images with) or refuses:
 * - A size in the header of a link, device, FIFO or directory is ignored: no content follows.
 * - The archive ends with two zero blocks, or without them at the end of the stream between two entries; a single zero
 *   block, or an end anywhere else, is an error. What follows the two zero blocks is read and ignored.
 * - A global header that sets a path, a size, an xattr or a sparse map, an unknown type flag, and names with something behind a NUL are errors.
 *
 * The stream is read to its end. Throws RktError BAD_IMAGE, UNSUPPORTED or LIMIT naming the entry; what the source throws passes unchanged.
 */
export async function* readTar(source: ByteSource, options: ReadTarOptions = {}): AsyncGenerator<TarEntry, void, undefined> {
  const limits = { ...DEFAULT_TAR_LIMITS, ...options.limits };
  const name = options.name ?? 'archive';
  const archive = new TarArchive(new ByteReader(source, limits.totalBytes, name), name, limits);
  try {
    for (let entry = await archive.next(); entry !== undefined; entry = await archive.next()) yield entry;
  } finally {
    await archive.close();
  }
}

/** What stands before an entry and says more about it. */
interface Extensions {
  records: PaxRecord[];
  longPath: string | undefined;
  longLink: string | undefined;
  sizeBytes: number;
}

/** How an entry's data lies in the stream. */
interface Stored {
  /** Bytes of data not read yet. */
  dataLeftBytes: number;
  paddingBytes: number;
}

interface Content {
  sizeBytes: number;
  extents: readonly Extent[] | undefined;
}

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '0': 'file',
  '7': 'file',
  S: 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  D: 'directory', // GNU: a directory with a list of its names as content
  '6': 'fifo',
};

const TYPES_WITH_DATA = '07SDV';
const MAX_ID = 0xffff_fffe;
const MAX_DEVICE_MAJOR = 0xfff;
const MAX_DEVICE_MINOR = 0xf_ffff;
const MAX_XATTR_NAME_BYTES = 255;

class TarArchive {
  readonly #reader: ByteReader;
  readonly #name: string;
  readonly #limits: TarLimits;
  /** What global headers say: the last value of each of GLOBAL_KEYS. */
  readonly #globals = new Map<string, PaxRecord>();
  #globalBytes = 0;
  #headers = 0;
  #stored: Stored = { dataLeftBytes: 0, paddingBytes: 0 };
  /** What messages are about: the entry of this path or, as long as there is none, the header at this offset. */
  #subject: string | number = 0;

  constructor(reader: ByteReader, name: string, limits: TarLimits) {
    this.#reader = reader;
    this.#name = name;
    this.#limits = limits;
  }

  async close(): Promise<void> {
    await this.#reader.close();
  }

  /** The next entry, or undefined at the end. */
  async next(): Promise<TarEntry | undefined> {
    await this.#skipRest();
    const extensions: Extensions = { records: [], longPath: undefined, longLink: undefined, sizeBytes: 0 };
    for (;;) {
      const block = await this.#nextHeaderBlock();
      if (block === undefined) {
        if (extensions.sizeBytes > 0) throw this.#error('BAD_IMAGE', 'archive ends behind an extended header');
        return undefined;
      }
      const header = parseHeader(block);
      this.#subject = header.path;
      if (await this.#takeExtension(header, extensions)) continue;
      const sizeBytes = this.#storedSize(header, extensions.records);
      if (header.flag === 'V') {
        await this.#skipStored(sizeBytes);
        continue;
      }
      return await this.#entry(header, block, extensions, sizeBytes);
    }
  }

  #error(code: ErrorCode, message: string): RktError {
    const subject = typeof this.#subject === 'string' ? `entry ${quoteName(this.#subject)}` : `header at byte ${this.#subject}`;
    return new RktError(code, `${this.#name}: ${subject}: ${message}`);
  }

  #truncated(): RktError {
    return this.#error('BAD_IMAGE', `archive is truncated after ${this.#reader.positionBytes} bytes`);
  }

  async #nextHeaderBlock(): Promise<Uint8Array | undefined> {
    const start = this.#reader.positionBytes;
    const block = await this.#reader.read(TAR_BLOCK_BYTES);
    this.#subject = start;
    if (block.length === 0) return undefined;
    if (block.length < TAR_BLOCK_BYTES) throw this.#truncated();
    if (isZeroBlock(block)) {
      const second = await this.#reader.read(TAR_BLOCK_BYTES);
      if (second.length > 0 && !isZeroBlock(second)) throw this.#error('BAD_IMAGE', 'a single zero block in the middle of the archive');
      await this.#reader.drain();
      return undefined;
    }
    if (!hasValidChecksum(block)) throw this.#error('BAD_IMAGE', start === 0 ? 'not a tar archive (header checksum does not match)' : 'header checksum does not match');
    if (++this.#headers > this.#limits.entries) throw this.#error('LIMIT', `more than ${this.#limits.entries} entries`);
    return block;
  }

  /** Reads an extended header into `extensions`; false if the header is that of an entry. */
  async #takeExtension(header: TarHeader, extensions: Extensions): Promise<boolean> {
    if (!'xXgLK'.includes(header.flag)) return false;
    const bytes = await this.#readMetadata(header);
    if (header.flag === 'g') {
      this.#takeGlobal(bytes);
      return true;
    }
    extensions.sizeBytes += TAR_BLOCK_BYTES + bytes.length;
    if (extensions.sizeBytes > this.#limits.headerBytes) throw this.#error('LIMIT', `extended headers of one entry exceed ${this.#limits.headerBytes} bytes`);
    if (header.flag === 'L') extensions.longPath = this.#longName(bytes);
    else if (header.flag === 'K') extensions.longLink = this.#longName(bytes);
    else extensions.records.push(...this.#parseRecords(bytes));
    return true;
  }

  /** The content of a header entry; a copy. */
  async #readMetadata(header: TarHeader): Promise<Uint8Array> {
    const sizeBytes = header.sizeBytes;
    if (sizeBytes === undefined || sizeBytes < 0) throw this.#error('BAD_IMAGE', 'size of the extended header is not a number');
    if (sizeBytes > this.#limits.headerBytes) {
      throw this.#error('LIMIT', `extended header of ${sizeBytes} bytes exceeds ${this.#limits.headerBytes} bytes`);
    }
    const bytes = (await this.#reader.read(sizeBytes)).slice();
    if (bytes.length < sizeBytes || (await this.#reader.skip(paddingOf(sizeBytes))) > 0) throw this.#truncated();
    return bytes;
  }

  #takeGlobal(bytes: Uint8Array): void {
    this.#globalBytes += bytes.length;
    if (this.#globalBytes > this.#limits.headerBytes) throw this.#error('LIMIT', `global headers exceed ${this.#limits.headerBytes} bytes`);
    for (const record of this.#parseRecords(bytes)) {
      if (GLOBAL_KEYS.includes(record.key)) this.#globals.set(record.key, record);
      else if (isRefusedInGlobal(record.key)) throw this.#error('BAD_IMAGE', `global header sets ${quoteName(record.key)}`);
    }
  }

  #parseRecords(bytes: Uint8Array): PaxRecord[] {
    const records = parsePaxRecords(bytes);
    if (records === undefined) throw this.#error('BAD_IMAGE', 'extended header is not a list of "LENGTH KEY=VALUE" records');
    return records;
  }

  #longName(bytes: Uint8Array): string {
    const nul = bytes.indexOf(0);
    const end = nul < 0 ? bytes.length : nul;
    if (!isZeroBlock(bytes.subarray(end))) throw this.#error('BAD_IMAGE', 'long name has something behind its NUL');
    return byteStringFrom(bytes.subarray(0, end));
  }

  /** The value of a PAX key: an empty one means there is none (POSIX). */
  #value(records: readonly PaxRecord[], key: string): string | undefined {
    const record = findLast(records, key) ?? this.#globals.get(key);
    return record === undefined || record.value.length === 0 ? undefined : byteStringFrom(record.value);
  }

  #number(records: readonly PaxRecord[], key: string, fallback: number | undefined): number {
    const text = this.#value(records, key);
    const number = text === undefined ? fallback : parseDecimal(text);
    if (number === undefined) throw this.#error('BAD_IMAGE', `${key} is not a number${text === undefined ? '' : `: ${quoteName(text)}`}`);
    return number;
  }

  /** Bytes of content in the stream behind the header. */
  #storedSize(header: TarHeader, records: readonly PaxRecord[]): number {
    if (!TYPES_WITH_DATA.includes(header.flag)) return 0;
    const sizeBytes = this.#number(records, 'size', header.sizeBytes);
    if (sizeBytes < 0) throw this.#error('BAD_IMAGE', `size is negative: ${sizeBytes}`);
    return sizeBytes;
  }

  async #entry(header: TarHeader, block: Uint8Array, extensions: Extensions, storedBytes: number): Promise<TarEntry> {
    const { records } = extensions;
    const sparse = header.flag === '0' || header.flag === '7' ? parsePaxSparse(records) : undefined;
    const sparsePath = sparse?.path === undefined ? undefined : byteStringFrom(sparse.path);
    const path = this.#checkName('path', sparsePath ?? this.#value(records, 'path') ?? extensions.longPath ?? header.path);
    this.#subject = path;
    const type = this.#type(header, path);
    // The block is a view that the next read invalidates: everything of it is taken before the body is touched.
    const mode = header.mode;
    if (mode === undefined) throw this.#error('BAD_IMAGE', 'mode is not a number');
    const entry = {
      type,
      path,
      mode: mode & 0o7777,
      uid: this.#id(records, 'uid', header.uid),
      gid: this.#id(records, 'gid', header.gid),
      mtime: this.#mtime(header, records),
      linkPath: this.#linkPath(type, this.#value(records, 'linkpath') ?? extensions.longLink ?? header.linkPath),
      device: this.#device(type, header),
      xattrs: this.#xattrs(records),
    };
    this.#stored = { dataLeftBytes: storedBytes, paddingBytes: paddingOf(storedBytes) };
    if (type !== 'file') return { ...entry, sizeBytes: 0, extents: undefined, body: emptyBody() };
    const content = header.flag === 'S' ? await this.#oldSparse(block, storedBytes) : await this.#content(sparse, storedBytes);
    if (content.sizeBytes > this.#limits.fileBytes) {
      throw this.#error('LIMIT', `file of ${content.sizeBytes} bytes exceeds ${this.#limits.fileBytes} bytes`);
    }
    const place = content.extents === undefined ? { bodyAt: this.#reader.positionBytes } : {};
    return { ...entry, ...content, ...place, body: this.#body(this.#stored, content.extents) };
  }

  #type(header: TarHeader, path: string): TarEntryType {
    const type = TYPES[header.flag];
    if (type === undefined) {
      const known = header.flag === 'M' ? 'multi-volume archives are' : `type flag ${quoteName(header.flag)} is`;
      throw this.#error('UNSUPPORTED', `${known} not supported`);
    }
    // Archives from before ustar have no directories but by their name.
    return type === 'file' && path.endsWith('/') ? 'directory' : type;
  }

  #checkName(what: string, name: string): string {
    if (name === '') throw this.#error('BAD_IMAGE', `${what} is empty`);
    if (name.includes('\0')) throw this.#error('BAD_IMAGE', `${what} has a NUL in it: ${quoteName(name)}`);
    if (name.length > this.#limits.pathBytes) throw this.#error('LIMIT', `${what} of ${name.length} bytes exceeds ${this.#limits.pathBytes} bytes`);
    return name;
  }

  #linkPath(type: TarEntryType, linkPath: string): string {
    return type === 'symlink' || type === 'hardlink' ? this.#checkName('link target', linkPath) : '';
  }

  #id(records: readonly PaxRecord[], key: 'uid' | 'gid', fallback: number | undefined): number {
    const id = this.#number(records, key, fallback);
    if (id < 0 || id > MAX_ID) throw this.#error('BAD_IMAGE', `${key} ${id} is not in 0–${MAX_ID}`);
    return id;
  }

  #mtime(header: TarHeader, records: readonly PaxRecord[]): TarTime {
    const text = this.#value(records, 'mtime');
    const mtime = text === undefined ? undefined : parsePaxTime(text);
    if (mtime !== undefined) return mtime;
    if (text !== undefined || header.mtimeSeconds === undefined) throw this.#error('BAD_IMAGE', `mtime is not a time${text === undefined ? '' : `: ${quoteName(text)}`}`);
    return { seconds: header.mtimeSeconds, nanoseconds: 0 };
  }

  #device(type: TarEntryType, header: TarHeader): { major: number; minor: number } {
    if (type !== 'character' && type !== 'block') return { major: 0, minor: 0 };
    const { deviceMajor: major, deviceMinor: minor } = header;
    if (major === undefined || major < 0 || major > MAX_DEVICE_MAJOR) throw this.#error('BAD_IMAGE', `device major number is not in 0–${MAX_DEVICE_MAJOR}`);
    if (minor === undefined || minor < 0 || minor > MAX_DEVICE_MINOR) throw this.#error('BAD_IMAGE', `device minor number is not in 0–${MAX_DEVICE_MINOR}`);
    return { major, minor };
  }

  #xattrs(records: readonly PaxRecord[]): ReadonlyMap<string, Uint8Array> {
    if (records.length === 0) return NO_XATTRS;
    const primary = new Map<string, Uint8Array>();
    const secondary = new Map<string, Uint8Array>();
    for (const record of records) {
      const xattr = xattrOfRecord(record);
      if (xattr === undefined) continue;
      if (xattr.value === undefined) throw this.#error('BAD_IMAGE', `xattr ${quoteName(xattr.name)} is not base64`);
      if (xattr.name === '' || xattr.name.length > MAX_XATTR_NAME_BYTES || xattr.name.includes('\0')) {
        throw this.#error('BAD_IMAGE', `xattr name ${quoteName(xattr.name)} is not 1–${MAX_XATTR_NAME_BYTES} bytes without NUL`);
      }
      (xattr.secondary ? secondary : primary).set(xattr.name, xattr.value);
    }
    for (const [name, value] of secondary) if (!primary.has(name)) primary.set(name, value);
    let sizeBytes = 0;
    for (const [name, value] of primary) sizeBytes += name.length + value.length;
    if (sizeBytes > this.#limits.xattrBytes) throw this.#error('LIMIT', `xattrs of ${sizeBytes} bytes exceed ${this.#limits.xattrBytes} bytes`);
    return primary;
  }

  async #content(sparse: ReturnType<typeof parsePaxSparse>, storedBytes: number): Promise<Content> {
    if (sparse === undefined) return { sizeBytes: storedBytes, extents: undefined };
    if (sparse.map === undefined || sparse.realSizeBytes === undefined) throw this.#error('BAD_IMAGE', 'GNU.sparse records make no sparse map this reader knows');
    const map = sparse.map === 'body' ? await this.#readBodyMap() : sparse.map;
    return this.#checkSparse(map, sparse.realSizeBytes);
  }

  /** Format 1.0: the map stands before the data and counts as part of the body. */
  async #readBodyMap(): Promise<Extent[]> {
    const parser = new BodyMapParser();
    for (let readBytes = 0; readBytes < this.#limits.headerBytes; readBytes += TAR_BLOCK_BYTES) {
      if (this.#stored.dataLeftBytes < TAR_BLOCK_BYTES) throw this.#error('BAD_IMAGE', 'sparse map goes beyond the end of the entry');
      const block = await this.#reader.read(TAR_BLOCK_BYTES);
      if (block.length < TAR_BLOCK_BYTES) throw this.#truncated();
      this.#stored.dataLeftBytes -= TAR_BLOCK_BYTES;
      const map = parser.push(block);
      if (map === undefined) throw this.#error('BAD_IMAGE', 'sparse map is not a list of numbers');
      if (map !== 'more') return map;
    }
    throw this.#error('LIMIT', `sparse map exceeds ${this.#limits.headerBytes} bytes`);
  }

  async #oldSparse(header: Uint8Array, storedBytes: number): Promise<Content> {
    const realSizeBytes = parseOldRealSize(header);
    const map = parseOldSparseMap(header, OLD_SPARSE.header);
    if (realSizeBytes === undefined || realSizeBytes < 0 || map === undefined) throw this.#error('BAD_IMAGE', 'sparse map is not a list of numbers');
    let continued = header[OLD_SPARSE.header.continuedOffset] !== 0;
    for (let readBytes = 0; continued; readBytes += TAR_BLOCK_BYTES) {
      if (readBytes >= this.#limits.headerBytes) throw this.#error('LIMIT', `sparse map exceeds ${this.#limits.headerBytes} bytes`);
      const block = await this.#reader.read(TAR_BLOCK_BYTES);
      if (block.length < TAR_BLOCK_BYTES) throw this.#truncated();
      const more = parseOldSparseMap(block, OLD_SPARSE.extension);
      if (more === undefined) throw this.#error('BAD_IMAGE', 'sparse map is not a list of numbers');
      for (const extent of more) map.push(extent);
      continued = block[OLD_SPARSE.extension.continuedOffset] !== 0;
    }
    this.#stored.dataLeftBytes = storedBytes;
    return this.#checkSparse(map, realSizeBytes);
  }

  #checkSparse(map: readonly Extent[], sizeBytes: number): Content {
    const extents = checkSparseMap(map, { sizeBytes, dataBytes: this.#stored.dataLeftBytes });
    if (typeof extents === 'string') throw this.#error('BAD_IMAGE', extents);
    return { sizeBytes, extents };
  }

  async *#body(stored: Stored, extents: readonly Extent[] | undefined): AsyncGenerator<TarData, void, undefined> {
    for (const extent of extents ?? [{ offsetBytes: 0, lengthBytes: stored.dataLeftBytes }]) {
      let offsetBytes = extent.offsetBytes;
      const end = offsetBytes + extent.lengthBytes;
      while (offsetBytes < end) {
        if (stored !== this.#stored) throw new RktError('INTERNAL', `${this.#name}: content of an entry read after the next one was asked for`);
        const data = await this.#reader.readSome(end - offsetBytes);
        if (data.length === 0) throw this.#truncated();
        stored.dataLeftBytes -= data.length;
        yield { offsetBytes, data };
        offsetBytes += data.length;
      }
    }
  }

  async #skipStored(sizeBytes: number): Promise<void> {
    this.#stored = { dataLeftBytes: sizeBytes, paddingBytes: paddingOf(sizeBytes) };
    await this.#skipRest();
  }

  async #skipRest(): Promise<void> {
    const { dataLeftBytes, paddingBytes } = this.#stored;
    this.#stored = { dataLeftBytes: 0, paddingBytes: 0 };
    if (dataLeftBytes + paddingBytes === 0) return;
    if ((await this.#reader.skip(dataLeftBytes + paddingBytes)) > 0) throw this.#truncated();
  }
}

/** The keys that a global header can sensibly set for all that follows. */
const GLOBAL_KEYS: readonly string[] = ['uid', 'gid', 'mtime'];

/** What would give all files the same name or content, or cost time for each of them; tools differ in what they make of it. */
function isRefusedInGlobal(key: string): boolean {
  return key === 'path' || key === 'linkpath' || key === 'size' || key.startsWith('GNU.sparse.') || xattrOfRecord({ key, value: new Uint8Array(0) }) !== undefined;
}

const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

async function* emptyBody(): AsyncGenerator<TarData, void, undefined> {
  // Only files have content.
}

function paddingOf(sizeBytes: number): number {
  const used = sizeBytes % TAR_BLOCK_BYTES;
  return used === 0 ? 0 : TAR_BLOCK_BYTES - used;
}

function findLast(records: readonly PaxRecord[], key: string): PaxRecord | undefined {
  for (let i = records.length - 1; i >= 0; i--) if (records[i]?.key === key) return records[i];
  return undefined;
}

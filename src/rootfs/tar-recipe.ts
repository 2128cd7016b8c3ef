import { RktError } from '../error.ts';
import { ByteReader } from './byte-reader.ts';
import type { ByteSource } from './bytes.ts';
import type { ErofsDisk } from './erofs-read.ts';
import type { FileInode } from './inode.ts';
import type { TarEntry } from './tar-entry.ts';

/**
 * How to write a tar again, byte for byte: what stands between the contents of its files is kept as it was, the contents
 * are read from the disk the tar was rendered to.
 */
export interface TarRecipe {
  /** Pairs: so many bytes of what was kept, then the content of the inode of that number; 0 is none. */
  segments: Uint32Array;
}

/** Takes what is to be kept, piece by piece. A piece is valid during the call (or until its promise is done). */
export type KeepBytes = (bytes: Uint8Array) => void | Promise<void>;

const NO_INODE = 0;
const COUNT_MAX = 0xffff_ffff;

interface Body {
  at: number;
  sizeBytes: number;
  inode: FileInode | undefined;
}

/** Watches one tar on its way to the disk. */
export class TarRecorder {
  readonly #keep: KeepBytes;
  readonly #bodies: Body[] = [];
  readonly #keptBefore: number[] = [];
  #positionBytes = 0;
  #keptBytes = 0;

  constructor(keep: KeepBytes) {
    this.#keep = keep;
  }

  /** The stream, unchanged. A chunk is looked at when the reader asks for the next one: by then it knows what is in it. */
  async *watch(tar: ByteSource): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of tar) {
      yield chunk;
      await this.#take(chunk);
    }
  }

  /** To be called before the content of an entry is read. Give the result its inode when there is one. */
  expect(entry: TarEntry): { inode: FileInode | undefined } | undefined {
    if (entry.bodyAt === undefined || entry.sizeBytes === 0) return undefined;
    const body: Body = { at: entry.bodyAt, sizeBytes: entry.sizeBytes, inode: undefined };
    this.#bodies.push(body);
    return body;
  }

  /** When the disk is complete. Undefined: the disk no longer holds something that was in the tar. */
  finish(): TarRecipe | undefined {
    const segments: number[] = [];
    for (const [index, { inode }] of this.#bodies.entries()) {
      const kept = this.#keptBefore[index];
      if (inode === undefined || inode.links === 0 || kept === undefined || kept > COUNT_MAX || inode.nid > COUNT_MAX) return undefined;
      segments.push(kept, inode.nid);
    }
    if (this.#keptBytes > COUNT_MAX) return undefined;
    return { segments: Uint32Array.from([...segments, this.#keptBytes, NO_INODE]) };
  }

  async #take(chunk: Uint8Array): Promise<void> {
    const start = this.#positionBytes;
    const end = start + chunk.length;
    for (let at = start; at < end; ) {
      const body = this.#bodies[this.#keptBefore.length];
      if (body === undefined || at < body.at) {
        const next = Math.min(end, body?.at ?? end);
        await this.#keep(chunk.subarray(at - start, next - start));
        this.#keptBytes += next - at;
        at = next;
        continue;
      }
      at = Math.min(end, body.at + body.sizeBytes);
      if (at < body.at + body.sizeBytes) continue;
      this.#keptBefore.push(this.#keptBytes);
      this.#keptBytes = 0;
    }
    this.#positionBytes = end;
  }
}

/** The tar again. `kept`: all that was kept of it, in order. Throws RktError IO when something is missing. */
export async function* writeTarAgain({ segments }: TarRecipe, kept: ByteSource, disk: ErofsDisk): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = new ByteReader(kept, Number.POSITIVE_INFINITY, 'recipe');
  try {
    for (let i = 0; i + 1 < segments.length; i += 2) {
      for (let left = segments[i] ?? 0; left > 0; ) {
        const piece = await reader.readSome(left);
        if (piece.length === 0) throw new RktError('IO', 'the recipe of a layer is cut off');
        left -= piece.length;
        yield piece;
      }
      const nid = segments[i + 1] ?? NO_INODE;
      if (nid !== NO_INODE) yield* contentWithHoles(disk, nid);
    }
  } finally {
    await reader.close();
  }
}

const ZEROS = new Uint8Array(64 << 10);

function* contentWithHoles(disk: ErofsDisk, nid: number): Generator<Uint8Array, void, undefined> {
  const file = disk.file(nid);
  let at = 0;
  for (const { offsetBytes, data } of disk.content(file)) {
    yield* zeros(offsetBytes - at);
    yield data;
    at = offsetBytes + data.length;
  }
  yield* zeros(file.sizeBytes - at);
}

/** So many zeros, in pieces. */
export function* zeros(sizeBytes: number): Generator<Uint8Array, void, undefined> {
  for (let left = sizeBytes; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, Math.min(left, ZEROS.length));
}

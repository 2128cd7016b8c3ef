import { createHash } from 'node:crypto';
import { renderDisk, type DiskGeometry, type DiskSink, type Layer, type RenderOptions } from '../../src/rootfs/index.ts';
import { sha256 } from '../../src/store/disk-file.ts';
import { openErofs, type ErofsFile } from './erofs-reader.ts';
import { stream } from './tar-writer.ts';

const BLOCK = 4096;

/** A disk in memory that keeps only the blocks that were written. */
export class MemoryDisk implements DiskSink {
  readonly blocks = new Map<number, Uint8Array>();
  sizeBytes = 0;

  write(offsetBytes: number, data: Uint8Array): void {
    if (offsetBytes % BLOCK !== 0 || data.length % BLOCK !== 0) throw new RangeError(`write of ${data.length} bytes at ${offsetBytes}`);
    for (let at = 0; at < data.length; at += BLOCK) this.blocks.set((offsetBytes + at) / BLOCK, data.slice(at, at + BLOCK));
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    for (let at = 0; at < lengthBytes; at += BLOCK) this.blocks.delete((offsetBytes + at) / BLOCK);
  }

  truncate(sizeBytes: number): void {
    this.sizeBytes = sizeBytes;
  }

  read(offsetBytes: number, lengthBytes: number): Uint8Array {
    const result = new Uint8Array(lengthBytes);
    for (let at = 0; at < lengthBytes; ) {
      const offset = (offsetBytes + at) % BLOCK;
      const count = Math.min(BLOCK - offset, lengthBytes - at);
      const block = this.blocks.get(Math.floor((offsetBytes + at) / BLOCK));
      if (block !== undefined) result.set(block.subarray(offset, offset + count), at);
      at += count;
    }
    return result;
  }

  /** One digest for size and content. */
  digest(): string {
    const hash = createHash('sha256').update(String(this.sizeBytes));
    for (const block of [...this.blocks.keys()].sort((a, b) => a - b)) hash.update(`|${block}|`).update(this.blocks.get(block) ?? '');
    return hash.digest('hex');
  }
}

export interface Rendered {
  geometry: DiskGeometry;
  disk: MemoryDisk;
  root: ErofsFile;
  warnings: string[];
}

/** Renders archives (OCI layers, lowest first, unless given as Layer) and opens the file system. */
export async function render(archives: readonly (Uint8Array | Layer)[], options: Partial<RenderOptions> = {}): Promise<Rendered> {
  const disk = new MemoryDisk();
  const warnings: string[] = [];
  const layers = archives.map((archive, i): Layer => (archive instanceof Uint8Array ? { kind: 'oci', name: `layer ${i + 1}`, tar: stream(archive) } : archive));
  const geometry = await renderDisk(layers, disk, { sha256, onWarning: (warning) => warnings.push(warning), ...options });
  return { geometry, disk, root: openErofs((offset, length) => disk.read(offset, length)), warnings };
}

export function aciLayer(archive: Uint8Array): Layer {
  return { kind: 'aci', name: 'x.aci', tar: stream(archive) };
}

import { RktError } from '../error.ts';
import { quoteName } from './bytes.ts';
import type { TarLimits } from './limits.ts';
import type { TarEntry } from './tar-entry.ts';

/** The layout of an ACI as rkt checks it (appc spec, schema "aci/layout.go"): `manifest`, a file, and `rootfs`, a directory. */
export class AciLayout {
  readonly #name: string;
  readonly #limits: TarLimits;
  readonly #seen = new Set<string>();
  #hasRootfs = false;
  #manifest: Uint8Array | undefined;

  constructor(name: string, limits: TarLimits) {
    this.#name = name;
    this.#limits = limits;
  }

  /** Takes an entry. Returns its components below `rootfs`, or undefined if it is no part of the file system. */
  async accept(entry: TarEntry, path: readonly string[]): Promise<string[] | undefined> {
    const [top, ...below] = path;
    if (top === undefined) return undefined;
    const clean = path.join('/');
    if (this.#seen.has(clean)) throw this.#error(`duplicate file entry in archive: ${showPlain(clean)}`);
    this.#seen.add(clean);
    if (clean === 'manifest') {
      this.#manifest = await this.#readManifest(entry);
      return undefined;
    }
    // rkt only compares the beginning: `rootfs2` passes, and is nothing.
    if (!top.startsWith('rootfs')) throw this.#error(`unrecognized file path in layout: ${quoteName(clean)}`);
    if (top !== 'rootfs') return undefined;
    if (below.length === 0) {
      if (entry.type !== 'directory') throw this.#error('rootfs is not a directory');
      this.#hasRootfs = true;
    }
    return below;
  }

  /** Checks that nothing was missing. Returns the manifest. */
  finish(): Uint8Array {
    if (this.#manifest === undefined) throw this.#error('no image manifest found in layout');
    if (!this.#hasRootfs) throw this.#error('no rootfs found in layout');
    return this.#manifest;
  }

  async #readManifest(entry: TarEntry): Promise<Uint8Array> {
    if (entry.type !== 'file') throw this.#error('manifest is not a file');
    const { manifestBytes } = this.#limits;
    if (entry.sizeBytes > manifestBytes) {
      throw new RktError('LIMIT', `${this.#name}: manifest of ${entry.sizeBytes} bytes exceeds ${manifestBytes} bytes`);
    }
    const bytes = new Uint8Array(entry.sizeBytes);
    for await (const { offsetBytes, data } of entry.body) bytes.set(data, offsetBytes);
    return bytes;
  }

  #error(message: string): RktError {
    return new RktError('BAD_IMAGE', `${this.#name}: ${message}`);
  }
}

/** As in rkt's message, without quotes, but nothing in it that a terminal would act on. */
function showPlain(path: string): string {
  return quoteName(path).slice(1, -1);
}

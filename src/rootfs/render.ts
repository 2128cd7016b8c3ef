import { AciLayout } from './aci.ts';
import { BLOCK_BYTES } from './block-digests.ts';
import type { DigestScratch } from './block-digests.ts';
import { BlockWriter } from './block-writer.ts';
import type { ByteSource } from './bytes.ts';
import type { DiskSink } from './disk-sink.ts';
import { encodeSuperblock } from './erofs-superblock.ts';
import { writeMetadata } from './erofs.ts';
import type { Sha256 } from './hash.ts';
import { entryError, mergeEntry, type LayerContext, type Merge } from './layer.ts';
import { DEFAULT_TAR_LIMITS, type TarLimits } from './limits.ts';
import { splitPath } from './path.ts';
import type { TarEntry } from './tar-entry.ts';
import { readTar } from './tar-reader.ts';
import type { TarRecorder } from './tar-recipe.ts';
import { Tree } from './tree.ts';
import { hashTree, rootHashOf, writeVerity } from './verity.ts';
import { applyWhitelist } from './whitelist.ts';

export type Layer = TarLayer | TreeLayer;

export interface TarLayer {
  /** `aci`: only what is in `rootfs/` becomes files, and `manifest` is handed to `onAciManifest`. */
  kind: 'oci' | 'aci';
  /** The uncompressed tar stream. It is read to its end (unless rendering fails), so a digest computed on the way is complete. */
  tar: ByteSource;
  /** Stands at the beginning of messages about this layer. */
  name: string;
  /** Learns how to write the tar again. */
  recorder?: TarRecorder;
}

/** What another disk holds (see `entriesOfDisk`); nothing in it means a whiteout. */
export interface TreeLayer {
  kind: 'tree';
  entries: AsyncIterable<TarEntry>;
  name: string;
}

export interface RenderOptions {
  sha256: Sha256;
  limits?: Partial<TarLimits>;
  /** Bounds the memory for digests of blocks; without it they take 32 bytes a block. */
  scratch?: DigestScratch;
  /** Of the topmost ACI, absolute paths: what is not on it is left out of the disk, unless it is the parent of something that is. Empty: everything is kept. */
  pathWhitelist?: readonly string[] | (() => readonly string[]);
  /** Gets `manifest` of each ACI layer when the layer was read. A throw ends the rendering. */
  onAciManifest?(manifest: Uint8Array, layer: TarLayer): void | Promise<void>;
  /** Told what is left out of the disk on purpose (xattrs that no file system on Linux can hold), one line each. */
  onWarning?(message: string): void;
}

export interface DiskGeometry {
  sizeBytes: number;
  /** Blocks of 4096 bytes of the file system; the verity superblock is the block behind them. */
  dataBlocks: number;
  /** First block of the hash tree: dataBlocks + 1. */
  hashStartBlock: number;
  rootHashHex: string;
  inodes: number;
}

/** Ends of files kept in memory; see TailBudget. */
const TAIL_BUDGET_BYTES = 64 << 20;
const UUID_BYTES = 16;

/**
 * Merges layers, lowest first, into one read-only disk: EROFS, then its dm-verity superblock and hash tree. The same layers give
 * the same bytes on any machine. No layer at all gives an empty root directory.
 *
 * Contents go to the sink as they arrive; what stays in memory is the tree of names, and digests of blocks as far as there is
 * no scratch place for them.
 * Throws RktError BAD_IMAGE, UNSUPPORTED or LIMIT; what sources and sink throw passes unchanged. The sink then holds garbage.
 */
export async function renderDisk(layers: AsyncIterable<Layer> | Iterable<Layer>, sink: DiskSink, options: RenderOptions): Promise<DiskGeometry> {
  const limits = { ...DEFAULT_TAR_LIMITS, ...options.limits };
  const writer = new BlockWriter(sink, { sha256: options.sha256, maxBlocks: Math.floor(limits.diskBytes / BLOCK_BYTES), scratch: options.scratch });
  const tree = new Tree(limits);
  const merge: Merge = { tree, writer, limits: { ...limits }, tails: { leftBytes: TAIL_BUDGET_BYTES }, onWarning: (message) => options.onWarning?.(message) };
  try {
    let number = 0;
    for await (const layer of layers) await mergeLayer(merge, { layer, number: ++number, options });
    const { pathWhitelist } = options;
    applyWhitelist(tree, typeof pathWhitelist === 'function' ? pathWhitelist() : (pathWhitelist ?? []));
    for (const orphan of tree.takeOrphans()) await writer.erase(orphan.firstBlock, orphan.blocks);
    return await finishDisk(merge, sink, options.sha256);
  } finally {
    await writer.settle();
  }
}

async function mergeLayer(merge: Merge, { layer, number, options }: { layer: Layer; number: number; options: RenderOptions }): Promise<void> {
  const { limits } = merge;
  const context: LayerContext = { number, name: layer.name, hasWhiteouts: layer.kind === 'oci', recorder: layer.kind === 'tree' ? undefined : layer.recorder, warned: new Set() };
  const aci = layer.kind === 'aci' ? new AciLayout(layer.name, limits) : undefined;
  const counted = countBytes(layer.kind === 'tree' ? NOTHING : (layer.recorder?.watch(layer.tar) ?? layer.tar));
  let entries = 0;
  for await (const entry of layer.kind === 'tree' ? layer.entries : readTar(counted.source, { limits, name: layer.name })) {
    entries++;
    const path = splitPath(entry.path);
    if (typeof path === 'string') throw entryError(context, entry, { code: 'BAD_IMAGE', message: path });
    if (path.length > limits.pathDepth) throw entryError(context, entry, { code: 'LIMIT', message: `path of ${path.length} components exceeds ${limits.pathDepth}` });
    const inImage = aci === undefined ? path : await aci.accept(entry, path);
    if (inImage !== undefined) await mergeEntry(merge, context, { entry, path: inImage, linkRoot: aci === undefined ? [] : ['rootfs'] });
  }
  limits.totalBytes -= counted.sizeBytes();
  limits.entries -= entries;
  if (aci === undefined || layer.kind === 'tree') return;
  const manifest = aci.finish();
  await options.onAciManifest?.(manifest, layer);
}

const NOTHING: ByteSource = { async *[Symbol.asyncIterator]() {} };

function countBytes(source: ByteSource): { source: ByteSource; sizeBytes: () => number } {
  let sizeBytes = 0;
  async function* count(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of source) {
      sizeBytes += chunk.length;
      yield chunk;
    }
  }
  return { source: count(), sizeBytes: () => sizeBytes };
}

async function finishDisk(merge: Merge, sink: DiskSink, sha256: Sha256): Promise<DiskGeometry> {
  const { tree, writer } = merge;
  const geometry = await writeMetadata(tree.root, writer);
  const dataBlocks = writer.nextBlock;
  await writer.drain();
  // The UUID stands for everything but the superblock it is written to.
  const uuid = uuidFrom(rootHashOf(hashTree(writer.digests, dataBlocks, sha256)));
  await writer.writeSuperblock(encodeSuperblock({ ...geometry, blocks: dataBlocks, uuid }));
  const levels = hashTree(writer.digests, dataBlocks, sha256);
  const endBlock = await writeVerity(sink, { digests: writer.digests, dataBlocks, levels, uuid });
  const sizeBytes = endBlock * BLOCK_BYTES;
  await sink.truncate(sizeBytes);
  return { sizeBytes, dataBlocks, hashStartBlock: dataBlocks + 1, rootHashHex: toHex(rootHashOf(levels)), inodes: geometry.inodes };
}

/** A UUID of version 8, made of a hash (RFC 9562). */
function uuidFrom(hash: Uint8Array): Uint8Array {
  const uuid = hash.slice(0, UUID_BYTES);
  uuid[6] = ((uuid[6] ?? 0) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] ?? 0) & 0x3f) | 0x80;
  return uuid;
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

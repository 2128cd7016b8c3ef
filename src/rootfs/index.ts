/**
 * Image layers to a disk: tar streams in, one EROFS file system with its dm-verity tree out.
 * Pure bytes in, bytes out; nothing is ever created under a name that came from an archive.
 */
export type { DigestScratch } from './block-digests.ts';
export type { ByteSource } from './bytes.ts';
export type { DiskSink } from './disk-sink.ts';
export type { Sha256 } from './hash.ts';
export type { TarEntry, TarEntryType, TarTime } from './tar-entry.ts';
export { DEFAULT_TAR_LIMITS, type TarLimits } from './limits.ts';
export { entriesOfDisk, openErofs, type ErofsDisk, type ErofsFile, type ReadAt } from './erofs-read.ts';
export { TarRecorder, writeTarAgain, type TarRecipe } from './tar-recipe.ts';
export { writeTar } from './tar-write.ts';
export { readTar, type ReadTarOptions } from './tar-reader.ts';
export { renderDisk, type DiskGeometry, type Layer, type RenderOptions } from './render.ts';

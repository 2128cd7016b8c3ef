/** The content-addressed store of what was imported and rendered. */
export { syncDirectory, writeFileAtomic } from './atomic-write.ts';
export { errnoName, fileError } from './fs-error.ts';
export { imageIdOf, openStore, treeStoreIdOf } from './store.ts';
export type { NewDisk, NewImage, SourceFile, Stage1Image, Store } from './store.ts';
export type { DiskDescription, ImageSource, StoredImage } from './records.ts';
export type { RemoteRecord } from './remote-table.ts';
export type { Workspace } from './workspace.ts';

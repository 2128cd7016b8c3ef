/** Where things are in the data directory. */
import { join } from 'node:path';

export interface StoreLayout {
  /** `<imageID>.json`: records of images; mtime = last used. */
  images: string;
  /** `<imageID>`: appc image manifests. */
  manifests: string;
  /** `<treeStoreID>/disk`, `<treeStoreID>/disk.json`. */
  trees: string;
  /** `<imageID>/manifest`, `<imageID>/rootfs/…`. */
  stage1: string;
  /** `<key>.json`: which image a local file was. */
  sources: string;
  /** `<key>.json`: which image a name or URL was. */
  remotes: string;
  /** `<imageID>/config`, `<imageID>/manifest`: documents of OCI and Docker images, byte for byte. */
  documents: string;
  /** `<algorithm>/<digits>`: layers as they came, where they are kept. */
  blobs: string;
  /** Everything half-made. */
  tmp: string;
  locks: string;
}

export function storeLayout(dataDir: string): StoreLayout {
  const cas = join(dataDir, 'cas');
  return {
    images: join(cas, 'image'),
    manifests: join(cas, 'manifest'),
    trees: join(cas, 'tree'),
    stage1: join(cas, 'stage1'),
    sources: join(cas, 'source'),
    remotes: join(cas, 'remote'),
    documents: join(cas, 'document'),
    blobs: join(cas, 'blob'),
    tmp: join(cas, 'tmp'),
    locks: join(dataDir, 'locks'),
  };
}

/** The same tree under another name. */
import type { TarEntry } from '../rootfs/index.ts';

/** Entries relative to a top as members of an archive, the top called `name` (byte string, '' for "the archive itself"). */
export async function* membersOf(entries: AsyncIterable<TarEntry>, name: string): AsyncGenerator<TarEntry, void, undefined> {
  const below = (path: string): string => (name === '' ? path : path === '' ? name : `${name}/${path}`);
  for await (const entry of entries) {
    const path = below(entry.path);
    const linkPath = entry.type === 'hardlink' ? below(entry.linkPath) : entry.linkPath;
    yield { ...entry, linkPath, path: entry.type === 'directory' ? `${path === '' ? '.' : path}/` : path };
  }
}

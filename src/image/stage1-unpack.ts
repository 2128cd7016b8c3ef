/** Stage1 images are trusted code of the host, so these alone are really unpacked. */
import { chmodSync, closeSync, fsyncSync, linkSync, mkdirSync, openSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join, posix } from 'node:path';
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import { readTar } from '../rootfs/index.ts';
import type { TarEntry } from '../rootfs/index.ts';
import { parseImageManifest } from '../schema/appc.ts';
import type { ImageManifest } from '../schema/appc.ts';
import { fileError } from '../store/fs-error.ts';
import { imageIdOf } from '../store/store.ts';
import { requireAciPlatform } from './aci.ts';
import { utf8Text } from './bytes.ts';
import { decompress } from './decompress.ts';
import { hostPlatform } from './platform.ts';
import { hashed } from './render-image.ts';

const MANIFEST_MAX_BYTES = 1 << 20;

/** A stage1 ACI as stored. */
export interface Stage1Archive {
  /** Path or URL: begins messages. */
  name: string;
  /** From the beginning, at each call. */
  open(): ByteSource;
}

/** Throws RktError. */
export async function readStage1Manifest({ name, open }: Stage1Archive): Promise<ImageManifest> {
  for await (const entry of readTar(decompress(open(), name), { name })) {
    if (entry.type === 'file' && memberPath(entry.path, name) === 'manifest') return parseStage1Manifest(await smallContent(entry, name), name);
  }
  throw new RktError('BAD_IMAGE', `${name}: no image manifest found in layout`);
}

function parseStage1Manifest(bytes: Uint8Array, name: string): ImageManifest {
  return parseImageManifest(utf8Text(bytes, `${name}: manifest`), `${name}: manifest`);
}

/** Makes a directory with `manifest` and `rootfs/` of an ACI. Returns the image ID. Throws RktError. */
export async function unpackStage1({ name, open }: Stage1Archive, directory: string): Promise<string> {
  const { stream, sha512Hex } = hashed(decompress(open(), name));
  const tree = newTree(join(directory, 'rootfs'), name);
  let manifest: Uint8Array | undefined;
  try {
    mkdirSync(directory, { mode: 0o755 });
    for await (const entry of readTar(stream, { name: name })) {
      const path = memberPath(entry.path, name);
      if (path === '') continue;
      if (path === 'manifest') {
        if (entry.type !== 'file') throw bad(name, path, 'expected a file');
        manifest = await smallContent(entry, name);
      } else if (path === 'rootfs' || path.startsWith('rootfs/')) await tree.add(path.slice('rootfs/'.length), entry);
      else throw new RktError('BAD_IMAGE', `${name}: unrecognized file path in layout: ${JSON.stringify(path)}`);
    }
    if (manifest === undefined) throw new RktError('BAD_IMAGE', `${name}: no image manifest found in layout`);
    if (!tree.exists()) throw new RktError('BAD_IMAGE', `${name}: no rootfs found in layout`);
    requireAciPlatform(parseStage1Manifest(manifest, name), name, hostPlatform());
    writeFileSync(join(directory, 'manifest'), manifest, { mode: 0o644 });
  } catch (error) {
    throw fileError(error, `cannot unpack ${name}`);
  }
  return imageIdOf(sha512Hex());
}

async function smallContent(entry: TarEntry, name: string): Promise<Uint8Array> {
  if (entry.sizeBytes > MANIFEST_MAX_BYTES) throw new RktError('LIMIT', `${name}: manifest of ${entry.sizeBytes} bytes, at most ${MANIFEST_MAX_BYTES} are accepted`);
  const bytes = new Uint8Array(entry.sizeBytes);
  for await (const { offsetBytes, data } of entry.body) bytes.set(data, offsetBytes);
  return bytes;
}

function bad(origin: string, path: string, what: string): RktError {
  return new RktError('BAD_IMAGE', `${origin}: ${JSON.stringify(path)}: ${what}`);
}

/** Relative, no `..`, nothing but what a file system can hold. */
function memberPath(path: string, origin: string): string {
  if (path.startsWith('/') || path.split('/').includes('..')) throw bad(origin, path, 'the path leads out of the archive');
  return posix.normalize(Buffer.from(path, 'latin1').toString('utf8')).replace(/^\.\/?|\/+$/g, '');
}

interface UnpackedTree {
  /** Adds a member; the path is relative to the tree, empty for its root. */
  add(path: string, entry: TarEntry): Promise<void>;
  exists(): boolean;
}

/**
 * A tree that only grows: nothing is replaced, and a parent is always a directory made here, so no member can be written through a
 * link of another.
 */
function newTree(root: string, origin: string): UnpackedTree {
  const members = new Map<string, 'directory' | 'file' | 'symlink'>();

  function makeParents(path: string): void {
    const parent = path === '' ? undefined : posix.dirname(path).replace(/^\.$/, '');
    if (parent === undefined) return;
    const kind = members.get(parent);
    if (kind === 'directory') return;
    if (kind !== undefined) throw bad(origin, path, 'its parent is no directory');
    makeParents(parent);
    mkdirSync(join(root, parent), { mode: 0o755 });
    members.set(parent, 'directory');
  }

  async function add(path: string, entry: TarEntry): Promise<void> {
    if (entry.type === 'directory' && members.get(path) === 'directory') return;
    if (members.has(path)) throw new RktError('BAD_IMAGE', `${origin}: duplicate file entry in archive: ${path}`);
    if (path === '' && entry.type !== 'directory') throw new RktError('BAD_IMAGE', `${origin}: rootfs is not a directory`);
    makeParents(path);
    const target = join(root, path);
    switch (entry.type) {
      case 'directory':
        mkdirSync(target, { mode: 0o755 });
        members.set(path, 'directory');
        return;
      case 'file':
        await writeContent(target, entry);
        members.set(path, 'file');
        return;
      case 'symlink':
        symlinkSync(insideLink(path, entry.linkPath), target);
        members.set(path, 'symlink');
        return;
      case 'hardlink': {
        const source = memberPath(entry.linkPath, origin).replace(/^rootfs\//, '');
        if (members.get(source) !== 'file') throw bad(origin, path, `hard link to ${JSON.stringify(entry.linkPath)}, which is no file before it`);
        linkSync(join(root, source), target);
        members.set(path, 'file');
        return;
      }
      default:
        throw bad(origin, path, `a stage1 image cannot hold a ${entry.type} file`);
    }
  }

  function insideLink(path: string, linkPath: string): string {
    const target = posix.join('/', posix.dirname(path), linkPath);
    const depth = linkPath.split('/').reduce(
      (state, part) => {
        const level = state.level + (part === '..' ? -1 : part === '' || part === '.' ? 0 : 1);
        return { level, lowest: Math.min(state.lowest, level) };
      },
      { level: path.split('/').length - 1, lowest: 0 },
    );
    if (linkPath === '' || linkPath.startsWith('/') || depth.lowest < 0) throw bad(origin, path, `symbolic link to ${JSON.stringify(linkPath)}, which leads out of the image (${target})`);
    return linkPath;
  }

  return { add, exists: () => members.get('') === 'directory' };
}

/** Made under another name first is not needed: the whole tree appears by one rename. */
async function writeContent(path: string, entry: TarEntry): Promise<void> {
  const fd = openSync(path, 'wx', 0o600);
  try {
    for await (const { offsetBytes, data } of entry.body) {
      for (let at = 0; at < data.length; ) at += writeSync(fd, data, at, data.length - at, offsetBytes + at);
    }
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  chmodSync(path, entry.mode & 0o755);
}

/**
 * The layer between an app's image and what the app writes: mount points and the files of /etc that a pod decides. They are no
 * part of what the app has written, and nothing has to be copied to the writable disk before the app starts.
 */
import { NR_llistxattr } from '../../runtime/abi.gen.ts';
import { changeMode, changeOwner, isDirectory, lstat, makeDirectories, makeDirectory, statIfAny, writeFile } from '../../runtime/linux/files.ts';

/** Something is mounted there, so it must be a directory: a symbolic link of the image in this place would take the mount elsewhere. */
const MOUNT_POINTS = ['dev', 'proc', 'sys'];
/** Made where the image has nothing of the name. */
const DIRECTORIES: readonly [string, number][] = [['run', 0o755], ['tmp', 0o1777]];

export interface ProvidedFiles {
  /** Name in /etc → content; takes the place of what the image has. */
  files: ReadonlyMap<string, string>;
  /** Only where the image has none. */
  fallbackFiles: ReadonlyMap<string, string>;
}

/**
 * Makes the layer for the image mounted at `lower` in the new directory `layer`. Returns the files that have no place in it,
 * because the image's /etc is not a plain directory or has a link of that name: they are for the finished root.
 */
export function makeProvidedLayer(layer: string, lower: string, { files, fallbackFiles }: ProvidedFiles): ProvidedFiles {
  makeDirectories(layer);
  for (const name of MOUNT_POINTS) {
    const status = entryOf(`${lower}/${name}`);
    if (status === undefined || !isDirectory(status)) makeDirectory(`${layer}/${name}`);
  }
  for (const [name, mode] of DIRECTORIES) {
    if (entryOf(`${lower}/${name}`) !== undefined) continue;
    makeDirectory(`${layer}/${name}`);
    changeMode(`${layer}/${name}`, mode);
  }
  if (!makeEtc(`${layer}/etc`, `${lower}/etc`)) return { files, fallbackFiles };
  for (const [name, content] of files) writeFile(`${layer}/etc/${name}`, content, { mode: 0o644 });
  const linked = new Map<string, string>();
  for (const [name, content] of fallbackFiles) {
    const status = entryOf(`${lower}/etc/${name}`);
    if (status === undefined) writeFile(`${layer}/etc/${name}`, content, { mode: 0o644 });
    else if (statIfAny(`${lower}/etc/${name}`) === undefined) linked.set(name, content);
  }
  return { files: new Map(), fallbackFiles: linked };
}

const entryOf = (path: string): ReturnType<typeof statIfAny> => statIfAny(path, { followLinks: false });

/** Of two layers' directories the upper one's owner and mode count. False when the image's is none, or has attributes that would be lost. */
function makeEtc(etc: string, imageEtc: string): boolean {
  if (entryOf(imageEtc) === undefined) {
    makeDirectory(etc);
    return true;
  }
  const status = lstat(imageEtc);
  if (!isDirectory(status) || sys.call(NR_llistxattr, imageEtc, null, 0) > 0) return false;
  makeDirectory(etc);
  changeMode(etc, status.mode & 0o7777);
  changeOwner(etc, status.uid, status.gid);
  return true;
}

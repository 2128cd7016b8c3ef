/**
 * The layer between an app's image and what the app writes: mount points and the files of /etc that a pod decides. They are no
 * part of what the app has written, and nothing has to be copied to the writable disk before the app starts.
 */
import { NR_llistxattr } from '../../runtime/abi.gen.ts';
import { changeMode, changeOwner, exists, isDirectory, makeDirectories, makeDirectory, statIfAny, symlink, writeFile } from '../../runtime/linux/files.ts';

/** Something is mounted there, so it must be a directory: a symbolic link of the image in this place would take the mount elsewhere. */
const MOUNT_POINTS = ['dev', 'proc', 'sys'];
/** What /etc/mtab leads to where the image has an /etc without one, as in rkt. */
const MTAB_TARGET = '../proc/self/mounts';
/** Made where the image has nothing of the name. */
const DIRECTORIES: readonly [string, number][] = [['run', 0o755], ['tmp', 0o1777]];

export interface ProvidedLayer {
  files: ProvidedFiles;
  /** False: there is no /run/rkt yet where one is wanted. */
  hasRunRkt: boolean;
}

export interface ProvidedFiles {
  /** Name in /etc → content; takes the place of what the image has. */
  files: ReadonlyMap<string, string>;
  /** Only where the image has none. */
  fallbackFiles: ReadonlyMap<string, string>;
}

/**
 * Makes the layer for the image mounted at `lower` in the new directory `layer`. Returns what has no place in it, because
 * the image's directory is not a plain one or has a link of that name: that is for the finished root.
 */
export function makeProvidedLayer(layer: string, { lower, files, wantsRunRkt }: { lower: string; files: ProvidedFiles; wantsRunRkt: boolean }): ProvidedLayer {
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
  const hasRunRkt = wantsRunRkt && coverDirectory(`${layer}/run`, `${lower}/run`);
  if (hasRunRkt) makeDirectory(`${layer}/run/rkt`);
  return { files: provideFiles(layer, lower, files), hasRunRkt };
}

function provideFiles(layer: string, lower: string, { files, fallbackFiles }: ProvidedFiles): ProvidedFiles {
  if (!coverDirectory(`${layer}/etc`, `${lower}/etc`)) return { files, fallbackFiles };
  if (entryOf(`${lower}/etc`) !== undefined && entryOf(`${lower}/etc/mtab`) === undefined) symlink(MTAB_TARGET, `${layer}/etc/mtab`);
  for (const [name, content] of files) writeFile(`${layer}/etc/${name}`, content, { mode: 0o644 });
  const linked = new Map<string, string>();
  for (const [name, content] of fallbackFiles) {
    const status = entryOf(`${lower}/etc/${name}`);
    if (status === undefined) writeFile(`${layer}/etc/${name}`, content, { mode: 0o644 });
    else if (!exists(`${lower}/etc/${name}`)) linked.set(name, content);
  }
  return { files: new Map(), fallbackFiles: linked };
}

const entryOf = (path: string): ReturnType<typeof statIfAny> => statIfAny(path, { followLinks: false });

/**
 * A directory of the layer over one of the image: the upper one's owner and mode count. False when the image's is none,
 * or has attributes that would be lost.
 */
function coverDirectory(directory: string, imageDirectory: string): boolean {
  const status = entryOf(imageDirectory);
  if (status !== undefined && (!isDirectory(status) || sys.call(NR_llistxattr, imageDirectory, null, 0) > 0)) return false;
  makeDirectory(directory);
  if (status === undefined) return true;
  changeMode(directory, status.mode & 0o7777);
  changeOwner(directory, status.uid, status.gid);
  return true;
}

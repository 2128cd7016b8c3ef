/** Whether this host has what a pod wants to share with it. Stage1 looks again, and shares what it has looked at. */
import { statSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { RktError } from '../error.ts';
import { isErrno } from '../linux/errno.ts';
import { allVolumes } from '../schema/index.ts';
import type { PodManifest } from '../schema/index.ts';

/** Throws RktError NOT_FOUND, UNSUPPORTED or IO naming the volume. */
export function checkHostVolumes(manifest: PodManifest): void {
  for (const volume of allVolumes(manifest)) if (volume.kind === 'host') checkSource(volume.name, volume.source);
}

function checkSource(name: string, source: string): void {
  const where = `volume ${JSON.stringify(name)}: source ${source}`;
  let status: Stats;
  try {
    status = statSync(source);
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) throw new RktError('NOT_FOUND', `${where} does not exist`);
    throw new RktError('IO', `${where} cannot be shared`, { cause });
  }
  const what = specialFile(status);
  if (what === undefined) return;
  throw new RktError('UNSUPPORTED', `${where} is ${what}: only directories and regular files can be shared with a virtual machine`, {
    hint: 'nothing of this host listens inside the virtual machine: publish a port, or share the data instead',
  });
}

function specialFile(status: Stats): string | undefined {
  if (status.isSocket()) return 'a socket';
  if (status.isFIFO()) return 'a named pipe';
  if (status.isCharacterDevice()) return 'a character device';
  return status.isBlockDevice() ? 'a block device' : undefined;
}

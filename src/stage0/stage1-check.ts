/** What cannot be asked of a pod because of the stage1 that would run it; found out before anything is made. */
import { RktError } from '../error.ts';
import type { ImageManifest } from '../schema/index.ts';
import { annotationValue, interfaceVersion } from './entrypoint.ts';
import type { MachineOptions } from './prepare.ts';
import type { RunRequest } from './run.ts';
import { networkKind, rootfsKind } from './stage1-abilities.ts';

/** Flags of the virtual machine where their names are not those of the options. */
const MACHINE_FLAGS: Readonly<Record<string, string>> = { accelerator: 'accel', memoryMib: 'mem' };

const ADD_ENTRYPOINT = 'coreos.com/rkt/stage1/app/add';

/** What a pod is made with. Throws RktError UNSUPPORTED, PERMISSION. */
export function checkMachine(stage1: ImageManifest, machine: MachineOptions): void {
  if (rootfsKind(stage1) === 'disk') return;
  if (process.geteuid?.() !== 0) throw new RktError('PERMISSION', `stage1 image ${stage1.name}: only root can run pods without a virtual machine`);
  const { tpm, ...rest } = machine;
  const [option] = [...Object.entries(rest).flatMap(([name, value]) => (value === undefined || value === false ? [] : [name])), ...(tpm === 'on' ? ['tpm'] : [])];
  if (option !== undefined) throw new RktError('UNSUPPORTED', `--${MACHINE_FLAGS[option] ?? option}: stage1 image ${stage1.name} runs no virtual machine`);
}

/** A pod to which apps are to be added. Throws RktError UNSUPPORTED. */
export function checkMutable(stage1: ImageManifest): void {
  if (annotationValue(stage1, ADD_ENTRYPOINT) === undefined) throw new RktError('UNSUPPORTED', `stage1 image ${stage1.name}: apps cannot be added to its pods (it has no ${ADD_ENTRYPOINT})`);
}

/** What a pod is started with. `warn` hears of what the stage1 is too old for. Throws RktError UNSUPPORTED, USAGE. */
export function checkStart(stage1: ImageManifest, request: RunRequest, warn: (message: string) => void): void {
  checkMachine(stage1, request.machine);
  const version = interfaceVersion(stage1);
  const says = (isSaid: boolean, since: number, flag: string): void => {
    if (isSaid && version < since) warn(`warning: ${flag} option is not supported by stage1`);
  };
  says(request.hostname !== undefined, 2, '--hostname');
  says(request.names.resolv !== 'default' || request.names.hosts !== 'default', 4, '--dns-conf-mode');
  says(request.ipc !== undefined, 6, '--ipc');
  const names = request.networks.map(({ name }) => name).join(',');
  switch (networkKind(stage1)) {
    case 'tap':
      if (request.network.kind === 'host') throw new RktError('UNSUPPORTED', 'flavor kvm requires private network configuration (try --net)');
      if (request.ipc === 'parent') throw new RktError('UNSUPPORTED', 'flavor kvm requires private IPC namespace (try to remove --ipc)');
      break;
    case 'host':
      if (names !== 'host' && names !== 'default') throw new RktError('UNSUPPORTED', `--net=${names}: stage1 image ${stage1.name} shares the network of this host (try --net=host)`);
      break;
    case 'own':
  }
}

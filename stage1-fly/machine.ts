/** This host, as the agent sees the machine it runs on: there is nothing to boot, and all but the app's own is left alone. */
import { close } from '../runtime/linux/fds.ts';
import { statIfAny } from '../runtime/linux/files.ts';
import type { AppPlace, AppRequest, Machine } from '../guest-agent/machine/machine.ts';
import { Stage1Error } from '../stage1-kvm/error.ts';
import type { RunOptions } from '../stage1-kvm/options.ts';
import { print } from '../stage1-kvm/report.ts';
import { buildAppRoot } from './app-root.ts';
import { killInNamespace } from './processes.ts';
import type { LocalTransport } from './transport.ts';
import { planVolumes } from './volumes.ts';

/** Where stage0 lays out the apps of a stage1 that runs no virtual machine (rkt's stage1 interface). */
const rootDirectoryOf = (app: string): string => `stage1/rootfs/opt/stage2/${app}/rootfs`;
/** What this flavor does not enforce. */
const WITHOUT_EFFECT: readonly string[] = ['resource/memory', 'resource/cpu', 'os/linux/cpu-shares'];

export interface HostMachineOptions {
  dns: RunOptions['dns'];
  transport: LocalTransport;
  /** The agent is done. */
  onPowerOff(): void;
}

export function hostMachine({ dns, transport, onPowerOff }: HostMachineOptions): Machine {
  const namespaceFds: number[] = [];
  return {
    transport,
    i386: statIfAny('/proc/sys/abi/vsyscall32') !== undefined,
    ownsProcesses: false,
    prepareTransport() {},
    boot() {},
    openAttestation() {
      throw new Error('a pod without a virtual machine has no TPM');
    },
    configure: () => Promise.resolve(),
    place: (request, warn) => Promise.resolve(placeApp(request, warn)),
    release() {
      for (const fd of namespaceFds.splice(0)) {
        killInNamespace(fd);
        close(fd);
      }
    },
    log: (message) => print(2, `stage1: ${message}\n`),
    powerOff: onPowerOff,
  };

  function placeApp({ app, pod, start }: AppRequest, warn: (message: string) => void): AppPlace {
    for (const { name } of app.isolators) if (WITHOUT_EFFECT.includes(name)) warn(`isolator ${name} has no effect in a pod without a virtual machine`);
    const directory = rootDirectoryOf(app.name);
    if (statIfAny(directory) === undefined) throw new Stage1Error(`${directory} does not exist: this stage1 needs an rkt that lays out directories`);
    const root = buildAppRoot({ directory, volumes: planVolumes(app, pod, start.podManifest), dns, readOnly: app.readOnlyRoot });
    namespaceFds.push(root.mountNamespaceFd);
    return {
      root,
      // The main process's group gets signals by itself; what has left it is ended with the app.
      cgroup: { fd: -1, signal: () => undefined, kill: () => killInNamespace(root.mountNamespaceFd), oomKills: () => 0 },
    };
  }
}

/** This host, as the agent sees the machine it runs on: there is nothing to boot, and all but the app's own is left alone. */
import { close } from '../runtime/linux/fds.ts';
import { exists } from '../runtime/linux/files.ts';
import type { Limits } from '../guest-agent/app/isolators.ts';
import type { AppPlace, AppRequest, Machine } from '../guest-agent/machine/machine.ts';
import { Stage1Error } from '../stage1-kvm/error.ts';
import type { RunOptions } from '../stage1-kvm/options.ts';
import { print } from '../stage1-kvm/report.ts';
import { buildAppRoot } from './app-root.ts';
import { killInNamespace } from './processes.ts';
import type { LocalTransport } from './transport.ts';
import { planVolumes } from './volumes.ts';

/** Where stage0 lays out the apps of a stage1 that runs no virtual machine (rkt's stage1 interface). */
export const rootDirectoryOf = (app: string): string => `stage1/rootfs/opt/stage2/${app}/rootfs`;
/** Limits would need a cgroup, and whoever has started this process decides about those. */
const LIMIT_ISOLATORS: Readonly<Record<keyof Limits, string>> = {
  memoryBytes: 'resource/memory', cpuMilli: 'resource/cpu', cpuShares: 'os/linux/cpu-shares', pids: 'coreos.com/rkt/pids-limit',
};

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
    i386: exists('/proc/sys/abi/vsyscall32'),
    ownsProcesses: false,
    prepareTransport() {},
    boot() {},
    openAttestation() {
      throw new Error('a pod without a virtual machine has no TPM');
    },
    configure: () => Promise.resolve(),
    place: (request, warn) => Promise.resolve(placeApp(request, warn)),
    findNewDisks() {},
    displace: () => Promise.reject(new Error('apps of a pod without a virtual machine cannot be removed')),
    inspect: () => Promise.reject(new Error('the files of a pod without a virtual machine are in its directory')),
    release() {
      for (const fd of namespaceFds.splice(0)) {
        killInNamespace(fd);
        close(fd);
      }
    },
    log: (message) => print(2, `stage1: ${message}\n`),
    powerOff: onPowerOff,
  };

  function placeApp({ app, pod, start, limits, sysctls }: AppRequest, warn: (message: string) => void): AppPlace {
    for (const limit of Object.keys(LIMIT_ISOLATORS) as (keyof Limits)[]) {
      if (limits[limit] !== undefined) warn(`isolator ${LIMIT_ISOLATORS[limit]} has no effect in a pod without a virtual machine`);
    }
    if (sysctls.size > 0) throw new Stage1Error("os/unix/sysctl: a pod without a virtual machine has no kernel of its own, and this host's is not changed for it");
    const directory = rootDirectoryOf(app.name);
    if (!exists(directory)) throw new Stage1Error(`${directory} does not exist: this stage1 needs an rkt that lays out directories`);
    const root = buildAppRoot({ directory, volumes: planVolumes(app, pod, start.podManifest), dns, readOnly: app.readOnlyRoot });
    namespaceFds.push(root.mountNamespaceFd);
    return {
      root,
      notifyPath: `/tmp/.rkt-${start.uuid}-notify`,
      // The main process's group gets signals by itself; what has left it is ended with the app.
      cgroup: { fd: -1, signal: () => undefined, kill: () => killInNamespace(root.mountNamespaceFd), memoryKills: () => ({ count: 0, limitBytes: undefined }), watchMemoryKills: () => () => undefined },
    };
  }
}

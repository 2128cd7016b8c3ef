/** What the host measures of a pod's machine before it runs: the same for a pod that is started and one that is predicted. */
import { O_RDONLY } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { open } from '../../runtime/linux/files.ts';
import type { JsonObject } from '../../src/tpm/canonical-json.ts';
import type { HostFacts } from '../../src/tpm/host-measurements.ts';
import type { RunOptions } from '../options.ts';
import { canonicalConfiguration, kernelCommandLine, type KernelFormat, type VirtualMachine } from '../vmm/machine.ts';
import { fileDigest } from './file-digest.ts';

export interface MeasuredMachine {
  machine: VirtualMachine;
  format: KernelFormat;
  /** Path of QEMU. */
  program: string;
  firmwareFd: number;
  kernelFd: number;
  initramfsFd: number;
}

/** @param manifest the pod manifest's text, as it goes to the guest */
export function hostFacts(measured: MeasuredMachine, manifest: string, options: RunOptions): HostFacts {
  const { machine, format, program } = measured;
  return {
    vmm: { name: nameOf(program), sha256: programDigest(program) },
    firmware: [{ name: 'qboot.rom', sha256: fileDigest(measured.firmwareFd, 'firmware') }],
    configuration: JSON.parse(canonicalConfiguration(machine)) as JsonObject,
    kernelSha256: fileDigest(measured.kernelFd, 'kernel'),
    initramfsSha256: fileDigest(measured.initramfsFd, 'initramfs'),
    commandLine: kernelCommandLine(machine, format),
    sealed: options.sealed,
    insecureOptions: insecureOptions(options),
    manifest: JSON.parse(manifest) as JsonObject,
    uuid: options.uuid,
  };
}

const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

function programDigest(path: string): string {
  const fd = open(path, O_RDONLY);
  try {
    return fileDigest(fd, path);
  } finally {
    close(fd);
  }
}

/** All that were in force, also those that only stage0 knew. */
function insecureOptions({ insecure, insecureOnHost }: RunOptions): string[] {
  const inGuest = Object.entries(insecure).filter(([, isOff]) => isOff).map(([name]) => name);
  return [...inGuest, ...insecureOnHost];
}

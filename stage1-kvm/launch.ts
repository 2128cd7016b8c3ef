/** From the pod directory to a running QEMU, as quickly as possible: nothing QEMU does not need happens before it runs. */
import { NR_getuid, NR_sendfile, O_RDONLY, O_RDWR } from '../runtime/abi.gen.ts';
import { check } from '../runtime/linux/errors.ts';
import { close, pipe } from '../runtime/linux/fds.ts';
import { fstat, readAt, readText } from '../runtime/linux/files.ts';
import { memfd } from '../runtime/linux/memory.ts';
import { chooseAccelerator } from './accelerator/choose.ts';
import type { RunOptions } from './options.ts';
import { INITRAMFS_PATH, KERNEL_PATH, openPodFile, readPod, SCRATCH_PATH, type Pod } from './pod/directory.ts';
import { appSerial } from './pod/start-message.ts';
import { KERNEL_HEAD_BYTES, kernelFormat } from './vmm/kernel-image.ts';
import { kernelCommandLine, planMachine, SCRATCH_SERIAL, type VirtualMachine } from './vmm/machine.ts';
import { qemuArguments } from './vmm/qemu-arguments.ts';
import { findQemu, podUserId, startQemu } from './vmm/qemu.ts';
import { machineSize } from './vmm/size.ts';
import { startKernelTransport } from './vsock/kernel-transport.ts';
import { startOwnTransport } from './vsock/own-transport.ts';
import type { Transport } from './vsock/transport.ts';

export interface LaunchedPod {
  pod: Pod;
  machine: VirtualMachine;
  kernelPath: string;
  transport: Transport;
  qemuPid: number;
  /** Read ends of pipes. */
  consoleFd: number;
  qemuErrorFd: number;
}

const OTHERS_READ = 0o004;

/**
 * @param onFault the guest broke the rules of its vsock device
 * @throws Stage1Error
 */
export function launchPod(options: RunOptions, onFault: (fault: Error) => void): LaunchedPod {
  const program = findQemu();
  const pod = readPod();
  const kernelPath = options.kernel ?? KERNEL_PATH;
  const kernelFd = readableByAll(openPodFile(kernelPath, O_RDONLY));
  const initramfsFd = readableByAll(openPodFile(options.initramfs ?? INITRAMFS_PATH, O_RDONLY));
  const head = new Uint8Array(KERNEL_HEAD_BYTES);
  readAt(kernelFd, head, 0);
  const format = kernelFormat(kernelPath, head);
  const { accelerator, kvmGroup } = chooseAccelerator(options.accelerator);

  const disks = pod.apps.map(({ disk }, index) => ({ serial: appSerial(index), readOnly: true, fd: openPodFile(disk.path, O_RDONLY) }));
  if (pod.hasScratchDisk) disks.push({ serial: SCRATCH_SERIAL, readOnly: false, fd: openPodFile(SCRATCH_PATH, O_RDWR) });
  const size = machineSize(pod.apps.map(({ app }) => app), { hostCpus: countCpus(), memoryMiB: options.memoryMiB, cpus: options.cpus });
  const machine = planMachine(format, {
    accelerator,
    size,
    disks: disks.map(({ serial, readOnly }) => ({ serial, readOnly })),
    network: options.network === 'none' ? 'none' : 'user',
    vsock: options.vsock,
  });

  const transport = options.vsock === 'kernel' ? startKernelTransport() : startOwnTransport({ onFault });
  const console = pipe();
  const errors = pipe();
  const diskFds = disks.map(({ fd }) => fd);
  const uid = podUserId(options.uuid);
  let qemuPid: number;
  try {
    qemuPid = startQemu(program, {
      arguments: qemuArguments(machine, {
        uuid: options.uuid, kernelFd, initramfsFd, diskFds, commandLine: kernelCommandLine(machine, format), vsockFd: transport.qemuFd, guestCid: transport.guestCid, consoleFd: console.writeEnd,
      }),
      fds: [kernelFd, initramfsFd, transport.qemuFd, console.writeEnd, ...diskFds],
      stderrFd: errors.writeEnd,
      ownFds: [console.readEnd, errors.readEnd],
      jail: {
        user: sys.call(NR_getuid) === 0 ? { uid, gid: uid, groups: kvmGroup === null ? [] : [kvmGroup] } : null,
        hostNetwork: machine.network === 'user',
      },
    });
  } catch (error) {
    transport.close();
    throw error;
  }
  transport.qemuStarted();
  for (const fd of [kernelFd, initramfsFd, console.writeEnd, errors.writeEnd, ...diskFds]) close(fd);
  return { pod, machine, kernelPath, transport, qemuPid, consoleFd: console.readEnd, qemuErrorFd: errors.readEnd };
}

/** QEMU opens kernel and initramfs by /proc/self/fd as its own user: a private file is copied to where that is allowed. */
function readableByAll(fd: number): number {
  const status = fstat(fd);
  if ((status.mode & OTHERS_READ) !== 0) return fd;
  const copy = memfd('rkt-boot', 0);
  let left = status.sizeBytes;
  while (left > 0) {
    const count = check(sys.call(NR_sendfile, copy, fd, null, left), 'sendfile', fd);
    if (count === 0) break;
    left -= count;
  }
  close(fd);
  return copy;
}

function countCpus(): number {
  // "0-3,8": what this host runs on now.
  let count = 0;
  for (const range of readText('/sys/devices/system/cpu/online').trim().split(',')) {
    const [first, last] = range.split('-').map(Number);
    count += (last ?? first!) - first! + 1;
  }
  return Math.max(1, count);
}

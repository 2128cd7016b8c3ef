/** From the pod directory to a running QEMU, as quickly as possible: nothing QEMU does not need happens before it runs. */
import { NR_getuid, NR_sendfile, O_RDONLY, O_RDWR, O_WRONLY, SOCK_STREAM } from '../runtime/abi.gen.ts';
import { check } from '../runtime/linux/errors.ts';
import { close, pipe } from '../runtime/linux/fds.ts';
import { fstat, open, readAt, readText } from '../runtime/linux/files.ts';
import { memfd } from '../runtime/linux/memory.ts';
import { socketPair } from '../runtime/linux/sockets.ts';
import { chooseAccelerator } from './accelerator/choose.ts';
import { Stage1Error } from './error.ts';
import type { RunOptions } from './options.ts';
import { INSPECTED_SERIAL, readInspectedPod } from './pod/inspected.ts';
import { INITRAMFS_PATH, KERNEL_PATH, openPodFile, readPod, SCRATCH_PATH, type Pod } from './pod/directory.ts';
import { readGuestNetwork, type GuestNetwork } from './pod/guest-network.ts';
import { appSerial } from './pod/start-message.ts';
import { hostFacts } from './tpm/host-facts.ts';
import { PodTpm } from './tpm/pod-tpm.ts';
import { tpmUserId } from './tpm/swtpm.ts';
import { KERNEL_HEAD_BYTES, kernelFormat } from './vmm/kernel-image.ts';
import { kernelCommandLine, planMachine, SCRATCH_SERIAL, type KernelFormat, type VirtualMachine } from './vmm/machine.ts';
import { makeGuestRam, startPrefault } from './vmm/guest-ram.ts';
import { networkCards } from './vmm/network-cards.ts';
import { qemuArguments } from './vmm/qemu-arguments.ts';
import { findQemu, podUserId, startQemu } from './vmm/qemu.ts';
import { machineSize } from './vmm/size.ts';
import { startShares, type Shares } from './volumes/shares.ts';
import { startKernelTransport } from './vsock/kernel-transport.ts';
import { startOwnTransport } from './vsock/own-transport.ts';
import type { Transport } from './vsock/transport.ts';

/** Everything that is decided before anything is started. */
export interface PodPlan {
  pod: Pod;
  machine: VirtualMachine;
  format: KernelFormat;
  /** Path of QEMU. */
  program: string;
  kernelPath: string;
  kernelFd: number;
  initramfsFd: number;
  firmwareFd: number;
  kvmGroup: number | null;
  /** Null: stage0 has not set up any. */
  guestNetwork: GuestNetwork | null;
}

export interface LaunchedPod extends PodPlan {
  transport: Transport;
  tpm: PodTpm | null;
  shares: Shares;
  qemuPid: number;
  /** Read ends of pipes. */
  consoleFd: number;
  qemuErrorFd: number;
  /** QEMU's control connection, of mutable pods only. */
  qmpFd: number | null;
}

const FIRMWARE_PATH = '/usr/share/qemu/qboot.rom';
const OTHERS_READ = 0o004;

/** @throws Stage1Error */
export function planPod(options: RunOptions): PodPlan {
  const program = findQemu();
  const pod = options.inspectedApp === null ? readPod() : readInspectedPod(options.inspectedApp);
  if (pod.apps.length === 0 && !options.mutable && options.inspectedApp === null) throw new Stage1Error('pod: apps must name at least one app');
  const kernelPath = options.kernel ?? KERNEL_PATH;
  const kernelFd = openPodFile(kernelPath, O_RDONLY);
  const head = new Uint8Array(KERNEL_HEAD_BYTES);
  readAt(kernelFd, head, 0);
  const format = kernelFormat(kernelPath, head);
  const { accelerator, kvmGroup } = chooseAccelerator(options.accelerator);
  const disks = pod.apps.flatMap(({ share }, index) => (share === undefined ? [{ serial: appSerial(index), readOnly: true }] : []));
  if (pod.hasScratchDisk) disks.push(options.inspectedApp === null ? { serial: SCRATCH_SERIAL, readOnly: false } : { serial: INSPECTED_SERIAL, readOnly: true });
  const machine = planMachine(format, {
    accelerator,
    size: machineSize(pod.apps.map(({ app }) => app), { hostCpus: countCpus(), memoryMiB: options.memoryMiB, cpus: options.cpus, pod: pod.limits }),
    disks,
    network: options.network.kind === 'tap' ? { taps: options.network.taps.length } : options.network.kind,
    volumes: pod.volumes.map(({ tag }) => tag),
    vsock: options.vsock,
    tpm: pod.hasTpm,
    givesBackMemory: options.giveBackMemory,
    hotPlug: options.mutable,
  });
  return {
    pod, machine, format, program, kernelPath, kernelFd, kvmGroup,
    initramfsFd: openPodFile(options.initramfs ?? INITRAMFS_PATH, O_RDONLY),
    firmwareFd: openPodFile(FIRMWARE_PATH, O_RDONLY),
    guestNetwork: readGuestNetwork(),
  };
}

/**
 * @param onFault the guest broke the rules of its vsock device
 * @throws Stage1Error, and what measuring throws: then nothing of the guest has run, and what was started ends with this program
 */
export function launchPod(options: RunOptions, onFault: (fault: Error) => void): LaunchedPod {
  const plan = planPod(options);
  const { pod, machine } = plan;
  const isRoot = sys.call(NR_getuid) === 0;
  const uid = podUserId(options.uuid);
  // First: it starts while the rest is being prepared.
  const tpm = pod.hasTpm ? new PodTpm(isRoot ? tpmUserId(options.uuid) : null) : null;
  const shares = startShares(pod.volumes);
  // Reads all of a file that has not been measured before, which may take longer than QEMU waits for its TPM.
  const facts = tpm === null ? null : hostFacts(plan, pod.manifest, options);
  const kernelFd = readableByAll(plan.kernelFd);
  const initramfsFd = readableByAll(plan.initramfsFd);
  const diskFds = pod.apps.flatMap(({ disk, share }) => (share === undefined ? [openPodFile(disk.path, O_RDONLY)] : []));
  if (pod.hasScratchDisk) diskFds.push(openPodFile(SCRATCH_PATH, options.inspectedApp === null ? O_RDWR : O_RDONLY));
  const { cards, fds: cardFds } = networkCards(options.network, { guestNetwork: plan.guestNetwork, accelerator: machine.accelerator });
  const ramFd = makeGuestRam(machine.size.memoryMiB, isRoot ? uid : null);
  const transport = options.vsock === 'kernel' ? startKernelTransport() : startOwnTransport({ ramFd, onFault });
  const console = pipe();
  const errors = pipe();
  const nullFd = open('/dev/null', O_WRONLY);
  const [qmpFd, qemuQmpFd] = machine.hotPlug ? socketPair(SOCK_STREAM) : [null, null];
  const bootFds = [...(qemuQmpFd === null ? [] : [qemuQmpFd]), kernelFd, initramfsFd, plan.firmwareFd, console.writeEnd, nullFd, ...diskFds, ...cardFds];
  let qemuPid: number;
  try {
    qemuPid = startQemu({
      program: plan.program,
      arguments: qemuArguments(machine, {
        uuid: options.uuid, ramFd, kernelFd, initramfsFd, firmwareFd: plan.firmwareFd, diskFds, commandLine: kernelCommandLine(machine, plan.format),
        vsockFd: transport.qemuFd, guestCid: transport.guestCid, consoleFd: console.writeEnd, qmpFd: qemuQmpFd, cards, volumeFds: shares.qemuFds, tpm: tpm === null ? null : { fd: tpm.qemuFd, nullFd },
      }),
      fds: [ramFd, transport.qemuFd, ...shares.qemuFds, ...(tpm === null ? [] : [tpm.qemuFd]), ...bootFds],
      stderrFd: errors.writeEnd,
      ownFds: [console.readEnd, errors.readEnd],
      user: isRoot ? { uid, gid: uid, groups: plan.kvmGroup === null ? [] : [plan.kvmGroup] } : null,
      hostNetwork: machine.network === 'user',
    });
    // QEMU has not come to its guest: it waits for an answer of its TPM.
    if (tpm !== null) tpm.measureHost(facts!);
  } catch (error) {
    transport.close();
    throw error;
  }
  startPrefault(ramFd, machine.size.memoryMiB);
  transport.qemuStarted();
  if (tpm !== null) close(tpm.qemuFd);
  for (const fd of [errors.writeEnd, ...bootFds]) close(fd);
  return { ...plan, transport, tpm, shares, qemuPid, consoleFd: console.readEnd, qemuErrorFd: errors.readEnd, qmpFd };
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

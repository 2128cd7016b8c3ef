/** What virtual machine a pod gets. Pure: the same pod on the same kind of host always gets the same machine. */
import { Stage1Error } from '../error.ts';
import type { MachineSize } from './size.ts';

/**
 * `microvm` boots fastest but takes only kernels with a PVH entry (ELF) and few devices; `q35` is an ordinary PC with
 * PCI, started through qboot.
 */
export type Board = 'microvm' | 'q35';
export type Accelerator = 'kvm' | 'tcg';
/** `elf`: uncompressed with a PVH note, as kernel-config/ builds it; `bzimage`: as distributions ship it. */
export type KernelFormat = 'elf' | 'bzimage';

export interface Disk {
  /** How the guest finds it. */
  serial: string;
  readOnly: boolean;
}

/** `user`: QEMU's own user-mode network. */
export type MachineNetwork = 'none' | 'user' | { taps: number };

export interface VirtualMachine {
  board: Board;
  accelerator: Accelerator;
  size: MachineSize;
  disks: readonly Disk[];
  network: MachineNetwork;
  /** Tags of the directories that the guest shares with this host, over vhost-user. */
  volumes: readonly string[];
  /** `own`: the device in this program, through vhost-user; `kernel`: /dev/vhost-vsock. */
  vsock: 'own' | 'kernel';
  tpm: boolean;
  /** Whether memory that the guest has freed goes back to the host: a balloon that is never blown up, only told of free pages. */
  givesBackMemory: boolean;
  /** Disks can be plugged in while it runs. */
  hotPlug: boolean;
}

/** A virtio device and where it sits: the transport of the microvm, or the order on the PCI bus. */
export type Device =
  | { type: 'vsock'; slot: number }
  | { type: 'disk'; slot: number; serial: string; readOnly: boolean }
  | { type: 'network'; slot: number }
  | { type: 'balloon'; slot: number }
  /** A PCI bridge whose slots are for disks that come later. */
  | { type: 'bridge'; slot: number }
  | { type: 'volume'; slot: number; tag: string };

/** QEMU 7.2, hw/i386/microvm.c, without ACPI: transports of 512 bytes each, one interrupt each. */
export const MICROVM_TRANSPORTS = 8;
/** Of the root bus, beside the host bridge at 0 and the board's own bridge at 31. */
const Q35_SLOTS = 30;
const MICROVM_FIRST_ADDRESS = 0xfeb00000;
const MICROVM_TRANSPORT_BYTES = 512;
const MICROVM_FIRST_IRQ = 5;

/** Each has 31 usable slots (PCI-to-PCI bridge with a standard hot-plug controller, which reserves slot 0). */
export const HOT_PLUG_BRIDGES = 2;
export const SLOTS_PER_BRIDGE = 31;

export const SCRATCH_SERIAL = 'scratch';

/** @param kernel decides the board, and so does the number of devices. @throws Stage1Error when there are more than any board takes */
export function planMachine(kernel: KernelFormat, machine: Omit<VirtualMachine, 'board'>): VirtualMachine {
  const deviceCount = 1 + machine.disks.length + cardCount(machine.network) + (machine.givesBackMemory ? 1 : 0) + machine.volumes.length + (machine.hotPlug ? HOT_PLUG_BRIDGES : 0);
  if (deviceCount > Q35_SLOTS) throw new Stage1Error(`the apps, networks and volumes of this pod need ${deviceCount} devices: a machine has room for ${Q35_SLOTS}`);
  return { ...machine, board: kernel === 'elf' && deviceCount <= MICROVM_TRANSPORTS && !machine.hotPlug ? 'microvm' : 'q35' };
}

export function devicesOf(machine: VirtualMachine): Device[] {
  const devices: Device[] = [{ type: 'vsock', slot: 0 }];
  for (const disk of machine.disks) devices.push({ type: 'disk', slot: devices.length, ...disk });
  for (let card = 0; card < cardCount(machine.network); card++) devices.push({ type: 'network', slot: devices.length });
  if (machine.givesBackMemory) devices.push({ type: 'balloon', slot: devices.length });
  for (let bridge = 0; bridge < (machine.hotPlug ? HOT_PLUG_BRIDGES : 0); bridge++) devices.push({ type: 'bridge', slot: devices.length });
  for (const tag of machine.volumes) devices.push({ type: 'volume', slot: devices.length, tag });
  return devices;
}

function cardCount(network: MachineNetwork): number {
  if (network === 'none') return 0;
  return network === 'user' ? 1 : network.taps;
}

export function cpuModel(accelerator: Accelerator): string {
  // Under TCG: without ARAT the timer ticks at full rate when idle, the rest is x86-64-v2, which distributions build for.
  // Larger models make it slower.
  return accelerator === 'kvm' ? 'host' : 'qemu64,+arat,+rdrand,+ssse3,+sse4.1,+sse4.2,+popcnt';
}

/**
 * Nothing in it depends on the pod beyond the shape of its machine, nor on the host, so that it can be predicted and
 * shared: see kernel-config/README.md for what each word is worth.
 */
export function kernelCommandLine(machine: VirtualMachine, kernel: KernelFormat): string {
  const words = ['quiet', 'panic=-1', 'reboot=t', 'console=ttyS0', 'noreplace-smp'];
  // Our own kernel knows by itself that an emulated clock is steady.
  if (kernel === 'bzimage' && machine.accelerator === 'tcg') words.push('tsc=reliable', 'no_timer_check');
  // Nothing tells the kernel where the TPM is; asking it for an interrupt takes longer than never using one.
  if (machine.tpm) words.push('tpm_tis.force=1', 'tpm_tis.interrupts=0');
  if (machine.board === 'microvm') {
    words.push('pci=off');
    for (const { slot } of devicesOf(machine)) {
      const address = MICROVM_FIRST_ADDRESS + slot * MICROVM_TRANSPORT_BYTES;
      words.push(`virtio_mmio.device=${MICROVM_TRANSPORT_BYTES}@0x${address.toString(16)}:${MICROVM_FIRST_IRQ + slot}`);
    }
  }
  return words.join(' ');
}

/**
 * The machine in one canonical text, for whoever measures or compares it: no paths, no names of this pod or host, keys
 * in a fixed order.
 */
export function canonicalConfiguration(machine: VirtualMachine): string {
  return JSON.stringify({
    accelerator: machine.accelerator,
    board: machine.board,
    cpu: cpuModel(machine.accelerator),
    cpus: machine.size.cpus,
    devices: devicesOf(machine).map(canonicalDevice),
    formatVersion: 1,
    memoryMiB: machine.size.memoryMiB,
    tpm: machine.tpm,
  });
}

function canonicalDevice(device: Device): object {
  const { slot, type } = device;
  if (type === 'disk') return { readOnly: device.readOnly, serial: device.serial, slot, type };
  return type === 'volume' ? { slot, tag: device.tag, type } : { slot, type };
}

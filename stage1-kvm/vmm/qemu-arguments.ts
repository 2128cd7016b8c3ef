/** QEMU's command line for a machine. Pure; checked against QEMU 7.2. */
import { cpuModel, devicesOf, type Device, type VirtualMachine } from './machine.ts';

/** Everything QEMU gets is a descriptor that was opened before it lost its privileges; numbers as QEMU sees them. */
export interface QemuResources {
  uuid: string;
  /** The guest's memory: the vsock device lives in another process, which sees the same memory. */
  ramFd: number;
  kernelFd: number;
  initramfsFd: number;
  firmwareFd: number;
  commandLine: string;
  /** In the order of the machine's disks. */
  diskFds: readonly number[];
  /** Connected vhost-user socket, or /dev/vhost-vsock. */
  vsockFd: number;
  guestCid: number;
  /** Write end of the pipe for the serial console. */
  consoleFd: number;
  /** Socket on which a TPM answers, and something to write cancellations to; null for a machine without. */
  tpm: { fd: number; nullFd: number } | null;
  /** Socket for QEMU's machine protocol; null: QEMU cannot be controlled. */
  qmpFd: number | null;
  /** In the order of the machine's network devices. */
  cards: readonly NetworkCard[];
  /** Connected vhost-user sockets, in the order of the machine's volumes. */
  volumeFds: readonly number[];
}

export type NetworkCard =
  /** @param ports `tcp:ADDRESS:PORT-GUESTPORT` */
  | { kind: 'user'; ports: readonly string[] }
  /** A descriptor for each queue, and as many of /dev/vhost-net or none. */
  | { kind: 'tap'; mac: string; fds: readonly number[]; vhostFds: readonly number[] };

/** Nobody else is in a user-mode network, so the address need not be unique. */
export const USER_NETWORK_MAC = '52:54:00:12:34:56';

/** Numbers of the descriptor sets; any that do not collide. */
const CONSOLE_SET = 1;
const TPM_SET = 2;
const TPM_CANCEL_SET = 3;
const FIRST_DISK_SET = 16;
/** Requests that can be under way: what virtiofsd recommends. */
const VOLUME_QUEUE_SIZE = 1024;

/** They have no legacy form that could be switched off. */
const MODERN_ONLY: readonly Device['type'][] = ['vsock', 'volume', 'bridge'];

/** Arguments behind the program's name. */
export function qemuArguments(machine: VirtualMachine, resources: QemuResources): string[] {
  const { memoryMiB, cpus } = machine.size;
  const args = [
    '-name', `rkt-${resources.uuid}`,
    '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none',
    '-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    '-machine', boardOption(machine),
    '-accel', acceleratorOption(machine),
    '-cpu', cpuModel(machine.accelerator),
    '-smp', `${cpus}`,
    '-m', `${memoryMiB}M`,
    // None of these paths is looked up: the descriptors have been opened already.
    '-object', `memory-backend-file,id=ram,size=${memoryMiB}M,mem-path=/proc/self/fd/${resources.ramFd},share=on,align=2M`,
    '-kernel', `/proc/self/fd/${resources.kernelFd}`,
    '-initrd', `/proc/self/fd/${resources.initramfsFd}`,
    '-bios', `/proc/self/fd/${resources.firmwareFd}`,
    '-append', resources.commandLine,
    '-add-fd', `fd=${resources.consoleFd},set=${CONSOLE_SET}`,
    // Without append QEMU would truncate, which a pipe refuses.
    '-chardev', `file,id=console,path=/dev/fdset/${CONSOLE_SET},append=on`,
    '-serial', 'chardev:console',
  ];
  if (machine.board === 'microvm') args.push('-global', 'virtio-mmio.force-legacy=false');
  if (resources.tpm !== null) args.push(...tpmArguments(resources.tpm));
  if (resources.qmpFd !== null) args.push('-chardev', `socket,id=qmp,fd=${resources.qmpFd}`, '-mon', 'chardev=qmp,mode=control');
  // Else QEMU would leave plugging to ACPI, which this guest does not have.
  if (machine.hotPlug) args.push('-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off');
  let disk = 0;
  let card = 0;
  let bridge = 0;
  let volume = 0;
  for (const device of devicesOf(machine)) {
    if (device.type === 'disk') {
      args.push(...diskArguments(machine, device, { index: disk, fd: resources.diskFds[disk]! }));
      disk++;
    } else if (device.type === 'network') {
      args.push(...cardArguments(machine, device, { index: card, card: resources.cards[card]! }));
      card++;
    } else if (device.type === 'balloon') {
      args.push('-device', `${deviceName(machine, 'virtio-balloon')},free-page-reporting=on${placement(machine, device)}`);
    } else if (device.type === 'bridge') {
      args.push('-device', `pci-bridge,id=${bridgeId(bridge)},chassis_nr=${bridge + 1},shpc=on${placement(machine, device)}`);
      bridge++;
    } else if (device.type === 'volume') {
      args.push(...volumeArguments(machine, device, { index: volume, fd: resources.volumeFds[volume]! }));
      volume++;
    } else {
      args.push(...vsockArguments(machine, device, resources));
    }
  }
  return args;
}

export function bridgeId(bridge: number): string {
  return `hotplug${bridge}`;
}

/**
 * Emulated processors take turns on one thread: on threads of their own, one in a few hundred starts of a guest with two
 * of them ends in an oops, because QEMU 7.2 lets one processor run code that another has just patched.
 */
function acceleratorOption({ accelerator, size }: VirtualMachine): string {
  if (accelerator === 'kvm') return 'kvm';
  return size.cpus > 1 ? 'tcg,thread=single,tb-size=128' : 'tcg,tb-size=128';
}

function boardOption(machine: VirtualMachine): string {
  // What the kernel is told about devices is in its command line, which is measured: QEMU must not add to it.
  if (machine.board === 'microvm') return 'microvm,acpi=off,auto-kernel-cmdline=off,pic=on,pit=on,rtc=on,isa-serial=on,x-option-roms=off,memory-backend=ram';
  return 'q35,usb=off,vmport=off,smbus=off,sata=off,graphics=off,memory-backend=ram';
}

/** Passed through as if it were the host's: QEMU then never resets it, and the host's measurements stay. */
function tpmArguments({ fd, nullFd }: { fd: number; nullFd: number }): string[] {
  return [
    '-add-fd', `fd=${fd},set=${TPM_SET}`, '-add-fd', `fd=${nullFd},set=${TPM_CANCEL_SET}`,
    '-tpmdev', `passthrough,id=tpm,path=/dev/fdset/${TPM_SET},cancel-path=/dev/fdset/${TPM_CANCEL_SET}`, '-device', 'tpm-tis,tpmdev=tpm',
  ];
}

function vsockArguments(machine: VirtualMachine, device: Device, resources: QemuResources): string[] {
  const place = placement(machine, device);
  if (machine.vsock === 'kernel') return ['-device', `${deviceName(machine, 'vhost-vsock')},guest-cid=${resources.guestCid},vhostfd=${resources.vsockFd}${place}`];
  return ['-chardev', `socket,id=vsock,fd=${resources.vsockFd}`, '-device', `${deviceName(machine, 'vhost-user-vsock')},chardev=vsock${place}`];
}

function diskArguments(machine: VirtualMachine, device: Device & { type: 'disk' }, source: { index: number; fd: number }): string[] {
  const set = FIRST_DISK_SET + source.index;
  const node = `disk${source.index}`;
  const readOnly = device.readOnly ? 'on' : 'off';
  // The format is always said: a guest could write a header that a probe would believe.
  const blockdev = [
    'driver=raw', `node-name=${node}`, `read-only=${readOnly}`, 'auto-read-only=off', 'discard=unmap',
    'file.driver=file', `file.filename=/dev/fdset/${set}`, 'file.locking=off', 'file.aio=threads',
    // What a pod wrote is of use for as long as the host runs: its disk need not survive a host that loses power.
    ...(device.readOnly ? [] : ['cache.no-flush=on']),
  ];
  return ['-add-fd', `fd=${source.fd},set=${set}`, '-blockdev', blockdev.join(','), '-device', `${deviceName(machine, 'virtio-blk')},drive=${node},serial=${device.serial}${placement(machine, device)}`];
}

function cardArguments(machine: VirtualMachine, device: Device, { index, card }: { index: number; card: NetworkCard }): string[] {
  const id = `net${index}`;
  const mac = card.kind === 'user' ? USER_NETWORK_MAC : card.mac;
  const queues = card.kind === 'tap' && card.fds.length > 1 ? ',mq=on' : '';
  const options = `${queues}${placement(machine, device)}${machine.board === 'q35' ? ',romfile=' : ''}`;
  return ['-netdev', card.kind === 'user' ? userNetdev(id, card.ports) : tapNetdev(id, card), '-device', `${deviceName(machine, 'virtio-net')},netdev=${id},mac=${mac}${options}`];
}

function volumeArguments(machine: VirtualMachine, device: Device & { type: 'volume' }, { index, fd }: { index: number; fd: number }): string[] {
  const id = `volume${index}`;
  return ['-chardev', `socket,id=${id},fd=${fd}`, '-device', `${deviceName(machine, 'vhost-user-fs')},chardev=${id},tag=${device.tag},queue-size=${VOLUME_QUEUE_SIZE}${placement(machine, device)}`];
}

function userNetdev(id: string, ports: readonly string[]): string {
  return ['user', `id=${id}`, ...ports.map((port) => `hostfwd=${port.replace('-', '-:')}`)].join(',');
}

function tapNetdev(id: string, { fds, vhostFds }: NetworkCard & { kind: 'tap' }): string {
  const list = (name: string, numbers: readonly number[]): string => (numbers.length === 1 ? `${name}=${numbers[0]!}` : `${name}s=${numbers.join(':')}`);
  return ['tap', `id=${id}`, list('fd', fds), ...(vhostFds.length === 0 ? [] : ['vhost=on', list('vhostfd', vhostFds)])].join(',');
}

function deviceName(machine: VirtualMachine, base: string): string {
  return machine.board === 'microvm' ? `${base}-device` : `${base}-pci`;
}

function placement(machine: VirtualMachine, device: Device): string {
  if (machine.board === 'microvm') return `,bus=virtio-mmio-bus.${device.slot}`;
  return `,bus=pcie.0,addr=0x${(device.slot + 1).toString(16)}${MODERN_ONLY.includes(device.type) ? '' : ',disable-legacy=on'}`;
}

/** QEMU's command line for a machine. Pure; checked against QEMU 7.2. */
import { cpuModel, devicesOf, type Device, type VirtualMachine } from './machine.ts';

/** Everything QEMU gets is a descriptor that was opened before it lost its privileges; numbers as QEMU sees them. */
export interface QemuResources {
  uuid: string;
  kernelFd: number;
  initramfsFd: number;
  commandLine: string;
  /** In the order of the machine's disks. */
  diskFds: readonly number[];
  /** Connected vhost-user socket, or /dev/vhost-vsock. */
  vsockFd: number;
  guestCid: number;
  /** Write end of the pipe for the serial console. */
  consoleFd: number;
}

/** The only network a pod can have for now is its own, so the address need not be unique. */
export const GUEST_MAC = '52:54:00:12:34:56';
export const QBOOT = '/usr/share/qemu/qboot.rom';

/** Numbers of the descriptor sets; any that do not collide. */
const CONSOLE_SET = 1;
const FIRST_DISK_SET = 16;

/** Arguments behind the program's name. */
export function qemuArguments(machine: VirtualMachine, resources: QemuResources): string[] {
  const { memoryMiB, cpus } = machine.size;
  const shared = machine.vsock === 'own';
  const args = [
    '-name', `rkt-${resources.uuid}`,
    '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none',
    '-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    '-machine', boardOption(machine),
    '-accel', acceleratorOption(machine),
    '-cpu', cpuModel(machine.accelerator),
    '-smp', `${cpus}`,
    '-m', `${memoryMiB}M`,
    // The vsock device lives in another process, which sees the same memory.
    '-object', `memory-backend-memfd,id=ram,size=${memoryMiB}M,share=${shared ? 'on' : 'off'}`,
    // Neither path is looked up: the descriptors have been opened already.
    '-kernel', `/proc/self/fd/${resources.kernelFd}`,
    '-initrd', `/proc/self/fd/${resources.initramfsFd}`,
    '-append', resources.commandLine,
    '-add-fd', `fd=${resources.consoleFd},set=${CONSOLE_SET}`,
    // Without append QEMU would truncate, which a pipe refuses.
    '-chardev', `file,id=console,path=/dev/fdset/${CONSOLE_SET},append=on`,
    '-serial', 'chardev:console',
  ];
  if (machine.board === 'q35') args.push('-bios', QBOOT);
  else args.push('-global', 'virtio-mmio.force-legacy=false');
  let disk = 0;
  for (const device of devicesOf(machine)) {
    if (device.type === 'disk') {
      args.push(...diskArguments(machine, device, { index: disk, fd: resources.diskFds[disk]! }));
      disk++;
    } else if (device.type === 'network') {
      args.push('-netdev', 'user,id=net,ipv6=off', '-device', `${deviceName(machine, 'virtio-net')},netdev=net,mac=${GUEST_MAC}${placement(machine, device)}${machine.board === 'q35' ? ',romfile=' : ''}`);
    } else {
      args.push(...vsockArguments(machine, device, resources));
    }
  }
  return args;
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

function deviceName(machine: VirtualMachine, base: string): string {
  return machine.board === 'microvm' ? `${base}-device` : `${base}-pci`;
}

function placement(machine: VirtualMachine, device: Device): string {
  if (machine.board === 'microvm') return `,bus=virtio-mmio-bus.${device.slot}`;
  return `,bus=pcie.0,addr=0x${(device.slot + 1).toString(16)}${device.type === 'vsock' ? '' : ',disable-legacy=on'}`;
}

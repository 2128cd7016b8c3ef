/** Tap devices: the kernel's side of a virtual machine's network card (Documentation/networking/tuntap.rst). */
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { callInts, callMixed, systemCallError } from './libc.ts';

const TUN_DEVICE = '/dev/net/tun';
const TUNSETIFF = 0x400454ca;
const IFREQ_BYTES = 40;
const IFREQ_FLAGS_OFFSET = 16;
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
/** Each packet with a virtio header, so that checksums and segmentation can be left to whoever needs them done. */
const IFF_VNET_HDR = 0x4000;
const S_IFCHR = 0o020000;

const NR_FSOPEN = 430;
const NR_FSCONFIG = 431;
const NR_FSMOUNT = 432;
const FSCONFIG_CMD_CREATE = 6;
const CLOEXEC = 1;

/** Makes a tap in this thread's namespace that lives as long as one of its descriptors, one for each queue. */
export function openTap(name: string, queueCount: number): number[] {
  return openQueues(TUN_DEVICE, { name, queueCount });
}

/**
 * Opens the descriptors of a macvtap interface in this thread's namespace. Its device number is only in the sysfs of that
 * namespace, and its node would collide with that of another namespace, so both are made for the moment.
 */
export function openMacvtap(link: { name: string; index: number }, options: { nodePath: string; queueCount: number }): number[] {
  const [major = 0, minor = 0] = readSysfs(`class/net/${link.name}/tap${link.index}/dev`).trim().split(':').map(Number);
  const { value, errno } = callMixed('mknod', [options.nodePath, S_IFCHR | 0o600, deviceNumber(major, minor)]);
  if (value === -1) throw systemCallError(`cannot make the device node ${options.nodePath}`, errno);
  try {
    return openQueues(options.nodePath, { name: link.name, queueCount: options.queueCount });
  } finally {
    rmSync(options.nodePath, { force: true });
  }
}

function openQueues(path: string, { name, queueCount }: { name: string; queueCount: number }): number[] {
  const fds: number[] = [];
  try {
    for (let queue = 0; queue < queueCount; queue++) {
      const fd = openSync(path, 'r+');
      fds.push(fd);
      const request = Buffer.alloc(IFREQ_BYTES);
      request.write(name);
      request.writeUInt16LE(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (queueCount > 1 ? IFF_MULTI_QUEUE : 0), IFREQ_FLAGS_OFFSET);
      const { value, errno } = callMixed('ioctl', [fd, TUNSETIFF, request]);
      if (value === -1) throw systemCallError(`cannot set up the tap device ${name}`, errno);
    }
  } catch (error) {
    for (const fd of fds) closeSync(fd);
    throw error;
  }
  return fds;
}

/** A file of the sysfs of this thread's network namespace, through a mount that nobody else sees. */
function readSysfs(path: string): string {
  const context = systemCall('fsopen', callMixed('syscall', [NR_FSOPEN, 'sysfs', CLOEXEC]));
  try {
    systemCall('fsconfig', callMixed('syscall', [NR_FSCONFIG, context, FSCONFIG_CMD_CREATE, 0, 0, 0]));
    const mount = systemCall('fsmount', callInts('syscall', NR_FSMOUNT, context, CLOEXEC, 0));
    try {
      return readFileSync(`/proc/self/fd/${mount}/${path}`, 'utf8');
    } finally {
      closeSync(mount);
    }
  } finally {
    closeSync(context);
  }
}

function systemCall(name: string, { value, errno }: { value: number; errno: number }): number {
  if (value === -1) throw systemCallError(`cannot mount sysfs (${name})`, errno);
  return value;
}

/** glibc's makedev() for numbers that macvtap can have. */
function deviceNumber(major: number, minor: number): number {
  return (minor & 0xff) + major * 0x100 + Math.floor(minor / 0x100) * 0x100000;
}

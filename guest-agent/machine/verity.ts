/** dm-verity devices through the device-mapper ioctls (linux/dm-ioctl.h; kernel: Documentation/admin-guide/device-mapper/verity.rst). */
import {
  DM_DEV_CREATE, DM_DEV_REMOVE, DM_DEV_SUSPEND, DM_READONLY_FLAG, DM_TABLE_LOAD, O_RDWR, dm_ioctl_data_size, dm_ioctl_data_start, dm_ioctl_dev, dm_ioctl_flags, dm_ioctl_name,
  dm_ioctl_target_count, dm_ioctl_version, dm_target_spec_length, dm_target_spec_next, dm_target_spec_target_type, sizeof_dm_ioctl, sizeof_dm_target_spec,
} from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { close, ioctl } from '../../runtime/linux/fds.ts';
import { open, readText } from '../../runtime/linux/files.ts';
import type { VerityDisk } from '../../src/wire/messages.ts';

const CONTROL_DEVICE = '/dev/mapper/control';
const INTERFACE_VERSION = 4;
const SECTORS_PER_BLOCK = 8;
const BLOCK_BYTES = 4096;

/** Name → path of the devices made so far. */
const devices = new Map<string, string>();

/** The device without its table: it can be made before anything is known of the disk. */
export function createVerityDevice(name: string): string {
  const known = devices.get(name);
  if (known !== undefined) return known;
  const created = request({ name, flags: 0 });
  withControl((control) => ioctl(control, DM_DEV_CREATE, created, `create verity device ${name}`));
  const path = `/dev/dm-${minorOf(new DataView(created.buffer).getBigUint64(dm_ioctl_dev, true))}`;
  devices.set(name, path);
  return path;
}

/**
 * Names for the digest, the first that the kernel has is taken. Without the instructions that make a vector version worth while the
 * plain one is asked for by name: an emulated processor computes with vectors at a third of the speed.
 */
let digestNames = ['sha256'];

/** For kernels that choose the vector version wherever they can. */
export function chooseDigest(): void {
  const flags = readText('/proc/cpuinfo');
  const hasFastVectors = flags.includes(' avx2 ') || flags.includes(' sha_ni ');
  if (!hasFastVectors) digestNames = ['sha256-generic', 'sha256'];
}

/** Nobody may have it open (EBUSY). One that does not exist is fine. */
export function removeVerityDevice(name: string): void {
  if (!devices.has(name)) return;
  withControl((control) => ioctl(control, DM_DEV_REMOVE, request({ name, flags: 0 }), `remove verity device ${name}`));
  devices.delete(name);
}

/** A read-only device on which every block of `device` is checked against the root hash when it is read. Returns its path. */
export function openVerity(device: string, disk: VerityDisk): string {
  const path = createVerityDevice(disk.serial);
  withControl((control) => {
    loadTable(control, device, disk);
    ioctl(control, DM_DEV_SUSPEND, request({ name: disk.serial, flags: 0 }), `activate verity device ${disk.serial}`);
  });
  return path;
}

function loadTable(control: number, device: string, disk: VerityDisk): void {
  const names = digestNames;
  for (const [index, digest] of names.entries()) {
    try {
      ioctl(control, DM_TABLE_LOAD, tableRequest(device, disk, digest), `load verity table of ${disk.serial}`);
      digestNames = [digest];
      return;
    } catch (error) {
      if (!(error instanceof SysError) || index === names.length - 1) throw error;
    }
  }
}

function withControl(work: (control: number) => void): void {
  const control = open(CONTROL_DEVICE, O_RDWR);
  try {
    work(control);
  } finally {
    close(control);
  }
}

function request({ name, flags, payloadBytes = 0 }: { name: string; flags: number; payloadBytes?: number }): Uint8Array {
  const buffer = new Uint8Array(sizeof_dm_ioctl + payloadBytes);
  const view = new DataView(buffer.buffer);
  view.setUint32(dm_ioctl_version, INTERFACE_VERSION, true);
  view.setUint32(dm_ioctl_data_size, buffer.length, true);
  view.setUint32(dm_ioctl_data_start, sizeof_dm_ioctl, true);
  view.setUint32(dm_ioctl_flags, flags, true);
  buffer.set(sys.utf8(name), dm_ioctl_name);
  return buffer;
}

function tableRequest(device: string, { serial, dataBlocks, hashStartBlock, rootHashHex }: VerityDisk, digest: string): Uint8Array {
  const parameters = sys.utf8(`1 ${device} ${device} ${BLOCK_BYTES} ${BLOCK_BYTES} ${dataBlocks} ${hashStartBlock} ${digest} ${rootHashHex} -`);
  const targetBytes = (sizeof_dm_target_spec + parameters.length + 7) & ~7;
  const buffer = request({ name: serial, flags: DM_READONLY_FLAG, payloadBytes: targetBytes });
  const view = new DataView(buffer.buffer);
  view.setUint32(dm_ioctl_target_count, 1, true);
  const target = sizeof_dm_ioctl;
  view.setBigUint64(target + dm_target_spec_length, BigInt(dataBlocks * SECTORS_PER_BLOCK), true);
  view.setUint32(target + dm_target_spec_next, targetBytes, true);
  buffer.set(sys.utf8('verity'), target + dm_target_spec_target_type);
  buffer.set(parameters, target + sizeof_dm_target_spec);
  return buffer;
}

/** The kernel's 32-bit encoding of a device number: minor in bits 0–7 and 20–31. */
function minorOf(device: bigint): number {
  return Number((device & 0xffn) | ((device >> 12n) & 0xfff00n));
}

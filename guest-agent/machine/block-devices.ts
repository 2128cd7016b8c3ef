/** Virtio-blk devices by their serial. */
import { EIO } from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { readDirectory, readText, writeControlFile } from '../../runtime/linux/files.ts';
import { monotonicMs } from '../../runtime/linux/time.ts';
import { sleep } from '../../runtime/loop.ts';

/** Time a device may take to appear: its driver may be a module that was just loaded. */
const APPEAR_TIMEOUT_MS = 10_000;
const POLL_MS = 2;

/** Serial → device path. Asking for a serial is a request to the host, so each device is asked once. */
const bySerial = new Map<string, string>();
const asked = new Set<string>();

function lookAround(): void {
  for (const { name } of readDirectory('/sys/block')) {
    if (!name.startsWith('vd') || asked.has(name)) continue;
    try {
      bySerial.set(readText(`/sys/block/${name}/serial`).trim(), `/dev/${name}`);
      asked.add(name);
    } catch {
      // Still being set up.
    }
  }
}

/** The devices that are there already, by serial. */
export function scanBlockDevices(): ReadonlyMap<string, string> {
  try {
    lookAround();
  } catch {
    // No block layer yet.
  }
  return bySerial;
}

/** Lets the kernel look for devices that were plugged in meanwhile: nothing else tells it, there is no hot-plug controller. */
export function rescanPci(): void {
  writeControlFile('/sys/bus/pci/rescan', '1');
}

/** Takes the device out of the kernel; the host unplugs it then. One that does not exist is fine. */
export function ejectBlockDevice(serial: string): void {
  const name = bySerial.get(serial)?.slice('/dev/'.length);
  if (name === undefined) return;
  writeControlFile(`/sys/block/${name}/device/../remove`, '1');
  bySerial.delete(serial);
  asked.delete(name);
}

/** Path of the device, waiting for it a while. */
export async function findBlockDevice(serial: string): Promise<string> {
  const deadline = monotonicMs() + APPEAR_TIMEOUT_MS;
  for (;;) {
    const known = bySerial.get(serial);
    if (known !== undefined) return known;
    scanBlockDevices();
    if (bySerial.has(serial)) continue;
    if (monotonicMs() > deadline) throw new SysError(`no block device with serial "${serial}"`, EIO);
    await sleep(POLL_MS);
  }
}

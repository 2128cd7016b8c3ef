/**
 * Disks that are plugged into the running machine: one for each image, however many apps are made of it.
 *
 * They sit behind PCI bridges with a standard hot-plug controller that the guest's kernel has no driver for. So nothing waits:
 * a device is there as soon as QEMU has it, the agent tells the kernel to look; and it goes at once, because the slot was never
 * switched on, after the agent has taken it out of the kernel. (PCIe ports wait a second on removal, five with a button.)
 */
import { O_RDONLY } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { sleep } from '../../runtime/loop.ts';
import { Stage1Error } from '../error.ts';
import { openPodFile } from '../pod/directory.ts';
import type { AppDisk } from '../pod/pod.ts';
import { HOT_PLUG_BRIDGES, SLOTS_PER_BRIDGE } from '../vmm/machine.ts';
import { bridgeId } from '../vmm/qemu-arguments.ts';
import type { QmpChannel } from '../vmm/qmp.ts';

const SLOT_COUNT = HOT_PLUG_BRIDGES * SLOTS_PER_BRIDGE;
/** Beyond those of the command line. */
const FIRST_FD_SET = 256;
const UNPLUG_TIMEOUT_MS = 10_000;
/** QEMU says that a device has gone a moment before it lets go of its disk. */
const RELEASE_ATTEMPTS = 50;
const RELEASE_PAUSE_MS = 2;

interface HotDisk {
  key: string;
  slot: number;
  /** How the guest finds it; also names device and block node. */
  serial: string;
  userCount: number;
  plugged: Promise<void>;
}

export class HotDisks {
  readonly #qmp: QmpChannel;
  readonly #disks = new Map<string, HotDisk>();
  readonly #takenSlots = new Set<number>();
  #nextNumber = 1;

  constructor(qmp: QmpChannel) {
    this.#qmp = qmp;
  }

  /** @returns the serial under which the guest finds it. To be given back once. @throws Stage1Error */
  async take(file: AppDisk): Promise<string> {
    const key = `${file.rootHashHex} ${file.path}`;
    const disk = this.#disks.get(key) ?? this.#plug(key, file);
    disk.userCount++;
    try {
      await disk.plugged;
    } catch (error) {
      this.#disks.delete(key);
      throw error;
    }
    return disk.serial;
  }

  /** The guest does not use it any more for this app. @throws Stage1Error when it cannot be unplugged: its slot is lost then */
  async giveBack(serial: string): Promise<void> {
    const disk = [...this.#disks.values()].find((candidate) => candidate.serial === serial);
    if (disk === undefined || --disk.userCount > 0) return;
    this.#disks.delete(disk.key);
    const deleted = this.#qmp.deviceDeleted(serial, UNPLUG_TIMEOUT_MS);
    await Promise.all([deleted, this.#qmp.execute('device_del', { id: serial })]);
    await this.#deleteNode(serial);
    this.#takenSlots.delete(disk.slot);
  }

  #plug(key: string, file: AppDisk): HotDisk {
    const slot = this.#freeSlot();
    const serial = `disk-${this.#nextNumber++}`;
    const fd = openPodFile(file.path, O_RDONLY);
    this.#takenSlots.add(slot);
    const plugged = this.#connect(serial, slot, fd).catch((error: unknown) => {
      this.#takenSlots.delete(slot);
      throw error;
    }).finally(() => close(fd));
    const disk: HotDisk = { key, slot, serial, userCount: 0, plugged };
    this.#disks.set(key, disk);
    return disk;
  }

  async #connect(serial: string, slot: number, fd: number): Promise<void> {
    const set = FIRST_FD_SET + slot;
    await this.#qmp.execute('add-fd', { 'fdset-id': set }, fd);
    try {
      // The format is always said, and nothing QEMU does with it can write.
      const file = { driver: 'file', filename: `/dev/fdset/${set}`, locking: 'off', aio: 'threads' };
      await this.#qmp.execute('blockdev-add', { 'driver': 'raw', 'node-name': serial, 'read-only': true, 'auto-read-only': false, file });
    } finally {
      // QEMU has a copy of its own for as long as the disk is there.
      await this.#qmp.execute('remove-fd', { 'fdset-id': set });
    }
    try {
      await this.#qmp.execute('device_add', {
        'driver': 'virtio-blk-pci', 'id': serial, 'drive': serial, serial, 'bus': bridgeId(Math.floor(slot / SLOTS_PER_BRIDGE)),
        // Interrupts are few: one for the queue, one for changes.
        'addr': `0x${(1 + (slot % SLOTS_PER_BRIDGE)).toString(16)}`, 'disable-legacy': 'on', 'num-queues': 1, 'vectors': 2,
      });
    } catch (error) {
      await this.#deleteNode(serial);
      throw error;
    }
  }

  async #deleteNode(name: string): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#qmp.execute('blockdev-del', { 'node-name': name });
      } catch (error) {
        if (attempt === RELEASE_ATTEMPTS) throw error;
      }
      await sleep(RELEASE_PAUSE_MS);
    }
  }

  #freeSlot(): number {
    for (let slot = 0; slot < SLOT_COUNT; slot++) if (!this.#takenSlots.has(slot)) return slot;
    throw new Stage1Error(`all ${SLOT_COUNT} places for disks are taken`, 'apps of one image share a disk: remove apps of other images first');
  }
}

/**
 * The guest's memory as the vsock device sees it: regions QEMU shares by memfd, mapped into this process.
 * Everything the guest says is an address in here, so this is where every one of them is checked.
 */

/** The guest (or a QEMU the guest has taken over) broke the rules of virtio or vhost-user: its pod ends. */
export class GuestFault extends Error {}

export interface MemoryRegion {
  /** Guest-physical address. */
  guestAddress: number;
  /** Address in QEMU's own memory, which is how vhost-user names the rings. */
  userAddress: number;
  sizeBytes: number;
  /** Where it is mapped here. */
  hostAddress: number;
}

/** A view of memory at an address of this process; the caller answers for the range. */
export type MapBytes = (address: number, lengthBytes: number) => Uint8Array<ArrayBuffer>;

/** The engine's array buffers end at 2 GiB; larger regions are seen through windows that overlap by the largest object read. */
const WINDOW_BYTES = 2 ** 30;
const WINDOW_OVERLAP_BYTES = 2 ** 16;

export class GuestMemory {
  readonly #regions: readonly MemoryRegion[];
  readonly #mapBytes: MapBytes;
  readonly #windows = new Map<number, Uint8Array>();
  /** Nearly every address lies in the same region as the one before. */
  #last: MemoryRegion | undefined;

  constructor(regions: readonly MemoryRegion[], mapBytes: MapBytes) {
    this.#regions = regions;
    this.#mapBytes = mapBytes;
  }

  /** Address in this process of a guest-physical range. @throws GuestFault when it is not all inside one region */
  translate(guestAddress: number, lengthBytes: number): number {
    const last = this.#last;
    if (last !== undefined && guestAddress >= last.guestAddress && guestAddress - last.guestAddress + lengthBytes <= last.sizeBytes) return last.hostAddress + (guestAddress - last.guestAddress);
    for (const region of this.#regions) {
      const offset = guestAddress - region.guestAddress;
      if (offset >= 0 && offset < region.sizeBytes && offset + lengthBytes <= region.sizeBytes) {
        this.#last = region;
        return region.hostAddress + offset;
      }
    }
    throw new GuestFault(`no guest memory at 0x${guestAddress.toString(16)}, ${lengthBytes} bytes`);
  }

  /** Same for an address in QEMU's memory. @throws GuestFault */
  translateUser(userAddress: number, lengthBytes: number): number {
    for (const region of this.#regions) {
      const offset = userAddress - region.userAddress;
      if (offset >= 0 && offset < region.sizeBytes && offset + lengthBytes <= region.sizeBytes) return region.hostAddress + offset;
    }
    throw new GuestFault(`no shared memory at QEMU address 0x${userAddress.toString(16)}, ${lengthBytes} bytes`);
  }

  /** A view over a translated range that stays valid as long as the region is mapped. */
  view(hostAddress: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
    return this.#mapBytes(hostAddress, lengthBytes);
  }

  /** Copies out of a translated range of at most 64 KiB. */
  copyFrom(hostAddress: number, target: Uint8Array): void {
    const window = this.#window(hostAddress);
    const offset = hostAddress - window.start;
    target.set(window.bytes.subarray(offset, offset + target.length));
  }

  /** Copies into a translated range of at most 64 KiB. */
  copyTo(hostAddress: number, source: Uint8Array): void {
    const window = this.#window(hostAddress);
    window.bytes.set(source, hostAddress - window.start);
  }

  #window(hostAddress: number): { start: number; bytes: Uint8Array } {
    for (const region of this.#regions) {
      const offset = hostAddress - region.hostAddress;
      if (offset < 0 || offset >= region.sizeBytes) continue;
      const windowOffset = Math.floor(offset / WINDOW_BYTES) * WINDOW_BYTES;
      const start = region.hostAddress + windowOffset;
      let bytes = this.#windows.get(start);
      if (bytes === undefined) {
        const length = Math.min(WINDOW_BYTES + WINDOW_OVERLAP_BYTES, region.sizeBytes - windowOffset);
        bytes = this.#mapBytes(start, length);
        this.#windows.set(start, bytes);
      }
      return { start, bytes };
    }
    throw new GuestFault('address outside of guest memory');
  }
}

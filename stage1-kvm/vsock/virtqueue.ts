/**
 * Device side of a split virtqueue (virtio 1.2, section 2.7), with indirect descriptors and used-buffer notification
 * suppression by event index. The rings are written by the guest at any time: each field is read once and checked
 * before use, and nothing is kept that the guest could change behind the check.
 */
import { GuestFault, type GuestMemory } from './guest-memory.ts';

/** virtio_ring.h: VRING_DESC_F_* */
const DESC_NEXT = 1;
const DESC_WRITE = 2;
const DESC_INDIRECT = 4;
const AVAIL_NO_INTERRUPT = 1;
const USED_NO_NOTIFY = 1;

const DESCRIPTOR_BYTES = 16;
/** vhost-user-vsock queues have 128 entries; more than this is nobody's driver. */
export const MAX_QUEUE_SIZE = 1024;
/** Longest descriptor chain, direct or indirect. A vsock packet of 64 KiB in single pages is 18. */
const MAX_CHAIN = 128;

export interface QueueLayout {
  /** Entries; a power of two. */
  size: number;
  /** Addresses in QEMU's memory, as vhost-user gives them. */
  descriptorUserAddress: number;
  availableUserAddress: number;
  usedUserAddress: number;
  /** Index of the first available entry that has not been taken. */
  availableBase: number;
  eventIndex: boolean;
}

/** One buffer the guest offered: segments in this process's addresses, those the device may read first. */
export class Chain {
  head = 0;
  count = 0;
  readonly addresses: number[] = [];
  readonly lengths: number[] = [];
  /** Segments before this one are for reading, the others for writing. */
  readableCount = 0;
  readableBytes = 0;
  writableBytes = 0;
}

export class Virtqueue {
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #eventIndex: boolean;
  readonly #descriptors: Uint32Array;
  readonly #available: Uint16Array;
  readonly #used16: Uint16Array;
  readonly #used32: Uint32Array;
  readonly #table = new Uint8Array(MAX_CHAIN * DESCRIPTOR_BYTES);
  readonly #table32 = new Uint32Array(this.#table.buffer);
  #nextAvailable: number;
  #nextUsed: number;
  /** Used index at the last notification decision. */
  #notifiedUsed: number;
  #notifiedOnce = false;

  /** @throws GuestFault when the layout is not one of this memory */
  constructor(memory: GuestMemory, layout: QueueLayout) {
    const { size } = layout;
    if (size < 1 || size > MAX_QUEUE_SIZE || (size & (size - 1)) !== 0) throw new GuestFault(`queue size ${size}`);
    this.size = size;
    this.#memory = memory;
    this.#eventIndex = layout.eventIndex;
    const view = (userAddress: number, lengthBytes: number, alignment: number): Uint8Array<ArrayBuffer> => {
      if (userAddress % alignment !== 0) throw new GuestFault(`ring at 0x${userAddress.toString(16)} is not aligned to ${alignment}`);
      return memory.view(memory.translateUser(userAddress, lengthBytes), lengthBytes);
    };
    const descriptors = view(layout.descriptorUserAddress, size * DESCRIPTOR_BYTES, 16);
    this.#descriptors = new Uint32Array(descriptors.buffer, descriptors.byteOffset, size * 4);
    // flags, idx, ring[size], used_event
    const available = view(layout.availableUserAddress, 6 + 2 * size, 2);
    this.#available = new Uint16Array(available.buffer, available.byteOffset, 3 + size);
    // flags, idx, ring[size] of {id, len}, avail_event
    const used = view(layout.usedUserAddress, 6 + 8 * size, 4);
    this.#used16 = new Uint16Array(used.buffer, used.byteOffset, 3 + 4 * size);
    this.#used32 = new Uint32Array(used.buffer, used.byteOffset, 1 + 2 * size);
    this.#nextAvailable = layout.availableBase & 0xffff;
    this.#nextUsed = this.#used16[1]!;
    this.#notifiedUsed = this.#nextUsed;
  }

  /** What vhost-user calls the base: the next entry to take. */
  get availableBase(): number {
    return this.#nextAvailable;
  }

  /**
   * Reads the chain `ahead` entries behind the next one into `chain`, without taking it.
   * @returns false when the guest has not offered that many
   * @throws GuestFault
   */
  peek(chain: Chain, ahead: number): boolean {
    const offered = (Atomics.load(this.#available, 1) - this.#nextAvailable) & 0xffff;
    if (offered > this.size) throw new GuestFault(`${offered} entries offered in a queue of ${this.size}`);
    if (ahead >= offered) return false;
    const head = this.#available[2 + ((this.#nextAvailable + ahead) & (this.size - 1))]!;
    if (head >= this.size) throw new GuestFault(`descriptor ${head} in a queue of ${this.size}`);
    chain.head = head;
    chain.count = 0;
    chain.readableCount = 0;
    chain.readableBytes = 0;
    chain.writableBytes = 0;
    this.#walk(chain, this.#descriptors, this.size, head);
    return true;
  }

  /** Takes the next `count` entries, which have been peeked at. */
  advance(count: number): void {
    this.#nextAvailable = (this.#nextAvailable + count) & 0xffff;
  }

  /** Gives a taken chain back. */
  push(head: number, writtenBytes: number): void {
    const entry = 1 + 2 * (this.#nextUsed & (this.size - 1));
    this.#used32[entry] = head;
    this.#used32[entry + 1] = writtenBytes;
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    Atomics.store(this.#used16, 1, this.#nextUsed);
  }

  /** After pushing: whether the guest wants to be interrupted. */
  needsInterrupt(): boolean {
    if (this.#nextUsed === this.#notifiedUsed) return false;
    if (!this.#eventIndex) {
      this.#notifiedUsed = this.#nextUsed;
      return (Atomics.load(this.#available, 0) & AVAIL_NO_INTERRUPT) === 0;
    }
    const wanted = Atomics.load(this.#available, 2 + this.size);
    const previous = this.#notifiedUsed;
    this.#notifiedUsed = this.#nextUsed;
    const first = !this.#notifiedOnce;
    this.#notifiedOnce = true;
    // vring_need_event() of virtio_ring.h
    return first || ((this.#nextUsed - wanted - 1) & 0xffff) < ((this.#nextUsed - previous) & 0xffff);
  }

  /** Asks the guest not to kick. With event index this is so by default: its index only moves in enableKicks. */
  disableKicks(): void {
    if (!this.#eventIndex) Atomics.store(this.#used16, 0, USED_NO_NOTIFY);
  }

  /** Asks for a kick at the next entry. @returns true when one has already come: process it, no kick will tell */
  enableKicks(): boolean {
    if (this.#eventIndex) Atomics.store(this.#used16, 2 + 4 * this.size, this.#nextAvailable);
    else Atomics.store(this.#used16, 0, 0);
    return Atomics.load(this.#available, 1) !== this.#nextAvailable;
  }

  #walk(chain: Chain, table: Uint32Array, tableSize: number, first: number): void {
    let index = first;
    let inIndirect = tableSize !== this.size || table !== this.#descriptors;
    let limit = tableSize;
    for (;;) {
      if (index >= limit) throw new GuestFault(`descriptor ${index} in a table of ${limit}`);
      if (chain.count >= MAX_CHAIN) throw new GuestFault('descriptor chain does not end');
      const word = index * 4;
      const low = table[word]!;
      const high = table[word + 1]!;
      const length = table[word + 2]!;
      const flagsNext = table[word + 3]!;
      const flags = flagsNext & 0xffff;
      // Addresses beyond 2^53 are no memory, and would not be exact as a number.
      if (high >= 0x200000) throw new GuestFault('descriptor address out of range');
      const guestAddress = high * 0x100000000 + low;
      if ((flags & DESC_INDIRECT) !== 0) {
        if (inIndirect || (flags & DESC_NEXT) !== 0) throw new GuestFault('indirect descriptor inside a chain');
        if (length === 0 || length % DESCRIPTOR_BYTES !== 0 || length > this.#table.length) throw new GuestFault(`indirect table of ${length} bytes`);
        // The copy is what is checked and what is used.
        this.#memory.copyFrom(this.#memory.translate(guestAddress, length), this.#table.subarray(0, length));
        table = this.#table32;
        limit = length / DESCRIPTOR_BYTES;
        index = 0;
        inIndirect = true;
        continue;
      }
      if ((flags & DESC_WRITE) !== 0) {
        chain.writableBytes += length;
      } else {
        if (chain.count !== chain.readableCount) throw new GuestFault('readable descriptor behind a writable one');
        chain.readableBytes += length;
        chain.readableCount++;
      }
      chain.addresses[chain.count] = length === 0 ? 0 : this.#memory.translate(guestAddress, length);
      chain.lengths[chain.count] = length;
      chain.count++;
      if ((flags & DESC_NEXT) === 0) return;
      index = flagsNext >>> 16;
    }
  }
}

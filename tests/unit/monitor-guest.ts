/** A guest's vsock driver over real virtqueues in an array, and local programs behind fake descriptors. For tests. */
import { EAGAIN, type HostIo } from '../../stage1-kvm/vsock/host-io.ts';
import { GuestMemory } from '../../stage1-kvm/vsock/guest-memory.ts';
import { Virtqueue } from '../../stage1-kvm/vsock/virtqueue.ts';

export const EPIPE = 32;
export const HOST_BASE = 0x7f00_0000_0000;
export const USER_BASE = 0x5500_0000_0000;

/** Seeded generator (mulberry32): every failure can be repeated. */
export function random(seed: number): { next(limit: number): number; bytes(length: number): Uint8Array } {
  let state = seed >>> 0;
  const word = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
  return {
    next: (limit) => (limit <= 1 ? 0 : word() % limit),
    bytes: (length) => Uint8Array.from({ length }, () => word() & 0xff),
  };
}

/** Guest memory from guest-physical address 0 on. */
export class FakeMemory {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly memory: GuestMemory;
  readonly view: DataView;

  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(new ArrayBuffer(sizeBytes));
    this.view = new DataView(this.bytes.buffer);
    this.memory = new GuestMemory([{ guestAddress: 0, userAddress: USER_BASE, sizeBytes, hostAddress: HOST_BASE }], (address, length) => this.at(address, length));
  }

  at(hostAddress: number, length: number): Uint8Array<ArrayBuffer> {
    const offset = hostAddress - HOST_BASE;
    if (offset < 0 || offset + length > this.bytes.length) throw new Error(`device touched ${hostAddress.toString(16)}+${length}, which is not guest memory`);
    return this.bytes.subarray(offset, offset + length);
  }
}

/** Driver side of one split queue. */
export class DriverQueue {
  readonly size: number;
  readonly #memory: FakeMemory;
  readonly #base: number;
  readonly #free: number[] = [];
  #availableIndex = 0;
  #seenUsed = 0;
  readonly eventIndex: boolean;

  constructor(memory: FakeMemory, base: number, options: { size: number; eventIndex: boolean }) {
    this.#memory = memory;
    this.#base = base;
    this.size = options.size;
    this.eventIndex = options.eventIndex;
    for (let i = options.size - 1; i >= 0; i--) this.#free.push(i);
  }

  get availableAt(): number { return this.#base + this.size * 16; }
  get usedAt(): number { return (this.availableAt + 6 + 2 * this.size + 3) & ~3; }
  get freeDescriptors(): number { return this.#free.length; }
  get bytes(): number { return this.usedAt + 6 + 8 * this.size - this.#base; }

  device(): Virtqueue {
    return new Virtqueue(this.#memory.memory, {
      size: this.size,
      descriptorUserAddress: USER_BASE + this.#base,
      availableUserAddress: USER_BASE + this.availableAt,
      usedUserAddress: USER_BASE + this.usedAt,
      availableBase: 0,
      eventIndex: this.eventIndex,
    });
  }

  /** Offers a chain; with `tableAt`, as an indirect one whose table is written there. @returns head */
  offer(segments: { address: number; length: number; writable: boolean }[], tableAt?: number): number {
    const { view } = this.#memory;
    const put = (at: number, segment: { address: number; length: number }, flags: number, next: number): void => {
      view.setBigUint64(at, BigInt(segment.address), true);
      view.setUint32(at + 8, segment.length, true);
      view.setUint16(at + 12, flags, true);
      view.setUint16(at + 14, next, true);
    };
    let head: number;
    if (tableAt !== undefined) {
      head = this.#free.pop()!;
      segments.forEach((segment, i) => put(tableAt + i * 16, segment, (segment.writable ? 2 : 0) | (i + 1 < segments.length ? 1 : 0), i + 1));
      put(this.#base + head * 16, { address: tableAt, length: segments.length * 16 }, 4, 0);
      this.#chains.set(head, [head]);
    } else {
      const used = segments.map(() => this.#free.pop()!);
      head = used[0]!;
      segments.forEach((segment, i) => put(this.#base + used[i]! * 16, segment, (segment.writable ? 2 : 0) | (i + 1 < segments.length ? 1 : 0), used[i + 1] ?? 0));
      this.#chains.set(head, used);
    }
    view.setUint16(this.availableAt + 4 + 2 * (this.#availableIndex % this.size), head, true);
    this.#availableIndex = (this.#availableIndex + 1) & 0xffff;
    view.setUint16(this.availableAt + 2, this.#availableIndex, true);
    return head;
  }

  readonly #chains = new Map<number, number[]>();

  /** Chains the device has given back. */
  collect(): { head: number; written: number }[] {
    const { view } = this.#memory;
    const done: { head: number; written: number }[] = [];
    while (this.#seenUsed !== view.getUint16(this.usedAt + 2, true)) {
      const at = this.usedAt + 4 + 8 * (this.#seenUsed % this.size);
      const head = view.getUint32(at, true);
      const chain = this.#chains.get(head);
      if (chain === undefined) throw new Error(`device returned chain ${head}, which was not offered`);
      this.#chains.delete(head);
      this.#free.push(...chain.reverse());
      done.push({ head, written: view.getUint32(at + 4, true) });
      this.#seenUsed = (this.#seenUsed + 1) & 0xffff;
    }
    // used_event: interrupt at the next one
    view.setUint16(this.availableAt + 4 + 2 * this.size, this.#seenUsed, true);
    return done;
  }

  /** Whether the device wants a kick for what has been offered. */
  wantsKick(): boolean {
    const { view } = this.#memory;
    if (!this.eventIndex) return (view.getUint16(this.usedAt, true) & 1) === 0;
    return true;
  }
}

/** One local program's end of a stream. */
export interface Program {
  fd: number;
  /** What the device has written and the program has read. */
  received: number[];
  /** Written by the device, not yet read by the program. */
  inbox: number[];
  capacity: number;
  /** To be read by the device. */
  outbox: number[];
  ended: boolean;
  closed: boolean;
  sawEnd: boolean;
  deafened: boolean;
  deviceClosed: boolean;
}

export class FakePrograms {
  readonly #memory: FakeMemory;
  readonly programs = new Map<number, Program>();
  readonly #watchers = new Map<number, (state: { readable: boolean; writable: boolean; hungUp: boolean }) => void>();
  #soon: (() => void)[] = [];
  nowMs = 0;
  #nextFd = 100;
  /** Makes reads and writes short. */
  limit: (wanted: number) => number = (wanted) => wanted;

  constructor(memory: FakeMemory) {
    this.#memory = memory;
  }

  add(capacity = 4096): Program {
    const program: Program = { fd: this.#nextFd++, received: [], inbox: [], capacity, outbox: [], ended: false, closed: false, sawEnd: false, deafened: false, deviceClosed: false };
    this.programs.set(program.fd, program);
    return program;
  }

  /** Runs what was put off; false when there was nothing. */
  runSoon(): boolean {
    const jobs = this.#soon;
    this.#soon = [];
    for (const job of jobs) job();
    return jobs.length > 0;
  }

  notify(program: Program): void {
    this.#watchers.get(program.fd)?.({
      readable: program.outbox.length > 0 || program.ended || program.closed,
      writable: program.inbox.length < program.capacity || program.closed,
      hungUp: program.closed || (program.ended && program.sawEnd),
    });
  }

  readonly io: HostIo = {
    readv: (fd, addresses, lengths, count) => {
      const program = this.#program(fd);
      if (program.outbox.length === 0) return program.ended || program.closed || program.deafened ? 0 : -EAGAIN;
      let wanted = 0;
      for (let i = 0; i < count; i++) wanted += lengths[i]!;
      let left = Math.max(1, Math.min(this.limit(wanted), program.outbox.length, wanted));
      const total = left;
      for (let i = 0; i < count && left > 0; i++) {
        const step = Math.min(left, lengths[i]!);
        this.#memory.at(addresses[i]!, lengths[i]!).set(program.outbox.splice(0, step));
        left -= step;
      }
      return total;
    },
    writev: (fd, addresses, lengths, count) => {
      const all: number[] = [];
      for (let i = 0; i < count; i++) all.push(...this.#memory.at(addresses[i]!, lengths[i]!));
      return this.#write(fd, Uint8Array.from(all));
    },
    write: (fd, bytes) => this.#write(fd, bytes),
    shutdownWrite: (fd) => {
      const program = this.#program(fd);
      program.sawEnd = true;
      if (program.ended) this.notify(program);
    },
    shutdownRead: (fd) => { this.#program(fd).deafened = true; },
    close: (fd) => {
      const program = this.#program(fd);
      program.deviceClosed = true;
      program.sawEnd = true;
    },
    watch: (fd, changed) => {
      this.#program(fd);
      this.#watchers.set(fd, changed);
      this.#soon.push(() => { if (this.#watchers.get(fd) === changed) this.notify(this.programs.get(fd)!); });
    },
    unwatch: (fd) => { this.#watchers.delete(fd); },
    nowMs: () => this.nowMs,
    soon: (callback) => { this.#soon.push(callback); },
  };

  #program(fd: number): Program {
    const program = this.programs.get(fd);
    if (program === undefined || program.deviceClosed) throw new Error(`device used descriptor ${fd}, which is not open`);
    return program;
  }

  #write(fd: number, bytes: Uint8Array): number {
    const program = this.#program(fd);
    if (program.closed) return -EPIPE;
    const room = program.capacity - program.inbox.length;
    if (room <= 0) return -EAGAIN;
    const take = Math.max(1, Math.min(this.limit(bytes.length), room, bytes.length));
    program.inbox.push(...bytes.subarray(0, take));
    return take;
  }
}

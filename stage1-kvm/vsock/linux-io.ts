/** HostIo by system calls, and the parts of the vhost-user host that need them. */
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, MADV_DONTNEED, MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, NR_madvise, NR_mmap, NR_munmap, NR_readv, NR_write, NR_writev, PROT_NONE, PROT_READ, PROT_WRITE, SEEK_END, SHUT_RD, SHUT_WR } from '../../runtime/abi.gen.ts';
import { check } from '../../runtime/linux/errors.ts';
import { close } from '../../runtime/linux/fds.ts';
import { fstat, seek } from '../../runtime/linux/files.ts';
import { shutdown } from '../../runtime/linux/sockets.ts';
import { monotonicMs } from '../../runtime/linux/time.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';
import { GuestFault } from './guest-memory.ts';
import { MAX_SEGMENTS, type HostIo } from './host-io.ts';
import type { SharedRegion } from './vhost-user-messages.ts';

/** struct iovec[]; addresses as two halves, because big integers would be allocated for each. */
const vector = new Uint32Array(MAX_SEGMENTS * 4);

function fillVector(addresses: readonly number[], lengths: readonly number[], count: number): void {
  for (let i = 0; i < count; i++) {
    const address = addresses[i]!;
    vector[4 * i] = address;
    vector[4 * i + 1] = address / 0x100000000;
    vector[4 * i + 2] = lengths[i]!;
    vector[4 * i + 3] = 0;
  }
}

const PAGE_BYTES = 4096;
const HUGE_PAGE_BYTES = 2 << 20;

/** Address and size of guest memory as it is mapped here. */
const mappedRegions = new Map<number, number>();
/** So much traffic may leave its pages mapped before they are let go. */
const TRIM_AFTER_BYTES = 2 << 20;
const TRIM_DELAY_MS = 500;
let movedBytes = 0;
let isTrimming = false;

/** Every page of guest memory that is read or written would otherwise count as this process's own from then on. */
function moved(result: number): number {
  if (result > 0) movedBytes += result;
  if (movedBytes > TRIM_AFTER_BYTES && !isTrimming) {
    isTrimming = true;
    after(TRIM_DELAY_MS, () => {
      isTrimming = false;
      movedBytes = 0;
      // The memory is QEMU's and stays: only this process's page table entries go.
      for (const [address, sizeBytes] of mappedRegions) sys.call(NR_madvise, address, sizeBytes, MADV_DONTNEED);
    });
  }
  return result;
}

const EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

export const linuxIo: HostIo = {
  readv(fd, addresses, lengths, count) {
    fillVector(addresses, lengths, count);
    return moved(sys.call(NR_readv, fd, vector, count));
  },
  writev(fd, addresses, lengths, count) {
    fillVector(addresses, lengths, count);
    return moved(sys.call(NR_writev, fd, vector, count));
  },
  write: (fd, bytes) => sys.call(NR_write, fd, bytes, bytes.length),
  shutdownWrite: (fd) => shutdown(fd, SHUT_WR),
  shutdownRead: (fd) => shutdown(fd, SHUT_RD),
  close,
  watch(fd, changed) {
    watch(fd, EVENTS, (events) => changed({
      readable: (events & (EPOLLIN | EPOLLRDHUP)) !== 0,
      writable: (events & EPOLLOUT) !== 0,
      hungUp: (events & (EPOLLHUP | EPOLLERR)) !== 0,
    }));
  },
  unwatch,
  nowMs: monotonicMs,
  soon: (callback) => void after(0, callback),
};

export function mapBytes(address: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(sys.map(address, lengthBytes));
}

/**
 * A QEMU that the guest has taken over could make the file smaller afterwards: touching what is gone then kills this
 * process and with it the pod, as that QEMU could in many other ways.
 * @param ramFd the memory this program has made for the guest
 * @throws GuestFault when QEMU offers anything else, or too little of it
 */
export function mapRegion(fd: number, region: SharedRegion, ramFd: number): number {
  const lengthBytes = region.fileOffset + region.sizeBytes;
  if (!isSameFile(fd, ramFd)) throw new GuestFault("what QEMU shares is not the guest's memory");
  if (seek(fd, 0, SEEK_END) < lengthBytes) throw new GuestFault('guest memory is smaller than said');
  const place = unalignedPlace(lengthBytes);
  const hostAddress = check(sys.call(NR_mmap, place, lengthBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0), 'mmap') + region.fileOffset;
  mappedRegions.set(hostAddress, region.sizeBytes);
  return hostAddress;
}

/**
 * Free addresses that do not fit the file's huge pages: of those this process uses a few small pieces each, and a
 * whole one would count as its own memory.
 */
function unalignedPlace(lengthBytes: number): number {
  const reservedBytes = lengthBytes + HUGE_PAGE_BYTES + PAGE_BYTES;
  const reserved = check(sys.call(NR_mmap, 0, reservedBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), 'mmap');
  check(sys.call(NR_munmap, reserved, reservedBytes), 'munmap');
  return Math.ceil(reserved / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES + PAGE_BYTES;
}

function isSameFile(one: number, other: number): boolean {
  const [a, b] = [fstat(one), fstat(other)];
  return a.inode === b.inode && a.device.major === b.device.major && a.device.minor === b.device.minor;
}

export function unmapRegion(hostAddress: number, region: SharedRegion): void {
  mappedRegions.delete(hostAddress);
  check(sys.call(NR_munmap, hostAddress - region.fileOffset, region.fileOffset + region.sizeBytes), 'munmap');
}

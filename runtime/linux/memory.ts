/** Memory shared with other processes or devices. */
import {
  F_ADD_SEALS, MAP_SHARED, MFD_ALLOW_SEALING, MFD_CLOEXEC, NR_fcntl, NR_ftruncate, NR_memfd_create, NR_mmap, NR_munmap, PROT_READ, PROT_WRITE,
} from '../abi.gen.ts';
import { check } from './errors.ts';

/** Largest view of one mapping: the engine's buffers have 31-bit lengths. */
export const MAP_MAX_BYTES = 0x7fffffff;

export interface Mapping {
  address: number;
  lengthBytes: number;
  /** Make views (Uint8Array, Uint16Array, BigUint64Array …) of this. */
  buffer: ArrayBuffer;
}

export interface MapOptions {
  /** -1 with MAP_ANONYMOUS. */
  fd: number;
  lengthBytes: number;
  offsetBytes?: number;
  /** Defaults to reading and writing. */
  protection?: number;
  /** Defaults to MAP_SHARED. */
  flags?: number;
}

/** Maps at most MAP_MAX_BYTES; map a larger object in pieces. */
export function mapMemory(options: MapOptions): Mapping {
  const { fd, lengthBytes, offsetBytes = 0, protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED } = options;
  if (lengthBytes > MAP_MAX_BYTES) throw new RangeError(`mapping of ${lengthBytes} bytes exceeds ${MAP_MAX_BYTES}`);
  const address = check(sys.call(NR_mmap, 0, lengthBytes, protection, flags, fd, offsetBytes), 'mmap', fd);
  return { address, lengthBytes, buffer: sys.map(address, lengthBytes) };
}

/** Views of the mapping have length 0 from then on. */
export function unmapMemory(mapping: Mapping): void {
  sys.detach(mapping.buffer);
  check(sys.call(NR_munmap, mapping.address, mapping.lengthBytes), 'munmap');
}

/** A descriptor of anonymous memory; seals may be added later. */
export function memfd(name: string, sizeBytes: number): number {
  const fd = check(sys.call(NR_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING), 'memfd_create', name);
  check(sys.call(NR_ftruncate, fd, sizeBytes), 'ftruncate', name);
  return fd;
}

export function addSeals(fd: number, seals: number): void {
  check(sys.call(NR_fcntl, fd, F_ADD_SEALS, seals), 'fcntl', fd);
}

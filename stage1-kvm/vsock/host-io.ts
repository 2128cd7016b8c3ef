/** What the vsock device needs of its host: stream descriptors and time. Errors are negative errno values, as from the kernel. */
export interface HostIo {
  /** Both move bytes between a stream and addresses of this process (guest memory). */
  readv(fd: number, addresses: readonly number[], lengths: readonly number[], count: number): number;
  writev(fd: number, addresses: readonly number[], lengths: readonly number[], count: number): number;
  write(fd: number, bytes: Uint8Array): number;
  /** Ends the direction towards the local program. */
  shutdownWrite(fd: number): void;
  /** Ends the direction from the local program: what it sends from now on fails. */
  shutdownRead(fd: number): void;
  close(fd: number): void;
  /** Edge-triggered, for reading, writing and hang-up at once. */
  watch(fd: number, changed: (state: { readable: boolean; writable: boolean; hungUp: boolean }) => void): void;
  unwatch(fd: number): void;
  nowMs(): number;
  /** Runs it after everything else that is waiting has had its turn. */
  soon(callback: () => void): void;
}

/** Largest count of segments for one readv or writev. */
export const MAX_SEGMENTS = 256;

export const EAGAIN = 11;
export const EINTR = 4;

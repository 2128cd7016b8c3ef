/** Where a disk goes. Calls come one at a time; the data is not kept by the caller unchanged after the call (or its promise) is done. */
export interface DiskSink {
  /** Writes all of `data` at `offsetBytes`. */
  write(offsetBytes: number, data: Uint8Array): void | Promise<void>;
  /** Makes a range that may have been written read as zeros again, as a hole where the medium can. */
  zero(offsetBytes: number, lengthBytes: number): void | Promise<void>;
  /** Sets the final size; what was never written reads as zeros. */
  truncate(sizeBytes: number): void | Promise<void>;
}

/** What may be said about keeping output. No system calls here. */
export interface LogOptions {
  /** `auto`: files, and the journal where this process's own output goes there. */
  driver: 'auto' | 'k8s-file' | 'journald' | 'none';
  /** Of one file. */
  maxBytes: number;
  /** Of one app. */
  maxFiles: number;
  /** Socket of the journal; null: the system's. */
  journalPath: string | null;
}

export const DEFAULT_LOG_OPTIONS: LogOptions = { driver: 'auto', maxBytes: 10 << 20, maxFiles: 5, journalPath: null };

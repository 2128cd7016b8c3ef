/** The way out of a pod whose app owns the terminal, where Ctrl-C is a byte like any other. Pure. */
const ESCAPE = 0x1d;
const ESCAPE_COUNT = 3;
const ESCAPE_WINDOW_MS = 1000;

/** Recognises `^]` pressed three times within a second, which ends a pod whose app owns the terminal (as systemd-nspawn). */
export function escapeDetector(nowMs: () => number, escaped: () => void): (bytes: Uint8Array) => void {
  let count = 0;
  let firstMs = 0;
  return (bytes) => {
    for (const byte of bytes) {
      if (byte !== ESCAPE) {
        count = 0;
        continue;
      }
      const now = nowMs();
      if (count === 0 || now - firstMs > ESCAPE_WINDOW_MS) {
        count = 0;
        firstMs = now;
      }
      count++;
      if (count === ESCAPE_COUNT) escaped();
    }
  };
}

/** Cuts a stream into lines without their newlines. Pure. */
const NEWLINE = 10;

export interface LineSplitter {
  push(bytes: Uint8Array): void;
  /** What has no newline is a line, too. */
  end(): void;
}

/** @param maxBytes a longer line is cut into several */
export function lineSplitter(maxBytes: number, onLine: (line: Uint8Array) => void): LineSplitter {
  /** Not complete; copied, because chunks are reused. */
  let held = new Uint8Array(0);
  const cut = (rest: Uint8Array): Uint8Array => {
    let line = rest;
    for (; line.length > maxBytes; line = line.subarray(maxBytes)) onLine(line.subarray(0, maxBytes));
    return line;
  };
  const withHeld = (rest: Uint8Array): Uint8Array => {
    if (held.length === 0) return rest;
    const line = new Uint8Array(held.length + rest.length);
    line.set(held);
    line.set(rest, held.length);
    held = new Uint8Array(0);
    return line;
  };
  return {
    push(bytes) {
      let start = 0;
      for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
        onLine(cut(withHeld(bytes.subarray(start, end))));
        start = end + 1;
      }
      if (start < bytes.length) held = cut(withHeld(bytes.subarray(start))).slice();
    },
    end() {
      if (held.length > 0) onLine(held);
      held = new Uint8Array(0);
    },
  };
}

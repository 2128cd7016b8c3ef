/** The last bytes of something, for error messages. Pure. */
export class TailBuffer {
  readonly #limit: number;
  #bytes: Uint8Array = new Uint8Array(0);

  constructor(limitBytes: number) {
    this.#limit = limitBytes;
  }

  push(bytes: Uint8Array): void {
    const keep = Math.min(this.#bytes.length, Math.max(0, this.#limit - bytes.length));
    const added = bytes.subarray(Math.max(0, bytes.length - this.#limit));
    const joined = new Uint8Array(keep + added.length);
    joined.set(this.#bytes.subarray(this.#bytes.length - keep));
    joined.set(added, keep);
    this.#bytes = joined;
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }
}

/** The last `count` lines that are not empty, without control characters (the guest must not speak to the terminal). Pure. */
export function lastLines(text: string, count: number): string[] {
  const lines: string[] = [];
  for (const raw of text.split('\n')) {
    let line = '';
    for (const character of raw) {
      const code = character.codePointAt(0)!;
      if (code === 9 || (code >= 32 && code !== 127 && (code < 0x80 || code >= 0xa0))) line += character;
    }
    if (line.trim() !== '') lines.push(line);
  }
  return lines.slice(-count);
}

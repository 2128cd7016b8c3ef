/**
 * Framing of a control connection and of the first message of a stream connection:
 * u32 little-endian payload length, then that many bytes of UTF-8 JSON. See docs/wire-protocol.md.
 */
export const FRAME_HEADER_BYTES = 4;
/** Large enough for a pod manifest with every field used, small enough to buffer without thought. */
export const FRAME_MAX_PAYLOAD_BYTES = 4 << 20;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function encodeFrame(message: object): Uint8Array<ArrayBuffer> {
  const payload = encoder.encode(JSON.stringify(message));
  if (payload.length > FRAME_MAX_PAYLOAD_BYTES) throw new RangeError(`message of ${payload.length} bytes exceeds ${FRAME_MAX_PAYLOAD_BYTES}`);
  const frame = new Uint8Array(FRAME_HEADER_BYTES + payload.length);
  new DataView(frame.buffer).setUint32(0, payload.length, true);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/**
 * Cuts a byte stream into frames: for control connections. On a stream connection what follows the first frame is no frame, so
 * read that one with reads of exactly its size. Throws RangeError on a length above the limit, SyntaxError on a payload that is
 * no JSON object.
 */
export class FrameDecoder {
  #pending: Uint8Array = new Uint8Array(0);

  push(chunk: Uint8Array): object[] {
    const bytes = this.#pending.length === 0 ? chunk : concat(this.#pending, chunk);
    const messages: object[] = [];
    let offset = 0;
    while (bytes.length - offset >= FRAME_HEADER_BYTES) {
      const size = new DataView(bytes.buffer, bytes.byteOffset + offset, FRAME_HEADER_BYTES).getUint32(0, true);
      if (size > FRAME_MAX_PAYLOAD_BYTES) throw new RangeError(`frame of ${size} bytes exceeds ${FRAME_MAX_PAYLOAD_BYTES}`);
      const end = offset + FRAME_HEADER_BYTES + size;
      if (bytes.length < end) break;
      messages.push(parseObject(bytes.subarray(offset + FRAME_HEADER_BYTES, end)));
      offset = end;
    }
    this.#pending = bytes.slice(offset);
    return messages;
  }
}

function parseObject(payload: Uint8Array): object {
  const value: unknown = JSON.parse(decoder.decode(payload));
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new SyntaxError('frame payload is not a JSON object');
  return value;
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

/** Answers of servers that do not do what they should. */
import { rangeStart } from './registry-server.ts';
import type { Handler } from './registry-server.ts';

export function body(bytes: Buffer | string, headers: Record<string, string> = {}): Handler {
  return (_, response) => {
    response.writeHead(200, headers).end(bytes);
    return true;
  };
}

export function status(code: number, headers: Record<string, string> = {}): Handler {
  return (_, response) => {
    response.writeHead(code, headers).end();
    return true;
  };
}

/** Bytes for as long as somebody reads them. */
export const endless: Handler = (_, response) => {
  response.writeHead(200, {});
  const timer = setInterval(() => response.write(Buffer.alloc(64 << 10)), 1);
  response.on('close', () => clearInterval(timer));
  return true;
};

export const silence: Handler = () => true;

/** Announces all, sends half of it whatever range is asked for, and then nothing more. */
export function half(bytes: Buffer, then: 'drop' | 'silence'): Handler {
  return (request, response) => {
    response.writeHead(200, { 'content-length': bytes.length, etag: '"same"' });
    response.write(bytes.subarray(0, bytes.length >> 1), () => then === 'drop' && response.socket?.end());
    return rangeStart(request) >= 0;
  };
}

/** Changes a bit in the middle, in place. */
export function flipped(bytes: Buffer): Buffer {
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  return bytes;
}

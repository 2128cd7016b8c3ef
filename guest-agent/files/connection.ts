/** A connection that carries a tree of files: frames with bytes between them, in one direction at a time. */
import { EAGAIN, EINTR, EPOLLIN, EPOLLOUT } from '../../runtime/abi.gen.ts';
import { check } from '../../runtime/linux/errors.ts';
import { close, readRaw, writeRaw } from '../../runtime/linux/fds.ts';
import { shutdown } from '../../runtime/linux/sockets.ts';
import { after, once, unwatch, watch } from '../../runtime/loop.ts';
import { FILES_FRAME_MAX_BYTES, type FilesMessage } from '../../src/wire/files.ts';
import { encodeFrame, FRAME_HEADER_BYTES } from '../../src/wire/frame.ts';

/** Holds a whole frame. */
const BUFFER_BYTES = 256 << 10;
/** For a host that goes on sending after it was told of a failure. */
const DRAIN_TIMEOUT_MS = 30_000;

export class FilesConnection {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  #open = true;

  constructor(fd: number) {
    this.#fd = fd;
  }

  send(message: FilesMessage): Promise<void> {
    return this.write(encodeFrame(message));
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length; ) {
      const count = writeRaw(this.#fd, bytes.subarray(offset));
      if (count === -EINTR) continue;
      if (count === -EAGAIN) await once(this.#fd, EPOLLOUT);
      else offset += check(count, 'write');
    }
  }

  /** Between 1 and `maxBytes` bytes, valid until the next call. */
  async read(maxBytes: number): Promise<Uint8Array> {
    if (this.#start === this.#end) await this.#fill();
    const end = Math.min(this.#end, this.#start + maxBytes);
    const bytes = this.#buffer.subarray(this.#start, end);
    this.#start = end;
    return bytes;
  }

  /** @throws RangeError, SyntaxError for what is no frame of this protocol */
  async readMessage(): Promise<object> {
    const sizeBytes = new DataView((await this.#whole(FRAME_HEADER_BYTES)).slice().buffer).getUint32(0, true);
    if (sizeBytes > FILES_FRAME_MAX_BYTES) throw new RangeError(`frame of ${sizeBytes} bytes`);
    const value: unknown = JSON.parse(sys.text(await this.#whole(sizeBytes)));
    if (typeof value !== 'object' || value === null) throw new SyntaxError('frame payload is not a JSON object');
    return value;
  }

  async #whole(sizeBytes: number): Promise<Uint8Array> {
    while (this.#end - this.#start < sizeBytes) await this.#fill();
    this.#start += sizeBytes;
    return this.#buffer.subarray(this.#start - sizeBytes, this.#start);
  }

  async #fill(): Promise<void> {
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    for (;;) {
      const count = readRaw(this.#fd, this.#buffer.subarray(this.#end));
      if (count === -EINTR) continue;
      if (count === -EAGAIN) {
        await once(this.#fd, EPOLLIN);
        continue;
      }
      if (check(count, 'read') === 0) throw new Error('the host has closed the connection');
      this.#end += count;
      return;
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    unwatch(this.#fd);
    close(this.#fd);
  }

  /** Ends this side. What the host is still sending is dropped until it ends its own: it could not read the last message otherwise. */
  finish(): void {
    shutdown(this.#fd);
    const timeout = after(DRAIN_TIMEOUT_MS, () => this.close());
    watch(this.#fd, EPOLLIN, () => {
      const count = readRaw(this.#fd, this.#buffer);
      if (count > 0 || count === -EAGAIN || count === -EINTR) return;
      timeout.cancel();
      this.close();
    });
  }
}

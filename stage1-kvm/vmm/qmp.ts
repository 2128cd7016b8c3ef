/**
 * QEMU's machine protocol (docs/interop/qmp-spec.txt): a line of JSON for each command, answer and event. What comes from there
 * is as hostile as the guest, which may have taken QEMU over: only what was asked for is listened to.
 */
import { EAGAIN, EINTR, EPOLLIN } from '../../runtime/abi.gen.ts';
import { close, readRaw, setNonBlocking } from '../../runtime/linux/fds.ts';
import { sendWithFds } from '../../runtime/linux/sockets.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';
import { Stage1Error } from '../error.ts';

const READ_BYTES = 16384;
/** Answers to our commands are short. */
const LONGEST_LINE = 1 << 16;
const ANSWER_TIMEOUT_MS = 20_000;
const NEWLINE = 10;

type JsonObject = { readonly [key: string]: unknown };

interface Waiting {
  settle(error: Stage1Error | null): void;
}

export class QmpChannel {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(READ_BYTES);
  readonly #waiting = new Map<number, Waiting>();
  /** Devices whose end is waited for, by id. */
  readonly #leaving = new Map<string, () => void>();
  #line = '';
  #nextId = 1;
  #isOpen = true;

  /** @param fd connected stream; belongs to the channel from now on */
  constructor(fd: number) {
    this.#fd = fd;
    setNonBlocking(fd);
    watch(fd, EPOLLIN, () => this.#read());
    // A failure is that of the first command that follows.
    this.execute('qmp_capabilities').catch(() => undefined);
  }

  /** @param fd goes with the command; stays the caller's. @throws Stage1Error with QEMU's own words */
  execute(command: string, args: JsonObject = {}, fd?: number): Promise<void> {
    const id = this.#nextId++;
    const line = sys.utf8(`${JSON.stringify({ execute: command, arguments: args, id })}\n`).subarray(0, -1);
    return new Promise((resolve, reject) => {
      const timer = after(ANSWER_TIMEOUT_MS, () => this.#settle(id, new Stage1Error(`QEMU does not answer ${command}`)));
      this.#waiting.set(id, {
        settle(error) {
          timer.cancel();
          if (error === null) resolve();
          else reject(new Stage1Error(`QEMU: ${command}: ${error.message}`));
        },
      });
      // Commands are far shorter than a socket's buffer, and only a few are under way at a time.
      if (!this.#isOpen || sendWithFds(this.#fd, line, fd === undefined ? [] : [fd]) !== line.length) this.#settle(id, new Stage1Error('no connection'));
    });
  }

  /** Settles when the device has gone. To be asked before the command that makes it go. @throws Stage1Error */
  deviceDeleted(device: string, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = after(timeoutMs, () => {
        this.#leaving.delete(device);
        reject(new Stage1Error(`the guest does not let go of device ${device}`));
      });
      this.#leaving.set(device, () => {
        this.#leaving.delete(device);
        timer.cancel();
        resolve();
      });
    });
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    unwatch(this.#fd);
    close(this.#fd);
    for (const id of [...this.#waiting.keys()]) this.#settle(id, new Stage1Error('QEMU has closed its connection'));
  }

  #settle(id: number, error: Stage1Error | null): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    waiting?.settle(error);
  }

  #read(): void {
    const count = readRaw(this.#fd, this.#buffer);
    if (count === -EAGAIN || count === -EINTR) return;
    if (count <= 0) return this.close();
    let from = 0;
    for (let end = this.#buffer.indexOf(NEWLINE); end >= 0 && end < count; end = this.#buffer.indexOf(NEWLINE, from)) {
      const line = this.#line + sys.text(this.#buffer.subarray(from, end));
      this.#line = '';
      from = end + 1;
      this.#take(line);
    }
    this.#line += sys.text(this.#buffer.subarray(from, count));
    if (this.#line.length > LONGEST_LINE) this.close();
  }

  #take(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      return this.close();
    }
    if (!isObject(message)) return this.close();
    const { id, error, event, data } = message;
    if (typeof id === 'number') this.#settle(id, isObject(error) ? new Stage1Error(String(error['desc'])) : null);
    if (event === 'DEVICE_DELETED' && isObject(data) && typeof data['device'] === 'string') this.#leaving.get(data['device'])?.();
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

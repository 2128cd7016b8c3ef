/** One TPM for several users: commands and answers pass one pair at a time, whole, in the order in which they come. */
import { EAGAIN, EINTR, EPOLLIN } from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { close, readRaw, setNonBlocking, writeAll } from '../../runtime/linux/fds.ts';
import { unwatch, watch } from '../../runtime/loop.ts';
import { messageSize, TPM_MAX_MESSAGE_BYTES } from '../../src/tpm/command.ts';
import { Stage1Error } from '../error.ts';

interface Waiting {
  command: Uint8Array;
  resolve(response: Uint8Array): void;
  reject(error: Error): void;
}

/** Messages of a stream, each as soon as it is whole. */
class MessageReader {
  readonly #buffer = new Uint8Array(TPM_MAX_MESSAGE_BYTES);
  #length = 0;

  /** Reads once. @returns undefined: not whole yet; null: the stream has ended. @throws RktError for a length no message has */
  read(fd: number): Uint8Array | null | undefined {
    const count = readRaw(fd, this.#buffer.subarray(this.#length));
    if (count === -EAGAIN || count === -EINTR) return undefined;
    if (count <= 0) return null;
    this.#length += count;
    const size = messageSize(this.#buffer.subarray(0, this.#length));
    if (size === null || this.#length < size) return undefined;
    const message = this.#buffer.slice(0, size);
    this.#buffer.copyWithin(0, size, this.#length);
    this.#length -= size;
    return message;
  }
}

/** Sends one command on a blocking descriptor and waits for the answer: for the time before the event loop turns. */
export function exchange(fd: number, command: Uint8Array): Uint8Array {
  const reader = new MessageReader();
  try {
    writeAll(fd, command);
    for (;;) {
      const response = reader.read(fd);
      if (response === null) break;
      if (response !== undefined) return response;
    }
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
  }
  throw new Stage1Error('the TPM (swtpm) of the pod has ended');
}

export class TpmBus {
  readonly #fd: number;
  readonly #reader = new MessageReader();
  readonly #onEnd: (error: Stage1Error) => void;
  #queue: Waiting[] = [];
  #isOpen = true;

  /** @param fd belongs to the bus from now on; @param onEnd the TPM is gone, called once */
  constructor(fd: number, onEnd: (error: Stage1Error) => void) {
    this.#fd = fd;
    this.#onEnd = onEnd;
    setNonBlocking(fd);
    watch(fd, EPOLLIN, () => this.#receive());
  }

  transact(command: Uint8Array): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (!this.#isOpen) {
        reject(new Stage1Error('the TPM of the pod is gone'));
        return;
      }
      this.#queue.push({ command, resolve, reject });
      if (this.#queue.length === 1) this.#send();
    });
  }

  close(): void {
    this.#end(null);
  }

  /** A command always fits into the socket's buffer: there is never more than one on its way. */
  #send(): void {
    const next = this.#queue[0];
    if (next !== undefined) writeAll(this.#fd, next.command);
  }

  #receive(): void {
    let response: Uint8Array | null | undefined;
    try {
      response = this.#reader.read(this.#fd);
    } catch {
      response = null;
    }
    if (response === undefined) return;
    const answered = this.#queue.shift();
    if (response === null || answered === undefined) {
      if (answered !== undefined) this.#queue.unshift(answered);
      this.#end(new Stage1Error('the TPM (swtpm) of the pod has ended'));
      return;
    }
    this.#send();
    answered.resolve(response);
  }

  #end(error: Stage1Error | null): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    unwatch(this.#fd);
    close(this.#fd);
    for (const { reject } of this.#queue.splice(0)) reject(error ?? new Stage1Error('the pod is ending'));
    if (error !== null) this.#onEnd(error);
  }
}

/** Answers the commands of one stream, one after the other, until it ends. The descriptor belongs to it from now on. */
export function serveCommands(fd: number, answer: (command: Uint8Array) => Promise<Uint8Array>): () => void {
  const reader = new MessageReader();
  let isOpen = true;
  const end = (): void => {
    if (!isOpen) return;
    isOpen = false;
    unwatch(fd);
    close(fd);
  };
  setNonBlocking(fd);
  const listen = (): void => watch(fd, EPOLLIN, () => {
    let command: Uint8Array | null | undefined;
    try {
      command = reader.read(fd);
    } catch {
      command = null;
    }
    if (command === null) return end();
    if (command === undefined) return;
    // What is sent before the answer is there waits.
    unwatch(fd);
    answer(command).then((response) => {
      if (!isOpen) return;
      writeAll(fd, response);
      listen();
    }).catch(end);
  });
  listen();
  return end;
}

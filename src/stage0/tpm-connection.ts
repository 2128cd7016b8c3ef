/** TPM 2.0 commands over a stream, as they are: to a pod's TPM through its monitor, and to a swtpm of this process. */
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import type { RktError } from '../error.ts';
import { concatBytes, messageSize, type TpmTransport } from '../tpm/index.ts';

export interface TpmConnection {
  transport: TpmTransport;
  close(): void;
  [Symbol.dispose](): void;
}

interface Waiting {
  resolve(response: Uint8Array): void;
  reject(error: unknown): void;
}

/** @param gone what is thrown for answers that will not come */
export function tpmConnection(stream: Duplex, gone: () => RktError): TpmConnection {
  let received: Uint8Array = new Uint8Array(0);
  let waiting: Waiting | null = null;
  let isOpen = true;
  const settle = (act: (who: Waiting) => void): void => {
    const who = waiting;
    waiting = null;
    if (who !== null) act(who);
  };
  const end = (): void => {
    isOpen = false;
    settle(({ reject }) => reject(gone()));
  };
  stream.on('data', (chunk: Buffer) => {
    received = concatBytes(received, chunk);
    try {
      const size = messageSize(received);
      if (size === null || received.length < size) return;
      const message = received.slice(0, size);
      received = received.slice(size);
      settle(({ resolve }) => resolve(message));
    } catch (error) {
      settle(({ reject }) => reject(error));
      stream.destroy();
    }
  });
  stream.on('error', end);
  stream.on('close', end);
  const send = (command: Uint8Array): Promise<Uint8Array> =>
    new Promise((resolve, reject) => {
      if (!isOpen) return reject(gone());
      waiting = { resolve, reject };
      stream.write(command);
    });
  // A TPM drops what it is told before it has answered.
  let last: Promise<unknown> = Promise.resolve();
  const close = (): void => void stream.destroy();
  return {
    transport: (command) => {
      const response = last.then(() => send(command));
      last = response.catch(() => undefined);
      return response;
    },
    close,
    [Symbol.dispose]: close,
  };
}

/** @param refused what is thrown when nobody listens there */
export function openSocket(path: string, refused: () => RktError): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => resolve(socket));
    socket.on('error', () => reject(refused()));
  });
}

/** What comes until the other side closes; less when it breaks off. */
export async function readAll(stream: Duplex): Promise<string> {
  let text = '';
  try {
    for await (const chunk of stream.setEncoding('utf8')) text += chunk as string;
  } catch {
    // Whoever reads it sees that it is not whole.
  }
  return text;
}

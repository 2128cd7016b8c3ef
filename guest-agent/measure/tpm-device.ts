/** The guest's TPM: one command written, one answer read. */
import { O_NONBLOCK, O_RDWR } from '../../runtime/abi.gen.ts';
import { read, waitReadable, writeAll } from '../../runtime/linux/fds.ts';
import { open } from '../../runtime/linux/files.ts';
import { TPM_MAX_MESSAGE_BYTES } from '../../src/tpm/command.ts';

/** The kernel gives it to one process at a time, so nobody else in the guest has it while the agent does. */
const DEVICE = '/dev/tpm0';

export interface TpmDevice {
  transact(command: Uint8Array): Uint8Array;
  /** The TPM works on the command while the caller does something else. What is returned waits for the answer: it must be called, once, before anything else is sent. */
  begin(command: Uint8Array): () => Uint8Array;
}

/** @throws SysError when there is none */
export function openTpm(): TpmDevice {
  // The driver then hands a command to a worker instead of doing it within write (drivers/char/tpm/tpm-dev-common.c).
  const fd = open(DEVICE, O_RDWR | O_NONBLOCK);
  const response = new Uint8Array(TPM_MAX_MESSAGE_BYTES);
  const begin = (command: Uint8Array): (() => Uint8Array) => {
    writeAll(fd, command);
    return () => {
      waitReadable(fd, -1);
      return response.slice(0, read(fd, response));
    };
  };
  return { begin, transact: (command) => begin(command)() };
}

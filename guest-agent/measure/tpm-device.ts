/** The guest's TPM: one command written, one answer read. */
import { O_RDWR } from '../../runtime/abi.gen.ts';
import { read, writeAll } from '../../runtime/linux/fds.ts';
import { open } from '../../runtime/linux/files.ts';
import { TPM_MAX_MESSAGE_BYTES } from '../../src/tpm/command.ts';

/** The kernel gives it to one process at a time, so nobody else in the guest has it while the agent does. */
const DEVICE = '/dev/tpm0';

export type TpmDevice = (command: Uint8Array) => Uint8Array;

/** @throws SysError when there is none */
export function openTpm(): TpmDevice {
  const fd = open(DEVICE, O_RDWR);
  const response = new Uint8Array(TPM_MAX_MESSAGE_BYTES);
  return (command) => {
    writeAll(fd, command);
    return response.slice(0, read(fd, response));
  };
}

/** `gc UUID`: removes what a monitor that was killed left behind in the pod directory. */
import { readDirectory, removeFile } from '../runtime/linux/files.ts';
import { exit } from '../runtime/linux/process.ts';
import { CONTROL_SOCKET } from './mutable/control-socket.ts';
import { parseStopArguments } from './options.ts';
import { ATTEST_SOCKET, TPM_SOCKET } from './tpm/attest-sockets.ts';
import { VSOCK_SOCKET } from './vsock/local-clients.ts';

export function gc(args: readonly string[]): never {
  parseStopArguments(args);
  for (const { name } of readDirectory('.')) {
    const isSocket = [VSOCK_SOCKET, TPM_SOCKET, ATTEST_SOCKET, CONTROL_SOCKET].includes(name) || name.startsWith(`${VSOCK_SOCKET}_`);
    if (isSocket || name.endsWith('.new')) removeFile(name);
  }
  exit(0);
}

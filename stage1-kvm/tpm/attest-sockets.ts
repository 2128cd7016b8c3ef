/**
 * How programs of the host reach the pod's TPM, through two sockets in the pod directory that only its owner can open:
 * `tpm.sock` takes TPM 2.0 commands as they are; `attest.sock` answers each connection with one line of JSON, the host's
 * endorsement of the pod's key (`PodKeyEndorsement`, bytes in hexadecimal) or `{"error": …}`.
 */
import { close, writeAll } from '../../runtime/linux/fds.ts';
import { servePodSocket } from '../pod-socket.ts';
import { serveCommands } from './tpm-bus.ts';

export const TPM_SOCKET = 'tpm.sock';
export const ATTEST_SOCKET = 'attest.sock';

export interface AttestServices {
  transact(command: Uint8Array): Promise<Uint8Array>;
  /** JSON. */
  endorsement(): Promise<object>;
}

/** Returns what ends it. */
export function serveAttestSockets({ transact, endorsement }: AttestServices): () => void {
  const commands = servePodSocket(TPM_SOCKET, (fd) => void serveCommands(fd, transact));
  const attestation = servePodSocket(ATTEST_SOCKET, (fd) => {
    endorsement().catch((error: unknown) => ({ error: error instanceof Error ? error.message : String(error) })).then((answer) => {
      writeAll(fd, sys.utf8(`${JSON.stringify(answer)}\n`).subarray(0, -1));
    }).catch(() => undefined).finally(() => close(fd));
  });
  return () => {
    commands();
    attestation();
  };
}

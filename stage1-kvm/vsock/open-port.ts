/** From another program of the host to a port of the guest, by way of the monitor. */
import { ECONNREFUSED, ENOENT, EPOLLIN } from '../../runtime/abi.gen.ts';
import { isErrno } from '../../runtime/linux/errors.ts';
import { close, readRaw, writevRaw } from '../../runtime/linux/fds.ts';
import { connectUnix } from '../../runtime/linux/sockets.ts';
import { once } from '../../runtime/loop.ts';
import { Stage1Error } from '../error.ts';
import { wouldBlock } from '../relay/host-stream.ts';
import { VSOCK_SOCKET } from './local-clients.ts';

const LONGEST_ANSWER = 32;

/**
 * A stream to a port of the guest.
 * @param first what the guest reads first: it need not wait until the guest has accepted
 */
export async function openThroughMonitor(port: number, first = new Uint8Array(0)): Promise<number> {
  const fd = connectToMonitor(VSOCK_SOCKET);
  const line = sys.utf8(`CONNECT ${port}\n`).subarray(0, -1);
  // A fresh socket takes that whole.
  writevRaw(fd, [line, first]);
  // Byte by byte: what follows the line belongs to the stream.
  const byte = new Uint8Array(1);
  let answer = '';
  while (answer.length < LONGEST_ANSWER) {
    const count = readRaw(fd, byte);
    if (wouldBlock(count)) {
      await once(fd, EPOLLIN);
      continue;
    }
    if (count <= 0) break;
    if (byte[0] === 10) {
      if (answer.startsWith('OK ')) return fd;
      break;
    }
    answer += String.fromCharCode(byte[0]!);
  }
  close(fd);
  throw new Stage1Error('the pod does not take connections');
}

/** @param socket relative to the pod directory. @throws Stage1Error when nobody listens there */
export function connectToMonitor(socket: string): number {
  try {
    return connectUnix(socket);
  } catch (error) {
    if (isErrno(error, ENOENT, ECONNREFUSED)) throw new Stage1Error('the pod is not running');
    throw error;
  }
}

/** `vsock.sock` in the pod directory: how other local programs reach ports of the pod's agent. Firecracker's convention. */
import { EAGAIN, EINTR, EPOLLIN, MSG_DONTWAIT, MSG_PEEK, NR_recvfrom } from '../../runtime/abi.gen.ts';
import { close, readRaw } from '../../runtime/linux/fds.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';
import { servePodSocket } from '../pod-socket.ts';

export const VSOCK_SOCKET = 'vsock.sock';
const LONGEST_CONNECT_LINE = 32;
/** A local program that connects and says nothing. */
const CONNECT_LINE_TIMEOUT_MS = 10_000;
const MAX_SILENT_CLIENTS = 64;

/** What a client reads before its stream begins. */
export function acceptance(port: number): Uint8Array {
  return sys.utf8(`OK ${port}\n`).subarray(0, -1);
}

/**
 * @param connect gets each client that has named a port, with the descriptor, which is its own from then on
 * @returns what ends it
 */
export function serveClients(connect: (fd: number, port: number) => void): () => void {
  const silent = new Set<number>();
  const endSocket = servePodSocket(VSOCK_SOCKET, (fd) => {
    if (silent.size >= MAX_SILENT_CLIENTS) {
      close(fd);
      return;
    }
    silent.add(fd);
    const forget = (): void => {
      unwatch(fd);
      timeout.cancel();
      silent.delete(fd);
    };
    const timeout = after(CONNECT_LINE_TIMEOUT_MS, () => {
      forget();
      close(fd);
    });
    watch(fd, EPOLLIN, () => {
      const port = takeConnectLine(fd);
      if (port === undefined) return;
      forget();
      if (port === null) close(fd);
      else connect(fd, port);
    });
  });
  return () => {
    endSocket();
    for (const fd of silent) {
      unwatch(fd);
      close(fd);
    }
  };
}

/** Takes exactly the line from a client's stream. @returns the port; null for nonsense or the end; undefined when the line is not complete */
function takeConnectLine(fd: number): number | null | undefined {
  const peeked = new Uint8Array(LONGEST_CONNECT_LINE);
  const count = sys.call(NR_recvfrom, fd, peeked, peeked.length, MSG_PEEK | MSG_DONTWAIT, null, null);
  if (count === -EAGAIN || count === -EINTR) return undefined;
  if (count <= 0) return null;
  const end = peeked.subarray(0, count).indexOf(10);
  if (end < 0) return count < LONGEST_CONNECT_LINE ? undefined : null;
  readRaw(fd, peeked.subarray(0, end + 1));
  return parseConnectLine(sys.text(peeked.subarray(0, end)));
}

/** `CONNECT port` */
function parseConnectLine(line: string): number | null {
  const [verb, digits, ...rest] = line.split(' ');
  if (verb?.toUpperCase() !== 'CONNECT' || digits === undefined || digits === '' || digits.length > 10 || rest.length > 0) return null;
  for (const digit of digits) if (!'0123456789'.includes(digit)) return null;
  const port = Number(digits);
  return port < 0xffffffff ? port : null;
}

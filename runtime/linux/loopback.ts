/** TCP on the loopback interface. */
import { AF_INET, NR_bind, NR_listen, SO_REUSEADDR, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET } from '../abi.gen.ts';
import { check } from './errors.ts';
import { setSocketOption, socket } from './sockets.ts';

const BACKLOG = 64;
/** struct sockaddr_in: family, then port and address in network byte order. */
const ADDRESS_BYTES = 16;

/** A non-blocking listener on 127.0.0.1. Throws SysError. */
export function listenLoopback(port: number): number {
  const fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  setSocketOption(fd, SOL_SOCKET, { name: SO_REUSEADDR, value: 1 });
  const address = new Uint8Array(ADDRESS_BYTES);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  address.set([127, 0, 0, 1], 4);
  check(sys.call(NR_bind, fd, address, address.length), 'bind', `127.0.0.1:${port}`);
  check(sys.call(NR_listen, fd, BACKLOG), 'listen', `127.0.0.1:${port}`);
  return fd;
}

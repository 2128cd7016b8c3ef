/** TCP on this machine. All descriptors are close-on-exec and non-blocking. */
import {
  AF_INET, AF_INET6, EINPROGRESS, IPPROTO_IPV6, IPV6_V6ONLY, NR_bind, NR_connect, NR_listen, NR_socket, SO_REUSEADDR, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, sizeof_sockaddr_in,
  sizeof_sockaddr_in6, sockaddr_in6_sin6_addr, sockaddr_in6_sin6_port, sockaddr_in_sin_addr, sockaddr_in_sin_port,
} from '../abi.gen.ts';
import { check, SysError } from './errors.ts';
import { close } from './fds.ts';
import type { IpAddress } from './netlink.ts';
import { setSocketOption } from './sockets.ts';

const BACKLOG = 128;
const ANY_IPV4: IpAddress = new Uint8Array(4);
const LOOPBACK_IPV4: IpAddress = new Uint8Array([127, 0, 0, 1]);
const ANY_IPV6: IpAddress = new Uint8Array(16);

function socketAddress(address: IpAddress, port: number): Uint8Array {
  const isIpv4 = address.length === 4;
  const bytes = new Uint8Array(isIpv4 ? sizeof_sockaddr_in : sizeof_sockaddr_in6);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, isIpv4 ? AF_INET : AF_INET6, true);
  view.setUint16(isIpv4 ? sockaddr_in_sin_port : sockaddr_in6_sin6_port, port, false);
  bytes.set(address, isIpv4 ? sockaddr_in_sin_addr : sockaddr_in6_sin6_addr);
  return bytes;
}

function tcpSocket(address: IpAddress): number {
  return check(sys.call(NR_socket, address.length === 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 'socket');
}

/** Begins to connect: when the descriptor is writable, socketError tells how it went. */
export function connectTcp(address: IpAddress, port: number): number {
  const fd = tcpSocket(address);
  const target = socketAddress(address, port);
  const result = sys.call(NR_connect, fd, target, target.length);
  if (result >= 0 || result === -EINPROGRESS) return fd;
  close(fd);
  throw new SysError(`connect to port ${port}`, -result);
}

/** Listens on all addresses, of both families where there are both. */
export function listenTcp(port: number): number {
  try {
    return listenOn(ANY_IPV6, port);
  } catch (error) {
    // Taken is taken; anything else may be for want of IPv6.
    if (!(error instanceof SysError)) throw error;
    return listenOn(ANY_IPV4, port);
  }
}

/** Reached from this machine only. */
export function listenLoopback(port: number): number {
  return listenOn(LOOPBACK_IPV4, port);
}

function listenOn(address: IpAddress, port: number): number {
  const fd = tcpSocket(address);
  try {
    setSocketOption(fd, SOL_SOCKET, { name: SO_REUSEADDR, value: 1 });
    if (address.length !== 4) setSocketOption(fd, IPPROTO_IPV6, { name: IPV6_V6ONLY, value: 0 });
    const own = socketAddress(address, port);
    check(sys.call(NR_bind, fd, own, own.length), 'bind to TCP port', port);
    check(sys.call(NR_listen, fd, BACKLOG), 'listen', port);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

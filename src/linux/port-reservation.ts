/** Keeps a port of this host for as long as a descriptor is open, without listening on it. */
import { closeSync } from 'node:fs';
import { AF_INET, AF_INET6, parseIpAddress } from './ip-address.ts';
import { callInts, callMixed, systemCallError } from './libc.ts';
import { RktError } from '../error.ts';

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const IPPROTO_SCTP = 132;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const EADDRINUSE = 98;
/** No such protocol here, or no IPv6: then nobody else has the port either. */
const UNSUPPORTED = [93 /* EPROTONOSUPPORT */, 94 /* ESOCKTNOSUPPORT */, 97 /* EAFNOSUPPORT */];

export type PortProtocol = 'tcp' | 'udp' | 'sctp';

export interface PortAddress {
  protocol: PortProtocol;
  /** An address of this host, `0.0.0.0` or `::`. */
  address: string;
  port: number;
}

/** The descriptor; `taken` when a program has the port; null when the kernel does not know the protocol at all. Throws for an address that is not of this host. */
export function reservePort({ protocol, address, port }: PortAddress): number | 'taken' | null {
  const bytes = parseIpAddress(address);
  if (bytes === undefined) throw new RktError('USAGE', `${JSON.stringify(address)} is not an IP address`);
  const family = bytes.length === 4 ? AF_INET : AF_INET6;
  const socket = callInts('socket', family, (protocol === 'udp' ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, protocol === 'sctp' ? IPPROTO_SCTP : 0);
  if (UNSUPPORTED.includes(socket.errno)) return null;
  if (socket.value === -1) throw systemCallError('cannot open a socket', socket.errno);
  const fd = socket.value;
  if (family === AF_INET6) callMixed('setsockopt', [fd, IPPROTO_IPV6, IPV6_V6ONLY, Buffer.from([1, 0, 0, 0]), 4]);
  const name = socketAddress(bytes, port);
  const { value, errno } = callMixed('bind', [fd, name, name.length]);
  if (value === 0) return fd;
  closeSync(fd);
  if (errno === EADDRINUSE) return 'taken';
  throw systemCallError(`cannot use the port ${address}:${port}`, errno);
}

/** struct sockaddr_in, struct sockaddr_in6 */
function socketAddress(address: Buffer, port: number): Buffer {
  const isIpv4 = address.length === 4;
  const name = Buffer.alloc(isIpv4 ? 16 : 28);
  name.writeUInt16LE(isIpv4 ? AF_INET : AF_INET6, 0);
  name.writeUInt16BE(port, 2);
  address.copy(name, isIpv4 ? 4 : 8);
  return name;
}

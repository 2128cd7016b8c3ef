/** Sockets: unix, vsock; descriptors that travel over unix sockets. All are close-on-exec and, unless named blocking, non-blocking. */
import {
  AF_UNIX, AF_VSOCK, EAGAIN, EINPROGRESS, EINTR, IOCTL_VM_SOCKETS_GET_LOCAL_CID, MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_DONTWAIT, MSG_NOSIGNAL, NR_accept4, NR_bind,
  NR_connect, NR_getsockopt, NR_ioctl, NR_listen, NR_recvmsg, NR_sendmsg, NR_setsockopt, NR_shutdown, NR_socket, NR_socketpair, O_RDONLY, SCM_RIGHTS, SHUT_WR,
  SO_ERROR, SO_PEERCRED, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, cmsghdr_cmsg_len, cmsghdr_cmsg_level, cmsghdr_cmsg_type, iovec_iov_base, iovec_iov_len,
  msghdr_msg_control, msghdr_msg_controllen, msghdr_msg_flags, msghdr_msg_iov, msghdr_msg_iovlen, sizeof_cmsghdr, sizeof_iovec, sizeof_msghdr, sizeof_sockaddr_un,
  sizeof_sockaddr_vm, sockaddr_un_sun_path, sockaddr_vm_svm_cid, sockaddr_vm_svm_family, sockaddr_vm_svm_port,
} from '../abi.gen.ts';
import { pointTo, type Argument } from '../sys.ts';
import { check, SysError } from './errors.ts';
import { close } from './fds.ts';
import { open } from './files.ts';

const STREAM_FLAGS = SOCK_STREAM | SOCK_CLOEXEC;

export function socket(family: number, type: number, protocol = 0): number {
  return check(sys.call(NR_socket, family, type | SOCK_CLOEXEC, protocol), 'socket');
}

/** Blocking ends unless SOCK_NONBLOCK is given. */
export function socketPair(type: number = SOCK_STREAM, flags = 0): [number, number] {
  const ends = new Int32Array(2);
  check(sys.call(NR_socketpair, AF_UNIX, type | SOCK_CLOEXEC | flags, 0, ends), 'socketpair');
  return [ends[0] ?? -1, ends[1] ?? -1];
}

export function unixAddress(path: string): Uint8Array {
  const bytes = sys.utf8(path);
  const address = new Uint8Array(sockaddr_un_sun_path + bytes.length);
  if (address.length > sizeof_sockaddr_un) throw new RangeError(`socket path longer than ${sizeof_sockaddr_un - sockaddr_un_sun_path - 1} bytes: ${path}`);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(bytes, sockaddr_un_sun_path);
  return address;
}

export function vsockAddress(cid: number, port: number): Uint8Array {
  const address = new Uint8Array(sizeof_sockaddr_vm);
  const view = new DataView(address.buffer);
  view.setUint16(sockaddr_vm_svm_family, AF_VSOCK, true);
  view.setUint32(sockaddr_vm_svm_port, port >>> 0, true);
  view.setUint32(sockaddr_vm_svm_cid, cid >>> 0, true);
  return address;
}

function listenOn(family: number, address: Uint8Array, name: string): number {
  const fd = check(sys.call(NR_socket, family, STREAM_FLAGS | SOCK_NONBLOCK, 0), 'socket', name);
  const result = sys.call(NR_bind, fd, address, address.length);
  if (result >= 0) {
    check(sys.call(NR_listen, fd, 128), 'listen', name);
    return fd;
  }
  close(fd);
  throw new SysError(`bind ${name}`, -result);
}

/** A socket that takes datagrams at `path`, where nothing may be yet. */
export function bindUnixDatagrams(path: string): number {
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK);
  const address = unixAddress(path);
  const result = sys.call(NR_bind, fd, address, address.length);
  if (result >= 0) return fd;
  close(fd);
  throw new SysError(`bind ${path}`, -result);
}

export const listenUnix = (path: string): number => listenOn(AF_UNIX, unixAddress(path), path);
export const listenVsock = (cid: number, port: number): number => listenOn(AF_VSOCK, vsockAddress(cid, port), `vsock:${port}`);

function connectTo(family: number, address: Uint8Array, options: { name: string; nonBlocking: boolean }): number {
  const fd = check(sys.call(NR_socket, family, STREAM_FLAGS | (options.nonBlocking ? SOCK_NONBLOCK : 0), 0), 'socket', options.name);
  const result = sys.call(NR_connect, fd, address, address.length);
  if (result >= 0 || (options.nonBlocking && result === -EINPROGRESS)) return fd;
  close(fd);
  throw new SysError(`connect ${options.name}`, -result);
}

/** Connected at once (a unix socket never says EINPROGRESS; a full backlog is EAGAIN). */
export const connectUnix = (path: string, options: { nonBlocking?: boolean } = {}): number =>
  connectTo(AF_UNIX, unixAddress(path), { name: path, nonBlocking: options.nonBlocking ?? true });

/** Non-blocking: writable when connected or refused; socketError tells which. */
export const connectVsock = (cid: number, port: number, options: { nonBlocking?: boolean } = {}): number =>
  connectTo(AF_VSOCK, vsockAddress(cid, port), { name: `vsock:${cid}:${port}`, nonBlocking: options.nonBlocking ?? true });

/** The errno of a finished non-blocking connect; 0 when it succeeded. */
export function socketError(fd: number): number {
  const value = new Int32Array(1);
  check(sys.call(NR_getsockopt, fd, SOL_SOCKET, SO_ERROR, value, new Int32Array([4])), 'getsockopt', fd);
  return value[0] ?? 0;
}

/** A non-blocking connection, or undefined when none is waiting. */
export function accept(fd: number): number | undefined {
  const result = sys.call(NR_accept4, fd, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK);
  return result === -EAGAIN || result === -EINTR ? undefined : check(result, 'accept', fd);
}

/** As accept, with the context id of the peer. */
export function acceptVsock(fd: number): { fd: number; cid: number; port: number } | undefined {
  const address = new Uint8Array(sizeof_sockaddr_vm);
  const length = new Int32Array([sizeof_sockaddr_vm]);
  const result = sys.call(NR_accept4, fd, address, length, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (result === -EAGAIN || result === -EINTR) return undefined;
  const view = new DataView(address.buffer);
  return { fd: check(result, 'accept', fd), cid: view.getUint32(sockaddr_vm_svm_cid, true), port: view.getUint32(sockaddr_vm_svm_port, true) };
}

/** This machine's own context id; undefined without a vsock device. */
export function localVsockCid(): number | undefined {
  try {
    const fd = open('/dev/vsock', O_RDONLY);
    const cid = new Uint32Array(1);
    const result = sys.call(NR_ioctl, fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, cid);
    close(fd);
    return result < 0 ? undefined : cid[0];
  } catch {
    return undefined;
  }
}

/** Ends one direction (SHUT_WR: the peer reads the end). A peer that is gone is no error. */
export function shutdown(fd: number, how: number = SHUT_WR): void {
  sys.call(NR_shutdown, fd, how);
}

export function setSocketOption(fd: number, level: number, option: { name: number; value: Argument; sizeBytes?: number }): void {
  const value = typeof option.value === 'number' ? new Int32Array([option.value]) : option.value;
  check(sys.call(NR_setsockopt, fd, level, option.name, value, option.sizeBytes ?? 4), 'setsockopt', fd);
}

export interface PeerCredentials {
  pid: number;
  uid: number;
  gid: number;
}

/** Who connected a unix socket. */
export function peerCredentials(fd: number): PeerCredentials {
  const value = new Int32Array(3);
  check(sys.call(NR_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, value, new Int32Array([12])), 'getsockopt', fd);
  return { pid: value[0] ?? 0, uid: value[1] ?? 0, gid: value[2] ?? 0 };
}

const CONTROL_ALIGNMENT = 8;
const align = (size: number): number => (size + CONTROL_ALIGNMENT - 1) & ~(CONTROL_ALIGNMENT - 1);

function messageHeader(data: Uint8Array, control: Uint8Array | null): Uint8Array {
  const vector = new Uint8Array(sizeof_iovec);
  pointTo(vector, iovec_iov_base, data);
  new DataView(vector.buffer).setBigUint64(iovec_iov_len, BigInt(data.length), true);
  const header = new Uint8Array(sizeof_msghdr);
  const view = new DataView(header.buffer);
  pointTo(header, msghdr_msg_iov, vector);
  view.setBigUint64(msghdr_msg_iovlen, 1n, true);
  if (control !== null) {
    pointTo(header, msghdr_msg_control, control);
    view.setBigUint64(msghdr_msg_controllen, BigInt(control.length), true);
  }
  return header;
}

/** Sends data (over a stream at least one byte) and copies of descriptors over a unix socket: bytes sent or -errno. */
export function sendWithFds(fd: number, data: Uint8Array, fds: readonly number[], flags = 0): number {
  let control: Uint8Array | null = null;
  if (fds.length > 0) {
    control = new Uint8Array(align(sizeof_cmsghdr + fds.length * 4));
    const view = new DataView(control.buffer);
    view.setBigUint64(cmsghdr_cmsg_len, BigInt(sizeof_cmsghdr + fds.length * 4), true);
    view.setInt32(cmsghdr_cmsg_level, SOL_SOCKET, true);
    view.setInt32(cmsghdr_cmsg_type, SCM_RIGHTS, true);
    fds.forEach((sent, index) => (view as DataView).setInt32(sizeof_cmsghdr + index * 4, sent, true));
  }
  return sys.call(NR_sendmsg, fd, messageHeader(data, control), MSG_NOSIGNAL | flags);
}

export interface ReceivedMessage {
  /** Bytes read into the buffer, 0 at the end, or -errno. */
  count: number;
  /** Close-on-exec. */
  fds: number[];
}

/** Receives data and up to `maxFds` descriptors. When more were sent, all are closed and EMSGSIZE-like truncation is an error. */
export function receiveWithFds(fd: number, into: Uint8Array, options: { maxFds: number; flags?: number }): ReceivedMessage {
  const control = new Uint8Array(align(sizeof_cmsghdr + options.maxFds * 4));
  const header = messageHeader(into, control);
  const count = sys.call(NR_recvmsg, fd, header, MSG_CMSG_CLOEXEC | (options.flags ?? 0));
  if (count < 0) return { count, fds: [] };
  const view = new DataView(header.buffer);
  const controlLength = Number(view.getBigUint64(msghdr_msg_controllen, true));
  const fds = receivedFds(control, controlLength);
  if ((view.getInt32(msghdr_msg_flags, true) & MSG_CTRUNC) !== 0) {
    fds.forEach(close);
    throw new RangeError(`more than ${options.maxFds} descriptors in one message`);
  }
  return { count, fds };
}

function receivedFds(control: Uint8Array, controlLength: number): number[] {
  const view = new DataView(control.buffer);
  const fds: number[] = [];
  for (let offset = 0; offset + sizeof_cmsghdr <= controlLength; ) {
    const length = Number(view.getBigUint64(offset + cmsghdr_cmsg_len, true));
    if (length < sizeof_cmsghdr) break;
    if (view.getInt32(offset + cmsghdr_cmsg_level, true) === SOL_SOCKET && view.getInt32(offset + cmsghdr_cmsg_type, true) === SCM_RIGHTS) {
      for (let at = offset + sizeof_cmsghdr; at + 4 <= offset + length; at += 4) fds.push(view.getInt32(at, true));
    }
    offset += align(length);
  }
  return fds;
}

/** For flags of receiveWithFds. */
export const DO_NOT_WAIT = MSG_DONTWAIT;

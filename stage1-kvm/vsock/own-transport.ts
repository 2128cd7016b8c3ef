/**
 * The vsock device in this process. Other local programs reach the guest through `vsock.sock` in the pod directory:
 * `CONNECT port\n` is answered with `OK port\n` once the guest has accepted, and a program that listens on
 * `vsock.sock_PORT` gets the guest's connections to that port of the host.
 */
import { EAGAIN, EINTR, EPOLLIN, MSG_DONTWAIT, MSG_PEEK, NR_recvfrom, SOCK_NONBLOCK, SOCK_STREAM } from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { close, readRaw, setNonBlocking, signalEvent, takeEvent } from '../../runtime/linux/fds.ts';
import { changeMode, removeFile } from '../../runtime/linux/files.ts';
import { accept, connectUnix, listenUnix, receiveWithFds, sendWithFds, socketPair } from '../../runtime/linux/sockets.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';
import { KNOCK_PORT } from '../../src/wire/messages.ts';
import { GuestFault } from './guest-memory.ts';
import { VsockDevice } from './device.ts';
import { linuxIo, mapBytes, mapRegion, unmapRegion } from './linux-io.ts';
import type { Transport } from './transport.ts';
import { VhostUserBackend } from './vhost-user-backend.ts';
import { MAX_PAYLOAD_BYTES, MAX_REGIONS, MESSAGE_HEADER_BYTES, payloadBytes } from './vhost-user-messages.ts';

/** Relative to the pod directory, which is where the monitor runs: socket paths are short. */
export const VSOCK_SOCKET = 'vsock.sock';
/** The first one that is not reserved. There is one guest per device, so any would do. */
const GUEST_CID = 3;
const LONGEST_CONNECT_LINE = 32;
const EXPIRE_INTERVAL_MS = 1000;
/** A local program that connects and says nothing. */
const CONNECT_LINE_TIMEOUT_MS = 10_000;
const MAX_SILENT_CLIENTS = 64;

export interface OwnTransportOptions {
  /** The guest's memory. It stays the caller's. */
  ramFd: number;
  /** The guest broke the rules of its device. */
  onFault(fault: Error): void;
}

export function startOwnTransport(options: OwnTransportOptions): Transport {
  const [qemuFd, controlFd] = socketPair(SOCK_STREAM);
  setNonBlocking(controlFd);
  let knocked: () => void = () => undefined;
  const agentListens: Promise<void> = new Promise((resolve) => {
    knocked = resolve;
  });
  const device: VsockDevice = new VsockDevice({
    guestCid: GUEST_CID,
    io: linuxIo,
    interrupt: (queue) => backend.interrupt(queue),
    onFault: options.onFault,
    onGuestConnect(port) {
      if (port !== KNOCK_PORT) return connectLocal(port);
      knocked();
      return null;
    },
  });
  const backend = new VhostUserBackend(device, {
    mapBytes, unmapRegion, close,
    mapRegion: (fd, region) => mapRegion(fd, region, options.ramFd),
    watchKick: (fd, kicked) => {
      setNonBlocking(fd);
      watch(fd, EPOLLIN, () => {
        takeEvent(fd);
        kicked();
      });
    },
    unwatchKick: unwatch,
    interrupt: signalEvent,
    reply: (message) => void sendWithFds(controlFd, message, []),
  }, GUEST_CID);

  const closeControl = serveControl(controlFd, backend, options.onFault);
  const closeListener = serveClients(device);
  let expiring = false;
  const expireLater = (): void => {
    if (expiring) return;
    expiring = true;
    after(EXPIRE_INTERVAL_MS, () => {
      expiring = false;
      device.expire();
      if (device.hasDeadlines) expireLater();
    });
  };

  return {
    agentListens,
    qemuFd,
    guestCid: GUEST_CID,
    qemuStarted: () => close(qemuFd),
    async open(port) {
      const [deviceEnd, ourEnd] = socketPair(SOCK_STREAM, SOCK_NONBLOCK);
      const connected = device.connect(deviceEnd, port);
      expireLater();
      try {
        await connected;
      } catch (error) {
        close(ourEnd);
        throw error;
      }
      return ourEnd;
    },
    close() {
      closeListener();
      closeControl();
      backend.close();
    },
  };

  function serveClients(toDevice: VsockDevice): () => void {
    removeFile(VSOCK_SOCKET);
    const listener = listenUnix(VSOCK_SOCKET);
    changeMode(VSOCK_SOCKET, 0o600);
    const silent = new Set<number>();
    watch(listener, EPOLLIN, () => {
      const fd = acceptOrNothing(listener);
      if (fd === undefined) return;
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
        const line = takeConnectLine(fd);
        if (line === undefined) return;
        forget();
        if (line === null) {
          close(fd);
          return;
        }
        toDevice.connect(fd, line, (hostPort) => sys.utf8(`OK ${hostPort}\n`).subarray(0, -1)).catch(() => undefined);
        expireLater();
      });
    });
    return () => {
      unwatch(listener);
      close(listener);
      for (const fd of silent) {
        unwatch(fd);
        close(fd);
      }
      removeFile(VSOCK_SOCKET);
    };
  }
}

function acceptOrNothing(listener: number): number | undefined {
  try {
    return accept(listener);
  } catch {
    // The client has gone already, or there are no descriptors left: it will find out.
    return undefined;
  }
}

function connectLocal(port: number): number | null {
  try {
    return connectUnix(`${VSOCK_SOCKET}_${port}`);
  } catch {
    return null;
  }
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

/** Firecracker's convention: `CONNECT port`. */
export function parseConnectLine(line: string): number | null {
  const [verb, digits, ...rest] = line.split(' ');
  if (verb?.toUpperCase() !== 'CONNECT' || digits === undefined || digits === '' || digits.length > 10 || rest.length > 0) return null;
  for (const digit of digits) if (!'0123456789'.includes(digit)) return null;
  const port = Number(digits);
  return port < 0xffffffff ? port : null;
}

/** Reads vhost-user messages one by one: descriptors arrive with the first byte of the message they belong to. */
function serveControl(fd: number, backend: VhostUserBackend, onFault: (fault: Error) => void): () => void {
  const message = new Uint8Array(MESSAGE_HEADER_BYTES + MAX_PAYLOAD_BYTES);
  let length = 0;
  let fds: number[] = [];
  let isOpen = true;
  const end = (): void => {
    if (!isOpen) return;
    isOpen = false;
    unwatch(fd);
    close(fd);
    fds.forEach(close);
  };
  const step = (): boolean => {
    const wanted = length < MESSAGE_HEADER_BYTES ? MESSAGE_HEADER_BYTES : MESSAGE_HEADER_BYTES + payloadBytes(message);
    if (length < wanted) {
      const received = receiveWithFds(fd, message.subarray(length, wanted), { maxFds: MAX_REGIONS });
      if (received.count === -EAGAIN || received.count === -EINTR) return false;
      if (received.count <= 0) {
        // QEMU is gone; whoever waits for its process deals with that.
        end();
        backend.close();
        return false;
      }
      length += received.count;
      fds.push(...received.fds);
      return true;
    }
    const taken = fds;
    fds = [];
    length = 0;
    backend.handle(message.subarray(0, wanted), taken);
    return true;
  };
  watch(fd, EPOLLIN, () => {
    try {
      while (isOpen && step());
    } catch (error) {
      end();
      backend.close();
      if (error instanceof GuestFault || error instanceof RangeError || error instanceof SysError) onFault(error);
      else throw error;
    }
  });
  return end;
}

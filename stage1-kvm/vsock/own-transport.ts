/**
 * The vsock device in this process. Other local programs reach the guest through `vsock.sock` in the pod directory:
 * `CONNECT port\n` is answered with `OK port\n` once the guest has accepted, and a program that listens on
 * `vsock.sock_PORT` gets the guest's connections to that port of the host.
 */
import { EAGAIN, EINTR, EPOLLIN, SOCK_NONBLOCK, SOCK_STREAM } from '../../runtime/abi.gen.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { close, setNonBlocking, signalEvent, takeEvent } from '../../runtime/linux/fds.ts';
import { connectUnix, receiveWithFds, sendWithFds, socketPair } from '../../runtime/linux/sockets.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';
import { KNOCK_PORT } from '../../src/wire/messages.ts';
import { GuestFault } from './guest-memory.ts';
import { VsockDevice } from './device.ts';
import { linuxIo, mapBytes, mapRegion, unmapRegion } from './linux-io.ts';
import { acceptance, serveClients, VSOCK_SOCKET } from './local-clients.ts';
import type { Transport } from './transport.ts';
import { VhostUserBackend } from './vhost-user-backend.ts';
import { MAX_PAYLOAD_BYTES, MAX_REGIONS, MESSAGE_HEADER_BYTES, payloadBytes } from './vhost-user-messages.ts';

/** The first one that is not reserved. There is one guest per device, so any would do. */
const GUEST_CID = 3;
const EXPIRE_INTERVAL_MS = 1000;

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
  const closeListener = serveClients((fd, port) => {
    device.connect(fd, port, acceptance).catch(() => undefined);
    expireLater();
  });
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
}

function connectLocal(port: number): number | null {
  try {
    return connectUnix(`${VSOCK_SOCKET}_${port}`);
  } catch {
    return null;
  }
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

/**
 * How the host reaches the agent: it opens connections of two kinds, control and stream. Nothing above knows what carries them.
 * Vsock is the first transport: one connection per stream.
 */
import { EPOLLIN, EPOLLOUT, SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE, AF_VSOCK, VMADDR_CID_ANY, VMADDR_CID_HOST } from '../runtime/abi.gen.ts';
import { close } from '../runtime/linux/fds.ts';
import { accept, acceptVsock, connectVsock, listenVsock, setSocketOption } from '../runtime/linux/sockets.ts';
import { unwatch, watch } from '../runtime/loop.ts';
import { CONTROL_PORT, KNOCK_PORT, STREAM_PORT } from '../src/wire/messages.ts';

export type ConnectionKind = 'control' | 'stream';

export interface Transport {
  /** Calls back with a non-blocking descriptor for each connection; throws when it cannot listen. */
  listen(onConnection: (kind: ConnectionKind, fd: number) => void): void;
  /** Tells the host that listen() has succeeded. */
  announce(): void;
}

const PORTS: readonly [ConnectionKind, number][] = [['control', CONTROL_PORT], ['stream', STREAM_PORT]];
/** Receive buffer, and so what the host may send ahead on one connection. */
const RECEIVE_BUFFER_BYTES = 1 << 20;

export const vsockTransport: Transport = {
  listen(onConnection) {
    for (const [kind, port] of PORTS) {
      const listener = listenVsock(VMADDR_CID_ANY, port);
      // Connections inherit the listener's sizes.
      for (const name of [SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE]) {
        setSocketOption(listener, AF_VSOCK, { name, value: new BigUint64Array([BigInt(RECEIVE_BUFFER_BYTES)]), sizeBytes: 8 });
      }
      watch(listener, EPOLLIN, () => {
        // One for each event: asked once too often, vsock's accept sleeps until the next timer tick before it says EAGAIN.
        const peer = acceptVsock(listener);
        if (peer === undefined) return;
        // Processes inside the pod could connect through the loopback: only the host may.
        if (peer.cid === VMADDR_CID_HOST) onConnection(kind, peer.fd);
        else close(peer.fd);
      });
    }
  },

  announce() {
    try {
      const fd = connectVsock(VMADDR_CID_HOST, KNOCK_PORT);
      // The attempt is the message. The descriptor is only closed once the host has answered, lest the request be withdrawn.
      watch(fd, EPOLLOUT, () => {
        unwatch(fd);
        close(fd);
      });
    } catch {
      // Refused already, or there is no host to tell: it finds out by trying.
    }
  },
};

/** Listeners that exist already, one of each kind: for running the agent as an ordinary process. */
export function socketTransport(listeners: Record<ConnectionKind, number>): Transport {
  return {
    listen(onConnection) {
      for (const kind of ['control', 'stream'] as const) {
        watch(listeners[kind], EPOLLIN, () => {
          for (let fd = accept(listeners[kind]); fd !== undefined; fd = accept(listeners[kind])) onConnection(kind, fd);
        });
      }
    },
    announce() {},
  };
}

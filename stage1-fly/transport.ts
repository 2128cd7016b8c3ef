/** Agent and monitor are one process here: their connections are socket pairs, and `vsock.sock` leads to the same agent. */
import { SOCK_NONBLOCK, SOCK_STREAM } from '../runtime/abi.gen.ts';
import { close, writeRaw } from '../runtime/linux/fds.ts';
import { socketPair } from '../runtime/linux/sockets.ts';
import type { ConnectionKind, Transport } from '../guest-agent/transport.ts';
import { acceptance, serveClients } from '../stage1-kvm/vsock/local-clients.ts';
import { CONTROL_PORT, STREAM_PORT } from '../src/wire/messages.ts';

export interface LocalTransport extends Transport {
  /** As stage1-kvm's: a non-blocking stream to a port of the agent. */
  open(port: number): Promise<number>;
  close(): void;
}

export function localTransport(): LocalTransport {
  let connected: (kind: ConnectionKind, fd: number) => void = (_kind, fd) => close(fd);
  let closeClients: () => void = () => undefined;
  return {
    listen(onConnection) {
      connected = onConnection;
      closeClients = serveClients((fd, port) => {
        const kind = kindOf(port);
        if (kind === undefined) return close(fd);
        const answer = acceptance(port);
        // A fresh socket takes a line whole.
        if (writeRaw(fd, answer) === answer.length) onConnection(kind, fd);
        else close(fd);
      });
    },
    announce() {},
    open(port) {
      const kind = kindOf(port);
      if (kind === undefined) return Promise.reject(new Error(`nothing listens on port ${port}`));
      const [agentEnd, ourEnd] = socketPair(SOCK_STREAM, SOCK_NONBLOCK);
      connected(kind, agentEnd);
      return Promise.resolve(ourEnd);
    },
    close: () => closeClients(),
  };
}

function kindOf(port: number): ConnectionKind | undefined {
  if (port === CONTROL_PORT) return 'control';
  return port === STREAM_PORT ? 'stream' : undefined;
}

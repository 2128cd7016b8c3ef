/** Leads connections to the metadata service: apps find it on the guest's loopback interface, and it is reached over vsock. */
import { EPOLLIN, EPOLLOUT, VMADDR_CID_HOST } from '../../runtime/abi.gen.ts';
import { joinStreams } from '../../runtime/joined-streams.ts';
import { close } from '../../runtime/linux/fds.ts';
import { accept, connectVsock, socketError } from '../../runtime/linux/sockets.ts';
import { listenLoopback } from '../../runtime/linux/tcp.ts';
import { once, watch } from '../../runtime/loop.ts';
import { METADATA_PORT } from '../../src/wire/messages.ts';
import type { StartMessage } from '../messages.ts';

/** The service itself takes fewer of one pod. */
const CONNECTIONS_MAX = 64;

/** Undefined when the pod is not known to a service. */
export function metadataUrl({ metadataToken }: StartMessage): string | undefined {
  return metadataToken === undefined ? undefined : `http://127.0.0.1:${METADATA_PORT}/${metadataToken}`;
}

/** From now on, for as long as the guest lives. Throws SysError. */
export function forwardMetadata(): void {
  const listener = listenLoopback(METADATA_PORT);
  let connections = 0;
  watch(listener, EPOLLIN, () => {
    const client = accept(listener);
    if (client === undefined) return;
    if (connections >= CONNECTIONS_MAX) return close(client);
    connections++;
    const leave = (): void => {
      connections--;
    };
    void connectToService().then((service) => {
      if (service !== undefined) return joinStreams(client, service, leave);
      // The client finds its connection closed.
      close(client);
      leave();
    });
  });
}

async function connectToService(): Promise<number | undefined> {
  try {
    const fd = connectVsock(VMADDR_CID_HOST, METADATA_PORT);
    await once(fd, EPOLLOUT);
    if (socketError(fd) === 0) return fd;
    close(fd);
  } catch {
    // There is no host to connect to: as if nobody listened.
  }
  return undefined;
}

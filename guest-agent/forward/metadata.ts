/** Leads connections to the metadata service: apps find it on the guest's loopback interface, and it is reached over vsock. */
import { EPOLLIN, EPOLLOUT, VMADDR_CID_HOST } from '../../runtime/abi.gen.ts';
import { close, duplicate } from '../../runtime/linux/fds.ts';
import { listenLoopback } from '../../runtime/linux/loopback.ts';
import { accept, connectVsock, socketError } from '../../runtime/linux/sockets.ts';
import { once, watch } from '../../runtime/loop.ts';
import { METADATA_PORT } from '../../src/wire/messages.ts';
import type { StartMessage } from '../messages.ts';
import { Pump } from '../process/pump.ts';

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
    void carry(client).finally(() => {
      connections--;
    });
  });
}

/** Until both directions have ended. A client whose service cannot be reached finds its connection closed. */
async function carry(client: number): Promise<void> {
  const service = await connectToService();
  if (service === undefined) return close(client);
  // Each direction watches descriptors of its own.
  const ends = [{ source: client, sink: service }, { source: duplicate(service), sink: duplicate(client) }];
  await Promise.all(ends.map((end) => new Promise<void>((onEnd) => new Pump({ ...end, onEnd }).start())));
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

/** Connections from the host to TCP ports of the guest, each over a stream connection of its own. */
import { EAGAIN, EPERM, EPOLLOUT } from '../../runtime/abi.gen.ts';
import { joinStreams } from '../../runtime/joined-streams.ts';
import { SysError } from '../../runtime/linux/errors.ts';
import { close, writeRaw } from '../../runtime/linux/fds.ts';
import { parseIp } from '../../runtime/linux/netlink.ts';
import { socketError } from '../../runtime/linux/sockets.ts';
import { connectTcp } from '../../runtime/linux/tcp.ts';
import { once } from '../../runtime/loop.ts';

/** At a time; the rest of what the vsock device can carry is for control and for the streams of processes. */
const CONNECTIONS_MAX = 128;
const LOOPBACK = ['127.0.0.1', '::1'];

export class Forwarder {
  /** Ports of the measured manifest to which the host brings connections: a sealed pod has no others. */
  readonly #activated = new Set<number>();
  readonly #isSealed: () => boolean;
  #connections = 0;

  constructor(isSealed: () => boolean) {
    this.#isSealed = isSealed;
  }

  allow(ports: readonly number[]): void {
    for (const port of ports) this.#activated.add(port);
  }

  /** Answers with one byte, 0 or the errno of the failure, and connects the two. The descriptor is owned from now on. */
  accept(port: number, fd: number): void {
    if (this.#isSealed() && !this.#activated.has(port)) return refuse(fd, EPERM);
    if (this.#connections >= CONNECTIONS_MAX) return refuse(fd, EAGAIN);
    this.#connections++;
    const leave = (): void => {
      this.#connections--;
    };
    connectLoopback(port).then(
      (target) => {
        writeRaw(fd, new Uint8Array(1));
        joinStreams(fd, target, leave);
      },
      (error: unknown) => {
        leave();
        refuse(fd, error instanceof SysError ? error.errno : EAGAIN);
      },
    );
  }
}

/** @throws SysError of the last address */
async function connectLoopback(port: number): Promise<number> {
  let failure: unknown;
  for (const address of LOOPBACK) {
    try {
      const fd = connectTcp(parseIp(address), port);
      await once(fd, EPOLLOUT);
      const errno = socketError(fd);
      if (errno === 0) return fd;
      close(fd);
      // The first one's reason: the second address may not even exist.
      failure ??= new SysError(`connect to port ${port}`, errno);
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

/** The byte fits into the socket's buffer; closing does not take it back. */
function refuse(fd: number, errno: number): void {
  writeRaw(fd, Uint8Array.of(errno));
  close(fd);
}

/** sd_notify(3), for pods that run as a service. */
import { AF_UNIX, MSG_NOSIGNAL, NR_sendto, SOCK_DGRAM } from '../runtime/abi.gen.ts';
import { close } from '../runtime/linux/fds.ts';
import { environmentVariable } from '../runtime/linux/process.ts';
import { socket } from '../runtime/linux/sockets.ts';

/** Nobody who asked for it, or nobody who listens: nothing happens. */
export function notifySupervisor(state: string): void {
  const path = environmentVariable('NOTIFY_SOCKET');
  if (path === undefined || (!path.startsWith('/') && !path.startsWith('@'))) return;
  const name = sys.utf8(path).subarray(0, -1);
  // `@` stands for the NUL that begins an abstract name.
  if (path.startsWith('@')) name[0] = 0;
  const address = new Uint8Array(2 + name.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  const fd = socket(AF_UNIX, SOCK_DGRAM);
  const message = sys.utf8(state).subarray(0, -1);
  sys.call(NR_sendto, fd, message, message.length, MSG_NOSIGNAL, address, address.length);
  close(fd);
}

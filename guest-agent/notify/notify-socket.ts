/** Where an app tells that it is ready: a datagram socket in its own /dev, which is the pod's work and writable whatever the image is, unless its place has another. */
import { EAGAIN, EINTR, EPOLLIN, MSG_DONTWAIT, MSG_TRUNC, NR_recvfrom } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { changeMode, changeOwner } from '../../runtime/linux/files.ts';
import { bindUnixDatagrams } from '../../runtime/linux/sockets.ts';
import { unwatch, watch } from '../../runtime/loop.ts';
import type { AppPlace } from '../machine/machine.ts';
import { parseNotification, type Notification } from './notification.ts';

/** As apps see it. */
export const NOTIFY_PATH = '/dev/notify';
const MESSAGE_MAX_BYTES = 4096;
/** Read before others get their turn. */
const MESSAGES_PER_TURN = 16;

const buffer = new Uint8Array(MESSAGE_MAX_BYTES);

/** Returns what closes it. */
export function openNotifySocket({ root, notifyPath = NOTIFY_PATH }: Pick<AppPlace, 'root' | 'notifyPath'>, owner: { uid: number; gid: number }, onNotification: (notification: Notification) => void): () => void {
  const fd = root.inside(() => {
    const socket = bindUnixDatagrams(notifyPath);
    changeOwner(notifyPath, owner.uid, owner.gid);
    changeMode(notifyPath, 0o600);
    return socket;
  });
  watch(fd, EPOLLIN, () => {
    for (let message = 0; message < MESSAGES_PER_TURN; message++) {
      // Descriptors that came along (FDSTORE=1, BARRIER=1) are closed by the kernel: nobody asks for them.
      const count = sys.call(NR_recvfrom, fd, buffer, buffer.length, MSG_DONTWAIT | MSG_TRUNC, null, null);
      if (count === -EINTR) continue;
      if (count === -EAGAIN || count < 0) return;
      if (count <= buffer.length) onNotification(parseNotification(sys.text(buffer.subarray(0, count))));
    }
  });
  return () => {
    unwatch(fd);
    close(fd);
  };
}

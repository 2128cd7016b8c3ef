/** Sockets in the pod directory, to which only its owner can connect. */
import { EPOLLIN } from '../runtime/abi.gen.ts';
import { close } from '../runtime/linux/fds.ts';
import { changeMode, removeFile } from '../runtime/linux/files.ts';
import { accept, listenUnix } from '../runtime/linux/sockets.ts';
import { after, unwatch, watch, type TimerHandle } from '../runtime/loop.ts';

/** A client that cannot be accepted, for want of descriptors, would be announced again and again. */
const RETRY_MS = 100;

/**
 * @param path relative to the pod directory, which is where the monitor runs: addresses of sockets are short
 * @param onClient gets each connection, a non-blocking socket, which is its own from then on
 * @param listen makes the listener at `path`, where that is too long even so
 * @returns what ends it
 */
export function servePodSocket(path: string, onClient: (fd: number) => void, listen: () => number = () => listenUnix(path)): () => void {
  removeFile(path);
  const listener = listen();
  changeMode(path, 0o600);
  let pause: TimerHandle | undefined;
  const serve = (): void => watch(listener, EPOLLIN, () => {
    let fd: number | undefined;
    try {
      fd = accept(listener);
    } catch {
      unwatch(listener);
      pause = after(RETRY_MS, serve);
      return;
    }
    if (fd !== undefined) onClient(fd);
  });
  serve();
  return () => {
    pause?.cancel();
    unwatch(listener);
    close(listener);
    removeFile(path);
  };
}

/** Sockets in the pod directory, to which only its owner can connect. */
import { EPOLLIN } from '../runtime/abi.gen.ts';
import { close } from '../runtime/linux/fds.ts';
import { changeMode, removeFile } from '../runtime/linux/files.ts';
import { accept, listenUnix } from '../runtime/linux/sockets.ts';
import { unwatch, watch } from '../runtime/loop.ts';

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
  watch(listener, EPOLLIN, () => {
    const fd = acceptIfAny(listener);
    if (fd !== undefined) onClient(fd);
  });
  return () => {
    unwatch(listener);
    close(listener);
    removeFile(path);
  };
}

function acceptIfAny(listener: number): number | undefined {
  try {
    return accept(listener);
  } catch {
    // The client has gone already, or there are no descriptors left: it will find out.
    return undefined;
  }
}

/** What the guest's kernel and QEMU say outside of the agent's protocol: kept for error messages, bounded on disk. */
import { EPOLLIN, O_CREAT, O_TRUNC, O_WRONLY } from '../runtime/abi.gen.ts';
import { close, readRaw, setNonBlocking, writeRaw } from '../runtime/linux/fds.ts';
import { open } from '../runtime/linux/files.ts';
import { unwatch, watch } from '../runtime/loop.ts';
import { wouldBlock } from './relay/host-stream.ts';
import { lastLines, TailBuffer } from './tail-buffer.ts';

const KEPT_BYTES = 64 << 10;
const LOG_LIMIT_BYTES = 1 << 20;

export interface TextDrain {
  /** The last lines, cleaned for a terminal. */
  tail(count: number): string[];
  /** The first kept line that contains the text, from there on. */
  find(text: string): string | undefined;
  /** Takes what is there without waiting. */
  drain(): void;
  close(): void;
}

/**
 * Reads a pipe as long as there is something, so that its writer never waits.
 * @param logPath where the first MiB is written too
 * @param copyTo another descriptor that gets everything, for --debug
 */
export function drainText(fd: number, options: { logPath?: string; copyTo?: number } = {}): TextDrain {
  const kept = new TailBuffer(KEPT_BYTES);
  const buffer = new Uint8Array(4096);
  let logFd = -1;
  let logged = 0;
  setNonBlocking(fd);
  const read = (): boolean => {
    const count = readRaw(fd, buffer);
    if (wouldBlock(count)) return false;
    if (count <= 0) {
      unwatch(fd);
      return false;
    }
    const bytes = buffer.subarray(0, count);
    kept.push(bytes);
    if (options.copyTo !== undefined) writeRaw(options.copyTo, bytes);
    if (options.logPath !== undefined && logged < LOG_LIMIT_BYTES) {
      if (logFd < 0) logFd = open(options.logPath, O_WRONLY | O_CREAT | O_TRUNC, 0o640);
      logged += Math.max(0, writeRaw(logFd, bytes.subarray(0, LOG_LIMIT_BYTES - logged)));
    }
    return true;
  };
  watch(fd, EPOLLIN, () => void read());
  return {
    tail: (count) => lastLines(sys.text(kept.bytes), count),
    find(text) {
      const line = lastLines(sys.text(kept.bytes), Infinity).find((candidate) => candidate.includes(text));
      return line?.slice(line.indexOf(text));
    },
    drain() {
      while (read());
    },
    close() {
      unwatch(fd);
      close(fd);
      if (logFd >= 0) close(logFd);
    },
  };
}

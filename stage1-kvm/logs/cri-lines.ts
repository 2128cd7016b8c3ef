/**
 * Output as lines of the Kubernetes CRI log format: `TIME STREAM F LINE`; with `P` in place of `F` the line goes on in the next
 * one of its stream. (kubernetes/design-proposals, node/kubelet-cri-logging.md.)
 */
import { wallClockNs } from '../../runtime/linux/time.ts';
import { rfc3339 } from './timestamp.ts';

/** A chunk of output with the longest prefix fits, however it is cut into lines. */
const BLOCK_BYTES = 128 << 10;
export const MAX_CHUNK_BYTES = 64 << 10;
/** One for everybody: a block is written before the next one is made. */
const block = new Uint8Array(BLOCK_BYTES);
const counts = new Int32Array(2);

/**
 * All lines of a chunk have one time: that of the moment it was read.
 * @param bytes at most MAX_CHUNK_BYTES
 * @param write called with blocks of whole lines, which are only valid during the call
 */
export function writeCriLines(stream: 'stdout' | 'stderr', bytes: Uint8Array, write: (block: Uint8Array) => void): void {
  const head = `${rfc3339(wallClockNs())} ${stream}`;
  const full = sys.utf8(`${head} F `).subarray(0, -1);
  const partial = sys.utf8(`${head} P `).subarray(0, -1);
  for (let rest = bytes; rest.length > 0;) {
    sys.lines(rest, full, partial, block, counts);
    const [taken, written] = counts as unknown as [number, number];
    if (taken === 0) throw new RangeError(`${bytes.length} bytes of output at once`);
    write(block.subarray(0, written));
    rest = rest.subarray(taken);
  }
}

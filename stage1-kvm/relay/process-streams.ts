/** The monitor's connections to the standard streams of the pod's processes. */
import { NR_write } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import { encodeFrame } from '../../src/wire/frame.ts';
import { STREAM_PORT, type ProcessId, type StreamName } from '../../src/wire/messages.ts';
import type { Transport } from '../vsock/transport.ts';

export type OpenPort = Transport['open'];

/** Opens a stream connection and says whose it is. */
export async function openStream(open: OpenPort, process: ProcessId, stream: StreamName): Promise<number> {
  const fd = await open(STREAM_PORT);
  const header = encodeFrame({ process, stream });
  // A fresh socket takes a header whole.
  if (sys.call(NR_write, fd, header, header.length) !== header.length) {
    close(fd);
    throw new Error(`stream ${stream} of process ${process} broke at once`);
  }
  return fd;
}

/** Connects a process of the guest to this process's standard streams. */
import { NR_write } from '../../runtime/abi.gen.ts';
import { close, duplicate } from '../../runtime/linux/fds.ts';
import { encodeFrame } from '../../src/wire/frame.ts';
import { STREAM_PORT, type ProcessId, type StreamName } from '../../src/wire/messages.ts';
import type { Transport } from '../vsock/transport.ts';
import { HostStream } from './host-stream.ts';
import { pumpIn, pumpOut } from './pump.ts';

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

export interface RelayOptions {
  process: ProcessId;
  stdio: 'streams' | 'tty';
  /** Whether standard input goes to the process. */
  stdin: boolean;
}

/** Resolves when the process's output has ended and been passed on. */
export async function relayProcess(open: OpenPort, options: RelayOptions): Promise<void> {
  const { process } = options;
  if (options.stdio === 'tty') {
    const fd = await openStream(open, process, 'tty');
    // A descriptor of its own: each can be waited for in one direction only.
    void pumpIn(new HostStream(0, 'in'), duplicate(fd));
    await pumpOut(fd, new HostStream(1, 'out'));
    return;
  }
  const [stdout, stderr, stdin] = await Promise.all([
    openStream(open, process, 'stdout'),
    openStream(open, process, 'stderr'),
    options.stdin ? openStream(open, process, 'stdin') : null,
  ]);
  if (stdin !== null) void pumpIn(new HostStream(0, 'in'), stdin);
  await Promise.all([
    pumpOut(stdout, new HostStream(1, 'out')),
    pumpOut(stderr, new HostStream(2, 'out')),
  ]);
}

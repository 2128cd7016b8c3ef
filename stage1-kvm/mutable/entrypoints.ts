/** `app_add|app_start|app_stop|app_rm --debug=B --uuid=U --app=A`: has the monitor of a running mutable pod change its apps. */
import { ECONNREFUSED, ENOENT } from '../../runtime/abi.gen.ts';
import { isErrno } from '../../runtime/linux/errors.ts';
import { read, writeAll } from '../../runtime/linux/fds.ts';
import { exit } from '../../runtime/linux/process.ts';
import { connectUnix } from '../../runtime/linux/sockets.ts';
import { encodeFrame, FrameDecoder } from '../../src/wire/frame.ts';
import { Stage1Error } from '../error.ts';
import { parseAppArguments } from '../options.ts';
import { CONTROL_SOCKET, type ControlAnswer } from './control-socket.ts';
import type { ChangeKind } from './pod-apps.ts';

const READ_BYTES = 4096;

/** Ends the process: 0 when it has been done. @throws Stage1Error */
export function changeApp(kind: ChangeKind, args: readonly string[]): never {
  const { app } = parseAppArguments(args);
  const fd = connect();
  writeAll(fd, encodeFrame({ type: kind, app }));
  const decoder = new FrameDecoder();
  const buffer = new Uint8Array(READ_BYTES);
  for (;;) {
    const count = read(fd, buffer);
    if (count === 0) throw new Stage1Error('the pod has ended');
    const [answer] = decoder.push(buffer.subarray(0, count)) as ControlAnswer[];
    if (answer?.type === 'failed') throw new Stage1Error(answer.message);
    if (answer !== undefined) exit(0);
  }
}

function connect(): number {
  try {
    return connectUnix(CONTROL_SOCKET, { nonBlocking: false });
  } catch (error) {
    if (isErrno(error, ENOENT, ECONNREFUSED)) throw new Stage1Error('the pod is not running, or its apps cannot be changed');
    throw error;
  }
}

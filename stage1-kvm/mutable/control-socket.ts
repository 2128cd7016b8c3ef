/**
 * `control.sock` in the pod directory: how the entrypoints app/add, app/start, app/stop and app/rm reach the monitor. Each
 * connection carries one request, a frame `{"type": "app-add"|"app-start"|"app-stop"|"app-rm", "app": NAME}`, and its answer,
 * `{"type": "done"}` or `{"type": "failed", "message": …}`.
 */
import { EPOLLIN } from '../../runtime/abi.gen.ts';
import { close, readRaw, writeAll } from '../../runtime/linux/fds.ts';
import { after, unwatch, watch } from '../../runtime/loop.ts';
import { encodeFrame, FrameDecoder } from '../../src/wire/frame.ts';
import { isAcName } from '../pod/pod.ts';
import { servePodSocket } from '../pod-socket.ts';
import { wouldBlock } from '../relay/host-stream.ts';
import type { ChangeKind } from './pod-apps.ts';

export const CONTROL_SOCKET = 'control.sock';
export const CHANGE_KINDS = ['app-add', 'app-start', 'app-stop', 'app-rm'] as const satisfies readonly ChangeKind[];

export type ControlAnswer = { type: 'done' } | { type: 'failed'; message: string };

const REQUEST_TIMEOUT_MS = 10_000;
const MAX_CLIENTS = 128;
const READ_BYTES = 4096;

/** Returns what ends it. */
export function serveControlSocket(change: (kind: ChangeKind, app: string) => Promise<void>): () => void {
  const clients = new Set<number>();
  return servePodSocket(CONTROL_SOCKET, (fd) => {
    if (clients.size >= MAX_CLIENTS) return close(fd);
    clients.add(fd);
    const end = (): void => {
      unwatch(fd);
      if (clients.delete(fd)) close(fd);
    };
    readRequest(fd).then(({ type, app }) => change(type, app)).then(
      (): ControlAnswer => ({ type: 'done' }),
      (error: unknown): ControlAnswer => ({ type: 'failed', message: error instanceof Error ? error.message : String(error) }),
    ).then((answer) => {
      if (clients.has(fd)) writeAll(fd, encodeFrame(answer));
    }).catch(() => undefined).finally(end);
  });
}

interface ControlRequest {
  type: ChangeKind;
  app: string;
}

/** @throws Error for what is no request */
function readRequest(fd: number): Promise<ControlRequest> {
  return new Promise((resolve, reject) => {
    const decoder = new FrameDecoder();
    const buffer = new Uint8Array(READ_BYTES);
    const settle = (work: () => void): void => {
      timeout.cancel();
      unwatch(fd);
      work();
    };
    const timeout = after(REQUEST_TIMEOUT_MS, () => settle(() => reject(new Error('no request in time'))));
    watch(fd, EPOLLIN, () => {
      const count = readRaw(fd, buffer);
      if (wouldBlock(count)) return;
      try {
        if (count <= 0) throw new Error('no request');
        const [message] = decoder.push(buffer.subarray(0, count));
        if (message === undefined) return;
        const request = parseRequest(message);
        settle(() => resolve(request));
      } catch (error) {
        settle(() => reject(error as Error));
      }
    });
  });
}

function parseRequest(message: object): ControlRequest {
  const { type, app } = message as { type?: unknown; app?: unknown };
  const kind = CHANGE_KINDS.find((known) => known === type);
  if (kind === undefined) throw new Error(`request ${String(type)} is unknown`);
  if (typeof app !== 'string' || !isAcName(app)) throw new Error('app must be an AC name');
  return { type: kind, app };
}

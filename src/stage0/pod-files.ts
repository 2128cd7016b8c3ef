/** Files of a running pod, through its agent (docs/wire-protocol.md, "Files"). */
import type { Socket } from 'node:net';
import { RktError } from '../error.ts';
import { encodeEntries, readEntries } from '../files/entry-stream.ts';
import type { PodHandle } from '../pod/index.ts';
import type { TarEntry } from '../rootfs/index.ts';
import type { FilesRequest } from '../wire/files.ts';
import { encodeFrame } from '../wire/frame.ts';
import { STREAM_PORT } from '../wire/messages.ts';
import { openPort } from './guest-connection.ts';

export interface FilesOptions {
  warn(message: string): void;
  /** Ends the transfer. */
  signal: AbortSignal;
}

type OutRequest = Omit<Extract<FilesRequest, { direction: 'out' }>, 'direction'>;
type InRequest = Omit<Extract<FilesRequest, { direction: 'in' }>, 'direction'>;

/** The tree at a path of an app. Throws RktError GUEST, STATE. */
export async function* readFromPod(pod: PodHandle, request: OutRequest, { warn, signal }: FilesOptions): AsyncGenerator<TarEntry, void, undefined> {
  const socket = await openFiles(pod, { direction: 'out', ...request }, signal);
  try {
    yield* readEntries(socket as AsyncIterable<Buffer>, { warn, name: nameOf(pod) });
  } finally {
    socket.destroy();
  }
}

/** Puts a tree at a path of an app; returns when all of it is there. Throws RktError GUEST, STATE, and what reading the entries throws. */
export async function writeToPod(pod: PodHandle, request: InRequest, source: { entries: AsyncIterable<TarEntry> } & FilesOptions): Promise<void> {
  const socket = await openFiles(pod, { direction: 'in', ...request }, source.signal);
  try {
    const answered = readAnswer(socket, { pod, warn: source.warn });
    // Of the two that may fail the agent's reason counts, and it may come while the rest is still being sent.
    answered.catch(() => undefined);
    await Promise.race([send(socket, source.entries), answered]);
    await answered;
  } finally {
    socket.destroy();
  }
}

async function readAnswer(socket: Socket, { pod, warn }: { pod: PodHandle; warn(message: string): void }): Promise<void> {
  const name = nameOf(pod);
  for await (const entry of readEntries(socket as AsyncIterable<Buffer>, { warn, name })) {
    throw new RktError('GUEST', `${name}: the guest's agent broke the protocol: it sent ${entry.type}`);
  }
}

/** Ends without an error when the agent takes no more: it says why. */
async function send(socket: Socket, entries: AsyncIterable<TarEntry>): Promise<void> {
  for await (const chunk of encodeEntries(entries)) {
    if (socket.destroyed || !socket.writable) return;
    if (!socket.write(chunk)) await drained(socket);
  }
}

/** Or closed: then nothing more is written. */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done).off('close', done);
      resolve();
    };
    socket.on('drain', done).on('close', done);
    if (socket.destroyed) done();
  });
}

function nameOf(pod: PodHandle): string {
  return `pod "${pod.uuid}"`;
}

/** A connection on which the agent answers the request. */
async function openFiles(pod: PodHandle, request: FilesRequest, signal: AbortSignal): Promise<Socket> {
  const socket = await openPort(pod, STREAM_PORT, { signal, refusal: 'does not take connections: it is still starting, or its stage1 copies no files' });
  // What breaks from now on is noticed by whoever reads.
  socket.on('error', () => undefined);
  socket.write(encodeFrame({ files: request }));
  return socket;
}

/** Connections of the command line to the agent of a running pod, by way of its monitor's `vsock.sock`. */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { getSystemErrorMessage } from 'node:util';
import { RktError } from '../error.ts';
import { pathInPod } from '../pod/index.ts';
import type { PodHandle } from '../pod/index.ts';
import { encodeFrame, FrameDecoder } from '../wire/frame.ts';
import { CONTROL_PORT, STREAM_PORT } from '../wire/messages.ts';
import type { HostMessage } from '../wire/messages.ts';

const VSOCK_SOCKET = 'vsock.sock';
const LONGEST_ANSWER = 32;
const EPERM = 1;

export interface PortOptions {
  /** Ends the connection, with RktError STATE for whoever reads or waits. */
  signal?: AbortSignal;
  /** What is said of a pod that takes no connections. */
  refusal?: string;
}

/** Half-open: the end of one direction leaves the other. Throws RktError STATE when the pod takes no connections. */
export async function openPort(pod: PodHandle, port: number, { signal, refusal = 'takes no connections' }: PortOptions = {}): Promise<Socket> {
  const socket = connect({ path: pathInPod(pod, VSOCK_SOCKET), allowHalfOpen: true });
  const stop = (): void => void socket.destroy(new RktError('STATE', 'interrupted'));
  signal?.addEventListener('abort', stop, { once: true });
  socket.once('close', () => signal?.removeEventListener('abort', stop));
  try {
    await once(socket, 'connect');
    socket.write(`CONNECT ${port}\n`);
    let answer = '';
    while (!answer.endsWith('\n') && answer.length < LONGEST_ANSWER) answer += String.fromCharCode(await readByte(socket));
    if (answer.startsWith('OK ')) return socket;
    throw new Error(`unexpected answer ${JSON.stringify(answer)}`);
  } catch (cause) {
    socket.destroy();
    if (cause instanceof RktError) throw cause;
    throw new RktError('STATE', `pod ${JSON.stringify(pod.uuid)} ${refusal}`, { cause });
  }
}

/** Reads no more than that: what follows belongs to others. */
async function readByte(socket: Socket): Promise<number> {
  for (;;) {
    const byte = socket.read(1) as Buffer | null;
    if (byte !== null) return byte[0] ?? 0;
    if (socket.readableEnded || socket.destroyed) throw new Error('the connection has ended');
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    const wake = (): void => resolve(undefined);
    for (const event of ['readable', 'end', 'close'] as const) socket.once(event, wake);
    socket.once('error', reject);
    try {
      await promise;
    } finally {
      for (const event of ['readable', 'end', 'close'] as const) socket.off(event, wake);
      socket.off('error', reject);
    }
  }
}

/** A connection to a TCP port on the loopback interface of the pod. Throws RktError. */
export async function openTcpPort(pod: PodHandle, port: number): Promise<Socket> {
  const socket = await openPort(pod, STREAM_PORT);
  socket.write(encodeFrame({ forward: port }));
  const errno = await readByte(socket).catch(() => EPERM);
  if (errno === 0) return socket;
  socket.destroy();
  if (errno === EPERM) throw new RktError('PERMISSION', `pod ${JSON.stringify(pod.uuid)} is sealed: it takes no connections to its ports from here`);
  throw new RktError('NETWORK', `port ${port} of the pod: ${getSystemErrorMessage(-errno)}`);
}

/** Messages as they come: nothing about their shape is known. */
export interface AgentConnection {
  send(message: HostMessage): void;
  /** The next one of which `matches` is true. Throws RktError when the connection ends before. */
  next(matches: (message: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>;
  /** Settles when the pod, or the agent, has ended the connection. */
  readonly ended: Promise<void>;
  close(): void;
}

interface Waiter {
  matches(message: Record<string, unknown>): boolean;
  resolve(message: Record<string, unknown>): void;
  reject(error: Error): void;
}

/** What the guest says that nobody waits for is dropped. */
export async function connectAgent(pod: PodHandle): Promise<AgentConnection> {
  const socket = await openPort(pod, CONTROL_PORT);
  const decoder = new FrameDecoder();
  const waiters = new Set<Waiter>();
  let failure: Error | undefined;
  const { promise: ended, resolve: end } = Promise.withResolvers<undefined>();
  const finish = (cause?: unknown): void => {
    if (failure !== undefined) return;
    failure = new RktError('GUEST', `the agent of pod ${JSON.stringify(pod.uuid)} has closed its connection`, cause === undefined ? {} : { cause });
    for (const { reject } of waiters) reject(failure);
    waiters.clear();
    socket.destroy();
    end(undefined);
  };
  socket.on('data', (chunk: Buffer) => {
    try {
      for (const message of decoder.push(chunk)) deliver(message as Record<string, unknown>);
    } catch (error) {
      finish(error);
    }
  });
  const deliver = (message: Record<string, unknown>): void => {
    for (const waiter of waiters) {
      if (!waiter.matches(message)) continue;
      waiters.delete(waiter);
      waiter.resolve(message);
    }
  };
  socket.on('error', finish);
  socket.on('end', () => finish());
  socket.on('close', () => finish());
  return {
    ended,
    send: (message) => void socket.write(encodeFrame(message)),
    next: (matches) => new Promise((resolve, reject) => {
      if (failure !== undefined) reject(failure);
      else waiters.add({ matches, resolve, reject });
    }),
    close: () => finish(),
  };
}

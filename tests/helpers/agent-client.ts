/** Speaks the wire protocol to an agent: over unix sockets to one that runs natively, or through a hybrid vsock socket into a VM. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { encodeFrame, FrameDecoder } from '../../src/wire/frame.ts';
import {
  CONTROL_PORT, STREAM_PORT, WIRE_VERSION, type AgentMessage, type HostMessage, type ProcessId, type StartApp, type Stdio, type StreamName,
} from '../../src/wire/messages.ts';

export type StartMessage = Extract<HostMessage, { type: 'start' }>;
type MessageOf<T extends AgentMessage['type']> = Extract<AgentMessage, { type: T }>;

/** Opens a connection to one of the agent's ports. */
export type Dial = (port: number) => Promise<Socket>;

export const dialUnix = (paths: { control: string; stream: string }): Dial => async (port) => {
  const socket = connect({ path: port === CONTROL_PORT ? paths.control : paths.stream, allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
};

/** Firecracker's convention: `CONNECT port\n`, answered by `OK …\n`. */
export const dialHybridVsock = (path: string): Dial => async (port) => {
  const socket = connect({ path, allowHalfOpen: true });
  await once(socket, 'connect');
  socket.write(`CONNECT ${port}\n`);
  let answer = '';
  while (!answer.endsWith('\n')) {
    await once(socket, 'readable');
    const byte = socket.read(1) as Buffer | null;
    if (byte === null && socket.readableEnded) throw new Error(`port ${port}: ${answer || 'closed'}`);
    answer += byte?.toString('latin1') ?? '';
  }
  if (!answer.startsWith('OK ')) throw new Error(`port ${port}: ${answer}`);
  return socket;
};

export class AgentClient {
  readonly socket: Socket;
  readonly messages: AgentMessage[] = [];
  readonly #dial: Dial;
  readonly #decoder = new FrameDecoder();
  #waiters: { matches: (message: AgentMessage) => boolean; resolve: (message: AgentMessage) => void; reject: (error: Error) => void }[] = [];
  closed = false;

  private constructor(dial: Dial, socket: Socket) {
    this.#dial = dial;
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      for (const message of this.#decoder.push(chunk)) this.#receive(message as AgentMessage);
    });
    socket.on('error', () => undefined);
    socket.on('close', () => this.#end());
    socket.on('end', () => {
      this.#end();
      socket.end();
    });
  }

  /** The first connection, before the pod is started. */
  static async open(dial: Dial): Promise<AgentClient> {
    const client = await AgentClient.openAnother(dial);
    await client.next('hello');
    return client;
  }

  static async openAnother(dial: Dial): Promise<AgentClient> {
    return new AgentClient(dial, await dial(CONTROL_PORT));
  }

  #receive(message: AgentMessage): void {
    this.messages.push(message);
    this.#waiters = this.#waiters.filter((waiter) => {
      if (!waiter.matches(message)) return true;
      waiter.resolve(message);
      return false;
    });
  }

  #end(): void {
    this.closed = true;
    for (const { reject } of this.#waiters.splice(0)) reject(new Error(`connection closed; messages: ${JSON.stringify(this.messages.slice(-5))}`));
  }

  send(message: HostMessage): void {
    this.socket.write(encodeFrame(message));
  }

  /** The first message of that type, among those that have arrived or will. */
  next<T extends AgentMessage['type']>(type: T, matches: (message: MessageOf<T>) => boolean = () => true): Promise<MessageOf<T>> {
    const isIt = (message: AgentMessage): boolean => message.type === type && matches(message as MessageOf<T>);
    const arrived = this.messages.find(isIt);
    if (arrived !== undefined) return Promise.resolve(arrived as MessageOf<T>);
    if (this.closed) return Promise.reject(new Error(`connection closed; messages: ${JSON.stringify(this.messages.slice(-5))}`));
    return new Promise((resolve, reject) => this.#waiters.push({ matches: isIt, resolve: resolve as (message: AgentMessage) => void, reject }));
  }

  /** A connection for one stream of a process. */
  async stream(process: ProcessId, stream: StreamName): Promise<Socket> {
    const socket = await this.#dial(STREAM_PORT);
    socket.on('error', () => undefined);
    socket.write(encodeFrame({ process, stream }));
    return socket;
  }

  #request = 1;

  /** Starts a process in an app; `created` or `failed` is the answer. */
  async exec(options: { app: string; argv: string[]; env?: Record<string, string>; stdio?: Stdio }): Promise<ProcessId> {
    const request = this.#request++;
    this.send({ type: 'exec', request, app: options.app, argv: options.argv, env: options.env ?? {}, stdio: options.stdio ?? { kind: 'streams', stdin: false } });
    const answer = await Promise.race([
      this.next('created', (message) => message.request === request),
      this.next('failed', (message) => message.request === request).then((message) => {
        throw Object.assign(new Error(message.message), { exitCode: message.exitCode });
      }),
    ]);
    return answer.process;
  }

  /** Runs a program to its end. */
  async capture(options: { app: string; argv: string[]; env?: Record<string, string> }): Promise<{ stdout: string; stderr: string; status: MessageOf<'exited'>['status'] }> {
    const id = await this.exec(options);
    const [stdout, stderr, exited] = await Promise.all([
      this.stream(id, 'stdout').then(readAll),
      this.stream(id, 'stderr').then(readAll),
      this.next('exited', (message) => message.process === id),
    ]);
    return { stdout: stdout.toString(), stderr: stderr.toString(), status: exited.status };
  }
}

export async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  socket.end();
  return Buffer.concat(chunks);
}

interface TestApp {
  name?: string;
  exec: string[];
  /** Fields of the manifest's `app` section. */
  app?: Record<string, unknown>;
  /** Fields beside it. */
  runtime?: Record<string, unknown>;
  stdio?: Stdio;
  disk?: StartApp['disk'];
}

/** A start message for the given apps. */
export function startMessage(apps: TestApp[], fields: Partial<StartMessage> & { volumes?: unknown[] } = {}): StartMessage {
  const { volumes = [], ...rest } = fields;
  const named = apps.map((app, index) => ({ name: app.name ?? `app-${index + 1}`, ...app }));
  const manifest = {
    acKind: 'PodManifest',
    acVersion: '0.8.11',
    volumes,
    apps: named.map(({ name, exec, app, runtime }) => ({ name, image: { id: `sha512-${'0'.repeat(64)}` }, app: { exec, user: '0', group: '0', ...app }, ...runtime })),
  };
  return {
    type: 'start',
    version: WIRE_VERSION,
    uuid: '11111111-2222-3333-4444-555555555555',
    hostname: 'pod',
    podManifest: JSON.stringify(manifest),
    apps: named.map(({ name, stdio, disk }, index) => ({
      name,
      process: index + 1,
      disk: disk ?? { serial: `app-${index + 1}`, dataBlocks: 1, hashStartBlock: 2, rootHashHex: '0'.repeat(64) },
      stdio: stdio ?? { kind: 'streams', stdin: false },
    })),
    scratch: { kind: 'tmpfs', sizeBytes: 16 << 20 },
    shares: [],
    network: null,
    wallClockNs: String(BigInt(Date.now()) * 1_000_000n),
    entropyHex: '00'.repeat(32),
    insecure: { capabilities: false, paths: false, seccomp: false },
    hostLogHex: null,
    sealed: false,
    ...rest,
  };
}

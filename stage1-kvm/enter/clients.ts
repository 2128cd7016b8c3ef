/**
 * `enter.sock` in the pod directory: how `enter` runs a command in an app. A client sends the `exec` of src/wire, then `signal` and
 * `resize`, and gets what the agent says of the process. All of them share the monitor's own connection to the agent: one for each
 * would cost the guest more than most commands do. The streams of the process are connected through vsock.sock.
 */
import { SIGHUP } from '../../runtime/abi.gen.ts';
import { close } from '../../runtime/linux/fds.ts';
import type { Measurement } from '../../src/tpm/measurements.ts';
import type { AgentMessage, HostMessage, ProcessId } from '../../src/wire/messages.ts';
import { FrameChannel } from '../frame-channel.ts';
import { servePodSocket } from '../pod-socket.ts';

export const ENTER_SOCKET = 'enter.sock';

const MAX_CLIENTS = 512;
/** Those of other requests of the monitor are smaller. */
const FIRST_REQUEST = 2 ** 30;

/** `created`, two outputs, `exited`. */
const MAX_TOLD = 4;
/** Of an error with a long path in it. */
const MAX_MESSAGE_CHARACTERS = 65536;

type ExecMessage = Extract<HostMessage, { type: 'exec' }>;
type ClientMessage = Extract<HostMessage, { type: 'exec' | 'signal' | 'resize' }>;

interface Client {
  channel: FrameChannel<AgentMessage, ClientMessage>;
  /** The client's own number of its request, once it has made one. */
  request: number | null;
  process: ProcessId | null;
  /** Takes back that its command is going to be measured. */
  forget: (() => void) | null;
  isGone: boolean;
  toldCount: number;
}

export interface EnterClientsOptions {
  /** Into the monitor's connection to the agent. */
  send(message: HostMessage): void;
  /** Tells the pod's TPM what is going to be measured; returns what takes that back. Null: there is no TPM. */
  expect: ((measurement: Measurement) => () => void) | null;
}

export class EnterClients {
  readonly #options: EnterClientsOptions;
  readonly #clients = new Set<Client>();
  readonly #byRequest = new Map<number, Client>();
  readonly #byProcess = new Map<ProcessId, Client>();
  readonly #closeSocket: () => void;
  #nextRequest = FIRST_REQUEST;

  constructor(options: EnterClientsOptions) {
    this.#options = options;
    this.#closeSocket = servePodSocket(ENTER_SOCKET, (fd) => this.#accept(fd));
  }

  /** @returns whether the message was about a client */
  onMessage(message: AgentMessage): boolean {
    if (message.type === 'created' || message.type === 'failed') return this.#onAnswer(message);
    if (message.type !== 'output' && message.type !== 'exited') return false;
    const client = this.#byProcess.get(message.process);
    if (client === undefined) return false;
    this.#tell(client, message);
    if (message.type === 'exited') {
      this.#byProcess.delete(message.process);
      client.process = null;
    }
    return true;
  }

  close(): void {
    this.#closeSocket();
    for (const { channel } of this.#clients) channel.close();
    this.#clients.clear();
  }

  #accept(fd: number): void {
    if (this.#clients.size >= MAX_CLIENTS) return close(fd);
    const client: Client = {
      channel: new FrameChannel(fd, { onMessage: (message) => this.#onRequest(client, message), onEnd: () => this.#onGone(client) }),
      request: null,
      process: null,
      forget: null,
      isGone: false,
      toldCount: 0,
    };
    this.#clients.add(client);
  }

  #onRequest(client: Client, message: ClientMessage): void {
    if (message.type === 'exec') {
      if (client.request !== null) return this.#drop(client);
      client.request = message.request;
      const request = this.#nextRequest++;
      this.#byRequest.set(request, client);
      this.#options.send({ ...message, request, isExpected: this.#options.expect !== null });
      // While the guest is at work: nothing of what it does is read before this function has returned.
      client.forget = this.#expect(message);
    } else if (message.type === 'signal' || message.type === 'resize') {
      // Only its own, and not after its end: the agent may have given the number away.
      if (client.process !== null) this.#options.send({ ...message, process: client.process });
    } else {
      this.#drop(client);
    }
  }

  /** Null: there is no TPM, or this cannot be measured, which the agent finds too. */
  #expect({ app, argv }: ExecMessage): (() => void) | null {
    try {
      return this.#options.expect?.({ kind: 'enter', app, command: argv }) ?? null;
    } catch {
      return null;
    }
  }

  #onAnswer(message: Extract<AgentMessage, { type: 'created' | 'failed' }>): boolean {
    const client = message.request === undefined ? undefined : this.#byRequest.get(message.request);
    if (client === undefined) return false;
    this.#byRequest.delete(message.request!);
    client.forget?.();
    if (message.type === 'created') {
      client.process = message.process;
      this.#byProcess.set(message.process, client);
      if (client.isGone) this.#hangUp(client);
    }
    this.#tell(client, { ...message, request: client.request! });
    return true;
  }

  /** What the client does not read stays here, so a guest may not say as much as it likes. */
  #tell(client: Client, message: AgentMessage): void {
    client.toldCount++;
    if (client.toldCount > MAX_TOLD || JSON.stringify(message).length > MAX_MESSAGE_CHARACTERS) this.#drop(client);
    else client.channel.send(message);
  }

  #drop(client: Client): void {
    client.channel.close();
    this.#onGone(client);
  }

  #onGone(client: Client): void {
    this.#clients.delete(client);
    client.isGone = true;
    this.#hangUp(client);
  }

  #hangUp({ process }: Client): void {
    if (process !== null) this.#options.send({ type: 'signal', process, signal: SIGHUP });
  }
}

/**
 * The streams of a pod's apps: each output is read once and goes to this process's own output, the logs and the clients that are
 * attached. Only the first of them can make an app wait, and only the app whose output it is.
 */
import { duplicate } from '../../runtime/linux/fds.ts';
import type { HostMessage, ProcessId, Stdio, StreamName } from '../../src/wire/messages.ts';
import type { EndpointName } from '../attach/endpoint-names.ts';
import { serveEndpoints, type ServedEndpoint } from '../attach/endpoints.ts';
import { InputClients } from '../attach/input-clients.ts';
import { OutputClients } from '../attach/output-clients.ts';
import type { LogOptions } from '../logs/log-options.ts';
import { PodLogs, type OutputName } from '../logs/pod-logs.ts';
import { HostStream } from './host-stream.ts';
import { openStream, type OpenPort } from './process-streams.ts';
import { pumpIn, pumpOut, type Filter } from './pump.ts';
import type { AppStreamSettings } from './stream-settings.ts';

export interface AppRelaysOptions {
  uuid: string;
  logs: LogOptions;
  open: OpenPort;
  /** Into the monitor's own connection to the agent. */
  send(message: HostMessage): void;
}

export interface RelayedApp {
  settings: AppStreamSettings;
  process: ProcessId;
  stdio: Stdio;
  /** This process's own input and output are the app's: `run --interactive`. */
  isInteractive: boolean;
  /** One per output stream, for what this process itself shows. */
  makeFilter?: () => Filter;
  /** Gets what the user types at the terminal of an interactive app. */
  onInput?: (bytes: Uint8Array) => void;
}

export class AppRelays {
  readonly #options: AppRelaysOptions;
  readonly #logs: PodLogs;
  readonly #ends = new Set<() => void>();
  /** Those who wait for the agent to allow input, by request. */
  readonly #announced = new Map<number, { resolve(): void; reject(error: Error): void }>();
  /** Apps whose process has been started once. */
  readonly #started = new Set<ProcessId>();
  readonly #awaitingStart = new Map<ProcessId, (() => void)[]>();
  #nextRequest = 1;

  constructor(options: AppRelaysOptions) {
    this.#options = options;
    this.#logs = new PodLogs(options.logs, options.uuid);
  }

  /** Resolves when the app's output has ended and been passed on. */
  async relay(app: RelayedApp): Promise<void> {
    const endpoints: ServedEndpoint[] = [];
    const outputs = app.stdio.kind === 'tty' ? this.#terminal(app, endpoints) : this.#streams(app, endpoints);
    const stop = serveEndpoints({ app: app.settings.name, process: app.process }, endpoints);
    this.#ends.add(stop);
    try {
      await outputs;
    } finally {
      this.#ends.delete(stop);
      stop();
      this.#started.delete(app.process);
      this.#logs.release(app.settings.name);
    }
  }

  onStarted(process: ProcessId): void {
    this.#started.add(process);
    for (const resolve of this.#awaitingStart.get(process) ?? []) resolve();
    this.#awaitingStart.delete(process);
  }

  /** The agent's answer to `attach`. */
  onAttached(request: number, error: string | undefined): void {
    const waiting = this.#announced.get(request);
    this.#announced.delete(request);
    if (error === undefined) waiting?.resolve();
    else waiting?.reject(new Error(error));
  }

  reopenLogs(): void {
    this.#logs.reopen();
  }

  close(): void {
    for (const end of this.#ends) end();
    this.#ends.clear();
    this.#logs.close();
  }

  async #terminal(app: RelayedApp, endpoints: ServedEndpoint[]): Promise<void> {
    const clients = new OutputClients();
    endpoints.push({ name: 'tty-out', onClient: (fd) => clients.add(fd) });
    const opened = openStream(this.#options.open, app.process, 'tty');
    const input = app.isInteractive || (app.stdio.kind === 'tty' && app.stdio.stdin === false) ? null : this.#input(app, 'tty-in', async () => duplicate(await opened));
    if (input !== null) endpoints.unshift({ name: 'tty-in', onClient: (fd) => input.add(fd) });
    const fd = await opened;
    // A descriptor of its own: each can be waited for in one direction only.
    if (app.isInteractive) void pumpIn(new HostStream(0, 'in'), duplicate(fd), { seen: app.onInput });
    await this.#output(app, { name: 'stdout', fd, clients });
    input?.end();
  }

  async #streams(app: RelayedApp, endpoints: ServedEndpoint[]): Promise<void> {
    const { stdio, process } = app;
    const outputs = (['stdout', 'stderr'] as const).filter((name) => stdio.kind === 'streams' && stdio[name] !== false).map((name) => {
      const clients = new OutputClients();
      endpoints.push({ name, onClient: (fd) => clients.add(fd) });
      return { name, clients };
    });
    const open = (stream: StreamName): Promise<number> => openStream(this.#options.open, process, stream);
    const hasInput = stdio.kind === 'streams' && stdio.stdin;
    const input = hasInput && !app.isInteractive ? this.#input(app, 'stdin', () => open('stdin')) : null;
    if (input !== null) endpoints.unshift({ name: 'stdin', onClient: (fd) => input.add(fd) });
    const [stdin, ...fds] = await Promise.all([hasInput && app.isInteractive ? open('stdin') : null, ...outputs.map(({ name }) => open(name))]);
    if (stdin !== null && stdin !== undefined) void pumpIn(new HostStream(0, 'in'), stdin);
    await Promise.all(outputs.map((output, index) => this.#output(app, { ...output, fd: fds[index]! })));
    input?.end();
  }

  async #output(app: RelayedApp, { name, fd, clients }: { name: OutputName; fd: number; clients: OutputClients }): Promise<void> {
    const sinks = this.#logs.sinks(app.settings, name);
    const own = this.#ownOutput(app, name);
    await pumpOut(fd, own, {
      filter: own === null ? undefined : app.makeFilter?.(),
      seen(bytes) {
        for (const sink of sinks) sink.push(bytes);
        clients.push(bytes);
      },
    });
    for (const sink of sinks) sink.end();
    await clients.end();
  }

  /** Null: this process does not show it. */
  #ownOutput({ settings, isInteractive, stdio }: RelayedApp, name: OutputName): HostStream | null {
    const mode = settings.modes[name];
    const shows = isInteractive || (mode === 'log' && stdio.kind === 'streams');
    const fd = name === 'stdout' ? 1 : 2;
    return shows && (isInteractive || !this.#logs.replacesOwn(fd)) ? new HostStream(fd, 'out') : null;
  }

  #input(app: RelayedApp, endpoint: EndpointName, open: () => Promise<number>): InputClients {
    return new InputClients({
      open,
      announce: () => this.#announce(app, endpoint),
    });
  }

  /** The agent knows an app only when it has been started. */
  async #announce({ process, settings }: RelayedApp, stream: EndpointName): Promise<void> {
    if (!this.#started.has(process)) await new Promise<void>((resolve) => void this.#awaitingStart.set(process, [...(this.#awaitingStart.get(process) ?? []), resolve]));
    await new Promise<void>((resolve, reject) => {
      const request = this.#nextRequest++;
      this.#announced.set(request, { resolve, reject });
      this.#options.send({ type: 'attach', request, app: settings.name, stream });
    });
  }
}

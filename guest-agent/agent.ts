/**
 * The agent: takes connections from the host, starts the pod once, reports what happens, ends the pod. Whatever goes wrong ends
 * in a message to the host and the machine switched off, never in silence.
 */
import { NR_uname, SIGHUP, SIGKILL, SIGPIPE } from '../runtime/abi.gen.ts';
import { duplicate } from '../runtime/linux/fds.ts';
import { giveWay, hasChildren, kill, pause } from '../runtime/linux/process.ts';
import { blockSignals } from '../runtime/linux/signals.ts';
import { uptimeMs } from '../runtime/linux/time.ts';
import { after, runLoop, sleep, type TimerHandle } from '../runtime/loop.ts';
import { fromHex, toHex } from '../src/tpm/bytes.ts';
import type { PodKeyEndorsement } from '../src/tpm/evidence.ts';
import type { FilesRequest } from '../src/wire/files.ts';
import { WIRE_VERSION, type AgentMessage, type ExitStatus, type HostMessage, type ProcessId, type Stdio, type StreamHeader, type TerminalSize } from '../src/wire/messages.ts';
import { openApp, type App, type PodContext } from './app/app.ts';
import { parsePodManifest } from './app/manifest.ts';
import { dropForAll } from './confine.ts';
import { ControlConnection } from './control.ts';
import { serveFiles, type FilesOfApp } from './files/file-server.ts';
import { Forwarder } from './forward/forwarder.ts';
import type { Machine } from './machine/machine.ts';
import { measurementsOf } from './measure/launch.ts';
import { Measurer } from './measure/measurer.ts';
import { evidenceFor } from './measure/quote.ts';
import { Readiness } from './notify/readiness.ts';
import { parseHostMessage, type ChangeMessage, type ExecMessage, type InspectMessage, type StartMessage } from './messages.ts';
import { ChangingApps } from './mutable/changing-apps.ts';
import { reapAll, StartError, startReaping } from './process/process.ts';
import { StandardStreams } from './process/stdio.ts';
import { StreamExchange, type Attachment } from './process/stream-exchange.ts';
import { processesMessage } from './stats/processes.ts';
import { usageMessage } from './stats/usage.ts';

/** Without a host there is nothing to do. */
const HOST_TIMEOUT_MS = 60_000;
/** What apps get to end by themselves when another one has failed or the host is gone. */
const DEFAULT_GRACE_MS = 10_000;
/** For a host that announced streams and never connected them. */
const UNCONNECTED_STREAM_TIMEOUT_MS = 3_000;
/** For the host to take the last message. */
const FLUSH_TIMEOUT_MS = 2_000;
/** For killed processes to be gone: what one does in the kernel cannot be interrupted. */
const KILL_TIMEOUT_MS = 2_000;
const FIRST_EXEC_ID = 1000;
/** Nothing is written for whoever only reads. */
const NOBODY = { uid: 65534, gid: 65534 };

/** A process the host can address. */
interface Addressable {
  streams: StandardStreams;
  signal(signal: number): void;
}

type Phase = 'waiting' | 'running' | 'ending';

export class Agent {
  readonly #machine: Machine;
  readonly #connections = new Set<ControlConnection>();
  /** The connection that sent `start`. */
  #owner: ControlConnection | undefined;
  /** Cancelled by `start`: each timer costs every event a look at the clock. */
  #hostTimeout: TimerHandle | undefined;
  readonly #processes = new Map<ProcessId, Addressable>();
  readonly #forwarder = new Forwarder(() => this.#sealed);
  readonly #exchange = new StreamExchange({
    attach: (header, fd) => this.#attach(header, fd),
    serveFiles: (request, fd) => void serveFiles(fd, request, (wanted) => this.#openFiles(wanted)),
    forward: (port, fd) => this.#forwarder.accept(port, fd),
  });
  readonly #apps = new Map<string, App>();
  /** Undefined: the apps of the pod are those it was started with, and it ends with them. */
  #changing: ChangingApps | undefined;
  #phase: Phase = 'waiting';
  /** Undefined: the pod has no TPM. */
  #measurer: Measurer | undefined;
  #sealed = false;
  #endorsement: Promise<PodKeyEndorsement> | undefined;
  #onEndorsement: ((answer: Extract<HostMessage, { type: 'endorsement' }>) => void) | undefined;
  readonly #readiness = new Readiness(() => this.#ready());
  /** Of a pod that has ended: the app whose files may be read, and its root. */
  #inspected: { app: string; rootFd: number } | undefined;
  #nextExecId = FIRST_EXEC_ID;
  #dying = false;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  run(): void {
    runLoop((error) => this.#fatal(error));
    try {
      blockSignals([SIGPIPE]); // a peer that is gone is seen when writing to it
      this.#machine.prepareTransport();
      this.#machine.transport.listen((kind, fd) => (kind === 'control' ? this.#openControl(fd) : this.#exchange.accept(fd)));
      this.#machine.transport.announce();
      // From here on the host is on its way: what follows costs nobody time.
      this.#machine.boot((message) => this.#warn(message));
      startReaping();
      this.#hostTimeout = after(HOST_TIMEOUT_MS, () => this.#checkForHost());
    } catch (error) {
      this.#fatal(error);
    }
  }

  #belongTo(connection: ControlConnection): void {
    this.#owner = connection;
    this.#phase = 'running';
    this.#hostTimeout?.cancel();
  }

  #checkForHost(): void {
    if (this.#connections.size > 0) return;
    this.#machine.log('no host has connected');
    this.#machine.powerOff();
  }

  // Connections.

  #openControl(fd: number): void {
    const execs = new Set<ProcessId>();
    const connection: ControlConnection = new ControlConnection(fd, {
      onMessage: (message) => this.#receive(connection, message, execs),
      onClose: () => this.#closed(connection, execs),
    });
    this.#connections.add(connection);
    // Whoever comes later finds a pod that has been started in a version both sides know.
    if (this.#owner === undefined) connection.send({ type: 'hello', version: WIRE_VERSION, kernelRelease: kernelRelease(), uptimeMs: uptimeMs() });
  }

  #closed(connection: ControlConnection, execs: ReadonlySet<ProcessId>): void {
    this.#connections.delete(connection);
    for (const id of execs) this.#processes.get(id)?.signal(SIGHUP);
    if (connection !== this.#owner) return;
    for (const { streams } of this.#processes.values()) streams.abandonWhenFinished();
    this.#shutdown(DEFAULT_GRACE_MS);
  }

  #receive(connection: ControlConnection, message: object, execs: Set<ProcessId>): void {
    let parsed: HostMessage;
    try {
      parsed = parseHostMessage(message);
    } catch (error) {
      connection.send(rejection(message, error));
      return;
    }
    switch (parsed.type) {
      case 'start':
        return this.#start(connection, parsed);
      case 'exec':
        return this.#exec(connection, parsed, execs);
      case 'app-add':
      case 'app-start':
      case 'app-stop':
      case 'app-remove':
        return this.#change(connection, parsed);
      case 'attach':
        return this.#attachInput(connection, parsed);
      case 'signal':
        return this.#processes.get(parsed.process)?.signal(parsed.signal);
      case 'resize':
        return this.#resize(parsed.process, parsed.size);
      case 'shutdown':
        return this.#shutdown(parsed.graceMs);
      case 'usage':
        return connection.send(usageMessage(parsed.request, [...this.#apps.values()].filter((app) => !app.hasEnded)));
      case 'processes':
        return this.#listProcesses(connection, parsed.request, parsed.app);
      case 'ping':
        return connection.send({ type: 'pong', request: parsed.request });
      case 'inspect':
        return this.#inspect(connection, parsed);
      case 'endorsement':
        return this.#onEndorsement?.(parsed);
    }
  }

  #attach({ process, stream }: StreamHeader, fd: number): Attachment {
    const known = this.#processes.get(process);
    if (known !== undefined) return known.streams.attach(stream, fd) ? 'taken' : 'refused';
    // One of `enter` that is not there has ended.
    return process >= FIRST_EXEC_ID && process < this.#nextExecId ? 'refused' : 'no such process yet';
  }

  /** Command lines may hold what is nobody else's business, so a sealed pod keeps them. */
  #listProcesses(connection: ControlConnection, request: number, name: string): void {
    const app = this.#apps.get(name);
    try {
      if (app === undefined || app.hasEnded) throw new Error(`no app "${name}" runs in this pod`);
      if (this.#sealed) throw new Error('the pod is sealed: it does not tell what runs in it');
      connection.send(processesMessage(request, app));
    } catch (error) {
      connection.send({ ...failure(error, { app: name, step: 'processes' }), request });
    }
  }

  #resize(process: ProcessId, size: TerminalSize): void {
    this.#processes.get(process)?.streams.resize(size);
  }

  #report(message: AgentMessage): void {
    this.#owner?.send(message);
  }

  #warn(message: string): void {
    if (this.#owner === undefined) this.#machine.log(message);
    else this.#report({ type: 'warning', message });
  }

  // The pod.

  #start(connection: ControlConnection, start: StartMessage): void {
    if (this.#phase !== 'waiting') {
      connection.send({ type: 'failed', step: 'start', message: 'the pod has been started already' });
      return;
    }
    this.#belongTo(connection);
    this.#runPod(start).catch((error: unknown) => this.#fatal(error));
  }

  async #runPod(start: StartMessage): Promise<void> {
    const apps = await this.#openPod(start);
    await Promise.all([...apps.map((app) => this.#runApp(app)), this.#changing?.ended]);
    await this.#halt();
  }

  /** Empty when something failed, which has been reported then. */
  async #openPod(start: StartMessage): Promise<App[]> {
    let step = 'start';
    let app: string | undefined;
    try {
      if (start.version !== WIRE_VERSION) throw new Error(`protocol version ${start.version}, this agent speaks ${WIRE_VERSION}`);
      const pod = parsePodManifest(start.podManifest);
      step = 'measure';
      this.#sealed = start.sealed;
      if (start.sealed && start.apps.some((app) => takesInput(app.stdio) && !pod.apps.some(({ name, holdsInput }) => name === app.name && holdsInput))) throw new Error('the pod is sealed: it takes no input');
      if (start.hostLogHex !== null) this.#openMeasurer(start, start.hostLogHex);
      this.#measurer?.measure({ kind: 'phase', phase: 'enter' }, ...measurementsOf(start));
      step = 'configure';
      await this.#machine.configure(start);
      step = 'prepare';
      const context = { machine: this.#machine, start, pod, warn: (message: string) => this.#warn(message) };
      for (const [index, { name }] of start.apps.entries()) {
        app = name;
        this.#register(await openApp(context, index));
      }
      app = undefined;
      step = 'measure';
      this.#measurer?.measure({ kind: 'launch', error: null });
      if (pod.isMutable) this.#openToChanges(context);
      else dropForAll([...this.#apps.values()].map(({ confinement }) => confinement));
      return [...this.#apps.values()];
    } catch (error) {
      this.#measureFailure(error);
      this.#report(failure(error, { app, step }));
      this.#phase = 'ending';
      return [];
    }
  }

  #openMeasurer({ uuid }: StartMessage, hostLogHex: string): void {
    const showRecords = this.#machine.openAttestation({
      quote: (nonceHex, dataHex) => evidenceFor({ uuid, nonceHex, dataHex }, measurer, (keyName) => this.#endorse(keyName)),
      log: () => measurer.log,
    });
    const measurer = new Measurer({ hostLog: fromHex(hostLogHex, 'hostLogHex'), announce: (records) => this.#report({ type: 'measuring', records }), onRecords: showRecords });
    this.#measurer = measurer;
  }

  /** The host's word for the pod's key; it is the same for as long as the pod lives. */
  #endorse(keyName: Uint8Array): Promise<PodKeyEndorsement> {
    this.#endorsement ??= new Promise((resolve, reject) => {
      this.#onEndorsement = (answer) => {
        this.#onEndorsement = undefined;
        if (answer.endorsement === null) {
          this.#endorsement = undefined;
          reject(new Error(answer.error ?? 'the host does not vouch for the key of this pod'));
          return;
        }
        const { attest, signature, ...certificates } = answer.endorsement;
        resolve({ attest: fromHex(attest, 'attest'), signature: fromHex(signature, 'signature'), ...certificates });
      };
      this.#report({ type: 'endorse', request: 0, keyName: toHex(keyName) });
    });
    return this.#endorsement;
  }

  /** A launch that failed is closed, too: nothing that looks like its continuation may follow. */
  #measureFailure(error: unknown): void {
    try {
      this.#measurer?.measure({ kind: 'launch', error: error instanceof Error ? error.message : String(error) });
    } catch {
      // It was measuring that failed, and the pod is about to end.
    }
  }

  #register(app: App): void {
    this.#apps.set(app.name, app);
    if (this.#changing === undefined) this.#readiness.expect(app.name);
    this.#forwarder.allow(app.manifest.listenPorts.map(({ port }) => port));
    this.#processes.set(app.process, app);
    this.#exchange.offer(app.process);
  }

  /** Settles when nothing of the app is left. `onStart` is called with null when it runs, else with why it does not. */
  #runApp(app: App, onStart: (error: unknown) => void = () => undefined): Promise<void> {
    return app.run({
      started: (pid) => {
        this.#appStarted(app, pid);
        onStart(null);
      },
      restarting: (run) => this.#report({ type: 'restarting', process: app.process, app: app.name, ...run, uptimeMs: uptimeMs() }),
      notified: ({ ready, status }) => {
        if (status !== undefined) this.#report({ type: 'notified', app: app.name, status });
        if (ready) this.#readiness.reached(app.name);
      },
      exited: (status, oomKilled) => this.#appExited(app, status, oomKilled),
      killedForMemory: ({ count, limitBytes }) => this.#report({ type: 'out-of-memory', process: app.process, app: app.name, killed: count, limitBytes: limitBytes ?? null }),
      failed: (error) => {
        this.#report(failure(error, { app: app.name, step: 'start' }));
        this.#appEnded(app, true);
        onStart(error);
      },
    });
  }

  // Apps that come and go.

  #openToChanges(context: PodContext): void {
    this.#changing = new ChangingApps({
      context,
      measure: (measurement) => this.#measurer?.measure(measurement),
      register: (app) => this.#register(app),
      unregister: (app) => {
        this.#apps.delete(app.name);
        this.#processes.delete(app.process);
      },
      run: (app, onStart) => this.#runApp(app, onStart),
    });
    this.#ready();
  }

  #change(connection: ControlConnection, message: ChangeMessage): void {
    const { request } = message;
    const app = message.type === 'app-add' ? message.app.name : message.app;
    const refuse = (reason: string): void => connection.send({ type: 'failed', request, app, step: message.type, message: reason });
    // The disk of an app is plugged in by whoever started the pod.
    if (connection !== this.#owner) return refuse('only the monitor of the pod changes its apps');
    if (this.#sealed) return refuse('the pod is sealed: its apps cannot be changed');
    if (this.#changing === undefined) return refuse('immutable pod: its apps cannot be changed');
    this.#changing.change(message).then(
      () => connection.send({ type: 'done', request }),
      (error: unknown) => connection.send({ ...failure(error, { app, step: message.type }), request }),
    );
  }

  #appStarted(app: App, pid: number): void {
    this.#report({ type: 'started', process: app.process, app: app.name, pid, uptimeMs: uptimeMs() });
    if (!app.manifest.settings.notifies) this.#readiness.reached(app.name);
  }

  #ready(): void {
    this.#measurer?.measure({ kind: 'phase', phase: 'ready' });
    this.#report({ type: 'ready', uptimeMs: uptimeMs() });
  }

  #appExited(app: App, status: ExitStatus, oomKilled: boolean): void {
    this.#report({ type: 'exited', process: app.process, app: app.name, status, oomKilled, uptimeMs: uptimeMs() });
    this.#appEnded(app, status.kind === 'signal' || status.code !== 0);
  }

  /** The first app that fails ends the pod. */
  #appEnded(app: App, hasFailed: boolean): void {
    after(UNCONNECTED_STREAM_TIMEOUT_MS, () => app.streams.abandonUnconnected());
    if (hasFailed && this.#changing === undefined) this.#shutdown(DEFAULT_GRACE_MS);
  }

  #shutdown(graceMs: number): void {
    if (this.#phase === 'waiting') {
      this.#phase = 'ending';
      this.#halt().catch((error: unknown) => this.#fatal(error));
      return;
    }
    this.#phase = 'ending';
    this.#changing?.end();
    for (const app of this.#apps.values()) app.terminate();
    after(graceMs, () => {
      for (const app of this.#apps.values()) app.kill();
    });
  }

  // Processes of `enter`.

  #exec(connection: ControlConnection, message: ExecMessage, execs: Set<ProcessId>): void {
    try {
      const app = this.#apps.get(message.app);
      if (this.#phase !== 'running') throw new Error('the pod is not running');
      if (app === undefined) throw new Error(`no app "${message.app}" in this pod`);
      if (this.#sealed) throw new Error('the pod is sealed: nothing can be run in it from outside');
      const measured = this.#measurer?.begin({ kind: 'enter', app: app.name, command: message.argv }, message.isExpected === true);
      try {
        const streams = connection.together(() => {
          const started = this.#startExec(app, message, { connection, execs, beforeStart: () => measured?.complete() });
          // Most commands are short: what is to be told of its end may go out together with its beginning.
          giveWay();
          reapAll();
          return started;
        });
        streams.closeChildEnds();
        streams.awaitOutput();
      } finally {
        measured?.complete();
        measured?.record();
      }
    } catch (error) {
      connection.send({ ...failure(error, { app: message.app, step: 'exec' }), request: message.request });
    }
  }

  /** Throws StartError when nothing was started. */
  #startExec(app: App, message: ExecMessage, { connection, execs, beforeStart }: { connection: ControlConnection; execs: Set<ProcessId>; beforeStart: () => void }): StandardStreams {
    const id = this.#nextExecId++;
    const streams = new StandardStreams(message.stdio, { onOutput: (stream) => connection.send({ type: 'output', process: id, stream }) });
    try {
      const running = app.exec(message, streams, { beforeStart, ended: (status) => this.#execEnded({ connection, id, app, status, execs }) });
      this.#processes.set(id, { streams, signal: (signal) => void running.signal(signal) });
      execs.add(id);
      connection.send({ type: 'created', request: message.request, process: id });
      this.#exchange.offer(id);
      return streams;
    } catch (error) {
      streams.abandon();
      throw error;
    }
  }

  /** Input from outside is a change of the pod: it is measured before the first byte is passed on. */
  #attachInput(connection: ControlConnection, { request, app: name, stream }: Extract<HostMessage, { type: 'attach' }>): void {
    try {
      const app = this.#apps.get(name);
      if (app === undefined || this.#phase !== 'running') throw new Error(app === undefined ? `no app "${name}" in this pod` : 'the pod is not running');
      if (this.#sealed) throw new Error('the pod is sealed: it takes no input');
      this.#measurer?.measure({ kind: 'attach', app: name, stream });
      app.streams.allowInput();
      connection.send({ type: 'attached', request });
    } catch (error) {
      connection.send({ type: 'attached', request, error: error instanceof Error ? error.message : String(error) });
    }
  }

  #execEnded({ connection, id, app, status, execs }: { connection: ControlConnection; id: ProcessId; app: App; status: ExitStatus; execs: Set<ProcessId> }): void {
    const { streams } = this.#processes.get(id) ?? {};
    execs.delete(id);
    streams?.announceRest();
    connection.send({ type: 'exited', process: id, app: app.name, status, oomKilled: false, uptimeMs: uptimeMs() });
    // When the host has that, which it waits for.
    after(0, () => {
      streams?.finish(() => {
        this.#processes.delete(id);
      });
      if (connection.closed) streams?.abandon();
      if (this.#processes.has(id)) after(UNCONNECTED_STREAM_TIMEOUT_MS, () => streams?.abandonUnconnected());
    });
  }

  // Files of apps.

  #openFiles({ app: name, direction, path }: FilesRequest): FilesOfApp {
    if (this.#inspected?.app === name && direction === 'out') return { rootFd: duplicate(this.#inspected.rootFd), owner: NOBODY };
    const app = this.#apps.get(name);
    if (app === undefined) throw new Error(`no app "${name}" in this pod`);
    if (this.#phase !== 'running') throw new Error('the pod is not running');
    if (this.#sealed) throw new Error('the pod is sealed: no files can be copied from or to it');
    this.#measurer?.measure({ kind: 'copy', app: name, direction, path });
    return app.openFiles();
  }

  #inspect(connection: ControlConnection, message: InspectMessage): void {
    if (this.#phase !== 'waiting') {
      connection.send({ type: 'failed', step: 'inspect', message: 'the pod has been started already' });
      return;
    }
    this.#belongTo(connection);
    this.#machine.inspect(message).then(
      (rootFd) => {
        this.#inspected = { app: message.app, rootFd };
        connection.send({ type: 'ready', uptimeMs: uptimeMs() });
      },
      (error: unknown) => connection.send(failure(error, { app: message.app, step: 'inspect' })),
    );
  }

  // The end.

  async #halt(): Promise<void> {
    this.#phase = 'ending';
    this.#measurer?.measure({ kind: 'phase', phase: 'exit' });
    this.#killLeftovers();
    this.#exchange.refuseAll();
    this.#machine.release((message) => this.#warn(message));
    for (const connection of this.#connections) connection.send({ type: 'halted', uptimeMs: uptimeMs() });
    // The host stops the machine when it has read that; this is for one that does not.
    await this.#untilClosed(FLUSH_TIMEOUT_MS);
    this.#machine.powerOff();
  }

  /** Nothing may hold the writable disk when it is unmounted. */
  #killLeftovers(): void {
    if (!this.#machine.ownsProcesses) return;
    for (let waitedMs = 0; hasChildren() && waitedMs < KILL_TIMEOUT_MS; waitedMs++) {
      kill(-1, SIGKILL);
      pause(1);
      reapAll();
    }
  }

  async #untilClosed(timeoutMs: number): Promise<void> {
    for (let waitedMs = 0; waitedMs < timeoutMs && this.#connections.size > 0; waitedMs += 10) await sleep(10);
  }

  /** Uses nothing that may be what has failed: no timers, no promises. */
  #fatal(error: unknown): void {
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const stack = error instanceof Error ? (error.stack ?? '') : '';
    this.#machine.log(`${message}\n${stack}`);
    if (!this.#dying) {
      this.#dying = true;
      try {
        for (const connection of this.#connections) connection.send({ type: 'fatal', message, stack });
        pause(200); // the kernel sends what it was given by itself
        this.#machine.release((warning) => this.#machine.log(warning));
      } catch (second) {
        this.#machine.log(`while ending: ${String(second)}`);
      }
    }
    this.#machine.powerOff();
  }
}

function takesInput(stdio: Stdio): boolean {
  return stdio.kind === 'tty' ? stdio.stdin !== false : stdio.stdin;
}

function failure(error: unknown, where: { app: string | undefined; step: string }): Extract<AgentMessage, { type: 'failed' }> {
  if (error instanceof StartError) return { type: 'failed', ...where, step: error.step, message: error.message, exitCode: error.exitCode };
  return { type: 'failed', ...where, message: error instanceof Error ? error.message : String(error) };
}

/** Answers what cannot be understood; a request gets its number back so that its sender does not wait. */
function rejection(message: object, error: unknown): AgentMessage {
  const { type, request } = message as { type?: unknown; request?: unknown };
  return {
    type: 'failed',
    request: typeof type === 'string' && (type === 'exec' || type.startsWith('app-')) && Number.isSafeInteger(request) ? (request as number) : undefined,
    step: typeof type === 'string' ? type.slice(0, 32) : 'message',
    message: error instanceof Error ? error.message : String(error),
  };
}

const UTSNAME_FIELD_BYTES = 65;

function kernelRelease(): string {
  const names = new Uint8Array(UTSNAME_FIELD_BYTES * 6);
  sys.call(NR_uname, names);
  const release = names.subarray(UTSNAME_FIELD_BYTES * 2, UTSNAME_FIELD_BYTES * 3);
  return sys.text(release.subarray(0, release.indexOf(0)));
}

/** One app of the pod: its place, its confinement, its processes from pre-start to post-stop. */
import { O_DIRECTORY, O_PATH, SIGKILL, SIGTERM } from '../../runtime/abi.gen.ts';
import { open } from '../../runtime/linux/files.ts';
import type { ProcessEnd } from '../../runtime/linux/process.ts';
import { monotonicMs } from '../../runtime/linux/time.ts';
import { after } from '../../runtime/loop.ts';
import type { ExitStatus, ProcessId, Stdio } from '../../src/wire/messages.ts';
import { Listeners } from '../activation/listeners.ts';
import type { Confinement } from '../confine.ts';
import type { FilesOfApp } from '../files/file-server.ts';
import { metadataUrl } from '../forward/metadata.ts';
import type { AppPlace, AppRoot, Machine, MemoryKills } from '../machine/machine.ts';
import type { ExecMessage, StartMessage } from '../messages.ts';
import { NOTIFY_PATH, openNotifySocket } from '../notify/notify-socket.ts';
import type { Notification } from '../notify/notification.ts';
import { startProcess, StartError, type RunningProcess } from '../process/process.ts';
import { StandardStreams } from '../process/stdio.ts';
import { asRoot, confinementOf } from './confinement.ts';
import { buildEnvironment, environmentStrings, searchPathOf } from './environment.ts';
import { explainExecFailure } from './exec-failure.ts';
import { boundByPod, readIsolators } from './isolators.ts';
import type { AppManifest, PodManifest } from './manifest.ts';
import { Restarts } from './restarts.ts';
import { withOwnPid } from '../process/own-pid.ts';
import { resolveIdentity, UnknownUserError, type Identity } from './users.ts';

/** systemd.exec(5): EXIT_GROUP, EXIT_USER. */
const EXIT_GROUP = 216;
const EXIT_USER = 217;
/** What is left to say for a shell: a process killed by signal N counts as 128+N. */
const SIGNAL_EXIT_BASE = 128;

export interface PodContext {
  machine: Machine;
  start: StartMessage;
  pod: PodManifest;
  warn: (message: string) => void;
}

export interface AppEvents {
  started(pid: number): void;
  /** A run has ended and another will follow, unless the app is stopped meanwhile. `count`: of restarts, this one included. */
  restarting(run: { status: ExitStatus; count: number; delayMs: number }): void;
  /** The app says something about itself (sd_notify). */
  notified(notification: Notification): void;
  /** The main process has ended for the last time, and so has everything it left behind. */
  exited(status: ExitStatus, oomKilled: boolean): void;
  /** Since the app began; told each time it grows. */
  killedForMemory(kills: MemoryKills): void;
  /** The main process could not be started, or what must run before it failed. StartError, or something unexpected. */
  failed(error: unknown): void;
}

interface AppParts {
  manifest: AppManifest;
  process: ProcessId;
  stdio: Stdio;
  streams: StandardStreams;
  place: AppPlace;
  identity: Identity;
  confinement: Confinement;
  metadataUrl: string | undefined;
  warn: (message: string) => void;
  /** Undefined: the app is not socket-activated. */
  listeners: Listeners | undefined;
}

/** A run has ended and the next one waits. */
interface PendingRestart {
  status: ExitStatus;
  oomKilled: boolean;
  delayMs: number;
}

interface ProcessEnvironment {
  /** NAME=value */
  strings: readonly string[];
  path: string;
}

interface Launch {
  argv: readonly string[];
  streams: StandardStreams;
  hasTerminal: boolean;
  confinement: Confinement;
  /** By the PATH the process gets, which may be a default; an app's own programs are looked for as appc's executor did. */
  searchesAsShell?: boolean;
  extraEnvironment?: Record<string, string>;
  /** What the process gets besides its standard streams. */
  listeners?: Listeners | undefined;
  /** Called when everything is ready for the process: it does not start if this throws. */
  beforeStart?: (() => void) | undefined;
  onEnd: (end: ProcessEnd) => void;
}

export type ExecRequest = Pick<ExecMessage, 'argv' | 'env' | 'stdio'>;

export interface ExecEvents {
  /** Everything is ready for the process: it does not start if this throws. */
  beforeStart: () => void;
  ended: (end: ProcessEnd) => void;
}

/** Makes everything an app needs but its processes. Throws StartError with the exit status rkt recorded, or any other error. */
export async function openApp(context: PodContext, index: number): Promise<App> {
  const { machine, start, pod } = context;
  const startApp = start.apps[index];
  const manifest = pod.apps.find((candidate) => candidate.name === startApp?.name);
  if (startApp === undefined || manifest === undefined) throw new Error(`app "${startApp?.name}" is not in the pod manifest`);
  if (manifest.settings.restart.kind !== 'no' && startApp.stdio.kind === 'tty') throw new Error('an app that owns a terminal cannot be restarted: its end hangs the terminal up');
  const isolation = readIsolators(manifest.isolators);
  const streams = new StandardStreams(startApp.stdio, { holdsInput: manifest.holdsInput });
  try {
    const request = { index, app: manifest, pod, start, limits: boundByPod(isolation.limits, pod.isolators), sysctls: isolation.sysctls, terminalPath: streams.terminalPath };
    const warn = (message: string): void => context.warn(`${manifest.name}: ${message}`);
    const place = await machine.place(request, warn);
    const identity = place.root.inside(() => identityOf(manifest));
    streams.setOwner(identity);
    const confinement = confinementOf({ isolation, identity, place, insecure: start.insecure, machine });
    const listeners = manifest.listenPorts.length === 0 ? undefined : new Listeners(manifest.listenPorts);
    return new App({ manifest, process: startApp.process, stdio: startApp.stdio, streams, place, identity, confinement, listeners, metadataUrl: metadataUrl(start), warn });
  } catch (error) {
    streams.abandon();
    throw error;
  }
}

function identityOf(manifest: AppManifest): Identity {
  try {
    return resolveIdentity(manifest);
  } catch (error) {
    if (!(error instanceof UnknownUserError)) throw error;
    throw new StartError(error.kind, error.kind === 'user' ? EXIT_USER : EXIT_GROUP, error.message);
  }
}

export class App {
  readonly manifest: AppManifest;
  readonly process: ProcessId;
  readonly streams: StandardStreams;
  readonly #stdio: Stdio;
  readonly #place: AppPlace;
  readonly #identity: Identity;
  readonly #confinement: Confinement;
  readonly #warn: (message: string) => void;
  readonly #listeners: Listeners | undefined;
  readonly #metadataUrl: string | undefined;
  /** Of a process without a terminal and variables of its own. */
  #plainEnvironment: ProcessEnvironment | undefined;
  /** The main process or an event handler. */
  #current: RunningProcess | undefined;
  #memoryKills = 0;
  #stopping = false;
  #ended = false;
  /** Ends a pause between two runs. */
  #wake: () => void = () => undefined;

  constructor(parts: AppParts) {
    this.manifest = parts.manifest;
    this.process = parts.process;
    this.streams = parts.streams;
    this.#stdio = parts.stdio;
    this.#place = parts.place;
    this.#identity = parts.identity;
    this.#confinement = parts.confinement;
    this.#warn = parts.warn;
    this.#listeners = parts.listeners;
    this.#metadataUrl = parts.metadataUrl;
  }

  get name(): string {
    return this.manifest.name;
  }

  get confinement(): Confinement {
    return this.#confinement;
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  get cgroupFd(): number {
    return this.#place.cgroup.fd;
  }

  get root(): AppRoot {
    return this.#place.root;
  }

  /** From pre-start to the last byte of output. */
  async run(events: AppEvents): Promise<void> {
    const stopWatching = this.#place.cgroup.watchMemoryKills(() => this.#reportMemoryKills(events));
    let closeNotifySocket: (() => void) | undefined;
    try {
      if (this.manifest.settings.notifies) closeNotifySocket = openNotifySocket(this.#place, this.#identity, (notification) => events.notified(notification));
      const restarts = new Restarts(this.manifest.settings.restart);
      while (await this.#runOnce(events, restarts));
    } catch (error) {
      events.failed(error);
    }
    stopWatching();
    this.#ended = true;
    this.#current = undefined;
    closeNotifySocket?.();
    this.#listeners?.close();
    await new Promise<void>((resolve) => this.streams.finish(resolve));
  }

  /** True: again. */
  async #runOnce(events: AppEvents, restarts: Restarts): Promise<boolean> {
    let pending: PendingRestart | undefined;
    try {
      await this.#runHandler('pre-start', this.manifest.preStart);
      if (!this.#stopping) pending = await this.#runMainOnce(events, restarts);
    } catch (error) {
      events.failed(error);
    }
    await this.#cleanUp();
    if (pending === undefined) return false;
    const goesOn = await this.#pause(pending.delayMs);
    if (!goesOn) events.exited(pending.status, pending.oomKilled);
    return goesOn;
  }

  async #runMainOnce(events: AppEvents, restarts: Restarts): Promise<PendingRestart | undefined> {
    const startMs = monotonicMs();
    const killsBefore = this.#memoryKills;
    const status = await this.#runMain(events);
    this.#reportMemoryKills(events);
    const isKilled = status.kind === 'signal' && status.signal === SIGKILL && !this.#stopping;
    const oomKilled = isKilled && this.#memoryKills > killsBefore;
    const delayMs = this.#delayBeforeNextRun(() => restarts.next(status, monotonicMs() - startMs));
    if (delayMs === undefined) {
      events.exited(status, oomKilled);
      return undefined;
    }
    events.restarting({ status, count: restarts.count, delayMs });
    return { status, oomKilled, delayMs };
  }

  #delayBeforeNextRun(next: () => number | undefined): number | undefined {
    return this.#stopping ? undefined : next();
  }

  /** False: the app is being stopped. */
  #pause(delayMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      if (this.#stopping) return resolve(false);
      const timer = after(delayMs, () => resolve(true));
      this.#wake = () => {
        timer.cancel();
        resolve(false);
      };
    });
  }

  #runMain(events: AppEvents): Promise<ProcessEnd> {
    return new Promise((resolve) => {
      const main = this.#launch({
        argv: this.manifest.exec,
        streams: this.streams,
        hasTerminal: this.#stdio.kind === 'tty',
        confinement: this.#confinement,
        extraEnvironment: this.manifest.settings.notifies ? { NOTIFY_SOCKET: this.#place.notifyPath ?? NOTIFY_PATH } : {},
        listeners: this.#listeners,
        onEnd: (end) => {
          this.#place.cgroup.kill();
          resolve(end);
        },
      });
      this.#current = main;
      // Whatever starts later in the app writes into the same pipes.
      if (this.manifest.postStop === undefined && this.manifest.settings.restart.kind === 'no') this.streams.closeChildEnds();
      events.started(main.pid);
    });
  }

  /** post-stop runs however the app has ended, also when it could not be started; nothing depends on its own end. */
  async #cleanUp(): Promise<void> {
    try {
      await this.#runHandler('post-stop', this.manifest.postStop);
    } catch (error) {
      this.#warn(error instanceof Error ? error.message : String(error));
    }
  }

  #reportMemoryKills(events: AppEvents): void {
    const kills = this.#place.cgroup.memoryKills();
    if (kills.count === this.#memoryKills) return;
    this.#memoryKills = kills.count;
    events.killedForMemory(kills);
  }

  async #runHandler(name: 'pre-start' | 'post-stop', argv: readonly string[] | undefined): Promise<void> {
    if (argv === undefined || argv.length === 0) return;
    const end = await new Promise<ProcessEnd>((onEnd) => {
      const confinement = asRoot(this.#confinement);
      this.#current = this.#launch({ argv, streams: this.streams, hasTerminal: this.#stdio.kind === 'tty', confinement, onEnd });
    });
    const code = end.kind === 'code' ? end.code : SIGNAL_EXIT_BASE + end.signal;
    if (code !== 0) throw new StartError(name, code, `${name} handler: exit status ${code}`);
  }

  #launch(launch: Launch): RunningProcess {
    const { listeners } = launch;
    if (listeners === undefined) return this.#start(launch);
    return withOwnPid((pid) => this.#start({ ...launch, extraEnvironment: { ...launch.extraEnvironment, ...listeners.environment(pid) } }, pid));
  }

  #start({ argv, streams, hasTerminal, confinement, searchesAsShell, extraEnvironment, listeners, beforeStart, onEnd }: Launch, pid?: number): RunningProcess {
    const environment = this.#environment(hasTerminal, extraEnvironment);
    const searchPath = searchesAsShell === true ? environment.path : searchPathOf(this.manifest);
    return startProcess({
      confinement,
      program: {
        argv,
        environment: environment.strings,
        searchPath,
        workingDirectory: this.manifest.workingDirectory,
        stdio: streams.childFds,
        inherited: listeners?.fds ?? [],
        controllingTerminal: streams.controlsTerminal,
      },
      cgroupFd: this.#place.cgroup.fd,
      pid,
      beforeStart,
      onEnd,
      explainExec: ({ candidates, errno }) =>
        this.#place.root.inside(() => explainExecFailure({ command: argv[0] ?? '', candidates, errno, searchPath })),
    });
  }

  #environment(hasTerminal: boolean, extra: Record<string, string> = {}): ProcessEnvironment {
    const isPlain = !hasTerminal && Object.keys(extra).length === 0;
    if (isPlain && this.#plainEnvironment !== undefined) return this.#plainEnvironment;
    const environment = buildEnvironment({
      appName: this.name,
      identity: this.#identity,
      variables: this.manifest.environment,
      metadataUrl: this.#metadataUrl,
      extra,
      hasTerminal,
    });
    const made = { strings: environmentStrings(environment), path: environment.get('PATH') ?? '' };
    if (isPlain) this.#plainEnvironment = made;
    return made;
  }

  /** Another process in the running app, confined like its main process. The child's ends of the streams are left to the caller. Throws StartError. */
  exec(message: ExecRequest, streams: StandardStreams, { beforeStart, ended }: ExecEvents): RunningProcess {
    if (this.#ended) throw new StartError('exec', EXIT_GROUP, `app "${this.name}" has ended`);
    streams.setOwner(this.#identity);
    return this.#launch({
      argv: message.argv,
      streams,
      hasTerminal: message.stdio.kind === 'tty',
      confinement: this.#confinement,
      searchesAsShell: true,
      extraEnvironment: message.env,
      beforeStart,
      onEnd: ended,
    });
  }

  /** For copying: the root as a new O_PATH descriptor, and whose new files are. */
  openFiles(): FilesOfApp {
    return { rootFd: this.#place.root.inside(() => open('/', O_PATH | O_DIRECTORY)), owner: this.#identity };
  }

  /** It will not run, or not again. */
  discard(): void {
    this.#stopping = true;
    this.#ended = true;
    this.streams.abandon();
  }

  /** To the main process and its group. */
  signal(signal: number): void {
    this.#current?.signal(signal);
  }

  /** Asks the app to end: by its own stop signal, which only the main process knows, or TERM to everything that runs in it. No main process is started any more. */
  terminate(): void {
    this.#stopping = true;
    this.#wake();
    if (this.#ended) return;
    const { stopSignal } = this.manifest.settings;
    if (stopSignal !== null || this.#place.cgroup.fd < 0) this.#current?.signal(stopSignal ?? SIGTERM);
    else this.#place.cgroup.signal(SIGTERM);
  }

  kill(): void {
    this.#stopping = true;
    this.#wake();
    if (this.#ended) return;
    this.#place.cgroup.kill();
    if (this.#place.cgroup.fd < 0) this.#current?.signal(SIGKILL);
  }
}

/** One app of the pod: its place, its confinement, its processes from pre-start to post-stop. */
import { O_DIRECTORY, O_PATH, SIGKILL } from '../../runtime/abi.gen.ts';
import { open } from '../../runtime/linux/files.ts';
import type { ProcessEnd } from '../../runtime/linux/process.ts';
import type { ExitStatus, ProcessId, Stdio } from '../../src/wire/messages.ts';
import type { Confinement } from '../confine.ts';
import type { FilesOfApp } from '../files/file-server.ts';
import type { AppPlace, Machine } from '../machine/machine.ts';
import type { ExecMessage, StartMessage } from '../messages.ts';
import { startProcess, StartError, type RunningProcess } from '../process/process.ts';
import { StandardStreams } from '../process/stdio.ts';
import { asRoot, confinementOf } from './confinement.ts';
import { buildEnvironment, environmentStrings } from './environment.ts';
import { explainExecFailure } from './exec-failure.ts';
import { readIsolators } from './isolators.ts';
import type { AppManifest, PodManifest } from './manifest.ts';
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
  /** The main process has ended and so has everything it left behind. */
  exited(status: ExitStatus, oomKilled: boolean): void;
  /** The main process could not be started, or an event handler failed. StartError, or something unexpected. */
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
}

interface Launch {
  argv: readonly string[];
  streams: StandardStreams;
  hasTerminal: boolean;
  confinement: Confinement;
  extraEnvironment?: Record<string, string>;
  onEnd: (end: ProcessEnd) => void;
}

/** Makes everything an app needs but its processes. Throws StartError with the exit status rkt recorded, or any other error. */
export async function openApp(context: PodContext, index: number): Promise<App> {
  const { machine, start, pod } = context;
  const startApp = start.apps[index];
  const manifest = pod.apps.find((candidate) => candidate.name === startApp?.name);
  if (startApp === undefined || manifest === undefined) throw new Error(`app "${startApp?.name}" is not in the pod manifest`);
  const isolation = readIsolators(manifest.isolators);
  const streams = new StandardStreams(startApp.stdio);
  const request = { index, app: manifest, pod, start, limits: isolation.limits, terminalPath: streams.terminalPath };
  const place = await machine.place(request, (message) => context.warn(`${manifest.name}: ${message}`));
  const identity = place.root.inside(() => identityOf(manifest));
  streams.setOwner(identity);
  const confinement = confinementOf({ isolation, identity, place, insecure: start.insecure, machine });
  return new App({ manifest, process: startApp.process, stdio: startApp.stdio, streams, place, identity, confinement });
}

function identityOf({ user, group, supplementaryGids }: AppManifest): Identity {
  try {
    return resolveIdentity({ user, group, supplementaryGids });
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
  /** The main process or an event handler. */
  #current: RunningProcess | undefined;
  #stopping = false;
  #ended = false;

  constructor(parts: AppParts) {
    this.manifest = parts.manifest;
    this.process = parts.process;
    this.streams = parts.streams;
    this.#stdio = parts.stdio;
    this.#place = parts.place;
    this.#identity = parts.identity;
    this.#confinement = parts.confinement;
  }

  get name(): string {
    return this.manifest.name;
  }

  /** From pre-start to the last byte of output. */
  async run(events: AppEvents): Promise<void> {
    try {
      await this.#runHandler('pre-start', this.manifest.preStart);
      if (!this.#stopping) {
        const end = await this.#runMain(events);
        events.exited(end, end.kind === 'signal' && end.signal === SIGKILL && this.#place.cgroup.oomKills() > 0);
        await this.#runHandler('post-stop', this.manifest.postStop);
      }
    } catch (error) {
      events.failed(error);
    }
    this.#ended = true;
    this.#current = undefined;
    await new Promise<void>((resolve) => this.streams.finish(resolve));
  }

  #runMain(events: AppEvents): Promise<ProcessEnd> {
    return new Promise((resolve) => {
      const main = this.#launch({
        argv: this.manifest.exec,
        streams: this.streams,
        hasTerminal: this.#stdio.kind === 'tty',
        confinement: this.#confinement,
        onEnd: (end) => {
          this.#place.cgroup.kill();
          resolve(end);
        },
      });
      this.#current = main;
      if (this.manifest.postStop === undefined) this.streams.closeChildEnds();
      events.started(main.pid);
    });
  }

  async #runHandler(name: 'pre-start' | 'post-stop', argv: readonly string[] | undefined): Promise<void> {
    if (argv === undefined || argv.length === 0) return;
    const end = await new Promise<ProcessEnd>((onEnd) => {
      const confinement = asRoot(this.#confinement);
      this.#current = this.#launch({ argv, streams: this.streams, hasTerminal: this.#stdio.kind === 'tty', confinement, onEnd });
    });
    const code = end.kind === 'code' ? end.code : SIGNAL_EXIT_BASE + end.signal;
    if (code !== 0 && name === 'pre-start') throw new StartError(name, code, `${name} handler: exit status ${code}`);
  }

  #launch({ argv, streams, hasTerminal, confinement, extraEnvironment, onEnd }: Launch): RunningProcess {
    const environment = buildEnvironment({
      appName: this.name,
      identity: this.#identity,
      variables: this.manifest.environment,
      extra: extraEnvironment,
      hasTerminal,
    });
    const searchPath = environment.get('PATH') || '/bin:/usr/bin';
    return startProcess({
      confinement,
      program: {
        argv,
        environment: environmentStrings(environment),
        searchPath,
        workingDirectory: this.manifest.workingDirectory,
        stdio: streams.childFds,
        controllingTerminal: hasTerminal,
      },
      cgroupFd: this.#place.cgroup.fd,
      onEnd,
      explainExec: ({ candidates, errno }) =>
        this.#place.root.inside(() => explainExecFailure({ command: argv[0] ?? '', candidates, errno, searchPath })),
    });
  }

  /** Another process in the running app, confined like its main process. Throws StartError. */
  exec(message: ExecMessage, streams: StandardStreams, onEnd: (end: ProcessEnd) => void): RunningProcess {
    if (this.#ended) throw new StartError('exec', EXIT_GROUP, `app "${this.name}" has ended`);
    streams.setOwner(this.#identity);
    const running = this.#launch({
      argv: message.argv,
      streams,
      hasTerminal: message.stdio.kind === 'tty',
      confinement: this.#confinement,
      extraEnvironment: message.env,
      onEnd,
    });
    streams.closeChildEnds();
    return running;
  }

  /** For copying: the root as a new O_PATH descriptor, and whose new files are. */
  openFiles(): FilesOfApp {
    return { rootFd: this.#place.root.inside(() => open('/', O_PATH | O_DIRECTORY)), owner: this.#identity };
  }

  /** To the main process and its group. */
  signal(signal: number): void {
    this.#current?.signal(signal);
  }

  /** To everything that runs in the app. No main process is started any more. */
  terminate(signal: number): void {
    this.#stopping = true;
    if (this.#ended) return;
    this.#place.cgroup.signal(signal);
    if (this.#place.cgroup.fd < 0) this.#current?.signal(signal);
  }

  kill(): void {
    this.#stopping = true;
    if (this.#ended) return;
    this.#place.cgroup.kill();
    if (this.#place.cgroup.fd < 0) this.#current?.signal(SIGKILL);
  }
}

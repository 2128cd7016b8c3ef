/** The life of a pod, from its directory to its exit status. */
import { EPOLLIN, SIGKILL, SIGPIPE, SIGTTOU } from '../runtime/abi.gen.ts';
import { close, setCloseOnExec, writeAll } from '../runtime/linux/fds.ts';
import { exists, readText, writeFile } from '../runtime/linux/files.ts';
import { environmentVariable, getPid, pidfdKill, pidfdOpen, type ProcessEnd } from '../runtime/linux/process.ts';
import { randomBytes } from '../runtime/linux/random.ts';
import { blockSignals } from '../runtime/linux/signals.ts';
import { monotonicMs, wallClockNs } from '../runtime/linux/time.ts';
import { isTerminal } from '../runtime/linux/tty.ts';
import { after, runLoop, unwatch, watch, type TimerHandle } from '../runtime/loop.ts';
import { toHex } from '../src/tpm/bytes.ts';
import type { PodKeyEndorsement } from '../src/tpm/evidence.ts';
import { podKeyName } from '../src/tpm/pod-key.ts';
import { CONTROL_PORT, WIRE_VERSION, type AgentMessage } from '../src/wire/messages.ts';
import { ActivatedPorts } from './activation/activated-ports.ts';
import { leave, reapChild } from './children.ts';
import { drainText, type TextDrain } from './console.ts';
import { EnterClients } from './enter/clients.ts';
import { Stage1Error, STAGE1_FAILURE } from './error.ts';
import { serveAttestSockets } from './tpm/attest-sockets.ts';
import { endorse, endorsementJson } from './tpm/endorsement.ts';
import { FrameChannel } from './frame-channel.ts';
import { launchPod, type LaunchedPod } from './launch.ts';
import { serveControlSocket } from './mutable/control-socket.ts';
import { HotDisks } from './mutable/hot-disks.ts';
import { PodApps } from './mutable/pod-apps.ts';
import { notifySupervisor, SupervisorStatus } from './notify.ts';
import { parseRunArguments, type RunOptions } from './options.ts';
import { CONSOLE_LOG_PATH, exitCodeOf, recordCreated, recordExit, recordReady, recordRestarts, recordStarted, writePid, writeVmRecord } from './pod/directory.ts';
import { keepLockPrivate } from './pod/lock.ts';
import { readMetadataToken } from './pod/metadata-token.ts';
import { reportOutOfMemory } from './pod/memory-kills.ts';
import { startMessage, stdioOf } from './pod/start-message.ts';
import { PodSignals } from './pod-signals.ts';
import { requireLogTargets } from './logs/pod-logs.ts';
import { AppRelays } from './relay/app-relays.ts';
import { escapeDetector } from './relay/escape.ts';
import { consolePrefix, linePrefixer } from './relay/line-prefix.ts';
import { addedStreamSettings, stdioOfModes, type AppStreamSettings } from './relay/stream-settings.ts';
import { enterRawMode, terminalSize, type RawTerminal } from './relay/terminal.ts';
import { printError } from './report.ts';
import { formatPhases, phasesOf, type Moments } from './timing.ts';
import { QmpChannel } from './vmm/qmp.ts';

/** Emulated guests on a busy host are slow; one that has not come up after this will not. */
export const BOOT_DEADLINE_MS = { tcg: 120_000, kvm: 30_000 } as const;
/** Between the agent's end and that of the machine: a panic has to be printed. */
const AGENT_GONE_MS = 5_000;
const SHOWN_CONSOLE_LINES = 12;
const PANIC = 'Kernel panic - not syncing';

type State =
  /** Until the agent answers. */
  | 'booting'
  | 'running'
  /** All is said: QEMU is being killed, output is being passed on. */
  | 'ending';

/** Takes over the process: returns to its caller, but the event loop ends with exit(). */
export function run(args: readonly string[], startMs: number): void {
  const options = parseRunArguments(args);
  requireLogTargets(options.logs);
  keepLockPrivate();
  for (const fd of [...options.holdFds, ...options.listens.map((listen) => listen.fd)]) setCloseOnExec(fd);
  blockSignals([SIGPIPE, SIGTTOU]);
  const signals = new PodSignals();
  let supervisor: Supervisor | null = null;
  const launched = launchPod(options, (fault) => supervisor?.fail(new Stage1Error(`the guest broke the rules of its vsock device: ${fault.message}`)));
  supervisor = new Supervisor(options, launched, { signals, startMs });
  runLoop((error) => supervisor.fail(error));
  supervisor.begin();
}

class Supervisor {
  readonly #options: RunOptions;
  readonly #launched: LaunchedPod;
  readonly #signals: PodSignals;
  readonly #qemuFd: number;
  readonly #console: TextDrain;
  readonly #qemuErrors: TextDrain;
  readonly #moments: Moments;
  /** Apps that have not ended, by process. */
  readonly #running = new Map<number, string>();
  readonly #pids = new Map<string, number>();
  readonly #restarts = new Map<string, number>();
  readonly #activatedPorts: ActivatedPorts;
  readonly #supervisorStatus = new SupervisorStatus();
  readonly #outputs: Promise<void>[] = [];
  readonly #relays: AppRelays;
  #state: State = 'booting';
  #channel: FrameChannel | null = null;
  #terminal: RawTerminal | null = null;
  #bootDeadline: TimerHandle | null = null;
  /** Of the first app that failed, or of what ended the pod. */
  #exitCode: number | null = null;
  #endAttestation: () => void = () => undefined;
  #endorsement: Promise<PodKeyEndorsement> | null = null;
  #qemuEnded = false;
  /** Of a mutable pod that is ready. */
  #podApps: PodApps | null = null;
  #endChanges: () => void = () => undefined;
  #enterClients: EnterClients | null = null;
  #whenQemuEnded: () => void = () => undefined;

  constructor(options: RunOptions, launched: LaunchedPod, { signals, startMs }: { signals: PodSignals; startMs: number }) {
    this.#options = options;
    this.#launched = launched;
    this.#signals = signals;
    this.#qemuFd = pidfdOpen(launched.qemuPid);
    this.#activatedPorts = new ActivatedPorts({
      ports: options.listens,
      open: (port) => launched.transport.open(port),
      warn: (message) => printError(new Stage1Error(`warning: ${message}`)),
    });
    this.#relays = new AppRelays({
      uuid: options.uuid,
      logs: options.logs,
      open: (port) => launched.transport.open(port),
      send: (message) => this.#channel?.send(message),
    });
    const debug = options.debug ? { copyTo: 2 } : {};
    this.#console = drainText(launched.consoleFd, { logPath: CONSOLE_LOG_PATH, ...debug });
    this.#qemuErrors = drainText(launched.qemuErrorFd, debug);
    this.#moments = { origin: originMs(startMs), monitorStart: startMs, guestStart: null, agentHeard: null, appStarted: null, appExited: null, end: 0 };
  }

  /** QEMU runs already: everything here overlaps with it. */
  begin(): void {
    const { pod, machine, transport } = this.#launched;
    this.#signals.watch({
      relays: this.#relays,
      terminal: () => this.#terminal,
      channel: () => this.#channel,
      isEnding: () => this.#state === 'ending',
      endNow: (signal) => this.#stopNow(this.#state === 'ending' ? (this.#exitCode ?? 0) : 128 + signal),
    });
    watch(this.#qemuFd, EPOLLIN, () => this.#onQemuEnd());
    this.#bootDeadline = after(BOOT_DEADLINE_MS[machine.accelerator], () => this.fail(new Stage1Error('the guest did not start in time')));
    transport.agentListens.then(() => this.#connect()).catch((error: unknown) => this.fail(error));
    this.#serveTpm();
    this.#launched.shares.watch((error) => {
      if (this.#state !== 'ending') this.fail(error);
    });
    writePid(getPid());
    this.#writeVm(null);
    pod.apps.forEach(({ app }, index) => this.#running.set(index + 1, app.name));
    recordCreated(pod.apps.map(({ app }) => app.name));
  }

  #serveTpm(): void {
    const { tpm } = this.#launched;
    if (tpm === null) return;
    tpm.serve((error) => {
      if (this.#state !== 'ending') this.fail(error);
    });
    this.#endAttestation = serveAttestSockets({
      transact: (command) => tpm.transact(command),
      endorsement: async () => endorsementJson(await this.#endorse(await podKeyName((command) => tpm.transport(command)))),
    });
  }

  /** Made once: neither the pod's key nor the host's changes while the pod lives. */
  #endorse(keyName: Uint8Array): Promise<PodKeyEndorsement> {
    this.#endorsement ??= endorse(keyName, this.#options.uuid);
    this.#endorsement.catch(() => {
      this.#endorsement = null;
    });
    return this.#endorsement;
  }

  /** For the guest: the key must be the pod's own, whatever name the guest gives. */
  #onEndorse(request: number, keyName: string): void {
    const { tpm } = this.#launched;
    if (tpm === null) return;
    const answer = async (): Promise<ReturnType<typeof endorsementJson>> => {
      const own = await podKeyName((command) => tpm.transport(command));
      if (toHex(own) !== keyName) throw new Stage1Error('that is not the key of this pod');
      return endorsementJson(await this.#endorse(own));
    };
    answer().then(
      (endorsement) => this.#channel?.send({ type: 'endorsement', request, endorsement }),
      (error: unknown) => this.#channel?.send({ type: 'endorsement', request, endorsement: null, error: error instanceof Error ? error.message : String(error) }),
    );
  }

  /** Ends the pod with an error of this program (or a defect of it). */
  fail(error: unknown): void {
    this.#terminal?.restore();
    if (this.#state === 'ending') {
      printError(error);
      this.#leave(STAGE1_FAILURE);
    }
    this.#state = 'ending';
    this.#console.drain();
    this.#qemuErrors.drain();
    printError(error, { lines: [...this.#qemuErrors.tail(SHOWN_CONSOLE_LINES), ...this.#console.tail(SHOWN_CONSOLE_LINES)] });
    this.#stopNow(STAGE1_FAILURE);
  }

  async #connect(): Promise<void> {
    const { pod, tpm, transport } = this.#launched;
    this.#moments.agentHeard = monotonicMs();
    const fd = await transport.open(CONTROL_PORT);
    if (this.#state === 'ending') {
      close(fd);
      return;
    }
    this.#bootDeadline?.cancel();
    this.#state = 'running';
    this.#channel = new FrameChannel(fd, { onMessage: (message) => this.#onMessage(message), onEnd: (error) => this.#onControlEnd(error) });
    const terminal = this.#options.interactive && isTerminal(0) ? terminalSize(0) : null;
    this.#channel.send(startMessage(this.#options, {
      podManifest: pod.manifest,
      apps: pod.apps,
      streams: pod.streams,
      terminal,
      hasScratchDisk: pod.hasScratchDisk,
      shares: this.#launched.shares.inGuest,
      hostLogHex: tpm === null ? null : toHex(tpm.hostLog),
      guestNetwork: this.#launched.guestNetwork,
      wallClockNs: wallClockNs(),
      entropyHex: toHex(randomBytes(64)),
      metadataToken: readMetadataToken(),
      resolvConf: this.#configurationFile('resolv', '/etc/resolv.conf', 'rkt-resolv.conf'),
      hostsFile: this.#configurationFile('hosts', '/etc/hosts', 'rkt-hosts'),
    }));
    this.#enterClients = new EnterClients({ send: (message) => this.#channel?.send(message), expect: tpm === null ? null : (measurement) => tpm.expect(measurement) });
    if (terminal !== null) this.#terminal = enterRawMode(0);
    const relays = pod.apps.map(({ app }, index) => this.#relayApp(app.name, index, terminal !== null));
    this.#outputs.push(...relays);
    await Promise.all(relays);
  }

  /** What --dns-conf-mode names: the host's file, or the one stage0 put into the pod directory. */
  #configurationFile(kind: 'resolv' | 'hosts', hostPath: string, podPath: string): string | null {
    const mode = this.#options.dns[kind];
    const path = mode === 'host' ? hostPath : mode === 'stage0' ? podPath : null;
    return path === null || !exists(path) ? null : readText(path);
  }

  /** Streams of an app that was added to the running pod: its output has the app's name before each line. */
  async #relayAdded(process: number, settings: AppStreamSettings): Promise<void> {
    try {
      await this.#relays.relay({ settings, process, stdio: stdioOfModes(settings.modes), isInteractive: false, makeFilter: () => linePrefixer(this.#prefixOf(settings.name)) });
    } catch (error) {
      if (this.#state !== 'ending') throw error;
    }
  }

  #prefixOf(name: string): () => Uint8Array {
    return () => sys.utf8(consolePrefix(monotonicMs() - this.#moments.monitorStart, name, this.#pids.get(name) ?? 0)).subarray(0, -1);
  }

  async #relayApp(name: string, index: number, hasTerminal: boolean): Promise<void> {
    const { pod } = this.#launched;
    const settings = pod.streams[index]!;
    const isInteractive = this.#options.interactive && index === 0;
    if (isInteractive && settings.modes.stdin !== 'null') throw new Stage1Error(`pod: app "${name}" takes its input from attached clients: it cannot be run interactively`);
    try {
      await this.#relays.relay({
        settings,
        process: index + 1,
        stdio: stdioOf(this.#options, { index, settings }, hasTerminal ? { rows: 0, cols: 0 } : null),
        isInteractive,
        ...(pod.apps.length === 1 ? {} : { makeFilter: () => linePrefixer(this.#prefixOf(name)) }),
        onInput: escapeDetector(monotonicMs, () => this.#stopNow(128 + SIGKILL)),
      });
    } catch (error) {
      // The guest went away meanwhile: whoever notices that says so.
      if (this.#state !== 'ending') throw error;
    }
  }

  /** Apps may come and go from now on. */
  #openToChanges(): void {
    const { machine, qmpFd } = this.#launched;
    if (qmpFd === null || this.#podApps !== null) return;
    const qmp = new QmpChannel(qmpFd);
    const podApps = new PodApps({
      disks: new HotDisks(qmp),
      memoryMiB: machine.size.memoryMiB,
      send: (message) => this.#channel?.send(message),
      streamsOf: (manifest) => addedStreamSettings(manifest, this.#launched.pod.manifest),
      onStart: (process, settings) => {
        this.#running.set(process, settings.name);
        this.#outputs.push(this.#relayAdded(process, settings).catch((error: unknown) => this.fail(error)));
      },
      onStartFailed: (process) => this.#running.delete(process),
    });
    this.#podApps = podApps;
    const closeSocket = serveControlSocket((kind, app) => podApps.change(kind, app));
    this.#endChanges = () => {
      closeSocket();
      podApps.close();
      qmp.close();
    };
  }

  #onMessage(message: AgentMessage): void {
    if (this.#enterClients?.onMessage(message) === true) return;
    switch (message.type) {
      case 'hello':
        if (message.version !== WIRE_VERSION) this.fail(new Stage1Error(`the guest's agent speaks version ${message.version} of the protocol, expected ${WIRE_VERSION}`));
        this.#moments.guestStart ??= monotonicMs() - message.uptimeMs;
        this.#writeVm(message.kernelRelease);
        break;
      case 'started':
        this.#moments.appStarted ??= monotonicMs();
        this.#pids.set(message.app, message.pid);
        if (this.#running.get(message.process) === message.app) recordStarted(message.app);
        this.#activatedPorts.serve();
        this.#relays.onStarted(message.process);
        break;
      case 'restarting':
        this.#onRestarting(message.process);
        break;
      case 'notified':
        this.#supervisorStatus.say(message.status);
        break;
      case 'ready':
        this.#openToChanges();
        recordReady();
        notifySupervisor('READY=1');
        break;
      case 'exited':
        if (message.oomKilled && this.#running.get(message.process) === message.app) printError(new Stage1Error(`app "${message.app}" was killed for want of memory`));
        this.#onExit(message.process, exitCodeOf(message.status));
        break;
      case 'out-of-memory':
        if (this.#running.get(message.process) === message.app) reportOutOfMemory(message, this.#launched.machine.size.memoryMiB);
        break;
      case 'done':
        this.#podApps?.onAnswer(message);
        break;
      case 'failed':
        if (message.request !== undefined && this.#podApps?.onAnswer(message) === true) break;
        printError(new Stage1Error(`${message.app === undefined ? '' : `app "${message.app}": `}${message.step}: ${message.message}`));
        this.#onFailed(message.app, message.exitCode ?? STAGE1_FAILURE);
        break;
      case 'warning':
        printError(new Stage1Error(`warning: ${message.message}`));
        break;
      case 'fatal':
        this.fail(new Stage1Error(`the guest's agent failed: ${message.message}${this.#options.debug ? `\n${message.stack}` : ''}`));
        break;
      case 'measuring':
        this.#onMeasuring(message.records);
        break;
      case 'endorse':
        this.#onEndorse(message.request, message.keyName);
        break;
      case 'attached':
        this.#relays.onAttached(message.request, message.error);
        break;
      case 'halted':
        this.#finish();
        break;
      case 'created': case 'output': case 'pong': case 'usage': case 'processes': break;
    }
  }

  #onMeasuring(records: readonly string[]): void {
    try {
      this.#launched.tpm?.announce(records);
    } catch (error) {
      this.fail(new Stage1Error(`the guest's agent broke the protocol: ${(error as Error).message}`));
    }
  }

  /** Counted here: the guest's word for it is not needed. */
  #onRestarting(process: number): void {
    const app = this.#running.get(process);
    if (app === undefined) return;
    const count = (this.#restarts.get(app) ?? 0) + 1;
    this.#restarts.set(app, count);
    recordRestarts(app, count);
  }

  #onExit(process: number, code: number): void {
    const app = this.#running.get(process);
    if (app === undefined) return;
    this.#running.delete(process);
    this.#moments.appExited = monotonicMs();
    recordExit(app, code);
    // How one of its apps ends is not how a mutable pod ends.
    if (code !== 0 && this.#podApps === null) this.#exitCode ??= code;
  }

  /** @param code what the app's status file says; the pod's own status is that of an error of stage1, the app never ran */
  #onFailed(app: string | undefined, code: number): void {
    if (this.#podApps === null) this.#exitCode ??= STAGE1_FAILURE;
    for (const [process, name] of this.#running) {
      if (name === app) this.#onExit(process, code);
    }
  }

  #onControlEnd(error: Error | null): void {
    if (this.#state === 'ending') return;
    if (error !== null) {
      this.fail(new Stage1Error(`the guest's agent broke the protocol: ${error.message}`));
      return;
    }
    // QEMU's end usually follows, and tells more.
    after(AGENT_GONE_MS, () => {
      if (this.#state !== 'ending') this.fail(new Stage1Error("the guest's agent closed its connection"));
    });
  }

  #onQemuEnd(): void {
    unwatch(this.#qemuFd);
    const end = reapChild(this.#launched.qemuPid, 0);
    close(this.#qemuFd);
    this.#qemuEnded = true;
    this.#whenQemuEnded();
    if (this.#state === 'ending') return;
    if (this.#state === 'running' && this.#running.size === 0 && (this.#podApps === null || this.#signals.hasAskedForEnd)) {
      this.#finish();
      return;
    }
    this.#console.drain();
    this.fail(new Stage1Error(this.#console.find(PANIC) ?? describeEnd(end, this.#state)));
  }

  /** The guest is done: what it sent is passed on, then this process ends with the pod's status. */
  #finish(): void {
    if (this.#state === 'ending') return;
    this.#state = 'ending';
    const ended = this.#killQemu();
    Promise.all([ended, ...this.#outputs]).then(() => this.#leave(this.#exitCode ?? 0)).catch((error: unknown) => this.fail(error));
  }

  #stopNow(code: number): void {
    this.#state = 'ending';
    // For whoever asks once more while QEMU ends.
    this.#exitCode = code;
    void this.#killQemu().then(() => this.#leave(code));
  }

  #killQemu(): Promise<void> {
    if (this.#qemuEnded) return Promise.resolve();
    pidfdKill(this.#qemuFd, SIGKILL);
    return new Promise((resolve) => {
      this.#whenQemuEnded = resolve;
    });
  }

  #leave(code: number): never {
    this.#terminal?.restore();
    this.#relays.close();
    this.#endAttestation();
    this.#endChanges();
    this.#enterClients?.close();
    this.#launched.tpm?.close();
    this.#launched.transport.close();
    if (this.#options.timing) {
      const phases = phasesOf({ ...this.#moments, end: monotonicMs() });
      writeAll(2, sys.utf8(formatPhases(phases)).subarray(0, -1));
      const path = environmentVariable('RKT_TIMING_FILE');
      if (path !== undefined && path !== '') writeFile(path, `${JSON.stringify(phases)}\n`);
    }
    leave(code);
  }

  #writeVm(kernelRelease: string | null): void {
    const { machine, kernelPath, qemuPid } = this.#launched;
    writeVmRecord({ accelerator: machine.accelerator, machine: machine.board, ...machine.size, kernel: kernelPath, kernelRelease, qemuPid });
  }
}

function describeEnd(end: ProcessEnd | undefined, state: State): string {
  const when = state === 'booting' ? 'before the pod had started' : 'while the pod was running';
  if (end?.kind === 'signal') return `QEMU was killed by signal ${end.signal} ${when}`;
  if (end?.kind === 'code' && end.code !== 0) return `QEMU ended with status ${end.code} ${when}`;
  return `the guest stopped ${when}`;
}

/** When `rkt` was started, if it says so. */
function originMs(startMs: number): number {
  const text = environmentVariable('RKT_START_NS') ?? '';
  const milliseconds = Number(text) / 1e6;
  return text !== '' && Number.isFinite(milliseconds) && milliseconds <= startMs ? milliseconds : startMs;
}

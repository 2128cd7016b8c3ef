/**
 * The life of a pod without a virtual machine. The monitor and the agent of the other flavor are one process here: the agent
 * starts, confines and ends the app as it does in a guest; this part writes down what it says and connects the streams.
 */
import { SIGKILL, SIGTTOU } from '../runtime/abi.gen.ts';
import { becomeSubreaper, exit, getPid } from '../runtime/linux/process.ts';
import { blockSignals } from '../runtime/linux/signals.ts';
import { monotonicMs, wallClockNs } from '../runtime/linux/time.ts';
import { isTerminal } from '../runtime/linux/tty.ts';
import { Agent } from '../guest-agent/agent.ts';
import { parsePodManifest } from '../guest-agent/app/manifest.ts';
import type { Machine } from '../guest-agent/machine/machine.ts';
import { EnterClients } from '../stage1-kvm/enter/clients.ts';
import { Stage1Error, STAGE1_FAILURE } from '../stage1-kvm/error.ts';
import { FrameChannel } from '../stage1-kvm/frame-channel.ts';
import { notifySupervisor, SupervisorStatus } from '../stage1-kvm/notify.ts';
import { exitCodeOf, readPod, recordCreated, recordExit, recordReady, recordRestarts, recordStarted, writePid, type Pod } from '../stage1-kvm/pod/directory.ts';
import { keepLockPrivate } from '../stage1-kvm/pod/lock.ts';
import { readMetadataToken } from '../stage1-kvm/pod/metadata-token.ts';
import { startMessage, stdioOf } from '../stage1-kvm/pod/start-message.ts';
import type { RunOptions } from '../stage1-kvm/options.ts';
import { PodSignals } from '../stage1-kvm/pod-signals.ts';
import { requireLogTargets } from '../stage1-kvm/logs/pod-logs.ts';
import { AppRelays } from '../stage1-kvm/relay/app-relays.ts';
import { escapeDetector } from '../stage1-kvm/relay/escape.ts';
import { enterRawMode, terminalSize, type RawTerminal } from '../stage1-kvm/relay/terminal.ts';
import { printError } from '../stage1-kvm/report.ts';
import { CONTROL_PORT, type AgentMessage } from '../src/wire/messages.ts';
import { hostMachine } from './machine.ts';
import { parseFlyArguments } from './options.ts';
import { localTransport, type LocalTransport } from './transport.ts';

/** Of the only app. */
const APP_PROCESS = 1;

/** Takes over the process: returns to its caller, but the event loop ends with exit(). */
export function run(args: readonly string[]): void {
  const options = parseFlyArguments(args);
  requireLogTargets(options.logs);
  keepLockPrivate();
  const pod = readPod();
  if (pod.apps.length !== 1) throw new Stage1Error('flavor "fly" only supports 1 application per Pod for now');
  blockSignals([SIGTTOU]);
  // What the app leaves behind is this process's to collect.
  becomeSubreaper();
  new FlyPod(options, pod).begin();
}

class FlyPod {
  readonly #options: RunOptions;
  readonly #pod: Pod;
  readonly #app: string;
  readonly #transport: LocalTransport = localTransport();
  readonly #machine: Machine;
  readonly #relays: AppRelays;
  readonly #status = new SupervisorStatus();
  #channel: FrameChannel | null = null;
  #terminal: RawTerminal | null = null;
  #output: Promise<void> = Promise.resolve();
  #enterClients: EnterClients | null = null;
  #appHasEnded = false;
  /** The agent has said all it has to say. */
  #isOver = false;
  /** Of the first thing that failed. */
  #exitCode: number | undefined;

  constructor(options: RunOptions, pod: Pod) {
    this.#options = options;
    this.#pod = pod;
    this.#app = pod.apps[0]!.app.name;
    this.#relays = new AppRelays({
      uuid: options.uuid,
      logs: options.logs,
      open: (port) => this.#transport.open(port),
      send: (message) => this.#channel?.send(message),
    });
    this.#machine = hostMachine({ dns: options.dns, transport: this.#transport, onPowerOff: () => this.#onPowerOff() });
  }

  begin(): void {
    writePid(getPid());
    recordCreated([this.#app]);
    new Agent(this.#machine).run();
    new PodSignals().watch({
      relays: this.#relays,
      terminal: () => this.#terminal,
      channel: () => this.#channel,
      isEnding: () => this.#isOver,
      endNow: (signal) => this.#leave(this.#isOver ? (this.#exitCode ?? 0) : 128 + signal),
    });
    this.#connect().catch((error: unknown) => this.#fail(error));
  }

  async #connect(): Promise<void> {
    const terminal = this.#options.interactive && isTerminal(0) ? terminalSize(0) : null;
    const channel = new FrameChannel(await this.#transport.open(CONTROL_PORT), {
      onMessage: (message) => this.#onMessage(message),
      onEnd: () => undefined,
    });
    this.#channel = channel;
    channel.send(startMessage({ ...this.#options, insecure: this.#insecure() }, {
      podManifest: this.#pod.manifest, apps: this.#pod.apps, streams: this.#pod.streams, terminal, hasScratchDisk: false, shares: [], hostLogHex: null, guestNetwork: null,
      wallClockNs: wallClockNs(), entropyHex: '', resolvConf: null, hostsFile: null, metadataToken: readMetadataToken(),
    }));
    this.#enterClients = new EnterClients({ send: (message) => channel.send(message), expect: null });
    if (terminal !== null) this.#terminal = enterRawMode(0);
    const settings = this.#pod.streams[0]!;
    this.#output = this.#relays.relay({
      settings,
      process: APP_PROCESS,
      stdio: stdioOf(this.#options, { index: 0, settings }, terminal),
      isInteractive: this.#options.interactive,
      onInput: escapeDetector(monotonicMs, () => this.#leave(128 + SIGKILL)),
    });
    this.#output.catch((error: unknown) => this.#fail(error));
  }

  /** Without a guest around it an app is confined only as far as its manifest says: this flavor is for what needs the host. */
  #insecure(): RunOptions['insecure'] {
    const names = parsePodManifest(this.#pod.manifest).apps.flatMap(({ isolators }) => isolators.map(({ name }) => name));
    const says = (beginning: string): boolean => names.some((name) => name.startsWith(beginning));
    const { insecure } = this.#options;
    return { ...insecure, capabilities: insecure.capabilities || !says('os/linux/capabilities-'), seccomp: insecure.seccomp || !says('os/linux/seccomp-') };
  }

  #onMessage(message: AgentMessage): void {
    if (this.#enterClients?.onMessage(message) === true) return;
    switch (message.type) {
      case 'started':
        if (message.process === APP_PROCESS) recordStarted(this.#app);
        this.#relays.onStarted(message.process);
        break;
      case 'restarting':
        recordRestarts(this.#app, message.count);
        break;
      case 'notified':
        this.#status.say(message.status);
        break;
      case 'ready':
        recordReady();
        notifySupervisor('READY=1');
        break;
      case 'exited':
        if (message.process === APP_PROCESS) this.#onExit(exitCodeOf(message.status));
        break;
      case 'failed':
        printError(new Stage1Error(`${message.app === undefined ? '' : `app "${message.app}": `}${message.step}: ${message.message}`));
        this.#exitCode ??= STAGE1_FAILURE;
        this.#onExit(message.exitCode ?? STAGE1_FAILURE);
        break;
      case 'warning':
        printError(new Stage1Error(`warning: ${message.message}`));
        break;
      case 'attached':
        this.#relays.onAttached(message.request, message.error);
        break;
      case 'halted':
        this.#isOver = true;
        this.#output.then(() => this.#leave(this.#exitCode ?? 0)).catch((error: unknown) => this.#fail(error));
        break;
      default: // what only a guest has to say
    }
  }

  #onExit(code: number): void {
    if (this.#appHasEnded) return;
    this.#appHasEnded = true;
    recordExit(this.#app, code);
    if (code !== 0) this.#exitCode ??= code;
  }

  /** After `halted` there may be output that is still being passed on. */
  #onPowerOff(): void {
    if (!this.#isOver) this.#leave(STAGE1_FAILURE);
  }

  #fail(error: unknown): void {
    this.#terminal?.restore();
    printError(error);
    this.#leave(STAGE1_FAILURE);
  }

  /** Takes what is left of the app with it. */
  #leave(code: number): never {
    this.#terminal?.restore();
    this.#relays.close();
    this.#enterClients?.close();
    this.#machine.release((message) => printError(new Stage1Error(`warning: ${message}`)));
    this.#transport.close();
    exit(code);
  }
}

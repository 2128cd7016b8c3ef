/** The standard streams of one process: pipes or a pseudo-terminal on its side, connections from the host on the other. */
import { EPOLLIN, NR_fchown, O_RDWR } from '../../runtime/abi.gen.ts';
import { close, duplicate, pipe, readableBytes, setNonBlocking, setPipeSize } from '../../runtime/linux/fds.ts';
import { open } from '../../runtime/linux/files.ts';
import { openPty, setWindowSize } from '../../runtime/linux/tty.ts';
import { unwatch, watch } from '../../runtime/loop.ts';
import type { Stdio, StreamName, TerminalSize } from '../../src/wire/messages.ts';
import { Pump } from './pump.ts';

/** Lets a process run ahead of the relay: fewer switches between the two. */
const PIPE_BYTES = 256 << 10;

type OutputName = 'stdout' | 'stderr';

export interface StandardStreamsOptions {
  /** Input is for clients that attach, and none has been announced. */
  holdsInput?: boolean;
  /** Called once for each output that was to be announced, when there is something in it. */
  onOutput?: (name: OutputName) => void;
}

/** One end that waits for its connection, then the pump between them. */
interface Channel {
  /** The agent's end, until a connection takes it over. */
  fd: number | undefined;
  direction: 'in' | 'out';
  pumps: Pump[];
}

let nullFd: number | undefined;

/** Opened once, for all processes. */
function nullDevice(): number {
  return (nullFd ??= open('/dev/null', O_RDWR));
}

export class StandardStreams {
  /** What the process gets as 0, 1, 2. */
  readonly childFds: readonly [number, number, number];
  /** Whether its standard input is a terminal, which then controls the session. */
  readonly controlsTerminal: boolean;
  /** /dev/pts/N in the agent's own /dev. */
  readonly terminalPath: string | undefined;
  readonly #channels = new Map<StreamName, Channel>();
  readonly #childEnds: number[] = [];
  /** Those of the child's ends that were made for it: pipes and the terminal, not /dev/null. */
  readonly #owned: number[] = [];
  #masterFd: number | undefined;
  /** False: input is for clients that attach, and none has been announced. */
  #takesInput = true;
  /** Outputs that have to be announced and were not. */
  readonly #silent = new Set<OutputName>();
  readonly #onOutput: (name: OutputName) => void;
  /** Begins to carry input, when that is allowed. */
  #startInput: (() => void) | undefined;
  #hasEnded = false;
  #finishing = false;
  #abandoned = false;
  #onDrained: (() => void) | undefined;

  constructor(stdio: Stdio, options: StandardStreamsOptions = {}) {
    this.#onOutput = options.onOutput ?? (() => undefined);
    this.controlsTerminal = stdio.kind === 'tty' && stdio.stdin !== false;
    this.#takesInput = options.holdsInput !== true && (stdio.kind !== 'tty' || this.controlsTerminal);
    if (stdio.kind === 'tty') {
      const pty = openPty(stdio.size);
      this.#masterFd = pty.masterFd;
      this.#childEnds.push(pty.slaveFd);
      const end = (isConnected: boolean | undefined): number => (isConnected === false ? nullDevice() : pty.slaveFd);
      this.childFds = [end(stdio.stdin), end(stdio.stdout), end(stdio.stderr)];
      this.terminalPath = `/dev/pts/${pty.number}`;
      this.#owned.push(pty.slaveFd);
      this.#channels.set('tty', { fd: duplicate(pty.masterFd), direction: 'out', pumps: [] });
      return;
    }
    const input = stdio.stdin ? this.#openInput() : nullDevice();
    const output = (name: OutputName): number => (stdio[name] === false ? nullDevice() : this.#openOutput(name));
    this.childFds = [input, output('stdout'), output('stderr')];
    if (stdio.announced !== true) return;
    for (const name of ['stdout', 'stderr'] as const) if (stdio[name] !== false) this.#silent.add(name);
  }

  /** From now on output is announced as it comes, unless the process has ended. */
  awaitOutput(): void {
    if (this.#hasEnded) return;
    this.#forSilent((name, fd) => watch(fd, EPOLLIN, () => {
      unwatch(fd);
      this.#endSilence(name, fd);
    }));
  }

  /** The process has ended: what it has not written by now is nothing, which `finish` then gives up. */
  announceRest(): void {
    this.#hasEnded = true;
    this.#forSilent((name, fd) => this.#announceIfAny(name, fd));
  }

  #forSilent(act: (name: OutputName, fd: number) => void): void {
    for (const name of this.#silent) {
      const fd = this.#channels.get(name)?.fd;
      if (fd !== undefined) act(name, fd);
    }
  }

  /** There is something in it, or there will never be. */
  #endSilence(name: OutputName, fd: number): void {
    if (!this.#announceIfAny(name, fd)) this.#giveUp(this.#channels.get(name));
  }

  #announceIfAny(name: OutputName, fd: number): boolean {
    if (readableBytes(fd) === 0) return false;
    this.#silent.delete(name);
    this.#onOutput(name);
    return true;
  }

  #giveUp(channel: Channel | undefined): void {
    if (channel?.fd === undefined) return;
    unwatch(channel.fd);
    close(channel.fd);
    channel.fd = undefined;
  }

  #openInput(): number {
    const { readEnd, writeEnd } = pipe();
    this.#owned.push(readEnd);
    this.#childEnds.push(readEnd);
    this.#channels.set('stdin', { fd: writeEnd, direction: 'in', pumps: [] });
    return readEnd;
  }

  #openOutput(name: StreamName): number {
    const { readEnd, writeEnd } = pipe();
    this.#owned.push(writeEnd);
    this.#childEnds.push(writeEnd);
    this.#channels.set(name, { fd: readEnd, direction: 'out', pumps: [] });
    return writeEnd;
  }

  /** Lets the process's user reopen its streams through /dev/stdout or /dev/tty. */
  setOwner({ uid, gid }: { uid: number; gid: number }): void {
    // A terminal begins with a group of its own.
    if (uid === 0 && gid === 0 && this.terminalPath === undefined) return;
    for (const fd of this.#owned) sys.call(NR_fchown, fd, uid, gid);
  }

  /** Takes the connection over. False when there is no such stream or it has a connection already. */
  attach(name: StreamName, fd: number): boolean {
    const channel = this.#channels.get(name);
    if (channel?.fd === undefined || (name === 'stdin' && !this.#takesInput)) return false;
    const own = channel.fd;
    channel.fd = undefined;
    unwatch(own);
    if (name === 'tty') this.#attachTerminal(channel, own, fd);
    else this.#attachPipe(channel, own, fd);
    if (this.#finishing) this.#drainOutputs();
    return true;
  }

  #attachPipe(channel: Channel, own: number, fd: number): void {
    setNonBlocking(own);
    setPipeSize(own, PIPE_BYTES);
    this.#pump(channel, channel.direction === 'in' ? { source: fd, sink: own } : { source: own, sink: fd });
  }

  /** Both directions use descriptors of their own: each may be watched for one thing only. */
  #attachTerminal(channel: Channel, masterFd: number, fd: number): void {
    this.#pump(channel, { source: masterFd, sink: fd });
    const input: Channel = { fd: undefined, direction: 'in', pumps: [] };
    this.#channels.set('stdin', input);
    this.#startInput = () => this.#pump(input, { source: duplicate(fd), sink: duplicate(masterFd) });
    if (this.#takesInput) this.#startInput();
  }

  /** From now on what the host sends reaches the process. */
  allowInput(): void {
    if (this.#takesInput) return;
    this.#takesInput = true;
    if (!this.#finishing) this.#startInput?.();
  }

  #pump(channel: Channel, ends: { source: number; sink: number }): void {
    const pump = new Pump({ ...ends, onEnd: () => this.#pumpEnded() });
    channel.pumps.push(pump);
    pump.start();
  }

  resize(size: TerminalSize): void {
    if (this.#masterFd !== undefined) setWindowSize(this.#masterFd, size);
  }

  /** This process's copies of the process's ends: until they are closed, no end of file is seen. */
  closeChildEnds(): void {
    for (const fd of this.#childEnds.splice(0)) close(fd);
  }

  /** The process has ended: carries what it left behind, then ends every stream and calls `onDrained`. */
  finish(onDrained: () => void): void {
    this.#finishing = true;
    this.#onDrained = onDrained;
    if (this.#abandoned) return this.abandon();
    for (const name of this.#silent) this.#giveUp(this.#channels.get(name));
    this.closeChildEnds();
    for (const channel of this.#channels.values()) {
      if (channel.direction === 'in') for (const pump of channel.pumps) pump.stop();
    }
    this.#drainOutputs();
    this.#pumpEnded();
  }

  #drainOutputs(): void {
    for (const channel of this.#channels.values()) {
      if (channel.direction === 'out') for (const pump of channel.pumps) pump.drain();
    }
  }

  #pumpEnded(): void {
    if (!this.#finishing) return;
    for (const { fd, direction, pumps } of this.#channels.values()) {
      if (direction === 'out' && (fd !== undefined || pumps.some((pump) => !pump.ended))) return;
    }
    this.#close();
  }

  /** The host is gone: what has not been carried when the process ends is dropped. */
  abandonWhenFinished(): void {
    this.#abandoned = true;
    if (this.#finishing) this.abandon();
  }

  /** Gives up streams that the host never connected. */
  abandonUnconnected(): void {
    for (const channel of this.#channels.values()) this.#giveUp(channel);
    this.#pumpEnded();
  }

  /** Gives up everything. */
  abandon(): void {
    this.#finishing = true;
    for (const { pumps } of this.#channels.values()) for (const pump of pumps) pump.stop();
    this.#close();
  }

  #close(): void {
    const onDrained = this.#onDrained;
    this.#onDrained = undefined;
    for (const channel of this.#channels.values()) this.#giveUp(channel);
    this.closeChildEnds();
    if (this.#masterFd !== undefined) close(this.#masterFd);
    this.#masterFd = undefined;
    onDrained?.();
  }
}

/**
 * `attach --action=list|auto-attach|custom-attach --app=A [--tty-in=B --tty-out=B --stdin=B --stdout=B --stderr=B]`: connects
 * this process's standard streams to those of a running app, through the sockets the monitor serves in the pod directory.
 */
import { ECONNREFUSED, ENOENT, EPOLLIN, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTTOU, SIGWINCH } from '../../runtime/abi.gen.ts';
import { isErrno } from '../../runtime/linux/errors.ts';
import { close, duplicate, readRaw } from '../../runtime/linux/fds.ts';
import { exit } from '../../runtime/linux/process.ts';
import { blockSignals, openSignals, takeSignals } from '../../runtime/linux/signals.ts';
import { isTerminal } from '../../runtime/linux/tty.ts';
import { runLoop, unwatch, watch } from '../../runtime/loop.ts';
import { CONTROL_PORT } from '../../src/wire/messages.ts';
import { Stage1Error, STAGE1_FAILURE } from '../error.ts';
import { FrameChannel } from '../frame-channel.ts';
import { parseAttachArguments, type AttachOptions } from '../options.ts';
import { HostStream, wouldBlock } from '../relay/host-stream.ts';
import { pumpIn, pumpOut } from '../relay/pump.ts';
import { enterRawMode, type RawTerminal } from '../relay/terminal.ts';
import { print, printError } from '../report.ts';
import { TailBuffer } from '../tail-buffer.ts';
import { openThroughMonitor } from '../vsock/open-port.ts';
import { detachFilter, parseDetachKeys } from './detach-keys.ts';
import type { EndpointName } from './endpoint-names.ts';
import { connectEndpoint, readEndpoints, type AppEndpoints } from './endpoints.ts';
import { CUT_OFF_NOTICE } from './output-clients.ts';

export function attach(args: readonly string[]): void {
  const options = parseAttachArguments(args);
  const keys = parseDetachKeys(options.detachKeys);
  const endpoints = readEndpoints(options.app);
  if (endpoints === null) throw new Stage1Error(`app "${options.app}" has nothing to attach to: it is not running, or not yet`);
  if (options.action === 'list') {
    print(1, `${endpoints.names.join('\n')}\n`);
    exit(0);
  }
  const client = new AttachClient(options.app, endpoints);
  blockSignals([SIGPIPE, SIGTTOU]);
  const signalFd = openSignals([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH]);
  runLoop((error) => client.fail(error));
  watch(signalFd, EPOLLIN, () => {
    for (const { signal } of takeSignals(signalFd)) {
      if (signal === SIGWINCH) client.resize();
      else client.leave(128 + signal);
    }
  });
  try {
    client.connect(wantedEndpoints(options, endpoints), keys);
  } catch (error) {
    client.fail(error);
  }
}

/** @throws Stage1Error when the app has not what is asked for */
function wantedEndpoints({ action, app, endpoints: asked }: AttachOptions, { names }: AppEndpoints): EndpointName[] {
  if (action === 'auto-attach') return names;
  const missing = asked.find((name) => !names.includes(name));
  if (missing !== undefined) throw new Stage1Error(`app "${app}" has no endpoint "${missing}": it has ${names.join(', ')}`);
  return asked;
}

class AttachClient {
  readonly #app: string;
  readonly #endpoints: AppEndpoints;
  #terminal: RawTerminal | null = null;
  /** To the agent, for the size of the terminal. */
  #control: FrameChannel | null = null;

  constructor(app: string, endpoints: AppEndpoints) {
    this.#app = app;
    this.#endpoints = endpoints;
  }

  connect(names: readonly EndpointName[], keys: readonly number[]): void {
    const fds = new Map(names.map((name) => [name, this.#open(name)]));
    const outputs: Promise<void>[] = [];
    for (const [name, fd] of fds) {
      if (name === 'tty-in' || name === 'stdin') this.#input(name, fd, { keys, isAlone: fds.size === 1 });
      else outputs.push(this.#output(fd, name === 'stderr' ? 2 : 1));
    }
    if (outputs.length > 0) void Promise.all(outputs).then(() => this.leave(0));
  }

  resize(): void {
    if (this.#terminal !== null) this.#control?.send({ type: 'resize', process: this.#endpoints.process, size: this.#terminal.size() });
  }

  leave(code: number): never {
    this.#terminal?.restore();
    exit(code);
  }

  fail(error: unknown): never {
    this.#terminal?.restore();
    printError(error);
    exit(STAGE1_FAILURE);
  }

  #open(name: EndpointName): number {
    try {
      return connectEndpoint(this.#app, name);
    } catch (error) {
      if (isErrno(error, ENOENT, ECONNREFUSED)) throw new Stage1Error(`app "${this.#app}" has ended`);
      throw error;
    }
  }

  /** @param isAlone there is no output whose end would be the end */
  #input(name: EndpointName, fd: number, { keys, isAlone }: { keys: readonly number[]; isAlone: boolean }): void {
    this.#watchForRefusal(duplicate(fd), isAlone);
    const hasTerminal = isTerminal(0);
    if (hasTerminal && name === 'tty-in') {
      this.#terminal = enterRawMode(0);
      void this.#followSize();
    }
    const filter = detachFilter(hasTerminal ? keys : []);
    void pumpIn(new HostStream(0, 'in'), fd, { change: (bytes) => filter.push(bytes) ?? this.leave(0) });
  }

  /** The other direction of an input says why it was refused; it ends when the app has got everything, or has ended. */
  #watchForRefusal(fd: number, isAlone: boolean): void {
    const buffer = new Uint8Array(1024);
    watch(fd, EPOLLIN, () => {
      const count = readRaw(fd, buffer);
      if (wouldBlock(count)) return;
      unwatch(fd);
      close(fd);
      if (count > 0) this.fail(new Stage1Error(sys.text(buffer.subarray(0, count)).trim()));
      if (isAlone) this.leave(0);
    });
  }

  async #followSize(): Promise<void> {
    const fd = await openThroughMonitor(CONTROL_PORT);
    this.#control = new FrameChannel(fd, { onMessage: () => undefined, onEnd: () => undefined });
    this.resize();
  }

  async #output(fd: number, own: 1 | 2): Promise<void> {
    const tail = new TailBuffer(CUT_OFF_NOTICE.length);
    await pumpOut(fd, new HostStream(own, 'out'), { seen: (bytes) => tail.push(bytes) });
    if (sys.text(tail.bytes) === CUT_OFF_NOTICE) this.fail(new Stage1Error('cut off: the output was not read fast enough'));
  }
}

/** `enter --pid=N --appname=A -- CMD…`: runs a command in an app of a running pod, through the monitor. */
import { EPOLLIN, S_IFCHR, S_IFMT, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTTOU, SIGWINCH } from '../../runtime/abi.gen.ts';
import { duplicate } from '../../runtime/linux/fds.ts';
import { fstat } from '../../runtime/linux/files.ts';
import { environmentVariable, exit } from '../../runtime/linux/process.ts';
import { blockSignals, openSignals, takeSignals } from '../../runtime/linux/signals.ts';
import { isTerminal } from '../../runtime/linux/tty.ts';
import { runLoop, watch } from '../../runtime/loop.ts';
import { encodeFrame } from '../../src/wire/frame.ts';
import { STREAM_PORT, type AgentMessage, type HostMessage, type ProcessId, type StreamName } from '../../src/wire/messages.ts';
import { Stage1Error, STAGE1_FAILURE } from '../error.ts';
import { FrameChannel } from '../frame-channel.ts';
import { parseEnterArguments } from '../options.ts';
import { exitCodeOf } from '../pod/directory.ts';
import { HostStream } from '../relay/host-stream.ts';
import { pumpIn, pumpOut } from '../relay/pump.ts';
import { enterRawMode, terminalSize, type RawTerminal } from '../relay/terminal.ts';
import { printError } from '../report.ts';
import { connectToMonitor, openThroughMonitor } from '../vsock/open-port.ts';
import { ENTER_SOCKET } from './clients.ts';

const REQUEST = 1;
/** Linux's numbers of /dev/null (Documentation/admin-guide/devices.txt). */
const NULL_DEVICE = { major: 1, minor: 3 };
/** What a program on the user's terminal needs to know of it. */
const PASSED_VARIABLES = ['TERM', 'COLORTERM', 'LANG'];

export function enter(args: readonly string[]): void {
  const options = parseEnterArguments(args);
  const state: EnterState = { terminal: null, process: null, channel: null, outputs: [], exitCode: null };
  const leave = (code: number): never => {
    state.terminal?.restore();
    exit(code);
  };
  const fail = (error: unknown): never => {
    state.terminal?.restore();
    printError(error);
    exit(STAGE1_FAILURE);
  };
  runLoop(fail);
  blockSignals([SIGPIPE, SIGTTOU]);
  const signalFd = openSignals([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH]);
  watch(signalFd, EPOLLIN, () => {
    for (const { signal } of takeSignals(signalFd)) onSignal(state, signal, leave);
  });
  start(state, options, leave).catch(fail);
}

interface EnterState {
  terminal: RawTerminal | null;
  process: number | null;
  channel: FrameChannel | null;
  /** Those that have something in them. */
  outputs: Promise<void>[];
  exitCode: number | null;
}

function onSignal(state: EnterState, signal: number, leave: (code: number) => never): void {
  if (state.process === null || state.channel === null) {
    if (signal !== SIGWINCH) leave(128 + signal);
    return;
  }
  if (signal !== SIGWINCH) state.channel.send({ type: 'signal', process: state.process, signal });
  else if (state.terminal !== null) state.channel.send({ type: 'resize', process: state.process, size: state.terminal.size() });
}

async function start(state: EnterState, options: { app: string; command: string[] }, leave: (code: number) => never): Promise<void> {
  const hasTerminal = isTerminal(0) && isTerminal(1);
  const hasInput = !isNullDevice(0);
  const request: HostMessage = {
    type: 'exec',
    request: REQUEST,
    app: options.app,
    argv: options.command,
    env: terminalEnvironment(hasTerminal),
    stdio: hasTerminal ? { kind: 'tty', size: terminalSize(0) } : { kind: 'streams', stdin: hasInput, announced: true },
  };
  const fd = connectToMonitor(ENTER_SOCKET);
  await new Promise<void>((resolve, reject) => {
    const relay = (output: Promise<void>): void => {
      output.catch(reject);
      state.outputs.push(output);
    };
    state.channel = new FrameChannel(fd, {
      onEnd: (error) => reject(new Stage1Error(error === null ? 'the pod ended' : `the guest's agent broke the protocol: ${error.message}`)),
      onMessage(message: AgentMessage) {
        if (message.type === 'created' && message.request === REQUEST) {
          state.process = message.process;
          if (hasTerminal) state.terminal = enterRawMode(0);
          if (hasTerminal) relay(relayTerminal(message.process));
          else if (hasInput) relayInput(message.process).catch(reject);
        } else if (message.type === 'output' && message.process === state.process) {
          relay(relayOutput(message.process, message.stream));
        } else if (message.type === 'failed' && message.request === REQUEST) {
          printError(new Stage1Error(`${message.step}: ${message.message}`));
          leave(message.exitCode ?? STAGE1_FAILURE);
        } else if (message.type === 'exited' && message.process === state.process) {
          state.exitCode = exitCodeOf(message.status);
          void Promise.all(state.outputs).then(() => resolve(), reject);
        } else if (message.type === 'warning') {
          printError(new Stage1Error(`warning: ${message.message}`));
        }
      },
    });
    state.channel.send(request);
  });
  leave(state.exitCode ?? STAGE1_FAILURE);
}

/** What gives no input needs no stream: the command gets a /dev/null of the guest. */
function isNullDevice(fd: number): boolean {
  const { mode, special } = fstat(fd);
  return (mode & S_IFMT) === S_IFCHR && special.major === NULL_DEVICE.major && special.minor === NULL_DEVICE.minor;
}

function terminalEnvironment(hasTerminal: boolean): Record<string, string> {
  const environment: Record<string, string> = {};
  if (!hasTerminal) return environment;
  for (const name of PASSED_VARIABLES) {
    const value = environmentVariable(name);
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}

async function relayTerminal(process: ProcessId): Promise<void> {
  const fd = await openStream(process, 'tty');
  // A descriptor of its own: each can be waited for in one direction only.
  void pumpIn(new HostStream(0, 'in'), duplicate(fd));
  await pumpOut(fd, new HostStream(1, 'out'));
}

async function relayInput(process: ProcessId): Promise<void> {
  await pumpIn(new HostStream(0, 'in'), await openStream(process, 'stdin'));
}

async function relayOutput(process: ProcessId, stream: 'stdout' | 'stderr'): Promise<void> {
  await pumpOut(await openStream(process, stream), new HostStream(stream === 'stdout' ? 1 : 2, 'out'));
}

const openStream = (process: ProcessId, stream: StreamName): Promise<number> => openThroughMonitor(STREAM_PORT, encodeFrame({ process, stream }));

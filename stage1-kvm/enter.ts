/** `enter --pid=N --appname=A -- CMD…`: runs a command in an app of a running pod, through the monitor's vsock.sock. */
import { ECONNREFUSED, ENOENT, EPOLLIN, S_IFCHR, S_IFMT, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTTOU, SIGWINCH } from '../runtime/abi.gen.ts';
import { isErrno } from '../runtime/linux/errors.ts';
import { close, readRaw, writeRaw } from '../runtime/linux/fds.ts';
import { fstat } from '../runtime/linux/files.ts';
import { environmentVariable, exit } from '../runtime/linux/process.ts';
import { blockSignals, openSignals, takeSignals } from '../runtime/linux/signals.ts';
import { connectUnix } from '../runtime/linux/sockets.ts';
import { isTerminal } from '../runtime/linux/tty.ts';
import { once, runLoop, watch } from '../runtime/loop.ts';
import { CONTROL_PORT, type AgentMessage } from '../src/wire/messages.ts';
import { Stage1Error, STAGE1_FAILURE } from './error.ts';
import { FrameChannel } from './frame-channel.ts';
import { parseEnterArguments } from './options.ts';
import { exitCodeOf } from './pod/directory.ts';
import { relayProcess } from './relay/process-streams.ts';
import { enterRawMode, terminalSize, type RawTerminal } from './relay/terminal.ts';
import { wouldBlock } from './relay/host-stream.ts';
import { printError } from './report.ts';
import { VSOCK_SOCKET } from './vsock/local-clients.ts';

const REQUEST = 1;
const LONGEST_ANSWER = 32;
/** Linux's numbers of /dev/null (Documentation/admin-guide/devices.txt). */
const NULL_DEVICE = { major: 1, minor: 3 };
/** What a program on the user's terminal needs to know of it. */
const PASSED_VARIABLES = ['TERM', 'COLORTERM', 'LANG'];

export function enter(args: readonly string[]): void {
  const options = parseEnterArguments(args);
  const state: EnterState = { terminal: null, process: null, channel: null, output: null, exitCode: null };
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
  output: Promise<void> | null;
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
  const fd = await openThroughMonitor(CONTROL_PORT);
  await new Promise<void>((resolve, reject) => {
    const finishWhenDone = (): void => {
      if (state.exitCode !== null && state.output !== null) state.output.then(resolve, reject);
    };
    state.channel = new FrameChannel(fd, {
      onEnd: (error) => reject(new Stage1Error(error === null ? 'the pod ended' : `the guest's agent broke the protocol: ${error.message}`)),
      onMessage(message: AgentMessage) {
        if (message.type === 'created' && message.request === REQUEST) {
          state.process = message.process;
          if (hasTerminal) state.terminal = enterRawMode(0);
          state.output = relayProcess(openThroughMonitor, { process: message.process, stdio: hasTerminal ? 'tty' : 'streams', stdin: hasInput });
          state.output.catch(reject);
        } else if (message.type === 'failed' && message.request === REQUEST) {
          printError(new Stage1Error(`${message.step}: ${message.message}`));
          leave(message.exitCode ?? STAGE1_FAILURE);
        } else if (message.type === 'exited' && message.process === state.process) {
          state.exitCode = exitCodeOf(message.status);
          finishWhenDone();
        } else if (message.type === 'warning') {
          printError(new Stage1Error(`warning: ${message.message}`));
        }
      },
    });
    state.channel.send({
      type: 'exec',
      request: REQUEST,
      app: options.app,
      argv: options.command,
      env: terminalEnvironment(hasTerminal),
      stdio: hasTerminal ? { kind: 'tty', size: terminalSize(0) } : { kind: 'streams', stdin: hasInput },
    });
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

/** A stream to a port of the guest, by way of the monitor's socket in the pod directory. */
export async function openThroughMonitor(port: number): Promise<number> {
  const fd = connectToMonitor();
  const request = sys.utf8(`CONNECT ${port}\n`).subarray(0, -1);
  writeRaw(fd, request);
  // Byte by byte: what follows the line belongs to the stream.
  const byte = new Uint8Array(1);
  let answer = '';
  while (answer.length < LONGEST_ANSWER) {
    const count = readRaw(fd, byte);
    if (wouldBlock(count)) {
      await once(fd, EPOLLIN);
      continue;
    }
    if (count <= 0) break;
    if (byte[0] === 10) {
      if (answer.startsWith('OK ')) return fd;
      break;
    }
    answer += String.fromCharCode(byte[0]!);
  }
  close(fd);
  throw new Stage1Error('the pod does not take connections');
}

function connectToMonitor(): number {
  try {
    return connectUnix(VSOCK_SOCKET);
  } catch (error) {
    if (isErrno(error, ENOENT, ECONNREFUSED)) throw new Stage1Error('the pod is not running');
    throw error;
  }
}

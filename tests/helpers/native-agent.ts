/** Starts the agent as an ordinary process. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildCache } from '../../scripts/build-cache.ts';
import { buildProgram } from '../../scripts/build-runtime.ts';
import { AgentClient, dialUnix, type Dial } from './agent-client.ts';
import { isListening } from './unix-socket.ts';

export interface NativeAgent {
  process: ChildProcess;
  dial: Dial;
  client: AgentClient;
  /** Standard error so far. */
  log(): string;
  /** Resolves when the process has ended. */
  ended: Promise<{ code: number | null; signal: string | null }>;
  stop(): Promise<void>;
}

export interface NativeAgentOptions {
  sanitize?: boolean;
  mode?: 'break';
  /** What the agent finds in files of /etc in place of the host's. */
  etc?: Record<string, string>;
}

export async function startNativeAgent(options: NativeAgentOptions = {}): Promise<NativeAgent> {
  const { output } = await buildProgram({
    entry: join(import.meta.dirname, 'native-agent-main.ts'),
    output: join(buildCache(), options.sanitize ? 'native-agent-sanitized' : 'native-agent'),
    sanitize: options.sanitize,
  });
  const directory = mkdtempSync(join(tmpdir(), 'rkt-agent-'));
  const paths = { control: join(directory, 'control'), stream: join(directory, 'stream') };
  const binds = Object.entries(options.etc ?? {}).map(([name, content]) => {
    writeFileSync(join(directory, name), content);
    return `mount --bind '${join(directory, name)}' '/etc/${name}' && `;
  });
  const command = [output, paths.control, paths.stream, ...(options.mode === undefined ? [] : [options.mode])];
  const [program = output, ...args] = binds.length === 0 ? command : ['unshare', '--mount', 'sh', '-c', `${binds.join('')}exec "$0" "$@"`, ...command];
  const child = spawn(program, args, {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: { ...process.env, ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1', UBSAN_OPTIONS: 'print_stacktrace=1' },
  });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const ended = once(child, 'exit').then(([code, signal]) => {
    rmSync(directory, { recursive: true, force: true });
    return { code: code as number | null, signal: signal as string | null };
  });
  while (!isListening(paths.control) || !isListening(paths.stream)) {
    if (child.exitCode !== null) throw new Error(`the agent ended: ${log}`);
    await sleep(2);
  }
  const dial = dialUnix(paths);
  const client = await AgentClient.open(dial);
  return {
    process: child,
    dial,
    client,
    ended,
    log: () => log,
    stop: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

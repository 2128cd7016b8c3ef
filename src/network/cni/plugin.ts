/** Runs one plugin: CNI specification, section 2 (execution protocol). */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { RktError } from '../../error.ts';
import type { ErrorCode } from '../../error.ts';
import type { JsonObject } from './configuration.ts';
import { parseFailure } from './result.ts';
import type { PluginFailure } from './result.ts';

export type CniCommand = 'ADD' | 'DEL' | 'CHECK' | 'VERSION' | 'GC' | 'STATUS';

/** What all calls of a runtime have in common. */
export interface PluginHost {
  /** Searched in order. */
  pluginDirs: readonly string[];
  /** Inherited by plugins and by what they start: as long as it is open somewhere, one of them may still be at work. */
  lockFd?: number;
  timeoutMs?: number;
  /** How long to wait before each further call of a plugin that says "later". */
  retryDelaysMs?: readonly number[];
}

export interface PluginCall {
  command: CniCommand;
  /** For messages. */
  network: string;
  type: string;
  configuration: JsonObject;
  /** `CNI_*` besides command and path. */
  variables: Readonly<Record<string, string>>;
}

const DEFAULT_TIMEOUT_MS = 120_000;
const DEFAULT_RETRY_DELAYS_MS = [250, 500, 1000, 2000];
const MAX_OUTPUT_BYTES = 4 << 20;
const SHOWN_STDERR_CHARACTERS = 2000;
/** Plugins call iptables and ip by their names. */
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Undefined when no directory has it. */
export function findPlugin(type: string, pluginDirs: readonly string[]): string | undefined {
  return pluginDirs.map((directory) => join(directory, type)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Gives standard output. A plugin that says "later" is called again a few times. Throws RktError with what the plugin said went wrong. */
export async function runPlugin(call: PluginCall, host: PluginHost): Promise<string> {
  const delaysMs = host.retryDelaysMs ?? DEFAULT_RETRY_DELAYS_MS;
  for (let attempt = 0; ; attempt++) {
    const answer = await callOnce(call, host);
    if (answer.kind === 'done') return answer.stdout;
    const delayMs = delaysMs[attempt];
    if (delayMs === undefined) throw answer.error;
    // There is no second ADD without a DEL between them (CNI specification, "ADD").
    if (call.command === 'ADD') await runPlugin({ ...call, command: 'DEL' }, host);
    await new Promise((resolve) => setTimeout(resolve, delayMs));
  }
}

type Answer = { kind: 'done'; stdout: string } | { kind: 'later'; error: RktError };

async function callOnce(call: PluginCall, host: PluginHost): Promise<Answer> {
  const { network, type, command } = call;
  const path = findPlugin(type, host.pluginDirs);
  if (path === undefined) {
    throw new RktError('MISSING_DEPENDENCY', `network ${JSON.stringify(network)}: there is no CNI plugin ${JSON.stringify(type)} in ${host.pluginDirs.join(', ')}`, {
      hint: 'apt-get install containernetworking-plugins has the usual ones',
    });
  }
  const what = `network ${JSON.stringify(network)}: plugin ${type} (${command})`;
  const ended = await execute(path, call, host);
  if (ended.kind === 'timeout') throw new RktError('IO', `${what} did not end within ${ended.timeoutMs / 1000} seconds`);
  if (ended.kind === 'excess') throw new RktError('LIMIT', `${what} printed more than ${MAX_OUTPUT_BYTES} bytes`);
  if (ended.status === 0) return { kind: 'done', stdout: ended.stdout };
  const failure = parseFailure(ended.stdout);
  if (failure?.code === TRY_AGAIN_LATER) return { kind: 'later', error: pluginError(what, failure) };
  if (failure !== undefined) throw pluginError(what, failure);
  const said = (ended.stderr.trim() || ended.stdout.trim()).slice(-SHOWN_STDERR_CHARACTERS);
  const how = ended.signal === null ? `failed with exit status ${ended.status ?? -1}` : `was ended by ${ended.signal}`;
  throw new RktError('IO', `${what} ${how}${said === '' ? '' : `: ${said}`}`);
}

type Ending =
  | { kind: 'ended'; status: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string }
  | { kind: 'timeout'; timeoutMs: number }
  | { kind: 'excess' };

function execute(path: string, call: PluginCall, host: PluginHost): Promise<Ending> {
  const env = environment(call, host.pluginDirs);
  const timeoutMs = host.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    const child = spawn(path, [], { env, stdio: ['pipe', 'pipe', 'pipe', ...(host.lockFd === undefined ? [] : [host.lockFd])] });
    const output: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
    let sizeBytes = 0;
    const give = (ending: Ending): void => {
      clearTimeout(timer);
      if (ending.kind !== 'ended') child.kill('SIGKILL');
      resolve(ending);
    };
    const timer = setTimeout(() => give({ kind: 'timeout', timeoutMs }), timeoutMs);
    const collect = (stream: NodeJS.ReadableStream | null, chunks: Buffer[]): void => {
      stream?.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        sizeBytes += chunk.length;
        if (sizeBytes > MAX_OUTPUT_BYTES) give({ kind: 'excess' });
      });
    };
    collect(child.stdout, output.stdout);
    collect(child.stderr, output.stderr);
    // A plugin may end without reading.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(JSON.stringify(call.configuration));
    child.on('error', (cause) => {
      clearTimeout(timer);
      reject(new RktError('IO', `cannot execute the CNI plugin ${path}`, { cause }));
    });
    child.on('close', (status, signal) => give({ kind: 'ended', status, signal, stdout: Buffer.concat(output.stdout).toString(), stderr: Buffer.concat(output.stderr).toString() }));
  });
}

function environment({ command, variables }: PluginCall, pluginDirs: readonly string[]): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('CNI_') && !name.startsWith('RKT_'));
  const path = process.env['PATH'];
  return {
    ...Object.fromEntries(inherited),
    PATH: path === undefined || path === '' ? SYSTEM_PATH : `${path}:${SYSTEM_PATH}`,
    CNI_COMMAND: command,
    CNI_PATH: pluginDirs.join(':'),
    ...variables,
  };
}

/** Well-known error codes: CNI specification, "Error". */
const INCOMPATIBLE_VERSION = 1;
const TRY_AGAIN_LATER = 11;
const NOT_AVAILABLE = 50;
const HINTS: Readonly<Record<number, string>> = {
  [INCOMPATIBLE_VERSION]: 'the plugin does not speak the cniVersion of the configuration: lower it, or install newer plugins',
  [TRY_AGAIN_LATER]: 'the plugin says that this is temporary, but it was so for all attempts: try again later',
};
const ERROR_CODES: Readonly<Record<number, ErrorCode>> = { [INCOMPATIBLE_VERSION]: 'UNSUPPORTED', [TRY_AGAIN_LATER]: 'BUSY', [NOT_AVAILABLE]: 'BUSY' };

function pluginError(what: string, { code, msg, details }: PluginFailure): RktError {
  const hint = HINTS[code];
  const message = [msg, details].filter((part) => part !== '').join('; ');
  return new RktError(ERROR_CODES[code] ?? 'IO', `${what} failed: ${message === '' ? `error code ${code}` : message}`, hint === undefined ? {} : { hint });
}

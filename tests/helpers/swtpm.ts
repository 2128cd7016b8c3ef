/** A swtpm of a test's own, without a virtual machine, and the tools that judge it. */
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { buildCache, makeInCache } from '../../scripts/build-cache.ts';
import { concatBytes, execute, messageSize, type TpmCommand, type TpmTransport } from '../../src/tpm/index.ts';
import { scratchDir } from './scratch-dir.ts';

export interface Swtpm {
  transport: TpmTransport;
  run<T>(command: TpmCommand<T>): Promise<T>;
  /** Runs a program of tpm2-tools against it; the connection is lent to it meanwhile. */
  tool(name: string, args: readonly string[]): Promise<{ status: number | null; stdout: string; stderr: string }>;
  /** Ends it, its PCRs are gone; its state stays. */
  stop(): Promise<void>;
}

export interface SwtpmOptions {
  /** Where the state is or will be; absent: an empty one of its own. */
  state?: string;
}

const START_TIMEOUT_MS = 5000;
const STATE_NAME = 'swtpm-state';

/** Started and ready, with the SHA-256 and SHA-384 banks only. */
export async function startSwtpm(t: { teardown(action: () => void | Promise<void>): void }, options: SwtpmOptions = {}): Promise<Swtpm> {
  const directory = scratchDir(t, 'swtpm');
  const state = options.state ?? join(directory, 'state');
  if (!existsSync(state)) await copyState(state);
  const socketPath = join(directory, 'socket');
  const child = spawn('swtpm', ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--server', `type=unixio,path=${socketPath}`, '--ctrl', `type=unixio,path=${socketPath}.ctrl`, '--flags', 'not-need-init,startup-clear'], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  let line: Line | null = await openFirstLine(socketPath);
  const transport: TpmTransport = async (command) => await (line ??= await openLine(socketPath)).send(command);
  const stop = async (): Promise<void> => {
    line?.close();
    line = null;
    child.kill('SIGTERM');
    await ended;
  };
  t.teardown(stop);
  return {
    transport,
    stop,
    run: async (command) => await execute(transport, command),
    async tool(name, args) {
      // swtpm serves one connection at a time.
      line?.close();
      line = null;
      const child = spawn(name, args, { env: { ...process.env, TPM2TOOLS_TCTI: `swtpm:path=${socketPath}` } });
      const output = { stdout: '', stderr: '' };
      child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
      child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
      const status = await new Promise<number | null>((resolve, reject) => child.on('close', resolve).on('error', reject));
      return { status, ...output };
    },
  };
}

/** A new state, without keys: what has them is made by the tests of that. Making one takes 0.7 s, so it is made once. */
async function copyState(state: string): Promise<void> {
  const made = join(buildCache(), STATE_NAME);
  if (!existsSync(made)) await makeInCache(STATE_NAME, (directory) => {
    const { status, stdout, stderr } = runTool('swtpm_setup', ['--tpm2', '--tpmstate', directory, '--pcr-banks', 'sha256,sha384', '--overwrite']);
    if (status !== 0) throw new Error(`swtpm_setup: ${stdout}${stderr}`);
    return Promise.resolve();
  });
  cpSync(made, state, { recursive: true });
}

interface Line {
  send(command: Uint8Array): Promise<Uint8Array>;
  close(): void;
}

/** The socket appears when swtpm has bound it, and takes connections a moment later. */
async function openFirstLine(path: string): Promise<Line> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      return await openLine(path);
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }
}

async function openLine(path: string): Promise<Line> {
  const socket = await new Promise<Socket>((resolve, reject) => {
    const opened = connect(path, () => resolve(opened));
    opened.on('error', reject);
  });
  const waiting: { resolve(response: Uint8Array): void; reject(error: Error): void }[] = [];
  let pending: Uint8Array = new Uint8Array(0);
  socket.on('data', (chunk: Buffer) => {
    pending = concatBytes(pending, chunk);
    for (let size = messageSize(pending); size !== null && pending.length >= size; size = messageSize(pending)) {
      waiting.shift()?.resolve(pending.slice(0, size));
      pending = pending.slice(size);
    }
  });
  socket.on('close', () => waiting.splice(0).forEach(({ reject }) => reject(new Error('swtpm closed the connection'))));
  let last: Promise<unknown> = Promise.resolve();
  return {
    send(command) {
      // A TPM drops what it is told before it has answered.
      const answer = last.then(() => new Promise<Uint8Array>((resolve, reject) => {
        waiting.push({ resolve, reject });
        socket.write(command);
      }));
      last = answer.catch(() => undefined);
      return answer;
    },
    close: () => socket.destroy(),
  };
}

/** Runs a tool that needs no TPM. */
export function runTool(name: string, args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(name, args, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** Decompression of streams; the method is told by the first bytes, never by a name. */
import { spawn } from 'node:child_process';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import type { ChildProcessByStdio } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { RktError } from '../error.ts';
import type { ByteSource } from '../rootfs/bytes.ts';
import { COMPRESSION_HEAD_BYTES, compressionOf } from './compression.ts';
import { zstdFrames } from './zstd-frames.ts';

const OUTPUT_CHUNK_BYTES = 256 << 10;
/** Decompressed while what came before is still being used: the two run on different threads. */
const AHEAD_BYTES = 2 << 20;
/** Waiting to be decompressed. */
const BEHIND_BYTES = 1 << 20;
/** Memory a decompressor may take for the dictionary an archive asks for. */
const XZ_MEMORY_LIMIT = '1GiB';

/** The uncompressed stream. Chunks of the source are held for a while: it must not use their memory again. `name` begins messages. Throws RktError BAD_IMAGE for truncated or damaged data, MISSING_DEPENDENCY. */
export async function* decompress(source: ByteSource, name: string): AsyncGenerator<Uint8Array> {
  const { head, whole } = await withHead(source);
  const compression = compressionOf(head);
  switch (compression) {
    case 'none':
      yield* whole;
      return;
    case 'gzip':
    case 'zstd':
      yield* throughZlib(whole, compression, name);
      return;
    case 'xz':
      yield* throughProgram(whole, { program: 'xz', args: ['-dc', `--memlimit-decompress=${XZ_MEMORY_LIMIT}`], debianPackage: 'xz-utils', name });
      return;
    case 'bzip2':
      yield* throughProgram(whole, { program: 'bzip2', args: ['-dc'], debianPackage: 'bzip2', name });
  }
}

/** Looks at the first bytes and gives the stream back whole. */
async function withHead(source: ByteSource): Promise<{ head: Uint8Array; whole: AsyncGenerator<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  const chunks: Uint8Array[] = [];
  let ended = false;
  while (!ended && chunks.reduce((sum, chunk) => sum + chunk.length, 0) < COMPRESSION_HEAD_BYTES) {
    const next = await iterator.next();
    if (next.done === true) ended = true;
    else chunks.push(chunks.length === 0 ? next.value : Uint8Array.from(next.value));
  }
  const begun = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
  async function* again(): AsyncGenerator<Uint8Array> {
    try {
      if (begun.length > 0) yield begun;
      while (!ended) {
        const next = await iterator.next();
        if (next.done === true) ended = true;
        else yield next.value;
      }
    } finally {
      if (!ended) await iterator.return?.();
    }
  }
  return { head: begun.subarray(0, COMPRESSION_HEAD_BYTES), whole: again() };
}

async function* throughZlib(source: ByteSource, compression: 'gzip' | 'zstd', name: string): AsyncGenerator<Uint8Array> {
  const options = { chunkSize: OUTPUT_CHUNK_BYTES, readableHighWaterMark: AHEAD_BYTES, writableHighWaterMark: BEHIND_BYTES };
  const decoder = compression === 'gzip' ? createGunzip(options) : createZstdDecompress(options);
  let sourceError: unknown;
  const feeding = feed(compression === 'gzip' ? source : zstdFrames(source, name), decoder).catch((error: unknown) => {
    sourceError = error;
    decoder.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  try {
    for await (const chunk of decoder) yield chunk as Uint8Array;
  } catch (error) {
    if (sourceError !== undefined) throw sourceError;
    throw damaged(name, compression, error);
  } finally {
    decoder.destroy();
    await feeding;
  }
}

interface ProgramOptions {
  program: string;
  args: string[];
  debianPackage: string;
  name: string;
}

/** Formats for which Node has no decoder go through the usual program. */
async function* throughProgram(source: ByteSource, options: ProgramOptions): AsyncGenerator<Uint8Array> {
  const { program, name } = options;
  const child = spawn(program, options.args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' } });
  const finished = exitOf(child);
  const complaint = textOf(child.stderr);
  let sourceError: unknown;
  // The program closing its input early is told by its exit status.
  child.stdin.on('error', () => undefined);
  const feeding = feed(source, child.stdin).catch((error: unknown) => {
    sourceError = error;
    child.kill('SIGKILL');
  });
  try {
    for await (const chunk of child.stdout) yield chunk as Uint8Array;
    const exit = await finished;
    if (sourceError !== undefined) throw sourceError;
    if (exit.error !== undefined) throw new RktError('MISSING_DEPENDENCY', `${name}: the program ${program}, which is needed to decompress it, cannot be run`, { cause: exit.error, hint: `apt-get install ${options.debianPackage}` });
    if (exit.code !== 0) throw damaged(name, program, (await complaint).trim() || `${program} ended with status ${exit.code}`);
  } finally {
    child.kill('SIGKILL');
    child.stdin.destroy();
    await feeding;
    await finished;
  }
}

function exitOf(child: ChildProcessByStdio<Writable, Readable, Readable>): Promise<{ code: number | null; error?: Error }> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: null, error }));
    child.once('close', (code) => resolve({ code }));
  });
}

const COMPLAINT_MAX_BYTES = 2048;

async function textOf(stream: Readable): Promise<string> {
  let text = '';
  for await (const chunk of stream.setEncoding('utf8')) if (text.length < COMPLAINT_MAX_BYTES) text += String(chunk);
  return text.slice(0, COMPLAINT_MAX_BYTES);
}

/** Writes a whole stream, waiting where the other side is slow, until the other side goes away. */
async function feed(source: ByteSource, target: Writable): Promise<void> {
  for await (const chunk of source) {
    if (target.destroyed) return;
    if (!target.write(chunk)) await writableAgain(target);
  }
  target.end();
}

function writableAgain(target: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      target.off('drain', done);
      target.off('close', done);
      resolve();
    };
    target.once('drain', done);
    target.once('close', done);
    if (target.destroyed) done();
  });
}

function damaged(name: string, format: string, reason: unknown): RktError {
  const text = reason instanceof Error ? reason.message : String(reason);
  return new RktError('BAD_IMAGE', `${name}: truncated or damaged ${format} data: ${text}`, { cause: reason });
}

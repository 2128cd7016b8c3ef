/** Starts the guest's side of copying natively and speaks to it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { buildCache } from '../../scripts/build-cache.ts';
import { buildProgram } from '../../scripts/build-runtime.ts';
import { encodeEntries, readEntries } from '../../src/files/entry-stream.ts';
import type { TarEntry } from '../../src/rootfs/index.ts';
import type { FilesRequest } from '../../src/wire/files.ts';
import { encodeFrame } from '../../src/wire/frame.ts';
import { scratchDir } from './scratch-dir.ts';
import { isListening } from './unix-socket.ts';

export interface FileServer {
  /** What the guest sends for the request: paths and types, contents of small files. */
  out(path: string, options?: { followLink?: boolean; xattrs?: boolean }): Promise<TarEntry[]>;
  /** Resolves with warnings; rejects with the guest's reason. */
  in(request: Partial<Extract<FilesRequest, { direction: 'in' }>>, entries: Iterable<TarEntry>): Promise<string[]>;
  /** A connection on which nothing has been said yet. */
  dial(): Promise<Socket>;
}

export async function startFileServer(t: { teardown(work: () => void): void }, root: string): Promise<FileServer> {
  const { output } = await buildProgram({ entry: join(import.meta.dirname, 'file-server-program.ts'), output: join(buildCache(), 'file-server') });
  const path = join(scratchDir(t, 'file-server'), 'socket');
  const child = spawn(output, [path, root], { stdio: ['ignore', 'inherit', 'inherit'] });
  t.teardown(() => void child.kill('SIGKILL'));
  while (!isListening(path)) await sleep(2);
  const dial = async (): Promise<Socket> => {
    const socket = connect({ path, allowHalfOpen: true });
    await once(socket, 'connect');
    socket.on('error', () => undefined);
    return socket;
  };
  const request = async (files: FilesRequest): Promise<Socket> => {
    const socket = await dial();
    socket.write(encodeFrame({ files }));
    return socket;
  };
  return {
    dial,
    async out(target, { followLink = false, xattrs = false } = {}) {
      const socket = await request({ direction: 'out', app: 'app', path: target, followLink, xattrs });
      const entries: TarEntry[] = [];
      for await (const entry of readEntries(socket as AsyncIterable<Buffer>, { name: 'guest', warn: () => undefined })) {
        const chunks: Uint8Array[] = [];
        for await (const { data } of entry.body) chunks.push(Buffer.from(data));
        entries.push({ ...entry, body: bodyOf(Buffer.concat(chunks)) });
      }
      socket.destroy();
      return entries;
    },
    async in(fields, entries) {
      const socket = await request({ direction: 'in', app: 'app', path: '/', name: null, top: 'entries', archive: false, ...fields });
      const warnings: string[] = [];
      const answered = (async () => {
        for await (const _ of readEntries(socket as AsyncIterable<Buffer>, { name: 'guest', warn: (message) => warnings.push(message) }));
      })();
      answered.catch(() => undefined);
      for await (const chunk of encodeEntries(asyncOf(entries))) if (!socket.destroyed) socket.write(chunk);
      try {
        await answered;
      } finally {
        socket.destroy();
      }
      return warnings;
    },
  };
}

async function* asyncOf<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

const bodyOf = (data: Uint8Array): TarEntry['body'] => ({
  async *[Symbol.asyncIterator]() {
    if (data.length > 0) yield { offsetBytes: 0, data };
  },
});

/** An entry with what is not given left at its simplest. */
export function entry(type: TarEntry['type'], path: string, fields: { linkPath?: string; content?: string | Uint8Array; mode?: number; uid?: number; gid?: number } = {}): TarEntry {
  const data = Buffer.from(fields.content ?? '');
  return {
    type, path,
    mode: fields.mode ?? (type === 'directory' ? 0o755 : 0o644),
    uid: fields.uid ?? 0, gid: fields.gid ?? 0,
    mtime: { seconds: 1_600_000_000, nanoseconds: 500_000_000 },
    linkPath: fields.linkPath ?? '',
    device: { major: 1, minor: 3 },
    xattrs: new Map(),
    sizeBytes: type === 'file' ? data.length : 0,
    extents: undefined,
    body: bodyOf(type === 'file' ? data : new Uint8Array(0)),
  };
}

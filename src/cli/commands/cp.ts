import { createReadStream } from 'node:fs';
import { basename, resolve } from 'node:path';
import { RktError } from '../../error.ts';
import { membersOf } from '../../files/archive-names.ts';
import { limitedWarnings } from '../../files/entry-stream.ts';
import { readTree, topOf } from '../../files/read-tree.ts';
import { placeFor, writeTree } from '../../files/write-tree.ts';
import { decompress } from '../../image/decompress.ts';
import { isErrno } from '../../linux/errno.ts';
import { openPodByName, requireRunning } from '../../pod/index.ts';
import type { PodHandle } from '../../pod/index.ts';
import { byteStringOfText } from '../../rootfs/bytes.ts';
import { readTar, writeTar } from '../../rootfs/index.ts';
import type { TarEntry } from '../../rootfs/index.ts';
import { readFromPod, writeToPod } from '../../stage0/pod-files.ts';
import { chooseApp } from '../choose-app.ts';
import type { ArgumentInput } from '../command.ts';
import type { CommandContext } from '../context.ts';
import { usage } from '../flags/flag.ts';
import * as flags from '../flags/table.ts';
import { interruptible } from '../interruptible.ts';
import { writeAll } from '../output.ts';
import { parsePodPath } from '../pod-path.ts';
import { NOTHING, success } from '../reporter.ts';
import type { Outcome } from '../reporter.ts';

const STANDARD_STREAM = '-';

interface Copy {
  pod: PodHandle;
  app: string;
  /** In the app. */
  path: string;
  /** Of this host, or "-". */
  local: string;
  archive: boolean;
  followLink: boolean;
  signal: AbortSignal;
  warn(message: string): void;
}

export async function run({ values, positional }: ArgumentInput, context: CommandContext): Promise<Outcome> {
  const [source, destination] = positional;
  if (source === undefined || destination === undefined || positional.length > 2) throw usage('expected a source and a destination');
  const wanted = values.last(flags.app);
  const [from, to] = [parsePodPath(source, wanted), parsePodPath(destination, wanted)];
  const inPod = from ?? to;
  if (inPod === undefined) throw usage('either source or destination must be UUID:[APP:]PATH');
  if (from !== undefined && to !== undefined) throw new RktError('UNSUPPORTED', 'cannot copy from one pod to another', { hint: 'rkt cp UUID:PATH - | rkt cp - UUID:PATH' });
  using pod = openPodByName(context.dataDir(), inPod.pod);
  requireRunning(pod, pod.state === 'exited' ? { hint: '`rkt export` gives the files of pods that have ended' } : {});
  const { signal, done } = interruptible();
  const copy: Copy = {
    pod,
    app: chooseApp(pod, wanted ?? inPod.app, { command: 'cp', reporter: context.reporter }),
    path: inPod.path,
    local: from === undefined ? source : destination,
    archive: values.last(flags.archive) ?? false,
    followLink: values.last(flags.followLink) ?? false,
    signal,
    warn: limitedWarnings((message) => context.reporter.note(`warning: ${message}`)),
  };
  try {
    await (from === undefined ? copyIn(copy, context.cwd) : copyOut(copy, context.cwd));
  } finally {
    done();
  }
  return success(NOTHING);
}

/** "DIR/." stands for what is in DIR, and so does a root. */
function isContentOnly(path: string): boolean {
  return path === '.' || path.endsWith('/.') || /^\/*$/.test(path);
}

async function copyOut(copy: Copy, cwd: string): Promise<void> {
  const { app, path, local } = copy;
  const followLink = copy.followLink || path.endsWith('/') || isContentOnly(path);
  const entries = readFromPod(copy.pod, { app, path, followLink, xattrs: false }, copy);
  const name = isContentOnly(path) ? null : basename(path);
  if (local === STANDARD_STREAM) {
    for await (const chunk of writeTar(membersOf(entries, name === null ? '' : byteStringOfText(name)))) writeAll(1, chunk);
    return;
  }
  // What the top is decides where it goes.
  const first = await entries.next();
  if (first.done === true) return;
  const destination = local.endsWith('/') ? `${resolve(cwd, local)}/` : resolve(cwd, local);
  const place = placeFor(destination, { name, top: first.value.type === 'directory' ? 'directory' : 'other' });
  await writeTree(startingWith(first.value, entries), place, copy);
}

async function* startingWith(first: TarEntry, rest: AsyncGenerator<TarEntry>): AsyncGenerator<TarEntry> {
  try {
    yield first;
    yield* rest;
  } finally {
    await rest.return(undefined);
  }
}

async function copyIn(copy: Copy, cwd: string): Promise<void> {
  const { app, path, local, archive, warn } = copy;
  if (local === STANDARD_STREAM) {
    const entries = readTar(decompress(createReadStream('', { fd: 0, autoClose: false }), 'standard input'));
    return await writeToPod(copy.pod, { app, path, name: null, top: 'entries', archive }, { ...copy, entries });
  }
  const source = resolve(cwd, local);
  const followLink = copy.followLink || local.endsWith('/') || isContentOnly(local);
  const top = topAt(source, followLink);
  if (local.endsWith('/') && top !== 'directory') throw new RktError('BAD_INPUT', `${local}: is not a directory`);
  const name = top === 'directory' && isContentOnly(local) ? null : basename(source);
  await writeToPod(copy.pod, { app, path, name, top, archive }, { ...copy, entries: readTree(source, { followLink, warn }) });
}

function topAt(path: string, followLink: boolean): 'directory' | 'file' {
  try {
    return topOf(path, { followLink });
  } catch (cause) {
    if (isErrno(cause, 'ENOENT', 'ENOTDIR')) throw new RktError('NOT_FOUND', `${path}: no such file or directory`);
    throw new RktError('IO', `cannot read ${path}`, { cause });
  }
}
